"""One training loop for every method, and prediction with explanations."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from xbl_kit.checkpoint import load_state, save_state
from xbl_kit.data import Dataset
from xbl_kit.explain import grad_cam
from xbl_kit.models import Classifier


def fit(
    method: nn.Module,
    data: Dataset,
    rows: Int[Tensor, " n"],
    val_rows: Int[Tensor, " m"],
    *,
    epochs: int,
    batch_size: int = 32,
    lr: float = 1e-4,
    warmup: float = 0.0,
    horizon: int | None = None,
    patience: int | None = None,
    keep: Literal["best", "last"] = "best",
    seed: int = 0,
    device: str = "auto",
    precision: Literal["no", "bf16"] = "no",
    state: str | Path | None = None,
    on_epoch: Callable[[dict], None] | None = None,
    title: str = "training",
) -> list[dict]:
    """Train `method` in place with Adam on the sum of the losses it returns.

    The learning rate rises to `lr` over the share `warmup` of `horizon` epochs (by default
    `epochs`) and falls to 0 as half a cosine over the rest. Training ends after `epochs`, or once
    the summed loss on `val_rows` has not fallen for `patience` epochs; the weights kept are those
    of the best epoch or of the last. Returns a record an epoch: its number, seconds, both sets'
    losses. `state` is a file, written after each epoch and read first where it exists, after which
    training goes on as if it had never stopped. `on_epoch` sees each record.

    A method with several players names their `turns`; each batch has them all, and
    `method(batch, turn)` gives the losses that the parameters in their graph shall lower.

    The order of the images and dropout depend on `seed` and the epoch alone; the global random
    state is left as it was. Runs unchanged under `torchrun` or `accelerate.notebook_launcher`.

    Raises NotFiniteError where a loss is NaN or infinite; `method` then has its best weights so
    far, or those of the epoch's beginning, and `state` holds the last whole epoch.
    """
    turns = [(turn,) for turn in getattr(method, "turns", ())] or [()]
    accelerator = _accelerator(device, precision, several_players=len(turns) > 1)
    was_training = method.training
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    wrapped, optimizer = accelerator.prepare(method, torch.optim.Adam(trained, lr=lr))
    run = _restore(state, method, optimizer)
    bar = tqdm(total=epochs, initial=len(run["history"]), desc=title, unit="epoch", disable=None)
    while len(run["history"]) < epochs and not _stalled(run["history"], patience):
        start = time.perf_counter()
        done = len(run["history"])
        good = copy.deepcopy(method.state_dict())
        batches, dropout_seed = _shuffled(rows, batch_size, seed, done)
        try:
            with torch.random.fork_rng():
                torch.manual_seed(dropout_seed)
                rates = _rates(lr, done, horizon or epochs, warmup, len(batches))
                train = _pass(wrapped, data, batches, accelerator, turns, optimizer, rates)
            val = _pass(wrapped, data, val_rows.split(batch_size), accelerator, turns)
        except NotFiniteError as error:
            method.load_state_dict(run["best"] if keep == "best" and run["best"] else good)
            method.train(was_training)
            raise NotFiniteError(f"{title}, epoch {done + 1}, {error}") from None
        seconds = time.perf_counter() - start
        record = {"epoch": done + 1, "seconds": seconds, "train": train, "val": val}
        run["history"].append(record)
        if best_epoch(run["history"]) == done + 1:
            run["best"] = copy.deepcopy(method.state_dict())
        if state and accelerator.is_main_process:
            now = {"method": method.state_dict(), "optimizer": optimizer.state_dict()}
            save_state(state, run | now)
        bar.update()
        bar.set_postfix(loss=f"{sum(train.values()):.3f}", val=f"{sum(val.values()):.3f}")
        if on_epoch:
            on_epoch(record)
    bar.close()
    if keep == "best" and run["best"] is not None:
        method.load_state_dict(run["best"])
    method.train(was_training)
    return run["history"]


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


def _restore(state: str | Path | None, method: nn.Module, optimizer) -> dict:
    saved = load_state(state) if state else None
    if saved is None:
        return {"history": [], "best": None}
    method.load_state_dict(saved["method"])
    optimizer.load_state_dict(saved["optimizer"])
    return {"history": saved["history"], "best": saved["best"]}


def _shuffled(rows: Tensor, batch_size: int, seed: int, epoch: int) -> tuple[list[Tensor], int]:
    """The batches of an epoch, all of one size, and a seed for its dropout."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    order = rows[torch.randperm(len(rows), generator=generator)]
    whole = max(len(rows) - len(rows) % batch_size, min(len(rows), batch_size))
    return list(order[:whole].split(batch_size)), 1_000_003 * seed + epoch


