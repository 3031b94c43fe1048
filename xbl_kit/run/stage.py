"""The folder a run writes to, and what of it a resumed run may take over, stage by stage."""

import hashlib
import warnings
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from torch import nn

from xbl_kit.checkpoint import load_json, load_model, save_model, write_json
from xbl_kit.data import Dataset
from xbl_kit.exemplar import Exemplar, picked_by_person
from xbl_kit.models import Classifier
from xbl_kit.run.splits import Rows
from xbl_kit.storage import is_first_process, write_whole
from xbl_kit.train import Schedule, best_epoch, fit

RECORD, RESULTS, PICKS = "run.json", "results.json", "exemplar.npz"
# What a run may write; a file of another's that has such a name is never touched.
FIGURES = ("accuracy", "worst_group", "activation_precision", "maps", "tsne-*")
NAMES = (RESULTS, PICKS, "model-*.safetensors", "stage-*.json", "train-*.pt")
NAMES += tuple(f"{figure}.png" for figure in FIGURES)


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
    results, person = load_json(Path(out) / RESULTS), picked_by_person(Path(out) / PICKS)
    again = results and person and person.summary() != results.get("exemplars")
    return None if again else results


def open_folder(out: str | Path | None, settings: dict, resume: bool) -> Folder | None:
    """Make `out` ready for a run with these settings; a new run removes the files of an old one.

    An exemplar that a person picked stays.
    Raises ValueError where a run to be resumed had other settings, for a folder that holds other
    files and no run, and where a file has a name that the run needs.
    """
    if out is None:
        return None
    out = Path(out)
    record = read_record(out) or {"settings": settings, "files": []}
    if resume and (found := record["settings"]) != settings:
        key = next(key for key in {**settings, **found} if found.get(key) != settings.get(key))
        raise ValueError(
            f"{out / RECORD}: holds a run with {key} {found.get(key)!r}, "
            f"expected {settings.get(key)!r}; choose another --out or leave out --resume"
        )
    folder = Folder(out, settings, record["files"])
    person = {PICKS} if picked_by_person(out / PICKS) else set()
    for path in sorted(out.glob("*")):
        own = path.name in folder.files | person | {RECORD}
        if not own and any(path.match(name) for name in NAMES):
            raise ValueError(
                f"{path}: not written by the run that {out / RECORD} tells of; "
                "move it, or choose another --out"
            )
    if not resume:
        folder.remove(folder.files - person)
    folder.files |= person
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
    if not isinstance(record, dict) or not {"settings", "experiment"} & set(record):
        raise ValueError(f"{out / RECORD}: not the record of a run; choose another --out")
    if "settings" not in record:  # of a version that kept no list: none of its files is removed
        return {"settings": record, "files": []}
    return record


class Stage:
    """One model of a run: model-NAME.safetensors and, written last, stage-NAME.json.

    The record holds the model's results and what it was `given`, such as a digest of the weights
    it started from. It is taken over where that is the same. While the model is trained, and until
    it is measured, train-NAME.pt holds the state.
    """

    def __init__(self, name: str, folder: Folder | None, given: dict):
        self.name, self.folder, self.given = name, folder, given
        self.weights, self.record = f"model-{name}.safetensors", f"stage-{name}.json"
        self.state = f"train-{name}.pt"

    def taken_over(self, model: Classifier) -> dict | None:
        """The results of a stage that is done, its weights read into `model`; else None."""
        done = load_json(self.folder / self.record) if self.folder else None
        if done is None or not (self.folder / self.weights).exists():
            return None
        if done.get("given") != self.given:  # trained from something else
            self.folder.remove([self.record, self.weights, self.state])
            return None
        load_model(model, self.folder / self.weights)
        return done["results"]

    def train(self, method: nn.Module, data: Dataset, rows: Rows, schedule: Schedule) -> dict:
        """Train `method`; returns the numbers of its training: epochs run, epoch kept, seconds."""
        state = self.folder.own(self.state) if self.folder else None
        history = fit(
            method, data, rows["train"], rows["val"], schedule, state=state, title=self.name
        )
        if self.folder:
            save_model(method.model, self.folder.own(self.weights))
        seconds = sum(epoch["seconds"] for epoch in history)
        return {
            "images": len(rows["train"]),
            "epochs": len(history),
            "kept": len(history) if schedule.keep == "last" else best_epoch(history),
            "seconds": round(seconds, 2),
            "seconds_per_epoch": round(seconds / len(history), 2),
        }

    def keep(self, results: dict) -> None:
        """Write the record: the stage is done."""
        if self.folder:
            content = {"given": self.given, "results": results}
            write_json(self.folder.own(self.record), content)
            self.folder.remove([self.state])
            self.folder.save()


def digest(model: nn.Module | None, exemplar: Exemplar | None = None) -> str:
    """A hash of weights, or of an exemplar's pictures and maps."""
    found = hashlib.blake2b(digest_size=16)
    tensors = list(model.state_dict().values()) if model else []
    if exemplar:
        sides = exemplar.good, exemplar.bad
        tensors += [tensor for side in sides for tensor in (side.image, side.cam)]
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
