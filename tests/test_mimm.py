"""MIMM-X: its losses against their parts, both players' gradients, its limits, its memory."""

import copy

import pytest
import torch
import torch.nn.functional as F

from xbl_kit.data import confound
from xbl_kit.losses import distance_correlation
from xbl_kit.losses.balance import gradient_norms
from xbl_kit.methods import Bias, Corrected, Erm, MimmX, Seen
from xbl_kit.methods.weighted import CORRECTIONS
from xbl_kit.models import BACKBONES, build_multihead
from xbl_kit.train import fit, predict

FACTORS = {"age": 2, "sex": 2, "site": 2}


def _method(**options):
    return MimmX(build_multihead("small_cnn", 4, FACTORS, size=3), **options)


def _information(method):
    return method.terms["information"]


@pytest.fixture
def batch(small_cohort):
    return small_cohort[torch.randperm(len(small_cohort))[:48]]


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_a_multihead_is_a_classifier_with_a_part_a_task(backbone):
    model = build_multihead(backbone, 5, {"view": 3, "site": 7}, size=6, seed=1).eval()
    again = build_multihead(backbone, 5, {"view": 3, "site": 7}, size=6, seed=1)
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    features, logits = model(torch.rand(2, 1, 64, 64))
    parts, all_logits = model.tasks(features)
    assert [tuple(p.shape) for p in parts] == [(2, 6)] * 3
    assert [tuple(each.shape) for each in all_logits] == [(2, 5), (2, 3), (2, 7)]
    torch.testing.assert_close(all_logits[0], logits)
    one = F.linear(features.mean(dim=(2, 3)), model.heads[1][2].weight, model.heads[1][2].bias)
    torch.testing.assert_close(parts[1], one)


def test_a_size_of_no_use_is_said():
    with pytest.raises(ValueError, match="size=0"):
        build_multihead("small_cnn", 4, FACTORS, size=0)


def test_the_losses_are_those_of_the_parts(batch):
    method = _method(estimator="dcor", weight=0.7, spurious=0.2, memory=0).eval()
    losses = method(batch)
    parts, logits = method.model.tasks(method.model.encode(batch.image))
    torch.testing.assert_close(losses["class"], F.cross_entropy(logits[0], batch.label))
    ce = sum(F.cross_entropy(z, batch.confounders[f]) for f, z in zip(FACTORS, logits[1:]))  # noqa: B905
    torch.testing.assert_close(losses["spurious"], 0.2 * ce)
    naive = 0.0
    for i in (1, 2, 3):
        for y in range(4):
            own = batch.label == y
            shared = distance_correlation(parts[0][own], parts[i][own])
            naive += shared * own.float().mean() / 3
    torch.testing.assert_close(losses["information"], 0.7 * naive)
    gradients = [
        torch.autograd.grad(loss, method.model.head[2].weight)[0]
        for loss in (losses["information"], 0.7 * naive)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("estimator", ["mine", "club", "dcor", "hsic"])
def test_weight_zero_is_multitask_and_no_factor_is_erm(batch, estimator):
    method = _method(estimator=estimator, weight=0.0)
    assert set(method(batch)) == {"class", "spurious"} and method.turns == ("model",)
    alone = MimmX(build_multihead("small_cnn", 4, {}, size=3), estimator=estimator).eval()
    losses = alone(batch)
    torch.testing.assert_close(sum(losses.values()), Erm(alone.model)(batch)["class"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"memory": 0},
        {"attention": "weights", "between": True, "conditional": False},
        {"attention": "summary", "critic_steps": 2},
        {"estimator": "club"},
        {"estimator": "club", "attention": "weights", "conditional": False},
    ],
)
def test_each_turn_moves_one_player(batch, options):
    method = _method(**options)
    for turn in (*method.turns, *method.turns):
        method.zero_grad()
        sum(method(batch, turn).values()).backward()
        for name, parameter in method.named_parameters():
            assert (parameter.grad is not None) == (name.startswith("model.") == (turn == "model"))


