"""The one engine: every experiment is a list of recipes, trained and measured one by one."""

import copy
import dataclasses
import json
import warnings
from pathlib import Path

from accelerate import PartialState

from xbl_kit.exemplar import Exemplar, picked_by_person
from xbl_kit.methods import Known
from xbl_kit.models import Classifier
from xbl_kit.pick import pick_automatically
from xbl_kit.run.measure import content, score, told
from xbl_kit.run.recipes import RECIPES, in_order
from xbl_kit.run.report import draw_run, draw_tsne, versions
from xbl_kit.run.stage import PICKS, RECORD, RESULTS, Run, Stage, begin, finished
from xbl_kit.run.task import TESTS, Settings, Task, build_network, open_task, settle
from xbl_kit.storage import OwnFiles, digest, load_json, load_model, write_json
from xbl_kit.train import predict


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
    images. "mimm-x": a reconstruction of MIMM-X beside ERM, ERM reweighted, a multitask network and
    Balanced dCor, all on one biased sample, and an oracle. `settings` are those of `task.Settings`.
    `out` gets results, weights, exemplar and figures; with `resume` nothing that stands there is
    computed again.

    Raises ValueError for settings, data or a folder that are of no use.
    """
    wanted = settle(experiment, **settings)
    record = json.loads(json.dumps(dataclasses.asdict(wanted), default=str))
    files = OwnFiles(out, RECORD) if out else None
    person = picked_by_person(files / PICKS) if files else None
    used = person if any("exemplar" in RECIPES[name].needs for name in wanted.models) else None
    exemplar = used if wanted.exemplars == "auto" else Exemplar.load(wanted.exemplars)
    if resume and files and (results := finished(files, record, exemplar)):
        return results
    # Under torchrun one process of a machine opens first: what it caches is there for the others.
    with PartialState(cpu=device == "cpu").local_main_process_first():
        task = open_task(wanted)
        if files:
            begin(files, record, task.models, resume=resume)
            _keep_exemplar(files, person, exemplar)
    models, found, exemplar = _train_all(task, files, exemplar, device)
    results = {
        "schema": 1,
        **{key: getattr(wanted, key) for key in ("experiment", "data", "preset", "seed")},
        "settings": record,
        "versions": versions(),
        "device": str(next(iter(models.values())).mean.device.type),
        "models": {name: found[name] for name in task.models},
    }
    if exemplar:
        results["exemplars"] = exemplar.summary()
    if files:
        files.content["exemplar"] = digest(*exemplar.tensors) if exemplar else None
        write_json(files.own(RESULTS), results)
        draw_run(results, models, task, files.write)
    return results


def open_run(out: str | Path) -> Run:
    """What a finished run left in the folder `out`, to go on with; read its fields by name.

    The data are opened again, from where the run had them.
    Raises FileNotFoundError where no run came to its end.
    """
    out = Path(out)
    results, settings = load_json(out / RESULTS), OwnFiles(out, RECORD).content.get("settings")
    if results is None or settings is None:
        raise FileNotFoundError(f"{out}: no finished run; `reproduce(..., out={str(out)!r})` first")
    task = open_task(Settings(**settings))
    names = results["models"]
    models = {n: build_network(task.settings, task.data, RECIPES[n].heads) for n in names}
    for name, model in models.items():
        load_model(model, out / f"model-{name}.safetensors")
    exemplar = Exemplar.load(out / PICKS) if "exemplars" in results else None
    return Run(results, task.data, task.rows, models, exemplar)


def _train_all(
    task: Task, files: OwnFiles | None, exemplar: Exemplar | None, device: str
) -> tuple[dict[str, Classifier], dict[str, dict], Exemplar | None]:
    """Every model trained and measured, or taken over; and the exemplar where one was needed."""
    models: dict[str, Classifier] = {}
    found: dict[str, dict] = {}
    settings, data = task.settings, task.data
    for name in in_order(task.models):
        recipe = RECIPES[name]
        before = models.get(recipe.after)
        model = copy.deepcopy(before) or build_network(settings, data, recipe.heads)
        inputs = [*model.state_dict().values(), data.label, *task.rows.values()]
        if "exemplar" in recipe.needs:
            exemplar = exemplar or _pick(task, before, files)
            inputs += exemplar.tensors
        epochs = found[recipe.as_long_as]["train"]["kept"] if recipe.as_long_as else None
        stage = Stage(name, files, {"inputs": digest(*inputs), "epochs": epochs})
        found[name] = stage.taken_over(model)
        if found[name] is None:
            rows = {part: task.rows[recipe.rows + part] for part in ("train", "val")}
            schedule = task.schedule(recipe.schedule, device, epochs)
            steps = schedule.epochs * len(schedule.batches(rows["train"], 0))
            factors, region = tuple(settings.confounders), settings.region
            known = Known(data, rows["train"], factors, exemplar, region, steps, settings.seed)
            usual, given = settings.plan.get("options", {}), settings.options
            method = recipe.build(model, known, **usual.get(name, {}) | dict(given.get(name, {})))
            training = stage.train(method, data, rows, schedule)
            found[name] = {"train": training} | _measure(name, model, task, files)
            stage.keep(found[name])
        models[name] = model
    return models, found, exemplar


def _measure(name: str, model: Classifier, task: Task, files: OwnFiles | None) -> dict:
    """Every test split, passed through the network once; and what the features hold, where each
    task has a part of its own."""
    data, rows, factors = task.data, task.rows, task.settings.confounders
    seen = {test: predict(model, data, rows[test]) for test in TESTS if test in rows}
    splits = {t: score(each, data, rows[t], factors) for t, each in seen.items()}
    if "features" not in task.settings.plan or "balanced" not in seen:
        return {"splits": splits}
    for test, each in seen.items():
        splits[test] |= told(each, data, rows, test, factors)
    measures, part = task.settings.plan.get("content"), seen["balanced"].parts[0]
    if files and measures is None:
        draw_tsne(name, part, task, files.write)
    return {"splits": splits} | content(part, data, rows["balanced"], factors, measures)


def _keep_exemplar(files: OwnFiles, person: Exemplar | None, given: Exemplar | None) -> None:
    """Put the `given` exemplar where the run's is; one of another `person` moves aside."""
    if person and person is given:
        warnings.warn(f"{files / PICKS}: picked by a person; kept, and used", stacklevel=3)
    elif given and not (person and digest(*person.tensors) == digest(*given.tensors)):
        if person:
            warnings.warn(f"{files / PICKS}: kept as {files.set_aside(PICKS).name}", stacklevel=3)
        given.save(files.own(PICKS))


def _pick(task: Task, model: Classifier, files: OwnFiles | None) -> Exemplar:
    """The automatic pick, or the one that a resumed run made before it was stopped."""
    if files and (files / PICKS).exists():
        return Exemplar.load(files / PICKS)
    rows, region = task.rows["train"], task.settings.region
    seen = predict(model, task.data, rows)
    exemplar = pick_automatically(task.data, rows, seen.cam, seen.label, region=region)
    if files:
        exemplar.save(files.own(PICKS))
    return exemplar
