"""The loop: learns, repeats itself, resumes, leaves things as they were, runs on two processes."""

import copy
import re
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from xbl_kit.data import confound
from xbl_kit.explain import grad_cam
from xbl_kit.methods import Erm, ExBL
from xbl_kit.models import Classifier, build_classifier, layer_statistics
from xbl_kit.pick import pick_automatically
from xbl_kit.train import NotFiniteError, best_epoch, fit, predict

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.fixture
def rows(small_cohort):
    return confound.split_patients(small_cohort, FRACTIONS)


def _train(data, rows, method=None, **options):
    method = method or Erm(build_classifier("small_cnn"))
    options = {"epochs": 3, "lr": 1e-2, "device": "cpu"} | options
    return method, fit(method, data, rows["train"], rows["val"], **options)


def _equal(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_loss_falls_and_the_best_epoch_is_kept(small_cohort, rows):
    method, history = _train(small_cohort, rows, epochs=6)
    losses = [record["train"]["class"] for record in history]
    assert losses[-1] < 0.9 * losses[0]
    logits = predict(method.model, small_cohort, rows["val"]).logits
    kept = torch.nn.functional.cross_entropy(logits, small_cohort.label[rows["val"]]).item()
    assert kept == pytest.approx(history[best_epoch(history) - 1]["val"]["class"], rel=1e-4)


def test_one_seed_one_result_whatever_the_global_state(small_cohort, rows):
    torch.manual_seed(1)
    first, _ = _train(small_cohort, rows, seed=4)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second, _ = _train(small_cohort, rows, seed=4)
    third, _ = _train(small_cohort, rows, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert _equal(first, second) and not _equal(first, third)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(small_cohort, rows, tmp_path):
    whole, history = _train(small_cohort, rows, epochs=4, patience=3)
    state = tmp_path / "state.pt"

    def stop(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(small_cohort, rows, epochs=4, patience=3, state=state, on_epoch=stop)
    resumed, again = _train(small_cohort, rows, epochs=4, patience=3, state=state)
    assert _equal(whole, resumed)
    assert [r["val"] for r in again] == [r["val"] for r in history]
    assert again[0]["seconds"] != history[0]["seconds"], "the first epochs were not run again"


def test_patience_stops_and_last_keeps_the_last(small_cohort, rows):
    method = Erm(build_classifier("small_cnn"))
    frozen = copy.deepcopy(method)
    _, history = _train(small_cohort, rows, method, epochs=9, lr=0.0, patience=2)
    assert len(history) < 9
    assert _equal(method.model.head, frozen.model.head)
    best, _ = _train(small_cohort, rows, epochs=4, lr=0.3, keep="best")
    last, history = _train(small_cohort, rows, epochs=4, lr=0.3, keep="last")
    assert best_epoch(history) == 4 or not _equal(best, last)


def test_mode_and_gradients_are_left_as_they_were(small_cohort, rows):
    method = Erm(build_classifier("small_cnn")).eval()
    _train(small_cohort, rows, method, epochs=1)
    assert not method.training
    method.zero_grad()
    method.model.train()
    prediction = predict(method.model, small_cohort, rows["test"], batch_size=5)
    assert method.model.training and all(p.grad is None for p in method.parameters())
    assert not prediction.cam.requires_grad and (prediction.cam >= 0).all()


def test_predict_does_not_depend_on_the_batch_size(small_cohort, rows):
    model = build_classifier("small_cnn")
    one = predict(model, small_cohort, rows["test"], batch_size=1)
    many = predict(model, small_cohort, rows["test"])
    torch.testing.assert_close(one.logits, many.logits)
    torch.testing.assert_close(one.cam, many.cam)
    of_label = predict(model, small_cohort, rows["test"], target="label")
    wrong = many.label != small_cohort.label[rows["test"]]
    assert wrong.any() and not torch.allclose(of_label.cam[wrong], many.cam[wrong])


def test_one_image_is_enough_and_a_gpu_that_is_not_there_is_said(small_cohort, rows):
    method = Erm(build_classifier("small_cnn"))
    history = fit(method, small_cohort, rows["train"][:1], rows["val"], epochs=1, device="cpu")
    assert len(history) == 1
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU"):
            _train(small_cohort, rows, device="cuda")
    with pytest.raises(ValueError, match="'tpu'"):
        _train(small_cohort, rows, device="tpu")


def test_exbl_trains_in_bfloat16_as_in_float32(small_cohort, rows):
    last = {}
    for precision in ("no", "bf16"):
        model = build_classifier("small_cnn", hidden=0)
        seen = predict(model, small_cohort, rows["train"])
        exemplar = pick_automatically(small_cohort, rows["train"], seen.cam, seen.label)
        method = ExBL(model, exemplar)
        method, history = _train(small_cohort, rows, method, lr=1e-3, precision=precision)
        first, *_, last[precision] = (record["train"] for record in history)
        assert last[precision]["explanation"] < 0.7 * first["explanation"]
        assert method.model.head[2].weight.dtype == torch.float32
    assert last["bf16"] == pytest.approx(last["no"], rel=0.1)
    assert last["bf16"] != last["no"]


SCRIPT = """
import torch
from xbl_kit.data import confound, open_dataset
from xbl_kit.methods import Erm, MimmX
from xbl_kit.models import build_classifier, build_multihead
from xbl_kit.train import fit

data = open_dataset("phantom", per_cell={{"train": 8, "val": 4, "test": 4}}, size=32)
rows = confound.split_patients(data, {{"train": 0.6, "val": 0.2, "test": 0.2}})
method = {method}
history = fit(method, data, rows["train"], rows["val"], epochs=2, lr=1e-2, device="cpu")
rank = torch.distributed.get_rank()
weight = sum(parameter.detach().sum().item() for parameter in method.parameters())
print(f"rank {{rank}} loss {{history[-1]['train']['class']:.6f}} weight {{weight:.6f}}", flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize(
    "method",
    [
        'Erm(build_classifier("small_cnn"))',
        'MimmX(build_multihead("small_cnn", 4, {"age": 2, "sex": 2}), memory=24)',
    ],
)
def test_two_processes_train_one_model(tmp_path, method):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(method=method))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
    ]
    done = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(re.findall(r"rank (\d) (loss \S+ weight -?\d+\.\d{6})", done.stdout))
    assert said.keys() == {"0", "1"} and said["0"] == said["1"]


WITHOUT_A_WORD = {
    "keep": "Schedule(epochs=1, keep='worst')",
    "precision": "Schedule(epochs=1, precision='fp16')",
    "epochs=0": "Schedule(epochs=0)",
    "2 rows to train on, 0 to validate": "fit(None, None, n, n[:0], epochs=1)",
    "target 'truth'": "predict(None, None, n, target='truth')",
    "logits are": "Erm(Classifier(same, same, same))(b)",
}


def test_wrong_settings_are_named(tmp_path):
    # in a process of its own: the tests' type checker would be there first
    script = ["import torch", "from xbl_kit.batch import Batch", "from xbl_kit.methods import Erm"]
    script += ["from xbl_kit.models import Classifier", "from xbl_kit.schedule import Schedule"]
    script += ["from xbl_kit.metrics import region_share", "from xbl_kit.train import fit, predict"]
    script += ["n, same = torch.arange(2), torch.nn.Identity()"]
    script += ["b = Batch(torch.rand(2, 1, 4, 4), n, {}, {}, n, n)"]
    for code in WITHOUT_A_WORD.values():
        script += ["try:", f"    {code}", "except ValueError as error:", "    print(error)"]
    script += ["print(region_share(torch.ones(1, 2, 2), torch.full((1, 2, 2), 255)))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(script)], capture_output=True, text=True)
    *said, share = done.stdout.splitlines()
    assert len(said) == len(WITHOUT_A_WORD), done.stderr
    assert all(map(str.startswith, said, WITHOUT_A_WORD)) and share == "tensor([1.])"


class NaNAt(Erm):
    """Its loss is NaN in one batch."""

    def __init__(self, model, batch):
        super().__init__(model)
        self.batch, self.seen = batch, 0

    def forward(self, batch):
        losses = super().forward(batch)
        if self.training:
            self.seen += 1
            if self.seen == self.batch:
                losses["class"] = losses["class"] * torch.nan
        return losses


def test_a_loss_that_is_not_finite_stops_training(small_cohort, rows, tmp_path):
    steps = len(rows["train"]) // 32
    assert steps >= 2
    method, state = NaNAt(build_classifier("small_cnn"), steps + 2), tmp_path / "state.pt"
    words = r"my run, epoch 2, training batch 2: .*class nan; rows (\d+, ){8}\.\.\.\)"
    with pytest.raises(NotFiniteError, match=words):
        _train(small_cohort, rows, method, epochs=4, state=state, title="my run")
    assert all(p.isfinite().all() for p in method.parameters())
    one = Erm(build_classifier("small_cnn"))
    with pytest.raises(KeyboardInterrupt):
        _train(small_cohort, rows, one, epochs=4, on_epoch=_stop)
    assert _equal(method, one), "the weights of the best epoch so far, the first"
    resumed, history = _train(small_cohort, rows, epochs=4, state=state)
    whole, _ = _train(small_cohort, rows, epochs=4)
    assert len(history) == 4 and _equal(resumed, whole), "resumed behind the last whole epoch"


def _stop(record):
    raise KeyboardInterrupt


@pytest.mark.parametrize("options", [{}, {"patience": 2}, {"keep": "last"}])
def test_a_rate_far_too_high_is_said_and_leaves_the_weights_as_they_were(
    small_cohort, rows, options
):
    method = Erm(build_classifier("small_cnn"))
    before = copy.deepcopy(method)
    with pytest.raises(NotFiniteError, match=r"epoch 1, .* lower the learning rate"):
        _train(small_cohort, rows, method, lr=1e20, **options)
    assert _equal(method, before) and method.training


def test_the_best_epoch_is_never_one_without_a_loss():
    history = [
        {"epoch": number, "val": {"class": loss}}
        for number, loss in enumerate([float("nan"), 2.0, 1.0, float("inf"), float("nan")], 1)
    ]
    assert best_epoch(history) == 3 and best_epoch(history[:2]) == 2
    with pytest.raises(ValueError, match="no epoch of 1 has a finite validation loss"):
        best_epoch(history[:1])


def test_a_lower_rate_counts_when_training_goes_on(small_cohort, rows, tmp_path):
    """This is the way out that the error of a loss that is not finite names."""
    state, method = tmp_path / "state.pt", NaNAt(build_classifier("small_cnn"), 3)
    with pytest.raises(NotFiniteError, match="epoch 2"):
        _train(small_cohort, rows, method, epochs=3, state=state)
    before = copy.deepcopy(method)
    still, _ = _train(small_cohort, rows, epochs=3, lr=0.0, keep="last", state=state)
    assert _equal_weights(still, before), "at a rate of 0 nothing is learned any more"


def _equal_weights(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _own_head(*first):
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


class _Functional(nn.Module):
    """A head that works in place, without a layer that says so."""

    def __init__(self):
        super().__init__()
        self.rest = _own_head()

    def forward(self, features):
        return self.rest(features.clamp_(min=0))


@pytest.mark.parametrize(
    ("plain", "in_place"),
    [
        (nn.ReLU(), nn.ReLU(inplace=True)),
        (nn.Hardtanh(-0.1, 0.1), nn.Hardtanh(-0.1, 0.1, inplace=True)),
        (nn.SiLU(), nn.SiLU(inplace=True)),
        (nn.ReLU(), None),
    ],
)
def test_a_head_that_works_in_place_has_the_same_map(small_cohort, plain, in_place):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8))
    other, rows = _own_head(in_place) if in_place else _Functional(), torch.arange(4)
    models = [Classifier(nn.Sequential(), body, head) for head in (_own_head(plain), other)]
    last = [next(m for m in model.head.modules() if isinstance(m, nn.Linear)) for model in models]
    last[1].load_state_dict(last[0].state_dict())
    first, second = (predict(model, small_cohort, rows) for model in models)
    assert torch.equal(first.cam, second.cam) and torch.equal(first.logits, second.logits)
    assert first.cam.any()
    batch = small_cohort[rows]
    cams = [grad_cam(*model.eval()(batch.image), batch.label) for model in models]
    assert torch.equal(*cams)
    two = Classifier(nn.Sequential(), body, models[1].head, factors={"sex": models[1].head}).eval()
    _, (label, sex) = two.tasks(two.encode(batch.image))
    assert torch.equal(label, sex)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_predictions_are_of_32_bits(small_cohort, dtype, autocast):
    model, rows = build_classifier("small_cnn", 4), torch.arange(6)
    if not autocast:
        model = model.to(dtype)
    with torch.autocast("cpu", dtype, enabled=autocast and dtype != torch.float64):
        found = predict(model, small_cohort, rows)
    for tensor in (found.logits, found.cam, *found.parts):
        assert tensor.dtype == torch.float32 and tensor.isfinite().all()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_predict_under_any_mode(small_cohort, context):
    model, rows = build_classifier("small_cnn", 4), torch.arange(6)
    expected = predict(model, small_cohort, rows)
    with context():
        found = predict(nn.DataParallel(model), small_cohort, rows)
    assert torch.equal(found.cam, expected.cam)
    with torch.inference_mode():
        late = build_classifier("small_cnn", 4)
    with pytest.raises(RuntimeError, match="built under torch"):
        predict(late, small_cohort, rows)


class _Failing(Erm):
    """Plain training that ends with an error in the second batch."""

    error = KeyboardInterrupt

    def forward(self, batch):
        if self.training and self.step:
            raise self.error
        return super().forward(batch)


def _modes(module):
    return [part.training for part in module.modules()]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_every_mode_is_kept_after_an_error_too(small_cohort, error):
    method = _Failing(build_classifier("small_cnn", 4))
    method.error = error
    method.model.body[0].eval()
    method.model.head.eval()
    before, rows = _modes(method), torch.arange(8)
    predict(method.model, small_cohort, rows)
    layer_statistics(method.model, small_cohort.images[:4])
    assert _modes(method) == before
    with pytest.raises(error):
        fit(method, small_cohort, rows, rows, batch_size=4, epochs=2, device="cpu")
    assert _modes(method) == before
    method.model.head[-1].register_forward_hook(lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(error):
        predict(method.model, small_cohort, rows)
    assert _modes(method) == before
    for parameter in method.model.body.parameters():
        parameter.data = parameter.data.double()  # which the image is not
    with pytest.raises(RuntimeError):
        layer_statistics(method.model, small_cohort.images[:4])
    assert _modes(method) == before


@pytest.mark.parametrize("ours", ["no", "bf16"])
@pytest.mark.parametrize("theirs", ["no", "bf16"])
def test_accelerates_state_is_left_as_it_was(small_cohort, ours, theirs):
    kinds = (PartialState, AcceleratorState, GradientState)
    for kind in kinds:
        kind._reset_state()
    method, rows = Erm(build_classifier("small_cnn", 4)), torch.arange(8)
    plan = {"epochs": 1, "device": "cpu", "precision": ours}
    fit(method, small_cohort, rows, rows, **plan)
    assert not any(kind._shared_state for kind in kinds) and "forward" not in vars(method)
    theirs_now = Accelerator(mixed_precision=theirs, cpu=True)
    before = [dict(kind._shared_state) for kind in kinds]
    fit(method, small_cohort, rows, rows, **plan)
    assert [dict(kind._shared_state) for kind in kinds] == before
    assert theirs_now.mixed_precision == Accelerator(mixed_precision=theirs).mixed_precision
    for kind in kinds:
        kind._reset_state()
