"""A run under way: every recipe trained and measured, one after the other, or taken over."""

import copy
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from xbl_kit.batch import Prediction
from xbl_kit.data.faults import one_of
from xbl_kit.digests import digest
from xbl_kit.exemplar import Exemplar
from xbl_kit.methods import Known
from xbl_kit.models import Classifier, layer_statistics
from xbl_kit.pick import is_of, pick_automatically
from xbl_kit.run.measure import content, corrected, score, told
from xbl_kit.run.recipes import RECIPES, Given, Recipe, in_order
from xbl_kit.run.report import draw_tsne
from xbl_kit.run.splits import Rows, draw_images
from xbl_kit.run.stage import PICKS, RECORD, Stage, begin, files_of
from xbl_kit.run.task import TESTS, Settings, Task, build_network, givens, open_task
from xbl_kit.storage import OwnFiles
from xbl_kit.train import predict


def stages_of(task: Task, name: str) -> dict[str, list[Given]]:
    """The stages of a recipe: one a training; one for all corrections, which take no time."""
    recipe = RECIPES[name]
    cells = givens(recipe, task.settings)
    if recipe.schedule is None:
        return {name: cells}
    return {name + f"-{sum(g[:2])}-{g.draw}" * any(g[:2]): [g] for g in cells}


class Work:
    """A run under way: what it is, its folder, the exemplar once there is one, what is done.

    `models` are by recipe, `found[recipe]` is what was measured, by what was given. Raises
    ValueError for an exemplar that is of other data.
    """

    def __init__(self, task: Task, files: OwnFiles | None, exemplar: Exemplar | None, device: str):
        self.task, self.files, self.exemplar, self.device = task, files, exemplar, device
        if exemplar:
            _refuse_misfit(exemplar, task)
        self.models: dict[str, Classifier] = {}
        self.found: dict[str, dict[Given, dict]] = {name: {} for name in in_order(task.models)}
        self.stages = [(n, *each) for n in self.found for each in stages_of(task, n).items()]
        self._look, self._statistics = cache(self._look), cache(self._statistics)

    @property
    def titles(self) -> list[str]:
        """The names of all stages."""
        return [title for _, title, _ in self.stages]

    @property
    def left(self) -> list[tuple[str, str, list[Given]]]:
        """Recipe, stage and what is given, of every stage that is not done."""
        return [(n, t, cells) for n, t, cells in self.stages if cells[0] not in self.found[n]]

    def go_on(self) -> int:
        """Do every stage that waits for nothing, and that no other process is at; how many.

        Once all are done, nobody is at any, and the locks go.
        """
        done = 0
        for name, title, cells in self.left:
            if any(Given() not in self.found[other] for other in self._before(name, cells[0])):
                continue
            with Stage(title, self.files).alone() as alone:
                if alone:
                    results = self._do(name, title, cells)
                    self.found[name] |= dict(zip(cells, results, strict=True))
                    done += 1
        if self.files and not self.left:
            for title in self.titles:
                Stage(title, self.files).lock.unlink(missing_ok=True)
        return done

    def _before(self, name: str, given: Given) -> Iterable[str]:
        """The recipes that have to be done first; Unrefined tells which class is biased."""
        recipe = RECIPES[name]
        return filter(None, (recipe.after, recipe.as_long_as, "unrefined" * any(given[:2])))

    def _do(self, name: str, title: str, cells: Sequence[Given]) -> list[dict]:
        """One stage, taken over from the folder, or trained and measured."""
        recipe, task = RECIPES[name], self.task
        before = self.models.get(recipe.after)
        model = None if recipe.fresh else copy.deepcopy(before)
        model = model or build_network(task.settings, task.data, recipe.heads)
        inputs = [*(before or model).state_dict().values(), task.data.label, *task.rows.values()]
        if "exemplar" in recipe.needs:
            self.exemplar = self.exemplar or _pick(task, before, self.files)
            inputs += self.exemplar.tensors
        first = self.found[recipe.as_long_as][Given()] if recipe.as_long_as else None
        epochs = first["train"]["kept"] if first else None
        run = self.files.content.get("run") if self.files else None
        given = {"run": run, "inputs": digest(*inputs), "epochs": epochs}
        gifts = {"cells": [list(cell) for cell in cells]} if any(cells[0][:2]) else {}
        stage = Stage(title, self.files, given | gifts)
        trained = recipe.schedule is not None
        found = stage.taken_over(model if trained else None)
        if found is None:
            if trained:
                found = self._train(name, model, stage, cells[0], epochs)
            else:
                found = self._correct(name, model, cells)
            stage.keep(found)
        if trained and cells == [Given()]:
            self.models[name] = model
        return [found] if trained else found

    def _train(
        self, name: str, model: Classifier, stage: Stage, given: Given, epochs: int | None
    ) -> dict:
        """A model trained with what is given, and measured."""
        recipe, task = RECIPES[name], self.task
        schedule = task.schedule(recipe.schedule, self.device, epochs)
        known, left = self._known(recipe, given)
        known = replace(known, steps=schedule.epochs * len(schedule.batches(known.rows, 0)))
        method = recipe.build(model, known, **task.options(name))
        rows = {"train": known.rows, "val": known.held_out}
        training = stage.train(method, task.data, rows, schedule)
        seen = {test: predict(model, task.data, left[test]) for test in TESTS if test in left}
        return {"train": training} | self._measured(name, seen, left)

    def _correct(self, name: str, model: Classifier, cells: Sequence[Given]) -> list[dict]:
        """What the model trained before says, corrected with all that is given in turn."""
        recipe, found = RECIPES[name], []
        for cell in cells:
            known, left = self._known(recipe, cell)
            logits = recipe.build(model, known, **self.task.options(name))
            tests = [test for test in TESTS if test in left]
            seen = {test: corrected(known.before, logits, left[test]) for test in tests}
            found.append(self._measured(name, seen, left))
        return found

    def _known(self, recipe: Recipe, given: Given) -> tuple[Known, Rows]:
        """What a method knows; and the rows to test on, without patients of what was given."""
        task, settings = self.task, self.task.settings
        rows, left = task.rows[f"{recipe.rows}train"], task.rows
        more = {"held_out": task.rows[f"{recipe.rows}val"]}
        if any(given[:2]):
            biased, counter_class = self.biased()
            how = {"biased": biased, "seed": 1000 * settings.seed + given.draw}
            images, pool, left = draw_images(task.data, left, *given[:2], **how)
            more |= {"images": images, "pool": pool, "biased": biased}
            more |= {"counter_class": counter_class, "statistics": self._statistics}
            rows = torch.cat([rows, images])
        if recipe.fresh or recipe.schedule is None:
            more["before"] = self._look(recipe.after)
        factors, region, seed = tuple(settings.confounders), settings.region, settings.seed
        return Known(task.data, rows, factors, self.exemplar, region, 1, seed, **more), left

    def biased(self) -> tuple[int, int]:
        """The class that the bias speaks for, and the most common class of the counter-group."""
        data, rows = self.task.data, self.task.rows["counter"]
        label = data.label[rows]
        if name := self.task.settings.biased:
            biased = data.classes.index(one_of("biased", name, data.classes))
        else:
            said = self._look("unrefined").label[rows]
            wrong = said[said != label]
            if not len(wrong):
                what = "Unrefined is right on all of the counter-group"
                raise ValueError(f"{what}: which class is biased? name it with --biased")
            biased = wrong.mode().values.item()
        return biased, label[label != biased].mode().values.item()

    def _look(self, name: str) -> Prediction:
        """What a model makes of every row of the data."""
        return predict(self.models[name], self.task.data, torch.arange(len(self.task.data)))

    def _statistics(self) -> np.ndarray:
        """`layer_statistics` of the network that all start with, or where it starts from random
        weights, of Unrefined."""
        task, data = self.task, self.task.data
        start = self.models["unrefined"]
        if task.settings.plan["weights"] != "none":
            start = build_network(task.settings, data)
        return layer_statistics(start, data.images)

    def _measured(self, name: str, seen: dict[str, Prediction], rows: Rows) -> dict:
        """Every test split; and what the features hold, where each task has its own."""
        data, settings = self.task.data, self.task.settings
        factors, plan = settings.confounders, settings.plan
        splits = {test: score(each, data, rows[test], factors) for test, each in seen.items()}
        if "features" not in plan or "balanced" not in seen:
            return {"splits": splits}
        for test, each in seen.items():
            splits[test] |= told(each, data, rows, test, factors)
        measures, part = plan.get("content"), seen["balanced"].parts[0]
        if self.files and measures is None:
            draw_tsne(name, part, self.task, self.files.write)
        return {"splits": splits} | content(part, data, rows["balanced"], factors, measures)


