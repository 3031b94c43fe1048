"""One training loop for every method, and prediction with explanations."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import concatenate, recursively_apply
from jaxtyping import Int
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

from xbl_kit.batch import Batch, Prediction
from xbl_kit.data import Dataset
from xbl_kit.data.faults import one_of
from xbl_kit.explain import grad_cam
from xbl_kit.models import Classifier
from xbl_kit.models.classifier import at_once, modes_kept
from xbl_kit.schedule import Schedule
from xbl_kit.storage import OTHER, load_state, save_state


def fit(
    method: nn.Module,
    data: Dataset,
    rows: Int[Tensor, " n"],
    val_rows: Int[Tensor, " m"],
    schedule: Schedule | None = None,
    *,
    state: str | Path | tuple[Path, str] | None = None,
    on_epoch: Callable[[dict], None] | None = None,
    title: str = "training",
    **plan,
) -> list[dict]:
    """Train `method` in place with Adam on the sum of the losses it returns.

    `plan` are fields of `Schedule`, instead of those of `schedule`. Returns a record an epoch: its
    number, seconds, both sets' losses. `state` is a file, or one with the name of the run it is of,
    written after each epoch and read first where it exists, after which training goes on as if it
    had never stopped. `on_epoch` sees each record. A method with several players names its `turns`;
    each batch has them all, and `method(batch, turn)` gives the losses that the parameters in their
    graph shall lower. The global random state is left as it was. Runs unchanged under `torchrun` or
    `notebook_launcher`.

    Raises NotFiniteError where a loss is NaN or infinite; `method` then has its best weights so
    far, or those of the epoch's beginning, and `state` holds the last whole epoch.
    """
    if not (len(rows) and len(val_rows)):
        raise ValueError(f"{len(rows)} rows to train on, {len(val_rows)} to validate: too few")
    schedule = dataclasses.replace(schedule, **plan) if schedule else Schedule(**plan)
    with modes_kept(method), _accelerate_kept(method):
        loop = _Loop(method, schedule, steps=len(schedule.batches(rows, 0)))
        state = state if isinstance(state, tuple) or state is None else (state, "")
        if state and (saved := load_state(*state)):
            loop.load(saved, state[0])
        history, epochs = loop.history, schedule.epochs
        bar = tqdm(initial=len(history), total=epochs, desc=title, unit="epoch", disable=None)
        patience = schedule.patience or epochs
        while len(history) < min(epochs, (best_epoch(history) if history else 0) + patience):
            good = copy.deepcopy(method.state_dict())
            try:
                record = loop.epoch(data, rows, val_rows)
            except NotFiniteError as error:
                best = loop.best if schedule.keep == "best" else None
                method.load_state_dict(best or good)
                raise NotFiniteError(f"{title}, epoch {len(history) + 1}, {error}") from None
            if state and loop.accelerator.is_main_process:
                save_state(loop.state(), *state)
            bar.update()
            parts = {part: f"{sum(record[part].values()):.3f}" for part in ("train", "val")}
            bar.set_postfix(parts)
            if on_epoch:
                on_epoch(record)
        bar.close()
        if loop.best and schedule.keep == "best":
            method.load_state_dict(loop.best)
    return history


@contextmanager
def _accelerate_kept(method: nn.Module) -> Iterator[None]:
    """Accelerate's process-wide state, and `method.forward` that it wraps, as they were."""
    kinds = (PartialState, AcceleratorState, GradientState)
    states = [dict(kind._shared_state) for kind in kinds]
    try:
        yield
    finally:
        for kind, state in zip(kinds, states, strict=True):
            kind._shared_state.clear()
            kind._shared_state.update(state)
        if "_original_forward" in vars(method):
            del method.forward, method._original_forward


def best_epoch(history: list[dict]) -> int:
    """The number of the epoch with the lowest summed validation loss, of those that are finite.

    Raises ValueError where none is.
    """
    finite = [record for record in history if math.isfinite(sum(record["val"].values()))]
    if not finite:
        raise ValueError(f"no epoch of {len(history)} has a finite validation loss")
    return min(finite, key=lambda record: sum(record["val"].values()))["epoch"]


