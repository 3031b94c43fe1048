"""The folder a run writes to, and what of it a resumed run may take over."""

from pathlib import Path
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor, nn

from xbl_kit.checkpoint import load_json, load_model, save_model, write_json
from xbl_kit.data import Dataset
from xbl_kit.exemplar import Exemplar
from xbl_kit.models import Classifier
from xbl_kit.storage import is_first_process
from xbl_kit.train import best_epoch, fit

Rows = dict[str, Int[Tensor, " n"]]

OWN_FILES = ("run.json", "results.json", "exemplar.npz", "*-*.safetensors", "train-*", "*.png")


class Run(NamedTuple):
    """A finished run: results, data, rows by name, models by name, and the exemplar of eXBL."""

    results: dict
    data: Dataset
    rows: Rows
    models: dict[str, Classifier]
    exemplar: Exemplar | None = None


def finished_run(out: str | Path | None, settings: dict) -> dict | None:
    """The results in `out` of a run with these settings that came to its end, if there is one."""
    if out is None or load_json(Path(out) / "run.json") != settings:
        return None
    return load_json(Path(out) / "results.json")


def open_folder(out: str | Path | None, settings: dict, resume: bool) -> Path | None:
    """Make `out` ready for a run with these settings; a new run removes an old one's files.

    Raises ValueError where a run to be resumed had other settings.
    """
    if out is None:
        return None
    out = Path(out)
    found = load_json(out / "run.json")
    if resume and found is not None and found != settings:
        key = next(k for k in settings if found.get(k) != settings[k])
        raise ValueError(
            f"{out / 'run.json'}: holds a run with {key} {found.get(key)!r}, "
            f"expected {settings[key]!r}; choose another --out or leave out --resume"
        )
    if not resume and is_first_process():
        for pattern in OWN_FILES:
            for path in out.glob(pattern):
                path.unlink()
    write_json(out / "run.json", settings)
    return out


def train_stage(name: str, method: nn.Module, data, rows, *, out: Path | None, **options) -> dict:
    """Train `method` as one stage of a run, or load it where a resumed run has it already.

    Returns the stage's numbers: epochs run, the epoch kept, seconds. `options` go to `fit`.
    """
    weights, record, state = (
        (out / f"model-{name}.safetensors", out / f"train-{name}.json", out / f"train-{name}.pt")
        if out
        else (None, None, None)
    )
    done = load_json(record) if record else None
    if done and weights.exists():
        load_model(method.model, weights)
        return done
    history = fit(method, data, rows["train"], rows["val"], state=state, title=name, **options)
    seconds = sum(epoch["seconds"] for epoch in history)
    kept = len(history) if options.get("keep") == "last" else best_epoch(history)
    done = {
        "epochs": len(history),
        "kept": kept,
        "seconds": round(seconds, 2),
        "seconds_per_epoch": round(seconds / len(history), 2),
    }
    if out:
        save_model(method.model, weights)
        write_json(record, done)
        if is_first_process():
            state.unlink(missing_ok=True)
    return done
