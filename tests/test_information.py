"""Estimators of dependence: value by a naive second way, errors, shape, gradient, degenerate."""

import itertools
import math
import runpy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck

from xbl_kit.losses import (
    Club,
    Clubs,
    Mine,
    distance_correlation,
    donsker_varadhan,
    held_out_information,
    hsic,
    information,
)

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
CRITIC = runpy.run_path(str(BENCHMARKS / "critic.py"))
CASES = runpy.run_path(str(BENCHMARKS / "information.py"))["CASES"]


def _randn(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _naive_bound(scores, weight, pairs):
    """Sums over lists of pairs, plain exponentials."""
    own = sum(weight[i] * scores[i][i] for i in range(len(weight))) / sum(weight)
    total = sum(weight[i] * weight[j] for i, j in pairs)
    mean = sum(weight[i] * weight[j] * math.exp(scores[i][j]) for i, j in pairs) / total
    return own - math.log(mean)


@pytest.mark.parametrize("weighted", [False, True])
def test_donsker_varadhan_equals_the_naive_formula(weighted):
    scores = _randn(3, 5, 5)
    weight = torch.rand(5, generator=_generator(), dtype=torch.float64)
    weight[2] = 0
    ours = donsker_varadhan(scores, weight=weight if weighted else None)
    given = weight.tolist() if weighted else [1.0] * 5
    naive = [
        _naive_bound(s, given, list(itertools.permutations(range(5), 2))) for s in scores.tolist()
    ]
    torch.testing.assert_close(ours.tolist(), naive)


def test_donsker_varadhan_of_constant_scores_is_0_and_large_ones_do_not_overflow():
    assert donsker_varadhan(torch.full((4, 4), 3.0)).abs() < 1e-6
    scores = (1000 * _randn(4, 4)).requires_grad_()
    bound = donsker_varadhan(scores)
    bound.backward()
    assert bound.isfinite() and scores.grad.isfinite().all()


def test_donsker_varadhan_of_half_precision_is_in_float32():
    scores = _randn(64, 64).to(torch.bfloat16)
    bound = donsker_varadhan(scores)
    assert bound.dtype == torch.float32
    torch.testing.assert_close(bound, donsker_varadhan(scores.float()))


def test_donsker_varadhan_gradient_and_error():
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    assert gradcheck(
        lambda s: donsker_varadhan(s, weight=weight), (_randn(2, 4, 4).requires_grad_(),)
    )
    with pytest.raises(ValueError, match=r"b=1 samples.*at least 2"):
        donsker_varadhan(torch.zeros(1, 1))


@pytest.mark.parametrize("joint", [1, 2, 3])
def test_the_factorised_critic_equals_one_concatenating_network_per_pair(joint):
    pairs = [(0, 1), (0, 2), (1, 2)]
    mine = Mine(4, pairs, hidden=12, joint=joint, standardise=False, generator=_generator())
    mine.score.weight.data *= 50  # a bound far from 0
    parts = _randn(3, 9, 4, dtype=torch.float32).requires_grad_()
    networks = [CRITIC["Concatenating"](mine, p) for p in range(3)]
    naive = CRITIC["concatenated"](parts, networks, pairs, backward=True)
    slope, parts.grad = parts.grad, None
    ours = mine(parts)
    ours.sum().backward()
    assert ours.shape == (3,) and naive.abs().min() > 0.01
    torch.testing.assert_close(ours.detach(), naive, atol=1e-5, rtol=0)
    torch.testing.assert_close(parts.grad, slope, atol=1e-5, rtol=1e-4)


def test_the_critic_gives_the_same_in_chunks(monkeypatch):
    mine = Mine(4, [(0, 1), (0, 2)], hidden=12, generator=_generator())
    parts = _randn(3, 9, 4, dtype=torch.float32)
    whole = mine(parts)
    monkeypatch.setitem(information.CHUNK, "cpu", 2 * 9 * 12)
    torch.testing.assert_close(mine(parts), whole)


@pytest.mark.parametrize("joint", [1, 3])
def test_mine_gradient(joint):
    mine = Mine(2, [(0, 1), (1, 2)], hidden=5, layers=3, joint=joint, generator=_generator())
    mine = mine.double()
    assert gradcheck(lambda parts: mine(parts), (_randn(3, 4, 2).requires_grad_(),))


def test_the_bound_can_be_asked_for_its_gradient_twice():
    """Scalings take it at the features, then the sum of the losses goes backward."""
    mine = Mine(2, hidden=5, generator=_generator())
    parts = _randn(2, 6, 2, dtype=torch.float32).requires_grad_()
    bound = mine(parts).sum()
    (once,) = torch.autograd.grad(bound, parts, retain_graph=True)
    bound.backward()
    torch.testing.assert_close(parts.grad, once)


@pytest.mark.parametrize("weighted", [False, True])
def test_fewer_negatives_are_the_pairs_of_the_next_samples(weighted):
    mine = Mine(3, hidden=6, negatives=2, generator=_generator())
    mine.score.weight.data *= 50
    parts = _randn(2, 7, 3, dtype=torch.float32)
    weight = torch.rand(7, generator=_generator()) if weighted else torch.ones(7)
    limited = mine(parts, weight=weight if weighted else None)
    mine.negatives = None
    scores = mine._scores(mine._embed(parts, None))[0].tolist()
    pairs = [(i, (i + s) % 7) for i in range(7) for s in (1, 2)]
    assert limited.item() == pytest.approx(_naive_bound(scores, weight.tolist(), pairs), abs=1e-5)
    whole, mine.negatives = mine(parts), 6
    torch.testing.assert_close(mine(parts), whole)


def test_conditional_information_is_the_average_over_the_classes():
    mine = Mine(3, hidden=6, classes=3, generator=_generator())
    parts = _randn(2, 9, 3, dtype=torch.float32)
    label = torch.tensor([0, 1, 0, 0, 1, 2, 1, 0, 1])
    weight = torch.rand(9, generator=_generator()) + 0.1
    ours = mine(parts, label, weight=weight)
    # The third class has one sample, so no negatives; the two others share the whole weight.
    scores = mine._scores(mine._embed(parts, label))[0].tolist()
    total, naive = 0.0, 0.0
    for y in (0, 1):
        rows = [i for i in range(9) if label[i] == y]
        own = [w if i in rows else 0.0 for i, w in enumerate(weight.tolist())]
        naive += sum(own) * _naive_bound(scores, own, list(itertools.permutations(rows, 2)))
        total += sum(own)
    assert ours.item() == pytest.approx(naive / total, abs=1e-5)


def test_the_label_tells_the_statistics_network_the_class():
    mine = Mine(3, hidden=6, classes=2, generator=_generator())
    parts = _randn(2, 6, 3, dtype=torch.float32)
    one = mine(parts, torch.zeros(6, dtype=torch.long))
    assert one != mine(parts, torch.ones(6, dtype=torch.long))


def test_without_two_samples_of_a_class_the_bound_is_0_with_a_graph():
    mine = Mine(3, hidden=6, classes=3, generator=_generator())
    parts = _randn(2, 3, 3, dtype=torch.float32).requires_grad_()
    bound = mine(parts, torch.arange(3))
    assert bound == 0
    bound.sum().backward()
    assert (parts.grad == 0).all()


def test_mine_errors():
    with pytest.raises(ValueError, match="joint=4: expected 1 to layers=3"):
        Mine(2, joint=4)
    with pytest.raises(ValueError, match=r"parts of \[2, 3\] features: size=2"):
        Mine(2)([torch.zeros(4, 2), torch.zeros(4, 3)])
    with pytest.raises(ValueError, match="classes=2 needs the labels"):
        Mine(2, classes=2)(torch.zeros(2, 4, 2))


def test_scale_and_shift_of_a_part_do_not_change_the_bound():
    mine = Mine(3, hidden=6, generator=_generator())
    parts = _randn(2, 8, 3, dtype=torch.float32)
    torch.testing.assert_close(mine(100 * parts + 7), mine(parts), atol=1e-4, rtol=1e-4)


def test_constant_features_give_finite_gradients():
    mine = Mine(3, hidden=6, generator=_generator())
    parts = torch.ones(2, 5, 3, requires_grad=True)
    mine(parts).sum().backward()
    assert parts.grad.isfinite().all()


def test_a_narrower_part_is_filled_up():
    mine = Mine(3, hidden=6, generator=_generator())
    x, z = _randn(5, 3, dtype=torch.float32), _randn(5, 1, seed=1, dtype=torch.float32)
    filled = torch.cat([z, torch.zeros(5, 2)], dim=1)
    torch.testing.assert_close(mine([x, z]), mine([x, filled]))


def test_the_corrected_gradient_divides_by_the_moving_average():
    mine = Mine(2, hidden=5, decay=0.9, generator=_generator())
    plain = Mine(2, hidden=5, generator=_generator())
    first, second = (2 * _randn(2, 6, 2, seed=s, dtype=torch.float32) for s in (0, 1))
    torch.testing.assert_close(mine(first), plain(first))
    second.requires_grad_()
    value = mine(second)
    torch.testing.assert_close(value, plain(second))
    # By hand: the gradient of mean(T_joint) - mean(exp T) / average, the average being a number.
    scores = [plain._scores(plain._embed(each, None))[0] for each in (first, second)]
    off = ~torch.eye(6, dtype=torch.bool)
    means = [s[off].exp().mean() for s in scores]
    average = (0.9 * means[0] + 0.1 * means[1]).detach()
    surrogate = scores[1].diagonal().mean() - means[1] / average
    ours, naive = (torch.autograd.grad(each.sum(), second)[0] for each in (value, surrogate))
    torch.testing.assert_close(ours, naive, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(mine.log_mean.exp().squeeze(), average)
    mine.eval()(first)
    torch.testing.assert_close(mine.log_mean.exp().squeeze(), average)


def test_mine_in_bfloat16():
    mine = Mine(8, [(0, 1), (0, 2)], hidden=32, joint=2, generator=_generator())
    parts = _randn(3, 32, 8, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bound = mine(parts)
    bound.sum().backward()
    assert bound.dtype == torch.float32 and parts.grad.isfinite().all()
    torch.testing.assert_close(bound, mine(parts), atol=0.02, rtol=0)


def test_drawing_weights_with_a_generator_leaves_the_global_state():
    before = torch.get_rng_state()
    one, other = (Mine(2, hidden=4, generator=_generator(3)).score.weight for _ in range(2))
    assert one.equal(other) and before.equal(torch.get_rng_state())


def _club() -> Club:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Club(3, 2, hidden=5).double()


def test_club_equals_the_naive_formula():
    club, x, z = _club(), _randn(6, 3), _randn(6, 2, seed=1)
    mean, log_variance = club._normal(x)
    q = torch.distributions.Normal(mean[:, None], (0.5 * log_variance).exp()[:, None])
    log_q = q.log_prob(z[None].expand(6, 6, 2)).sum(dim=2)
    off = ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(club(x, z), log_q.diagonal().mean() - log_q[off].mean())
    torch.testing.assert_close(club.log_likelihood(x, z), log_q.diagonal().mean())


def test_club_gradient_errors_and_bounded_variance():
    club, x, z = _club(), _randn(4, 3).requires_grad_(), _randn(4, 2, seed=1).requires_grad_()
    assert gradcheck(club, (x, z)) and gradcheck(club.log_likelihood, (x, z))
    club(1e6 * x, z).backward()
    assert x.grad.isfinite().all()
    assert club(x, torch.ones(4, 2, dtype=torch.float64)).abs() < 1e-9
    with pytest.raises(ValueError, match="b=1 samples"):
        club(x[:1], z[:1])


def test_clubs_equal_a_club_a_pair_and_class():
    parts, label = _randn(3, 9, 2), torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 2])
    pairs, one_hot = [(0, 1), (0, 2), (1, 2)], torch.eye(3, dtype=torch.float64)[label]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        both = [Clubs(2, pairs, classes=classes, hidden=5).double() for classes in (1, 3)]
    scaled = (parts - parts.mean(1, True)) / parts.std(1, correction=0, keepdim=True)
    same = partial(torch.testing.assert_close, rtol=1e-4, atol=0)
    for p, (i, j) in enumerate(pairs):
        plain, given = (clubs.each[p] for clubs in both)
        same(both[0](parts)[p], plain(scaled[i], scaled[j]))
        x, z = torch.cat([scaled[i], one_hot], dim=1), scaled[j]
        naive = (3 * given(x[:3], z[:3]) + 5 * given(x[3:8], z[3:8])) / 9
        same(both[1](parts, label)[p], naive)
        same(both[1].log_likelihood(parts, label)[p], given.log_likelihood(x, z))
    alone = both[0](parts[:, :1].requires_grad_())
    assert alone.equal(torch.zeros(3, dtype=torch.float64)) and alone.requires_grad
    assert gradcheck(both[0], parts.requires_grad_())


def _naive_kernel(x, s):
    return [[math.exp(-((a - b) ** 2).sum().item() / (2 * s**2)) for a in x] for b in x]


def test_hsic_equals_the_naive_formula():
    x, z = _randn(6, 2), _randn(6, 3, seed=1)
    of_x, of_z = _naive_kernel(x, 1.5), _naive_kernel(z, 1.5)
    tuples = list(itertools.permutations(range(6), 4))
    naive = 0.0
    for i, j, q, r in tuples:
        naive += of_x[i][j] * (of_z[i][j] + of_z[q][r] - 2 * of_z[i][q]) / len(tuples)
    assert hsic(x, z, bandwidth=1.5).item() == pytest.approx(naive, abs=1e-9)


def test_hsic_takes_the_median_distance_as_bandwidth():
    x, z = _randn(7, 2), 2 * _randn(7, 2, seed=1)
    medians = [torch.cdist(side, side).flatten().sort().values[24] for side in (x, z)]
    scaled = hsic(x / medians[0], z / medians[1], bandwidth=1.0)
    torch.testing.assert_close(hsic(x, z), scaled)


def test_distance_correlation_equals_the_naive_formula():
    x, z = _randn(6, 2), _randn(6, 3, seed=1)
    a, b = torch.cdist(x, x), torch.cdist(z, z)
    centre = torch.eye(6, dtype=torch.float64) - 1 / 6
    a, b = centre @ a @ centre, centre @ b @ centre
    naive = ((a * b).mean() / ((a * a).mean() * (b * b).mean()).sqrt()).sqrt()
    torch.testing.assert_close(distance_correlation(x, z, epsilon=1e-12), naive)
    torch.testing.assert_close(distance_correlation(1e-4 * x, 1e-4 * z), naive)
    assert distance_correlation(x, 3 * x + 1).item() == pytest.approx(1)


@pytest.mark.parametrize("loss", [hsic, distance_correlation])
def test_pairs_measured_at_once_equal_one_by_one(loss):
    x, z = _randn(1, 7, 2), _randn(3, 7, 4, seed=1)
    torch.testing.assert_close(loss(x, z), torch.stack([loss(x[0], each) for each in z]))


@pytest.mark.parametrize("loss", [hsic, distance_correlation])
def test_kernel_losses_gradient_and_degenerate_input(loss):
    options = {"bandwidth": 1.0} if loss is hsic else {}
    x, z = _randn(5, 2).requires_grad_(), _randn(5, 3, seed=1).requires_grad_()
    assert gradcheck(lambda a, b: loss(a, b, **options), (x, z))
    constant = torch.ones(5, 2, dtype=torch.float64, requires_grad=True)
    value = loss(constant, z)
    value.backward()
    assert value.abs() < 1e-3
    assert constant.grad.isfinite().all() and z.grad.isfinite().all()


def test_hsic_needs_four_samples():
    with pytest.raises(ValueError, match=r"b=3 samples.*at least 4"):
        hsic(torch.zeros(3, 1), torch.zeros(3, 1))


QUICK = {"steps": 150, "batch_size": 256, "hidden": 64, "lr": 5e-3, "negatives": 8}


@pytest.mark.parametrize("name", ["gauss 2-d 0.5", "independent 2-d", "conditional, I = 0"])
def test_held_out_information_is_within_the_certified_error(name):
    case = CASES[name]
    train, test = case.draw(8000, _generator(0)), case.draw(4000, _generator(1))
    before = torch.get_rng_state()
    found = case.fit(train, test, **QUICK)
    assert abs(found - case.truth) < max(0.05, 0.1 * case.truth)
    assert before.equal(torch.get_rng_state())


def test_held_out_information_needs_no_order_and_repeats_itself():
    x = _randn(600, 1, dtype=torch.float32).sort(dim=0).values
    z = _randn(600, 1, seed=1, dtype=torch.float32)
    options = {"steps": 20, "hidden": 8}
    with torch.no_grad():
        once = held_out_information([x, z], [x, z], **options)
    assert once.shape == (1,)
    assert once.equal(held_out_information([x, z], [x, z], **options))
    assert not once.equal(held_out_information([x, z], [x, z], seed=1, **options))


def test_few_independent_samples_read_about_0():
    train, test = _randn(2, 200, 10, dtype=torch.float32), _randn(2, 200, 10, seed=1).float()
    assert held_out_information(train, test, steps=100).abs() < 0.05


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("samples", [1, 2])
def test_a_batch_without_negatives_has_a_bound_of_0(training, classes, samples):
    parts = [torch.rand(samples, 4, requires_grad=True) for _ in range(2)]
    mine = Mine(4, hidden=8, classes=classes).train(training)
    bound = mine(parts, torch.arange(samples) % classes if classes > 1 else None)
    bound.sum().backward()
    assert all(part.grad.isfinite().all() for part in parts)
    if samples == 1 or classes == 2:
        assert not bound.any()
