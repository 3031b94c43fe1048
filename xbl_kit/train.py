"""One training loop for every method, and prediction with explanations."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from xbl_kit.batch import Batch
from xbl_kit.checkpoint import load_state, save_state
from xbl_kit.data import Dataset
from xbl_kit.explain import grad_cam
from xbl_kit.models import Classifier


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a method is trained, and where.

    The learning rate rises to `lr` over the share `warmup` of `horizon` epochs (by default
    `epochs`) and falls to 0 as half a cosine over the rest. Training ends after `epochs`, or once
    the summed validation loss has not fallen for `patience` epochs; `keep` says whether the weights
    of the best epoch or of the last are kept. The order of the images and dropout depend on `seed`
    and the epoch alone. `device` is auto, cpu or cuda.
    """

    epochs: int
    batch_size: int = 32
    lr: float = 1e-4
    warmup: float = 0.0
    horizon: int | None = None
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    device: str = "auto"
    precision: Literal["no", "bf16"] = "no"

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step, as a share of `lr`, with `steps` an epoch."""
        epoch, step = divmod(step, steps)
        share = min((epoch + (step + 1) / steps) / (self.horizon or self.epochs), 1)
        if share < self.warmup:
            return share / self.warmup
        return 0.5 + 0.5 * math.cos(math.pi * (share - self.warmup) / (1 - self.warmup))

    def batches(self, rows: Int[Tensor, " n"], epoch: int) -> list[Int[Tensor, " b"]]:
        """The batches of an epoch, all of one size, in an order of its own."""
        generator = torch.Generator().manual_seed(self.epoch_seed(epoch))
        order = rows[torch.randperm(len(rows), generator=generator)]
        size = min(self.batch_size, len(rows))
        return list(order[: len(rows) - len(rows) % size].split(size))

    def epoch_seed(self, epoch: int) -> int:
        """Of the order of the images, and of dropout."""
        return 1_000_003 * self.seed + epoch


class _Players(NamedTuple):
    """What moves: the method as accelerate wraps it, its turns, the optimizer and its rate."""

    accelerator: Accelerator
    method: nn.Module
    turns: tuple[str, ...]
    optimizer: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LambdaLR


def fit(
    method: nn.Module,
    data: Dataset,
    rows: Int[Tensor, " n"],
    val_rows: Int[Tensor, " m"],
    schedule: Schedule | None = None,
    *,
    state: str | Path | None = None,
    on_epoch: Callable[[dict], None] | None = None,
    title: str = "training",
    **plan,
) -> list[dict]:
    """Train `method` in place with Adam on the sum of the losses it returns.

    `plan` are fields of `Schedule`, instead of those of `schedule`. Returns a record an epoch: its
    number, seconds, both sets' losses. `state` is a file, written after each epoch and read first
    where it exists, after which training goes on as if it had never stopped. `on_epoch` sees each
    record. A method with several players names its `turns`; each batch has them all, and
    `method(batch, turn)` gives the losses that the parameters in their graph shall lower. The
    global random state is left as it was. Runs unchanged under `torchrun` or `notebook_launcher`.

    Raises NotFiniteError where a loss is NaN or infinite; `method` then has its best weights so
    far, or those of the epoch's beginning, and `state` holds the last whole epoch.
    """
    schedule = dataclasses.replace(schedule, **plan) if schedule else Schedule(**plan)
    was_training, history = method.training, []
    players = _players(method, schedule, steps=len(schedule.batches(rows, 0)))
    best = _restore(state, history, method, players)
    bar = tqdm(initial=len(history), total=schedule.epochs, desc=title, unit="epoch", disable=None)
    while len(history) < schedule.epochs and not _stalled(history, schedule.patience):
        good = copy.deepcopy(method.state_dict())
        try:
            record = _epoch(players, data, rows, val_rows, schedule, len(history))
        except NotFiniteError as error:
            method.load_state_dict(best if best and schedule.keep == "best" else good)
            method.train(was_training)
            raise NotFiniteError(f"{title}, epoch {len(history) + 1}, {error}") from None
        history.append(record)
        if best_epoch(history) == len(history):
            best = copy.deepcopy(method.state_dict())
        if state and players.accelerator.is_main_process:
            save_state(state, _state(history, best, method, players))
        bar.update()
        bar.set_postfix({part: f"{sum(record[part].values()):.3f}" for part in ("train", "val")})
        if on_epoch:
            on_epoch(record)
    bar.close()
    if best and schedule.keep == "best":
        method.load_state_dict(best)
    method.train(was_training)
    return history


@contextmanager
def first_process_first(device: str = "auto") -> Iterator[None]:
    """Under `torchrun` one process of a machine does what follows before the others do.

    It alone writes; a cache or a folder that it made ready is there for the others to read.
    """
    with PartialState(cpu=device == "cpu").local_main_process_first():
        yield


def best_epoch(history: list[dict]) -> int:
    """The number of the epoch with the lowest summed validation loss, of those that are finite.

    Raises ValueError where none is.
    """
    finite = [record for record in history if math.isfinite(sum(record["val"].values()))]
    if not finite:
        raise ValueError(f"no epoch of {len(history)} has a finite validation loss")
    return min(finite, key=lambda record: sum(record["val"].values()))["epoch"]


def _stalled(history: list[dict], patience: int | None) -> bool:
    return bool(patience and history) and len(history) - best_epoch(history) >= patience


def _players(method: nn.Module, schedule: Schedule, steps: int) -> _Players:
    """An Accelerator; its process-wide state is renewed, so that each call may choose anew."""
    device, turns = schedule.device, getattr(method, "turns", ("model",))
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={device!r}: expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda': torch finds no GPU here; use 'auto' or 'cpu'")
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    unused = DistributedDataParallelKwargs(find_unused_parameters=len(turns) > 1)
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision=schedule.precision, kwargs_handlers=[unused]
    )
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    wrapped, optimizer = accelerator.prepare(method, torch.optim.Adam(trained, lr=schedule.lr))
    rate = partial(schedule.rate, steps=steps)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer.optimizer, rate)
    return _Players(accelerator, wrapped, turns, optimizer, rates)


def _state(history: list[dict], best: dict | None, method: nn.Module, players: _Players) -> dict:
    return {
        "history": history,
        "best": best,
        "method": method.state_dict(),
        "optimizer": players.optimizer.state_dict(),
        "rates": players.rates.state_dict(),
    }


def _restore(
    state: str | Path | None, history: list[dict], method: nn.Module, players: _Players
) -> dict | None:
    """Go back to what `_state` gave, where there is such a file; returns the best weights."""
    saved = load_state(state) if state else None
    if saved is None:
        return None
    history += saved["history"]
    method.load_state_dict(saved["method"])
    players.optimizer.load_state_dict(saved["optimizer"])
    players.rates.load_state_dict(saved["rates"])
    return saved["best"]


def _epoch(
    players: _Players, data: Dataset, rows: Tensor, val_rows: Tensor, schedule: Schedule, epoch: int
) -> dict:
    """Train for one epoch, the `epoch`-th from 0, and validate; the record of both."""
    start = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(schedule.epoch_seed(epoch))
        train = _pass(players, data, schedule.batches(rows, epoch), training=True)
    val = _pass(players, data, val_rows.split(schedule.batch_size), training=False)
    seconds = time.perf_counter() - start
    return {"epoch": epoch + 1, "seconds": seconds, "train": train, "val": val}


def _pass(
    players: _Players, data: Dataset, batches: Sequence[Tensor], *, training: bool
) -> dict[str, float]:
    """One pass over the batches; the mean of each loss.

    The losses are those of the last turn, the model's; without training it is the only one.
    """
    accelerator, method, turns, optimizer, rates = players
    method.train(training)
    part = "training" if training else "validation"
    total: dict[str, Tensor] = {}
    for number, rows in enumerate(batches, 1):
        with accelerator.split_between_processes(rows, apply_padding=True) as mine:
            batch = data[mine].to(accelerator.device)
        # Each turn moves the parameters of one player: Adam leaves alone what has no gradient.
        for turn in turns if training else turns[-1:]:
            losses = method(batch, turn) if len(turns) > 1 else method(batch)
            _require_finite(losses, f"{part} batch {number}", rows)
            if training:
                optimizer.zero_grad()
                accelerator.backward(sum(losses.values()))
                optimizer.step()
        if training:
            rates.step()
        for name, loss in losses.items():
            total[name] = total.get(name, 0) + loss.detach() * len(rows)
    count = sum(len(rows) for rows in batches)
    return {name: accelerator.reduce(t / count, "mean").item() for name, t in total.items()}


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


class Prediction(NamedTuple):
    """What a model makes of n images, on the CPU: logits (n, k) and raw Grad-CAM maps (n, h, w).

    `parts` are the features that the last layer of every head sees, the label's first, and
    `others` the logits of every spurious factor.
    """

    logits: Float[Tensor, "n k"]
    cam: Float[Tensor, "n h w"]
    parts: list[Float[Tensor, "n _"]]
    others: dict[str, Float[Tensor, "n _"]]

    @property
    def label(self) -> Int[Tensor, " n"]:
        """The predicted classes."""
        return self.logits.argmax(dim=1)


def predict(
    model: Classifier,
    data: Dataset,
    rows: Int[Tensor, " n"],
    *,
    batch_size: int = 64,
    target: Literal["predicted", "label"] = "predicted",
) -> Prediction:
    """Logits and Grad-CAM maps for `rows`, on the model's device, in eval mode.

    The maps explain the predicted class, or the true one with `target="label"`. The model's mode
    and gradients are left as they were.
    """
    was_training, device = model.training, model.mean.device
    model.eval()
    batches = [
        _predict_batch(model, data[some].to(device), target) for some in rows.split(batch_size)
    ]
    model.train(was_training)
    logits, cam, parts, others = zip(*batches, strict=True)
    parts, others = (
        [torch.cat(each) for each in zip(*side, strict=True)] for side in (parts, others)
    )
    named = dict(zip(model.factors, others, strict=True))
    return Prediction(torch.cat(logits), torch.cat(cam), parts, named)


def _predict_batch(model: Classifier, batch: Batch, target: str) -> tuple:
    with torch.no_grad():
        features = model.encode(batch.image, batch.stem)
    with torch.enable_grad():
        features.requires_grad_()
        parts, (logits, *others) = model.tasks(features)
        chosen = logits.argmax(dim=1) if target == "predicted" else batch.label
        cam = grad_cam(features, logits, chosen)
    sides = [[tensor.detach().cpu() for tensor in side] for side in (parts, others)]
    return logits.detach().cpu(), cam.cpu(), *sides