def open_work(
    settings: Settings, folder: Path, inputs: dict, device: str, *, task: Task | None = None, **how
) -> Work:
    """A run with a folder that `stage.begin` makes ready, the exemplar in `how`; a `task` is one
    with these settings that is open already."""
    files = OwnFiles(folder, RECORD)
    work = Work(task or open_task(settings), files, how["exemplar"], device)
    begin(files, settings.record, inputs, files_of(work.titles), **how)
    return work


def do_all(works: Sequence[Work], what: str = "compare") -> None:
    """Every stage of every run; what other processes are at is waited for."""
    count, one = sum(len(work.left) for work in works), len(works) == 1
    with tqdm(total=count, desc=what, unit="stage", disable=one or None) as bar:
        while left := [work for work in works if work.left]:
            if not (done := sum(work.go_on() for work in left)):
                time.sleep(1)
            bar.update(done)


def _pick(task: Task, model: Classifier, files: OwnFiles | None) -> Exemplar:
    """The automatic pick, or the one that a resumed run made before it was stopped."""
    if files and (files / PICKS).exists():
        exemplar = Exemplar.load(files / PICKS)
        noted = OwnFiles(files.folder, RECORD).content.get("exemplar")
        if noted not in (None, digest(*exemplar.tensors)):
            what = "not what this run picked; delete it, or give it with --exemplars"
            raise ValueError(f"{files / PICKS}: {what}")
        return exemplar
    rows, how = task.rows["train"], {"region": task.settings.region, "pairs": task.settings.pairs}
    seen = predict(model, task.data, rows)
    exemplar = pick_automatically(task.data, rows, seen.cam, seen.label, **how)
    if files:
        files.content["exemplar"] = digest(*exemplar.tensors)
        files.save()  # first: no other pick is ever taken for this one
        exemplar.save(files.own(PICKS))
    return exemplar


def _refuse_misfit(exemplar: Exemplar, task: Task) -> None:
    """Raise ValueError for an exemplar that was not picked from data like these; say so where it
    may have been, but not from these very images."""
    for side in (exemplar.good, exemplar.bad):
        for label in side.label:
            one_of("exemplar's label", label, task.data.classes)
        if (theirs := side.image.shape[2:]) != (ours := task.data.images.shape[1:]):
            raise ValueError(f"exemplar of {tuple(theirs)} pixels: expected {tuple(ours)}")
    if not (task.settings.control or is_of(exemplar, task.data)):
        rows = ", ".join(map(str, exemplar.good.index + exemplar.bad.index))
        what = f"other images than in rows {rows} of these data: picked elsewhere, and used here"
        warnings.warn(f"exemplar of {what}", stacklevel=3)
