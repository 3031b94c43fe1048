"""The folder a run writes to, and what of it a resumed run may take over, stage by stage."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from torch import nn

from xbl_kit.data import Dataset
from xbl_kit.exemplar import Exemplar, picked_by_person
from xbl_kit.models import Classifier
from xbl_kit.run.splits import Rows
from xbl_kit.schedule import Schedule
from xbl_kit.storage import OwnFiles, digest, load_json, load_model, save_model, write_json
from xbl_kit.train import best_epoch, fit

RECORD, RESULTS, PICKS = "run.json", "results.json", "exemplar.npz"


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


def finished(files: OwnFiles, settings: dict, picks: Exemplar | None) -> dict | None:
    """The results of a run with these settings, and these picks if any, that came to its end."""
    results = load_json(files / RESULTS) if files.content.get("settings") == settings else None
    return None if picks and digest(*picks.tensors) != files.content.get("exemplar") else results


def begin(files: OwnFiles, settings: dict, names: Iterable[str], *, resume: bool) -> None:
    """Make a folder ready for a run with these settings; a new run removes an old one's files.

    Raises ValueError where a run to be resumed had other settings, or where a name that is needed
    is somebody else's file.
    """
    found = files.content.get("settings", {}) if files.record.exists() else settings
    pairs = [(key, found.get(key, "none"), settings.get(key)) for key in {**settings, **found}]
    more = {"models"} if settings["experiment"] == "compare" else set()  # these may be added to
    others = [pair for pair in pairs if pair[1] != pair[2] and pair[0] not in more]
    if resume and others:
        key, theirs, ours = others[0]
        raise ValueError(
            f"{files.record}: holds a run with {key} {theirs!r}, expected {ours!r}; "
            "choose another --out or leave out --resume"
        )
    keep = {PICKS} if picked_by_person(files / PICKS) else set()
    files.names |= keep
    keep = files.names - {RESULTS} if resume else keep  # figures of then, weights of now: no
    files.begin(names, keep=keep, settings=settings)


class Stage:
    """One model of a run: model-NAME.safetensors, stage-NAME.json, and train-NAME.pt meanwhile.
    A correction of a model that is trained has no weights of its own.

    The record holds what the model is `given`, such as a digest of the weights it starts from, and
    in the end its results: what was given something else is not taken over. The state of training
    stays until the model is measured.
    """

    def __init__(self, name: str, files: OwnFiles | None, given: dict | None = None):
        self.name, self.files, self.given = name, files, given or {}
        self.weights, self.record = f"model-{name}.safetensors", f"stage-{name}.json"
        self.state = f"train-{name}.pt"

    @property
    def lock(self) -> Path:
        """The file that is locked by who is at this stage."""
        return self.files / f".{self.name}.lock"

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
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def taken_over(self, model: Classifier | None) -> dict | list | None:
        """The results of a stage that is done, its weights read into `model`; else None."""
        found = load_json(self.files / self.record) if self.files else None
        if found is None or found.get("given") != self.given:
            if self.files:
                self.files.remove([self.record, self.weights, self.state])
            return None
        if "results" not in found or (model and not (self.files / self.weights).exists()):
            return None
        if model:
            load_model(model, self.files / self.weights)
        return found["results"]

    def train(self, method: nn.Module, data: Dataset, rows: Rows, schedule: Schedule) -> dict:
        """Train `method`; returns the numbers of its training: epochs run, epoch kept, seconds."""
        if self.files:
            write_json(self.files.own(self.record), {"given": self.given})
        how = {"title": self.name, "state": self.files.own(self.state) if self.files else None}
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
            content = {"given": self.given, "results": results}
            write_json(self.files.own(self.record), content)
            self.files.remove([self.state])
