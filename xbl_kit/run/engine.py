"""The experiments of the papers: a list of recipes, trained and measured, written to a folder."""

import warnings
from pathlib import Path

from accelerate import PartialState

from xbl_kit.data.faults import one_of
from xbl_kit.digests import digest
from xbl_kit.exemplar import Exemplar, picked_by_person
from xbl_kit.run import stage
from xbl_kit.run.recipes import PAPERS, RECIPES, Given
from xbl_kit.run.report import draw_run, versions
from xbl_kit.run.stage import PICKS, RECORD, RESULTS, Run
from xbl_kit.run.task import Settings, build_network, inputs_of, open_task, settle
from xbl_kit.run.work import Work, do_all, open_work
from xbl_kit.storage import OwnFiles, load_model, write_json


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
    one_of("experiment", experiment, PAPERS)
    wanted = settle(experiment, **settings)
    files = OwnFiles(out, RECORD) if out else None
    # Under torchrun one process of a machine opens first: what it caches is there for others.
    first = PartialState(cpu=device == "cpu").local_main_process_first
    with first():
        inputs = inputs_of(wanted) if files else {}
    person = picked_by_person(files / PICKS) if files else None
    used = person if any("exemplar" in RECIPES[name].needs for name in wanted.models) else None
    exemplar = used if wanted.exemplars == "auto" else Exemplar.load(wanted.exemplars)
    if not files:
        return _run(Work(open_task(wanted), None, exemplar, device))
    if resume:
        stage.refuse_others(files, wanted.record, inputs)
        if results := stage.finished(files, exemplar):
            return results
    with stage.alone(files.folder):
        with first():
            how = {"resume": resume, "exemplar": exemplar}
            work = open_work(wanted, files.folder, inputs, device, **how)
            _keep_exemplar(work.files, person, exemplar)
        return _run(work)


def _run(work: Work) -> dict:
    """Train and measure all models; the results, written before they are drawn."""
    do_all([work])
    results = _results(work)
    if work.files:
        write_json(work.files.own(RESULTS), results)
        draw_run(results, work.models, work.task, work.files.write)
        stage.finish(work.files)
    return results


def _results(work: Work) -> dict:
    """What results.json holds."""
    settings, task = work.task.settings, work.task
    results = {
        "schema": 1,
        **{key: getattr(settings, key) for key in ("experiment", "data", "preset", "seed")},
        "settings": settings.record,
        "versions": versions(),
        "device": str(next(iter(work.models.values())).mean.device.type),
        "models": {name: work.found[name][Given()] for name in task.models},
    }
    return results | ({"exemplars": work.exemplar.summary()} if work.exemplar else {})


def open_run(out: str | Path) -> Run:
    """What a finished run left in the folder `out`, to go on with; read its fields by name.

    The data are opened again, from where the run had them.
    Raises FileNotFoundError where no run came to its end, ValueError where its data have changed.
    """
    files = OwnFiles(out, RECORD)
    if not (results := stage.finished(files)):
        raise FileNotFoundError(f"{out}: no finished run; `reproduce(..., out={str(out)!r})` first")
    settings = Settings(**files.content["settings"])
    stage.refuse_others(files, settings.record, inputs_of(settings))
    task = open_task(settings)
    names = results["models"]
    models = {n: build_network(task.settings, task.data, RECIPES[n].heads) for n in names}
    for name, model in models.items():
        load_model(model, files / f"model-{name}.safetensors")
    exemplar = Exemplar.load(files / PICKS) if "exemplars" in results else None
    return Run(results, task.data, task.rows, models, exemplar)


def _keep_exemplar(files: OwnFiles, person: Exemplar | None, given: Exemplar | None) -> None:
    """Put the `given` exemplar where the run's is; one of another `person` moves aside."""
    if person and person is given:
        warnings.warn(f"{files / PICKS}: picked by a person; kept, and used", stacklevel=3)
    elif given and not (person and digest(*person.tensors) == digest(*given.tensors)):
        if person:
            warnings.warn(f"{files / PICKS}: kept as {files.set_aside(PICKS).name}", stacklevel=3)
        given.save(files.own(PICKS))
