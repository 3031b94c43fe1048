"""The folder a run writes to, and what of it a resumed run may take over, stage by stage."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from torch import nn

from xbl_kit.data import Dataset
from xbl_kit.digests import digest, file_digest, json_digest, load_sealed, write_sealed
from xbl_kit.exemplar import Exemplar, picked_by_person
from xbl_kit.models import Classifier
from xbl_kit.run.splits import Rows
from xbl_kit.schedule import Schedule
from xbl_kit.storage import OwnFiles, is_first_process, load_json, load_model, save_model
from xbl_kit.train import best_epoch, fit

RECORD, RESULTS, PICKS = "run.json", "results.json", "exemplar.npz"
LOCK = ".xbl-kit-{}.lock"  # of a run, a stage: a name that nobody else gives a file
RECORDED = ("settings", "inputs", "exemplar")  # what a run is made from


class Run(NamedTuple):
    """A finished run: results, data, rows by name, models by name, and the exemplar of eXBL."""

    results: dict
    data: Dataset
    rows: Rows
    models: dict[str, Classifier]
    exemplar: Exemplar | None = None


def files_of(stages: Iterable[str]) -> list[str]:
    """The names of all files that a run of these stages may write beside its record."""
    figures = ("accuracy.png", "worst_group.png", "activation_precision.png", "maps.png")
    each = ("model-{}.safetensors", "stage-{}.json", "train-{}.pt", "tsne-{}.png")
    return [RESULTS, PICKS, *figures, *(name.format(m) for m in stages for name in each)]


@contextmanager
def alone(folder: Path, *, sharing: bool = False, how: str = "wait for it") -> Iterator[None]:
    """Be at work in a folder; other processes may be so at the same time if they are `sharing`.

    Raises ValueError, which says `how` else to go on, where another process is at work there.
    """
    if os.environ.get("RANK", "0") != "0":
        yield  # those of one `torchrun` are at it together
        return
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    places = (FileLock(folder / LOCK.format(f"run-{number}")) for number in count())
    lock = next(each for each in places if _taken(each) or not sharing)
    try:
        ours = LOCK.format("*")
        others = {*folder.glob(ours), *folder.glob(f"*/{ours}")} - {Path(lock.lock_file)}
        if not (lock.is_locked and (sharing or all(map(_is_free, others)))):
            what = f"another process is at work here; {how}, or choose another --out"
            raise ValueError(f"{folder}: {what}")
        yield
    finally:
        if lock.is_locked:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _taken(lock: FileLock) -> bool:
    """Take a lock, if nobody has it."""
    with suppress(Timeout):
        lock.acquire(timeout=0)
    return lock.is_locked


def _is_free(path: Path) -> bool:
    with suppress(Timeout), FileLock(path, timeout=0):
        return True
    return False


def run_name(settings: dict, inputs: dict) -> str:
    """A hash that tells one run from another, by its settings and `task.inputs_of`."""
    return json_digest([settings, inputs])


def refuse_others(files: OwnFiles, settings: dict, inputs: dict) -> None:
    """Raise ValueError where a folder holds a run with other settings, or made from other things.

    Methods may be added to a comparison.
    """
    if not files.record.exists():
        return
    noted = map(files.content.get, ("settings", "inputs"))
    found, made = (each if isinstance(each, dict) else {} for each in noted)
    added = {"models"} if settings["experiment"] == "compare" else set()
    what = [
        f"with {key} {found.get(key, 'none')!r}, expected {settings.get(key)!r}"
        for key in {**settings, **found}
        if key not in added and found.get(key, "none") != settings.get(key)
    ]
    if (theirs := made.get("version")) != inputs["version"]:
        what.append(f"of xbl-kit {theirs or '(older)'}, expected {inputs['version']}")
    for key in ("data", "weights"):
        if made.get(key) != inputs[key]:
            what.append(f"on {key} that have changed since")
    if what:
        how = "choose another --out, leave out --resume, or rename this folder to keep it"
        raise ValueError(f"{files.record}: holds a run {what[0]}; {how}")


def begin(
    files: OwnFiles,
    settings: dict,
    inputs: dict,
    names: Iterable[str],
    *,
    resume: bool,
    exemplar: Exemplar | None = None,
    claim: bool = False,
) -> None:
    """Make a folder ready for a run with these settings; a new run removes an old one's files.

    With `claim` the names are own ones, so that none takes another's for a stranger's.
    Raises ValueError where a run to be resumed was another, or where a name that is needed is
    somebody else's file.
    """
    if resume:
        refuse_others(files, settings, inputs)
    keep = {PICKS} if picked_by_person(files / PICKS) else set()
    files.names |= keep
    keep = files.names - {RESULTS} if resume else keep  # figures of then, weights of now: no
    known = files.content.get("exemplar") if resume else None
    picked = digest(*exemplar.tensors) if exemplar else known
    # Methods may be added to a comparison: what they are does not tell one run from another.
    run = run_name(settings | {"models": 0}, inputs)
    record = {"settings": settings, "inputs": inputs, "run": run, "exemplar": picked}
    files.begin(names, keep=keep, claim=claim, **record)


def finish(files: OwnFiles, *others: OwnFiles) -> None:
    """Note that a run came to its end, and how its results, weights and exemplar then were."""
    if not is_first_process():  # which alone writes, and may not have written all of it yet
        return
    told = ("stage-", "model-", RESULTS, *[PICKS] * bool(files.content["exemplar"]))
    paths = [own / name for own in (files, *others) for name in own.names if name.startswith(told)]
    names = {path.relative_to(files.folder).as_posix(): file_digest(path) for path in sorted(paths)}
    run = run_name(files.content["settings"], files.content["inputs"])
    files.content["done"] = {"run": run, "files": names}
    files.save()


def finished(files: OwnFiles, picks: Exemplar | None = None) -> dict | None:
    """The results of a run that came to its end, with these picks if any, and was left as it was;
    else None."""
    done, settings, inputs, picked = map(files.content.get, ("done", *RECORDED))
    match done, settings, inputs:
        case {"run": run, "files": dict(names)}, dict(), dict():
            is_whole = run == run_name(settings, inputs)
            is_whole &= all(file_digest(files / name) == of for name, of in names.items())
            if is_whole and not (picks and digest(*picks.tensors) != picked):
                return load_json(files / RESULTS)
    return None


class Stage:
    """One model of a run: model-NAME.safetensors, stage-NAME.json, and train-NAME.pt meanwhile.
    A correction of a model that is trained has no weights of its own.

    The record holds what the model is `given`, such as the name of the run and a digest of the
    weights it starts from, and in the end its results: what was given something else is not taken
    over. The state of training stays until the model is measured.
    """

    def __init__(self, name: str, files: OwnFiles | None, given: dict | None = None):
        self.name, self.files, self.given = name, files, given or {}
        self.weights, self.record = f"model-{name}.safetensors", f"stage-{name}.json"
        self.state = f"train-{name}.pt"

    @property
    def lock(self) -> Path:
        """The file that is locked by who is at this stage."""
        return self.files / LOCK.format(f"stage-{self.name}")

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process is at this stage; none comes while this one is.

        Processes of one `torchrun` are at it together.
        """
        if self.files is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            yield True
            return
        self.files.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock)
        try:
            yield _taken(lock)
        finally:
            lock.release()

    def taken_over(self, model: Classifier | None) -> dict | list | None:
        """The results of a stage that is done, its weights read into `model`; else None."""
        if not self.files:
            return None
        found, weights = load_sealed(self.files / self.record) or {}, self.files / self.weights
        if found.get("given") != self.given:
            self.files.remove([self.record, self.weights, self.state])
            return None
        if "results" not in found or (model and not weights.exists()):
            return None
        if model and file_digest(weights) != found["weights"]:
            what = f"not the weights that {self.record} tells of; delete both"
            raise ValueError(f"{weights}: {what}")
        if model:
            load_model(model, weights)
        return found["results"]

    def train(self, method: nn.Module, data: Dataset, rows: Rows, schedule: Schedule) -> dict:
        """Train `method`; returns the numbers of its training: epochs run, epoch kept, seconds."""
        if self.files:
            write_sealed(self.files.own(self.record), {"given": self.given})
            state = self.files.own(self.state), json_digest(self.given)
        how = {"title": self.name, "state": state if self.files else None}
        history = fit(method, data, rows["train"], rows["val"], schedule, **how)
        if self.files:
            save_model(method.model, self.files.own(self.weights))
        seconds = sum(epoch["seconds"] for epoch in history)
        return {
            "images": len(rows["train"]),
            "epochs": len(history),
            "kept": len(history) if schedule.keep == "last" else best_epoch(history),
            "seconds": round(seconds, 2),
            "seconds_per_epoch": round(seconds / len(history), 2),
        }

    def keep(self, results: dict | list) -> None:
        """Write the record: the stage is done."""
        if self.files:
            weights = file_digest(self.files / self.weights)
            content = {"given": self.given, "results": results, "weights": weights}
            write_sealed(self.files.own(self.record), content)
            self.files.remove([self.state])
