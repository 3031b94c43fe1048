"""The folder a run writes to, and what of it a resumed run may take over."""

import warnings
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor, nn

from xbl_kit.checkpoint import load_json, load_model, save_model, write_json
from xbl_kit.data import Dataset
from xbl_kit.exemplar import Exemplar, picked_by_person
from xbl_kit.models import Classifier
from xbl_kit.storage import is_first_process, write_whole
from xbl_kit.train import best_epoch, fit

Rows = dict[str, Int[Tensor, " n"]]

RECORD, PICKS = "run.json", "exemplar.npz"


class Run(NamedTuple):
    """A finished run: results, data, rows by name, models by name, and the exemplar of eXBL."""

    results: dict
    data: Dataset
    rows: Rows
    models: dict[str, Classifier]
    exemplar: Exemplar | None = None


class Folder:
    """The folder of a run. Its record, run.json, holds the settings and the names of all files
    that the run wrote: no other file is ever removed or written over."""

    def __init__(self, path: Path, settings: dict, files: Iterable[str]):
        self.path, self.settings, self.files = path, settings, set(files)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def own(self, name: str) -> Path:
        """The path of a file that is about to be written, from now on one of the run's own.

        Raises FileExistsError where somebody else's file has this name.
        """
        path = self.path / name
        if name not in self.files:
            if path.exists() and is_first_process():
                raise FileExistsError(
                    f"{path}: not written by this run; move it, or choose another --out"
                )
            self.files.add(name)
            self.save()
        return path

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Let `write` fill one of the run's own files, whole or not at all."""
        write_whole(self.own(name), write)

    def save(self) -> None:
        """Write the record."""
        record = {"settings": self.settings, "files": sorted(self.files)}
        write_json(self.path / RECORD, record)

    def set_aside(self, name: str) -> None:
        """Rename a file that shall not be lost: x.npz becomes x-1.npz, or the next that is free."""
        stem, suffix = Path(name).stem, Path(name).suffix
        free = next(n for n in count(1) if not (self.path / f"{stem}-{n}{suffix}").exists())
        if is_first_process():
            (self.path / name).rename(self.path / f"{stem}-{free}{suffix}")
        warnings.warn(f"{self.path / name}: kept as {stem}-{free}{suffix}", stacklevel=2)
        self.files.discard(name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove some of the run's own files."""
        for name in self.files & set(names):
            if is_first_process():
                (self.path / name).unlink(missing_ok=True)
        self.files -= set(names)


def finished_run(out: str | Path | None, settings: dict) -> dict | None:
    """The results in `out` of a run with these settings that came to its end, if there is one.

    None also where a person has picked another exemplar since.
    """
    record = read_record(Path(out)) if out else None
    if record is None or record["settings"] != settings:
        return None
    results, person = load_json(Path(out) / "results.json"), picked_by_person(Path(out) / PICKS)
    again = results and person and person.summary() != results.get("exemplars")
    return None if again else results


def open_folder(
    out: str | Path | None, settings: dict, names: Iterable[str], resume: bool
) -> Folder | None:
    """Make `out` ready for a run with these settings; a new run removes the files of an old one.

    An exemplar that a person picked stays. `names` are the files that will be written.
    Raises ValueError where a run to be resumed had other settings and for a folder that holds
    other files and no run, FileExistsError where one of `names` is somebody else's file.
    """
    if out is None:
        return None
    out = Path(out)
    record = read_record(out) or {"settings": settings, "files": []}
    if resume and (found := record["settings"]) != settings:
        key = next(k for k in settings if found.get(k) != settings[k])
        raise ValueError(
            f"{out / RECORD}: holds a run with {key} {found.get(key)!r}, "
            f"expected {settings[key]!r}; choose another --out or leave out --resume"
        )
    folder = Folder(out, settings, record["files"])
    if picked_by_person(out / PICKS):
        folder.files.add(PICKS)
    for name in names:
        if name not in folder.files and (out / name).exists():
            raise FileExistsError(
                f"{out / name}: not written by the run that {out / RECORD} tells of; "
                "move it, or choose another --out"
            )
    if not resume:
        folder.remove(folder.files - ({PICKS} if picked_by_person(out / PICKS) else set()))
    folder.save()
    return folder


def read_record(out: Path) -> dict | None:
    """What run.json in `out` holds, None where the folder is missing or empty.

    Raises ValueError where there are other files and no record of a run.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise ValueError(f"{out}: not a folder; choose another --out")
    record = load_json(out / RECORD)
    if record is None:
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if others:
            raise ValueError(
                f"{out}: holds {others[0]!r} and no run; choose another --out or an empty folder"
            )
        return None
    if not {"settings", "experiment"} & set(record):
        raise ValueError(f"{out / RECORD}: not the record of a run; choose another --out")
    if "settings" not in record:  # of a version that kept no list: none of its files is removed
        return {"settings": record, "files": []}
    return record


def train_stage(name: str, method: nn.Module, data, rows, *, out: Folder | None, **options) -> dict:
    """Train `method` as one stage of a run, or load it where a resumed run has it already.

    Returns the stage's numbers: epochs run, the epoch kept, seconds. `options` go to `fit`.
    """
    weights, record, state = f"model-{name}.safetensors", f"train-{name}.json", f"train-{name}.pt"
    done = load_json(out / record) if out else None
    if done and (out / weights).exists():
        load_model(method.model, out / weights)
        return done
    kept_in = out.own(state) if out else None
    history = fit(method, data, rows["train"], rows["val"], state=kept_in, title=name, **options)
    seconds = sum(epoch["seconds"] for epoch in history)
    kept = len(history) if options.get("keep") == "last" else best_epoch(history)
    done = {
        "epochs": len(history),
        "kept": kept,
        "seconds": round(seconds, 2),
        "seconds_per_epoch": round(seconds / len(history), 2),
    }
    if out:
        save_model(method.model, out.own(weights))
        write_json(out.own(record), done)
        if is_first_process():
            kept_in.unlink(missing_ok=True)
    return done
