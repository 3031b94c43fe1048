"""Methods side by side: one data set, one network, one budget, over seeds, draws and controls."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from accelerate import PartialState
from filelock import FileLock

from xbl_kit import plots
from xbl_kit.exemplar import Exemplar
from xbl_kit.run import stage
from xbl_kit.run.measure import rounded
from xbl_kit.run.recipes import RECIPES, Given
from xbl_kit.run.report import effect, versions, write_comparison
from xbl_kit.run.stage import RECORD, RESULTS
from xbl_kit.run.task import Settings, inputs_of, open_task, settle
from xbl_kit.run.work import Work, do_all, open_work
from xbl_kit.storage import OwnFiles, write_json

REPORT, FIGURE = "report.md", "effect.png"
METRICS = ("accuracy", "worst_group", "activation_precision")


def compare(
    methods: Sequence[str] = (),
    *,
    seeds: Sequence[int] = (0,),
    controls: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    **settings,
) -> dict:
    """Train and measure `methods`, names of `RECIPES`, alike; returns what results.json holds.

    Unrefined is always among them. `settings` are those of `task.Settings`; `controls` are the same
    again on images without the region, or with nothing but it. With `out` there is a folder for
    each seed and control; with `resume` what stands there is taken over, and several processes
    share the work. `table` has mean and standard deviation over `n` seeds and draws of every figure
    by method, what was given, split, group of the split, and control.

    Raises ValueError for settings, data or a folder that are of no use.
    """
    models = tuple(dict.fromkeys(("unrefined", *methods)))
    shared = settings | ({"models": models} if methods else {})
    if not seeds:
        raise ValueError("no seeds: expected at least one")
    which = [(control, seed) for control in (None, *controls) for seed in seeds]
    wanted = [settle("compare", control=c, seed=seed, **shared) for c, seed in which]
    record = wanted[0].record | {"seeds": list(seeds), "controls": list(controls)}
    del record["seed"], record["control"]
    exemplar = None if wanted[0].exemplars == "auto" else Exemplar.load(wanted[0].exemplars)
    if not out:
        return _run([Work(open_task(each), None, exemplar, device) for each in wanted], record)
    files = OwnFiles(out, RECORD)
    first = PartialState(cpu=device == "cpu").local_main_process_first  # what it caches is there
    with first():
        inputs = inputs_of(wanted[0])
    if resume:
        stage.refuse_others(files, record, inputs)
        if (results := stage.finished(files, exemplar)) and results["settings"] == record:
            return results
    how = {"resume": resume, "exemplar": exemplar, "claim": True}
    with stage.alone(files.folder, sharing=resume, how="join it with --resume"):
        # What one process caches is there for the others.
        with first(), FileLock(files / stage.LOCK.format("open")):
            files = OwnFiles(out, RECORD)
            stage.begin(files, record, inputs, (RESULTS, REPORT, FIGURE), **how)
            places = [(each, files / folder_of(each)) for each in wanted]
            works = [open_work(*place, inputs, device, **how) for place in places]
        return _run(works, record, OwnFiles(out, RECORD))


def _run(works: Sequence[Work], record: dict, files: OwnFiles | None = None) -> dict:
    """Do all runs of a comparison; its results, written before they are drawn."""
    do_all(works)
    results = {
        "schema": 1,
        **{key: record[key] for key in ("experiment", "data", "preset")},
        "settings": record,
        "versions": versions(),
        **_biased(works[0]),
        "table": _table(works),
    }
    if files:
        write_json(files.own(RESULTS), results)
        files.write(FIGURE, plots.png(effect(results)))
        files.write(REPORT, write_comparison(results, FIGURE).encode())
        stage.finish(files, *(work.files for work in works))
    return results


def folder_of(settings: Settings) -> str:
    """The name of a run's folder in that of a comparison."""
    return "-".join(filter(None, (f"seed-{settings.seed}", settings.control)))


def _biased(work: Work) -> dict[str, str | None]:
    """The class that the bias speaks for, where there is a counter-group to tell it by, and the
    `site` of its training images, where they have one in common."""
    data, train = work.task.data, work.task.rows["train"]
    try:
        biased = work.biased()[0]
    except (KeyError, ValueError):
        return {"biased": None, "source": None}
    own = train[data.label[train] == biased]
    sites = data.confounders["site"][own].unique().tolist() if "site" in data.levels else []
    source = data.levels["site"][sites[0]] if len(sites) == 1 and sites[0] >= 0 else None
    return {"biased": data.classes[biased], "source": source}


def _table(works: Sequence[Work]) -> list[dict]:
    """The figures of all runs: mean and standard deviation over seeds and draws."""
    columns = ("method", "images", "unlabelled", "split", "group", "control", "metric")
    cells: dict[tuple, list[tuple]] = {}
    for work in works:
        chance, control = 1 / len(work.task.data.classes), work.task.settings.control
        for name in work.task.models:
            for given, found in work.found[name].items():
                needs = effort(name, work, given)
                for split, group, metric, value, own in _figures(found["splits"], chance):
                    cell = (name, given.images, given.unlabelled, split, group, control, metric)
                    cells.setdefault(cell, []).append((value, own, needs))
    table = []
    for cell, found in cells.items():
        values, chances, needs = zip(*found, strict=True)
        figures = {"mean": float(np.mean(values)), "sd": float(np.std(values))}
        figures |= {"n": len(values), "chance": chances[-1]}
        row = dict(zip(columns, cell, strict=True)) | {"needs": needs[-1]}
        table.append(row | rounded(figures))
    return table


def _figures(splits: dict, chance: float) -> Iterator[tuple[str, str | None, str, float, float]]:
    """Split, group, metric, value, and its own chance level or that of all."""
    for split, found in splits.items():
        for metric in METRICS:
            if found.get(metric) is not None:
                yield split, None, metric, found[metric], found.get(f"{metric}_chance", chance)
        for group, own in found["parts"].items():
            yield split, group, "accuracy", own["accuracy"], chance


def effort(name: str, work: Work, given: Given) -> dict[str, int]:
    """What a person gives for a recipe: how many of each kind, 0 for none.

    An exemplar is a click; masks and factors are given for every training image; images
    that break the bias have labels, those of an unlabelled pool have none. Where images are given a
    sentence says which class is biased, and for a pool which class the others are of.
    """
    task, needs, rows = work.task, RECIPES[name].needs, work.task.rows
    picked, n = work.exemplar if "exemplar" in needs else None, len(rows["train"])
    return {
        "clicks": len(picked.good.index) + len(picked.bad.index) if picked else 0,
        "masks": n if "masks" in needs else 0,
        "factors": n * len(task.settings.confounders) if "factors" in needs else 0,
        "sentences": int(given.images > 0) + 2 * int(given.unlabelled > 0),
        "images": given.images,
        "unlabelled": given.unlabelled,
        "unbiased": len(rows[f"{RECIPES[name].rows}train"]) if RECIPES[name].rows else 0,
    }