@pytest.mark.parametrize("estimator", ["mine", "club"])
@pytest.mark.parametrize("conditional", [False, True])
def test_the_critic_learns_and_the_encoder_forgets(batch, estimator, conditional):
    """With the class's loss out of the way, the two players pull one figure up and down."""
    method = _method(weight=1.0, memory=0, conditional=conditional, estimator=estimator)
    players = {
        "critic": torch.optim.Adam(_information(method).measure.parameters(), lr=1e-2),
        "model": torch.optim.Adam(method.model.parameters(), lr=1e-2),
    }

    def play(turn, times):
        for _ in range(times):
            method.zero_grad()
            losses = method(batch, turn)
            (losses["critic"] if turn == "critic" else losses["information"]).backward()
            players[turn].step()
        return method(batch)["information"].item()

    fitted = play("critic", 60)
    assert fitted > 0.1
    assert play("model", 10) < 0.7 * fitted


def test_club_fits_its_normals_to_the_features(batch):
    """The critic's turn follows the likelihood alone: not what makes the bound large."""
    method = _method(estimator="club", memory=0).eval()
    critic = _information(method).measure
    with torch.no_grad():
        parts = torch.stack(method.model.tasks(method.model.encode(batch.image))[0])
    losses = method(batch, "critic")["critic"], -critic.log_likelihood(parts, batch.label)
    found, wanted = (torch.autograd.grad(x.sum(), critic.parameters()) for x in losses)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scaling", ["none", "clip", "equal", "gradnorm", "gradnorm-pair"])
def test_every_scaling_trains_and_repeats_itself(small_cohort, scaling):
    rows = confound.split_patients(small_cohort, {"train": 0.6, "val": 0.2, "test": 0.2})
    options = {"epochs": 2, "batch_size": 24, "lr": 1e-2, "device": "cpu"}
    states = []
    for _ in range(2):
        method = _method(scaling=scaling, attention="none" if scaling == "none" else "weights")
        history = fit(method, small_cohort, rows["train"], rows["val"], **options)
        assert torch.tensor(list(history[-1]["train"].values())).isfinite().all()
        states.append(method.state_dict())
    assert all(map(torch.equal, *(state.values() for state in states)))