def _rates(lr: float, epoch: int, horizon: int, warmup: float, steps: int) -> list[float]:
    """The learning rate of each step: up in a line, down in half a cosine, then 0 for good."""
    rates = []
    for step in range(steps):
        share = min((epoch + (step + 1) / steps) / horizon, 1)
        falling = 0.5 + 0.5 * math.cos(math.pi * max(share - warmup, 0) / (1 - warmup))
        rates.append(lr * (share / warmup if share < warmup else falling))
    return rates


def _accelerator(device: str, precision: str, several_players: bool = False) -> Accelerator:
    """An Accelerator; its process-wide state is renewed, so that each call may choose anew."""
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={device!r}: expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda': torch finds no GPU here; use 'auto' or 'cpu'")
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    unused = DistributedDataParallelKwargs(find_unused_parameters=several_players)
    return Accelerator(cpu=device == "cpu", mixed_precision=precision, kwargs_handlers=[unused])


def _pass(
    wrapped: nn.Module,
    data: Dataset,
    batches: Sequence[Tensor],
    accelerator: Accelerator,
    turns: Sequence[tuple[str, ...]] = ((),),
    optimizer=None,
    rates: Sequence[float] = (),
) -> dict[str, float]:
    """One pass over the batches, training where there is an optimizer; the mean of each loss.

    The losses are those of the last turn, the model's; without training it is the only one.
    """
    wrapped.train(optimizer is not None)
    total: dict[str, Tensor] = {}
    for number, (rows, rate) in enumerate(zip_longest(batches, rates), 1):
        with accelerator.split_between_processes(rows, apply_padding=True) as mine:
            batch = data[mine].to(accelerator.device)
        # Each turn moves the parameters of one player: Adam leaves alone what has no gradient.
        for turn in turns if optimizer is not None else turns[-1:]:
            losses = wrapped(batch, *turn)
            _require_finite(losses, number, rows, "validation" if optimizer is None else "training")
            if optimizer is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                accelerator.backward(sum(losses.values()))
                optimizer.step()
        for name, loss in losses.items():
            total[name] = total.get(name, 0) + loss.detach() * len(rows)
    count = sum(len(rows) for rows in batches)
    return {name: accelerator.reduce(t / count, "mean").item() for name, t in total.items()}


class NotFiniteError(ValueError):
    """A loss is NaN or infinite; the message names epoch, batch, loss and rows."""


def _require_finite(losses: dict[str, Tensor], number: int, rows: Tensor, part: str) -> None:
    """Raise NotFiniteError, before anything is learned from it, for a loss that is no number."""
    if sum(losses.values()).isfinite():
        return
    said = ", ".join(f"{name} {loss.item():g}" for name, loss in losses.items())
    more = ", ..." if len(rows) > 8 else ""
    raise NotFiniteError(
        f"{part} batch {number}: the loss is not finite ({said}; rows "
        f"{', '.join(map(str, rows[:8].tolist()))}{more}); "
        "lower the learning rate, or look at these rows"
    )


class Prediction(NamedTuple):
    """Logits (n, k) and raw Grad-CAM maps (n, h, w) of n images, on the CPU."""

    logits: Float[Tensor, "n k"]
    cam: Float[Tensor, "n h w"]

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
    parts = [
        _predict_batch(model, data[some].to(device), target) for some in rows.split(batch_size)
    ]
    model.train(was_training)
    return Prediction(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _predict_batch(model: Classifier, batch, target: str) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        features = model.encode(batch.image, batch.stem)
    with torch.enable_grad():
        features.requires_grad_()
        logits = model.head(features)
        chosen = logits.argmax(dim=1) if target == "predicted" else batch.label
        cam = grad_cam(features, logits, chosen)
    return logits.detach().cpu(), cam.cpu()
