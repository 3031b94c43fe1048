"""Penalties on what the label's features tell of the spurious factors, against naive loops."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from xbl_kit.losses import distance_correlation, hsic
from xbl_kit.methods import Erm, Known
from xbl_kit.methods.features import adversary, annealed, club, club_bound, dcor, hsic_penalty
from xbl_kit.models import build_classifier


@pytest.fixture
def setting(small_cohort):
    """A network, what is known, and a batch in which some levels are not known."""
    small_cohort.confounders["sex"][::7] = -1
    batch = small_cohort[torch.arange(0, 90, 3)]
    known = Known(small_cohort, batch.index, ("age", "sex"), steps=8)
    return build_classifier("small_cnn").eval(), known, batch


def _read(method, name, model, batch, conditional):
    """log q of every image of a known level, and that level, by factor."""
    part = model.tasks(model.encode(batch.image))[0][0]
    for factor, reader in zip(("age", "sex"), method.terms[name].readers.each, strict=True):
        own = []
        for i, level in enumerate(batch.confounders[factor].tolist()):
            if level >= 0:
                given = F.one_hot(batch.label[i], 4).float() if conditional else torch.zeros(0)
                scores = reader(torch.cat([part[i], given]))
                log_q = [(s - scores.logsumexp(0)).item() for s in scores]
                own.append((log_q, level, batch.label[i].item() if conditional else 0))
        yield own


@pytest.mark.parametrize("conditional", [False, True])
def test_the_value_of_the_adversary_is_what_it_reads(setting, conditional):
    model, known, batch = setting
    method = adversary(model, known, weight=2.0, conditional=conditional).eval()
    each = [
        sum(log_q[level] for log_q, level, _ in own) / len(own)
        for own in _read(method, "adversary", model, batch, conditional)
    ]
    losses = method(batch)
    assert losses["adversary"].item() == pytest.approx(sum(each), rel=1e-4)
    torch.testing.assert_close(losses["class"], Erm(model)(batch)["class"])


def test_the_adversary_learns_to_read_and_the_model_not_to_be_read(setting):
    """Both gradients are those of plain cross-entropy, the model's reversed and annealed."""
    model, known, batch = setting
    method = adversary(model, known, weight=2.0)
    model.eval()
    method.step += 3
    method(batch)["adversary"].backward()
    readers = method.terms["adversary"].readers
    found = [p.grad.clone() for p in (*readers.parameters(), *model.body.parameters())]
    plain = copy.deepcopy(model), copy.deepcopy(readers)
    part = plain[0].tasks(plain[0].encode(batch.image))[0][0]
    loss = 0.0
    for factor, reader in zip(known.factors, plain[1].each, strict=True):
        level = batch.confounders[factor]
        loss = loss + F.cross_entropy(reader(part), level, ignore_index=-1) / 2
    n = len(list(readers.parameters()))
    parameters = [*plain[1].parameters(), *plain[0].body.parameters()]
    slopes = torch.autograd.grad(loss, parameters)
    reversal = -2.0 * (2 / (1 + math.exp(-10 * 3 / 8)) - 1)
    for i, (one, other) in enumerate(zip(found, slopes, strict=True)):
        scale = 1.0 if i < n else reversal
        torch.testing.assert_close(one, scale * other, rtol=1e-3, atol=1e-6)
    assert annealed(torch.tensor(0), steps=8) == 0 and annealed(torch.tensor(8), steps=8) > 0.999


@pytest.mark.parametrize("conditional", [False, True])
def test_club_equals_a_loop_over_pairs(setting, conditional):
    model, known, batch = setting
    method = club(model, known, weight=2.0, conditional=conditional).eval()
    for parameter in method.terms["dependence"].readers.parameters():
        parameter.data *= 20  # a q that tells the images apart
    total = 0.0
    for own in _read(method, "dependence", model, batch, conditional):
        for i, (log_q, level, group) in enumerate(own):
            others = [other for j, other in enumerate(own) if j != i and other[2] == group]
            differences = [log_q[level] - log_q[other[1]] for other in others]
            total += sum(differences) / max(1, len(others)) / len(own)
    assert method(batch)["dependence"].item() == pytest.approx(total, rel=1e-3)
    method.train()
    model.eval()
    method(batch)["dependence"].backward()
    assert model.body[0].weight.grad.abs().sum() > 0
    assert method.terms["dependence"].readers.each[0][0].weight.grad.abs().sum() > 0


def test_club_of_too_few_images_is_zero():
    for n in (0, 1):
        log_q = torch.randn(n, 3, requires_grad=True)
        value = club_bound(log_q, *[torch.zeros(n, dtype=torch.int64)] * 2)
        assert value.abs() < 1e-6
        value.backward()


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(
    ("method", "measure"), [(dcor, distance_correlation), (hsic_penalty, hsic)]
)
def test_dependence_equals_a_loop_over_factors_and_classes(setting, method, measure, conditional):
    model, known, batch = setting
    loss = method(model, known, weight=2.0, conditional=conditional)
    model.eval()
    part = model.tasks(model.encode(batch.image))[0][0]
    total = 0.0
    for factor in known.factors:
        level, label = batch.confounders[factor].tolist(), batch.label.tolist()
        whole = [i for i in range(len(level)) if level[i] >= 0]
        groups = [[i for i in whole if label[i] == y] for y in range(4)] if conditional else [whole]
        for own in groups:
            if len(own) >= 4:
                z = torch.tensor([[float(level[i] == k) for k in range(2)] for i in own])
                total += measure(part[own], z) * len(own) / len(whole)
    assert total > 0 or measure is hsic
    torch.testing.assert_close(loss(batch)["dependence"], total)