def test_two_players_go_on_as_if_they_had_not_stopped(small_cohort, tmp_path):
    rows = confound.split_patients(small_cohort, {"train": 0.6, "val": 0.2, "test": 0.2})
    options = {"batch_size": 24, "lr": 1e-2, "device": "cpu", "keep": "last", "epochs": 3}

    def train(**more):
        method = _method(memory=60, delay=2, ramp=4, attention="summary")
        fit(method, small_cohort, rows["train"], rows["val"], **options, **more)
        return method

    def stop(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    whole, state = train(), tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(state=state, on_epoch=stop)
    resumed = train(state=state)
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert _information(whole).memory.held == 60 and whole.step == 3 * (len(rows["train"]) // 24)


def test_delay_and_ramp_bring_the_term_in(batch):
    method = _method(estimator="dcor", delay=1, ramp=2, memory=0)
    values = [method(batch)["information"].item() for _ in range(4)]
    full = _method(estimator="dcor", memory=0)(batch)["information"].item()
    assert values[0] == 0
    assert values[1:] == pytest.approx([full / 2, full, full], rel=0.05)


def test_memory_keeps_the_newest_and_scales_the_push(batch):
    method = _method(estimator="dcor", memory=60)
    memory = _information(method).memory
    method(batch)
    assert memory.held == 48
    method(batch)
    assert memory.held == 60 and torch.equal(memory.label[:48], batch.label)
    state = copy.deepcopy(method.state_dict())
    method.eval()
    method(batch)
    assert all(map(torch.equal, state.values(), method.state_dict().values()))


def test_trains_in_bfloat16_and_with_unknown_levels(small_cohort):
    rows = confound.split_patients(small_cohort, {"train": 0.6, "val": 0.2, "test": 0.2})
    small_cohort.confounders["sex"][:] = -1
    small_cohort.confounders["age"][::2] = -1
    method = _method()
    options = {"epochs": 2, "batch_size": 24, "lr": 1e-2, "device": "cpu", "precision": "bf16"}
    history = fit(method, small_cohort, rows["train"], rows["val"], **options)
    assert all(torch.tensor(list(record["train"].values())).isfinite().all() for record in history)
    assert predict(method.model, small_cohort, rows["test"]).logits.isfinite().all()


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="estimator 'mmd': expected one of mine, club, dcor, hsic"):
        _method(estimator="mmd")
    with pytest.raises(ValueError, match="scaling 'both'"):
        _method(scaling="both")
    with pytest.raises(ValueError, match="attention 'all': expected one of none, weights, summary"):
        _method(attention="all")
    for options in ({"estimator": "dcor"}, {"estimator": "club"}, {"between": True}):
        with pytest.raises(ValueError, match="attention='summary'"):
            _method(attention="summary", **options)
    with pytest.raises(ValueError, match="attention='weights' needs a critic"):
        _method(attention="weights", estimator="hsic")


@pytest.mark.parametrize("conditional", [False, True])
def test_a_summary_is_one_pair_whatever_the_factors(batch, conditional):
    """I(f_y; sum_i a_i f_zi), its value by hand; f_z take a share of the push, attention none."""
    options = {"memory": 0, "weight": 0.7, "conditional": conditional}
    method = _method(attention="summary", **options).eval()
    information, losses = _information(method), method(batch)
    assert information.pairs == [(0, 1)]
    parts = torch.stack(method.model.tasks(method.model.encode(batch.image))[0])
    weight = information.attention(parts[0], parts[1:]).tolist()
    summary = sum(a * part for a, part in zip(weight, parts[1:], strict=True))
    shared = information.measure(torch.stack([parts[0], summary]), batch.label)
    torch.testing.assert_close(losses["information"], 0.7 * shared[0])
    torch.testing.assert_close(method(batch, "critic")["critic"], -shared[0])
    losses["information"].backward()
    assert all(p.grad is None for p in information.attention.parameters())
    assert method.model.heads[1][2].weight.grad.abs().sum() > 0


def test_equal_scaling_gives_the_information_a_share_of_the_class_gradient(batch):
    method = _method(scaling="equal", weight=0.4, memory=0).train()
    seen = method.look(batch)
    losses = {"class": F.cross_entropy(seen.logits, batch.label)}
    losses["information"] = method.terms["information"](seen)
    scaled = method.balance(seen, losses)
    of_class, of_information = gradient_norms(list(scaled.values()), seen.parts[0])
    torch.testing.assert_close(of_information, 0.4 * of_class)
    late = _method(scaling="equal", delay=5)(batch)
    assert late["information"] == 0


def test_gradnorm_over_a_pair_leaves_the_spurious_loss(batch):
    plain, pair, whole = (
        _method(scaling=scaling, memory=0)(batch)
        for scaling in ("none", "gradnorm-pair", "gradnorm")
    )
    assert pair["spurious"] == plain["spurious"] and whole["spurious"] != plain["spurious"]
    assert pair["class"] != plain["class"]


def _corrected(logits, batch, bias, correction, strength=torch.ones_like):
    """The mean of the corrected losses of a model that gives these logits."""
    seen = Seen(batch, torch.zeros(1, 1, 1, 1), logits, [], {}, torch.tensor(0))
    each = F.cross_entropy(logits, batch.label, reduction="none")
    return Corrected(bias, correction, strength)(seen, each).mean()


TABLES = {
    "age": torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]),
    "sex": torch.tensor([[0.8, 0.2], [0.2, 0.8], [0.8, 0.2], [0.2, 0.8]]),
}