class _Loop:
    """A training under way: the method as accelerate wraps it, its optimizer and rate, its past."""

    def __init__(self, method: nn.Module, schedule: Schedule, steps: int):
        one_of("device", schedule.device, ("auto", "cpu", "cuda"))
        if schedule.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device='cuda': torch finds no GPU here; use 'auto' or 'cpu'")
        self.method, self.schedule, self.history, self.best = method, schedule, [], None
        self.turns = getattr(method, "turns", ("model",))
        # Accelerate's state is process-wide; it is renewed, so that each call may choose anew.
        AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
        unused = DistributedDataParallelKwargs(find_unused_parameters=len(self.turns) > 1)
        where = {"cpu": schedule.device == "cpu", "mixed_precision": schedule.precision}
        self.accelerator = Accelerator(**where, kwargs_handlers=[unused])
        trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
        adam = torch.optim.Adam(trained, lr=schedule.lr)
        self.rates = LambdaLR(adam, partial(schedule.rate, steps=steps))
        self.wrapped, self.optimizer = self.accelerator.prepare(method, adam)

    def state(self) -> dict:
        """All that `load` needs to go on as if nothing had stopped."""
        parts = {"method": self.method, "optimizer": self.optimizer, "rates": self.rates}
        states = {name: part.state_dict() for name, part in parts.items()}
        return {"history": self.history, "best": self.best} | states

    def load(self, state: dict, path: str | Path) -> None:
        """Go back to what `state` gave; ValueError names its file where it is of other training."""
        try:
            for name in ("method", "optimizer", "rates"):
                getattr(self, name).load_state_dict(state[name])
            best_epoch(state["history"])
        except Exception as error:
            raise ValueError(f"{path}: {OTHER}") from error
        self.history += state["history"]
        self.best = state["best"]
        self.rates.base_lrs = [self.schedule.lr]  # which may be lower than when it was stopped
        share = self.rates.lr_lambdas[0](self.rates.last_epoch)
        self.optimizer.param_groups[0]["lr"] = self.schedule.lr * share

    def epoch(self, data: Dataset, rows: Tensor, val_rows: Tensor) -> dict:
        """Train for one epoch, and validate; the record of both."""
        start, epoch, schedule = time.perf_counter(), len(self.history), self.schedule
        with torch.random.fork_rng():
            torch.manual_seed(schedule.epoch_seed(epoch))
            train = self._pass(data, schedule.batches(rows, epoch), training=True)
        val = self._pass(data, val_rows.split(schedule.batch_size), training=False)
        seconds = time.perf_counter() - start
        self.history.append({"epoch": epoch + 1, "seconds": seconds, "train": train, "val": val})
        if best_epoch(self.history) == epoch + 1:
            self.best = copy.deepcopy(self.method.state_dict())
        return self.history[-1]

    def _pass(self, data: Dataset, batches: Sequence[Tensor], *, training: bool) -> dict:
        """One pass over the batches; the mean of each loss.

        The losses are those of the last turn, the model's; without training it is the only one.
        """
        self.wrapped.train(training)
        part, total = "training" if training else "validation", {}
        for number, rows in enumerate(batches, 1):
            with self.accelerator.split_between_processes(rows, apply_padding=True) as mine:
                batch = data[mine].to(self.accelerator.device)
            # Each turn moves the parameters of one player: Adam leaves alone what has no gradient.
            for turn in self.turns if training else self.turns[-1:]:
                losses = self.wrapped(batch, *[turn] * (len(self.turns) > 1))
                _require_finite(losses, f"{part} batch {number}", rows)
                if training:
                    self.optimizer.zero_grad()
                    self.accelerator.backward(sum(losses.values()))
                    self.optimizer.step()
            if training:
                self.rates.step()
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + loss.detach() * len(rows)
        count = sum(len(rows) for rows in batches)
        return {n: self.accelerator.reduce(t / count, "mean").item() for n, t in total.items()}


class NotFiniteError(ValueError):
    """A loss is NaN or infinite; the message names epoch, batch, loss and rows."""


def _require_finite(losses: dict[str, Tensor], where: str, rows: Tensor) -> None:
    """Raise NotFiniteError, before anything is learned from it, for a loss that is no number."""
    if sum(losses.values()).isfinite():
        return
    said = ", ".join(f"{name} {loss.item():g}" for name, loss in losses.items())
    some = ", ".join(map(str, rows[:8].tolist())) + ", ..." * (len(rows) > 8)
    raise NotFiniteError(
        f"{where}: the loss is not finite ({said}; rows {some}); "
        "lower the learning rate, or look at these rows"
    )


def predict(
    model: Classifier | nn.DataParallel,
    data: Dataset,
    rows: Int[Tensor, " n"],
    *,
    batch_size: int | None = None,
    target: Literal["predicted", "label"] = "predicted",
) -> Prediction:
    """Logits and Grad-CAM maps for `rows`, on the model's device, in eval mode.

    The maps explain the predicted class, or the true one with `target="label"`. All are of 32 bits,
    whatever the model's are. The modes of all its parts and its gradients are left as they were.
    `batch_size` changes nothing but the time; by default it suits the device.

    Raises RuntimeError for a model that was built under torch.inference_mode.
    """
    one_of("target", target, ("predicted", "label"))
    model, rows = getattr(model, "module", model), torch.as_tensor(rows)  # not a DataParallel
    if any(parameter.is_inference() for parameter in model.parameters()):
        what = "no map can be had of a model built under torch.inference_mode(): build it outside"
        raise RuntimeError(what)
    with modes_kept(model), torch.inference_mode(False):
        model.eval()
        some = rows.split(batch_size or at_once(model))
        return concatenate([_predict_batch(model, data[each], target) for each in some])


def _predict_batch(model: Classifier, batch: Batch, target: str) -> Prediction:
    batch = batch.to(model.mean.device)
    with torch.no_grad():
        features = model.encode(batch.image, batch.stem)
    with torch.enable_grad():
        features.requires_grad_()
        parts, (logits, *others) = model.tasks(features)
        chosen = logits.argmax(dim=1) if target == "predicted" else batch.label
        cam = grad_cam(features, logits, chosen)
    seen = Prediction(logits, cam, parts, dict(zip(model.factors, others, strict=True)))
    return recursively_apply(lambda tensor: tensor.detach().float().cpu(), seen)
