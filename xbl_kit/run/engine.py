"""The one engine: every experiment is a list of recipes, trained and measured one by one."""

import copy
import warnings
from pathlib import Path

from torch import Tensor

from xbl_kit.checkpoint import load_json, load_model, write_json
from xbl_kit.exemplar import Exemplar, picked_by_person
from xbl_kit.methods import Known
from xbl_kit.models import Classifier
from xbl_kit.pick import pick_automatically
from xbl_kit.run.measure import content, score, told
from xbl_kit.run.recipes import RECIPES, in_order
from xbl_kit.run.report import draw_run, draw_tsne, versions
from xbl_kit.run.stage import (
    PICKS,
    RESULTS,
    Folder,
    Run,
    Stage,
    digest,
    finished_run,
    open_folder,
    read_record,
)
from xbl_kit.run.task import Settings, Task, open_task, settle
from xbl_kit.train import Schedule, first_process_first, predict


def reproduce(
    experiment: str = "exbl",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    **settings,
) -> dict:
    """Train and measure every model of an experiment; returns what results.json holds.

    "exbl": Unrefined, eXBL, its control (Unrefined trained as many epochs more, without the
    explanation loss) and, on phantoms, an oracle trained as long as both on as many unbiased
    images. "mimm-x": MIMM-X beside ERM, ERM reweighted and a multitask network, all on one biased
    sample, and an oracle. `settings` are those of `task.Settings`. `out` gets results, weights,
    exemplar and figures; with `resume` nothing that stands there is computed again.

    Raises ValueError for settings, data or a folder that are of no use.
    """
    wanted = settle(experiment, **settings)
    if resume and (finished := finished_run(out, wanted.record())):
        return finished
    given = None if wanted.exemplars == "auto" else Exemplar.load(wanted.exemplars)
    with first_process_first(device):
        task = open_task(wanted)
        folder = open_folder(out, wanted.record(), resume)
        given = _given_exemplar(folder, given)
    models, found, exemplar = _train_all(task, folder, given, device)
    results = {
        "schema": 1,
        **{key: getattr(wanted, key) for key in ("experiment", "data", "preset", "seed")},
        "settings": wanted.record(),
        "versions": versions(),
        "device": str(next(iter(models.values())).mean.device.type),
        **({"exemplars": exemplar.summary()} if exemplar else {}),
        "models": {name: found[name] for name in task.models},
    }
    if folder:
        draw_run(results, models, task, folder.write)
        write_json(folder.own(RESULTS), results)
    return results


def open_run(out: str | Path) -> Run:
    """What a finished run left in the folder `out`, to go on with; read its fields by name.

    The data are opened again, from where the run had them.
    Raises FileNotFoundError where no run came to its end.
    """
    out = Path(out)
    results, record = load_json(out / RESULTS), read_record(out)
    if results is None or record is None:
        raise FileNotFoundError(f"{out}: no finished run; `reproduce(..., out={str(out)!r})` first")
    task = open_task(Settings(**record["settings"]))
    models = {name: task.network(RECIPES[name].heads) for name in results["models"]}
    for name, model in models.items():
        load_model(model, out / f"model-{name}.safetensors")
    exemplar = Exemplar.load(out / PICKS) if "exemplars" in results else None
    return Run(results, task.data, task.rows, models, exemplar)


def _train_all(
    task: Task, folder: Folder | None, exemplar: Exemplar | None, device: str
) -> tuple[dict[str, Classifier], dict[str, dict], Exemplar | None]:
    """Every model trained and measured, or taken over; and the exemplar where one was needed."""
    models: dict[str, Classifier] = {}
    found: dict[str, dict] = {}
    for name in in_order(task.models):
        recipe = RECIPES[name]
        before = models.get(recipe.after)
        model = copy.deepcopy(before) if before else task.network(recipe.heads)
        if "exemplar" in recipe.needs:
            exemplar = exemplar or _pick(task, before, folder)
        epochs = found[recipe.as_long_as]["train"]["kept"] if recipe.as_long_as else None
        picks = exemplar if "exemplar" in recipe.needs else None
        stage = Stage(name, folder, {"inputs": digest(before, picks), "epochs": epochs})
        found[name] = stage.taken_over(model)
        if found[name] is None:
            schedule = task.schedule(recipe.schedule, device, epochs)
            rows = {part: task.rows[recipe.rows + part] for part in ("train", "val")}
            method = recipe.build(
                model, _known(task, rows["train"], schedule, exemplar), **task.options(name)
            )
            training = stage.train(method, task.data, rows, schedule)
            found[name] = {"train": training} | _measure(name, model, task, folder)
            stage.keep(found[name])
        models[name] = model
    return models, found, exemplar


def _known(task: Task, rows: Tensor, schedule: Schedule, exemplar: Exemplar | None) -> Known:
    """What the functions that build methods are told."""
    settings = task.settings
    return Known(
        data=task.data,
        rows=rows,
        factors=tuple(settings.confounders),
        exemplar=exemplar,
        region=settings.region,
        steps=schedule.epochs * max(1, len(rows) // schedule.batch_size),
        seed=settings.seed,
    )


def _measure(name: str, model: Classifier, task: Task, folder: Folder | None) -> dict:
    """Every test split, passed through the network once; and what the features hold, where each
    task has a part of its own."""
    data, rows, factors = task.data, task.rows, task.settings.confounders
    seen = {test: predict(model, data, rows[test]) for test in task.tests}
    splits = {test: score(each, data, rows[test], factors) for test, each in seen.items()}
    if "features" not in task.settings.plan:
        return {"splits": splits}
    for test, extra in told(seen, data, rows, factors).items():
        splits[test] |= extra
    measures, part = task.settings.plan.get("content"), seen["balanced"].parts[0]
    if folder and measures is None:
        draw_tsne(name, part, task, folder.write)
    return {"splits": splits} | content(part, data, rows["balanced"], factors, measures)


def _given_exemplar(folder: Folder | None, given: Exemplar | None) -> Exemplar | None:
    """The exemplar to use where a person gave one: as a file, or in the folder of the run."""
    person = picked_by_person(folder / PICKS) if folder else None
    if given is None:
        if person:
            message = f"{folder / PICKS}: picked by a person; kept, and used"
            warnings.warn(message, stacklevel=3)
        return person
    if person and digest(None, person) != digest(None, given):
        folder.set_aside(PICKS)
        person = None
    if folder and person is None:
        folder.write(PICKS, given.save)
    return given


def _pick(task: Task, model: Classifier, folder: Folder | None) -> Exemplar:
    """The automatic pick, or the one that a resumed run made before it was stopped."""
    if folder and (folder / PICKS).exists():
        return Exemplar.load(folder / PICKS)
    data, rows = task.data, task.rows["train"]
    seen = predict(model, data, rows)
    region = task.settings.region
    exemplar = pick_automatically(data, rows, seen.cam, seen.label, region=region)
    if folder:
        folder.write(PICKS, exemplar.save)
    return exemplar