class TestBias:
    def test_measured_tables_count_rows(self, small_cohort):
        rows = torch.arange(0, 90, 2)
        bias = Bias.measured(small_cohort, rows, ("sex",), pseudocount=0.5)
        for y in range(4):
            levels = [
                small_cohort.confounders["sex"][r].item()
                for r in rows
                if small_cohort.label[r] == y
            ]
            share = (levels.count(1) + 0.5) / (len(levels) + 1)
            assert bias.tables["sex"].exp()[y, 1].item() == pytest.approx(share)

    def test_weights_and_prior_equal_a_loop(self, batch):
        bias, logits = Bias(TABLES), torch.randn(len(batch.label), 4)
        batch.confounders["sex"][:5] = -1
        total = {"weights": 0.0, "prior": 0.0}
        for i, y in enumerate(batch.label.tolist()):
            weight, shift = 1.0, torch.zeros(4)
            for factor, table in TABLES.items():
                level = batch.confounders[factor][i]
                if level >= 0:
                    weight *= (table[:, level].mean() / table[y, level]).item()
                    shift += table[:, level].log()
            total["weights"] += weight * -logits[i].log_softmax(0)[y] / len(logits)
            total["prior"] += -(logits[i] + shift).log_softmax(0)[y] / len(logits)
        for correction, wanted in total.items():
            torch.testing.assert_close(_corrected(logits, batch, bias, correction), wanted)
        for correction, weight in (("prior", 1), ("both", None)):
            none = _corrected(logits, batch, bias, correction, torch.zeros_like)
            if weight is None:
                _, weight = bias.shift_and_weight(batch, CORRECTIONS["both"])
            each = F.cross_entropy(logits, batch.label, reduction="none")
            torch.testing.assert_close(none, (weight * each).mean())

    def test_every_correction_finds_the_unconfounded_posterior(self):
        """A world of x = (sign, age): the sign is right in 3 of 4, age agrees with y in 9 of 10."""
        from xbl_kit.batch import Batch

        rows = [
            (y, s, a)
            for y in (0, 1)
            for s in (0, 1)
            for a in (0, 1)
            for _ in range((3 if s == y else 1) * (9 if a == y else 1))
        ]
        y, s, a = torch.tensor(rows).T
        batch = Batch(torch.zeros(len(y), 1, 1, 1), y, {"age": a}, {}, y, y)
        bias = Bias({"age": torch.tensor([[0.9, 0.1], [0.1, 0.9]])})
        for correction in ("weights", "prior", "both"):
            table = torch.zeros(2, 2, 2, requires_grad=True)
            optimizer = torch.optim.LBFGS([table], max_iter=200)

            def closure(table=table, optimizer=optimizer, correction=correction):
                optimizer.zero_grad()
                loss = _corrected(table[s, a], batch, bias, correction)
                loss.backward()
                return loss

            optimizer.step(closure)
            torch.testing.assert_close(
                table.softmax(dim=2)[1, :, 1], torch.tensor([0.75, 0.75]), atol=1e-3, rtol=0
            )

    def test_faults_are_named(self, batch):
        with pytest.raises(ValueError, match="age: a level never seen"):
            Bias({"age": torch.tensor([[1.0, 0.0]])})
        with pytest.raises(ValueError, match="correction 'none': expected one of weights, both"):
            Corrected(Bias(TABLES), "none")
        with pytest.raises(ValueError, match="correction='prior' needs a Bias"):
            _method(correction="prior")

    def test_a_factor_may_have_any_name(self, batch):
        """Columns of users' tables are called what they are called."""
        name = "age.group at first visit"
        batch.confounders[name] = batch.confounders["age"]
        for named in (Bias({name: TABLES["age"]}), Bias({"age": TABLES["age"]})):
            _, weight = named.shift_and_weight(batch, 1.0)
            assert weight.isfinite().all()
        model = build_multihead("small_cnn", 4, {name: 2, "training": 2}, size=3)
        batch.confounders["training"] = batch.confounders["sex"]
        sum(MimmX(model)(batch).values()).backward()
