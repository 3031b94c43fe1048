"""The picks of a class: how far they agree, where the maps lie, what each pair did to the model."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from xbl_kit import __version__, plots
from xbl_kit.digests import digest
from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import upsample
from xbl_kit.metrics import region_share
from xbl_kit.pick import is_of
from xbl_kit.run import stage
from xbl_kit.run.engine import open_run
from xbl_kit.run.measure import rounded
from xbl_kit.run.recipes import Given
from xbl_kit.run.report import versions
from xbl_kit.run.stage import RECORD, RESULTS, Run
from xbl_kit.run.task import Settings, Task, inputs_of
from xbl_kit.run.work import Work, do_all, open_work
from xbl_kit.storage import OwnFiles, write_json

PICKED, EFFECT = "picked.png", "effect.png"
SHOWN, MOST = 300, 12  # images in the grid of lesson 02, and in the figure
BESIDE = {"unrefined": "Unrefined", "control": "Control", "exbl": "eXBL, the run's own pair"}
MEASURES = {"worst_group": "worst group", "activation_precision": "AP", "accuracy": "accuracy"}
Picks = Mapping[str, Exemplar]  # by file name


def class_picks(
    folder: str | Path,
    *,
    run: str | Path | None = None,
    train: bool = False,
    shown: int = SHOWN,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
) -> dict:
    """Read all exemplar files of `folder`; returns what results.json in `out` holds.

    `run` is the finished run whose data and Unrefined model were picked from: with it, it is said
    where the maps lie; with `train`, that model is refined with every pair that somebody picked,
    as `reproduce` does, and with `resume` what is done is taken over. `shown` is how many images
    each person saw. A file that is no exemplar, or of other data, is left out with a warning.

    Raises ValueError where no file is left, and for a run or a folder `out` that is of no use.
    """
    if train and not (run and out):
        raise ValueError("picked from which run? give --run, such as --run build/start-here")
    opened = open_run(run) if run else None
    if train and "unrefined" not in opened.models:
        raise ValueError(f"{run}: has no model 'unrefined' to refine; expected a run of exbl")
    picks = _of_one_kind(read_picks(folder), folder, opened)
    images = _images(picks, opened)
    results = {"schema": 1, "experiment": "picks", "folder": str(folder), "versions": versions()}
    results["run"] = str(run) if run else None
    results["people"] = {file: exemplar.picked_by for file, exemplar in picks.items()}
    results["agreement"] = agreement(images, len(picks), shown)
    results |= {"images": images, "pairs": _pairs(picks), "reference": {}}
    if out:
        with stage.alone(Path(out)):
            how = {"train": train, "resume": resume, "device": device}
            _write(results, picks, opened, OwnFiles(out, RECORD), **how)
    return results


def read_picks(folder: str | Path) -> dict[str, Exemplar]:
    """The exemplars of a folder by file name; a file that is none is named in a warning."""
    found = {}
    for path in sorted(Path(folder).glob("*.npz")):
        try:
            found[path.name] = Exemplar.load(path)
        except ValueError as error:
            warnings.warn(f"{error}; left out", stacklevel=3)
    if not found:
        raise ValueError(f"{folder}: no exemplar files (NAME.npz) in this folder")
    for name in {exemplar.picked_by for exemplar in found.values()} - {"person"}:
        files = [file for file, exemplar in found.items() if exemplar.picked_by == name]
        if len(files) > 1:
            what = f"{', '.join(files)} were all picked by {name}; each counts as a person"
            warnings.warn(f"{folder}: {what}", stacklevel=3)
    return found


def agreement(images: list[dict], people: int, shown: int = SHOWN) -> dict:
    """Fleiss' kappa (1971) of what the people picked, and what it means in words.

    The raters are the people. The units are two questions for each image that was shown to them:
    was it picked as good, and was it picked as bad? The categories are yes and no. (With good, bad
    and neither as three categories, two people with opposite picks would half agree.) Kappa is what
    is observed above chance: with one pair each, nearly the share of their picks that two people
    have in common, so 1 where all picked the same and about 0 where no two share a pick. How many
    images were shown hardly matters. It is None where there is nobody to agree with.
    """
    found = {"people": people, "shown": max(shown, len(images)), "kappa": None}
    if people < 2:
        return found | {"said": "one person alone: nobody to agree with"}
    yes = [len(each[side]) for each in images for side in ("good", "bad")]
    yes += [0] * (2 * found["shown"] - len(yes))
    try:
        from statsmodels.stats.inter_rater import fleiss_kappa
    except ImportError:
        return found | {"said": "not computed: pip install 'xbl-kit[class]' brings statsmodels"}
    kappa = float(fleiss_kappa([[n, people - n] for n in yes]))
    return found | {"kappa": round(kappa, 4), "said": "1: all picked the same; 0: as by chance"}


def tables(results: dict) -> list[pd.DataFrame]:
    """The agreement; the images that were picked, by how many; and the pairs, with their effect."""
    agreed = pd.DataFrame([results["agreement"]]).drop(columns="shown").set_index("people")
    images = [
        {"row": each["row"], "label": each["label"]}
        | {side: len(each[side]) for side in ("good", "bad")}
        | {f"in {region}": share for region, share in each.get("share", {}).items()}
        for each in results["images"]
    ]
    pairs = [
        {"good / bad": name, "people": len(each["files"])}
        | each.get("effect", {})
        | {"picked by": ", ".join(results["people"][file] for file in each["files"])}
        for name, each in results["pairs"].items()
    ]
    pairs += [{"good / bad": name} | found for name, found in results["reference"].items()]
    pairs = pd.DataFrame(pairs).rename(columns=MEASURES).astype({"people": "Int64"})
    return [agreed, pd.DataFrame(images).set_index("row"), pairs.set_index("good / bad")]


def _of_one_kind(picks: Picks, folder: str | Path, opened: Run | None) -> Picks:
    """The picks that are of the run's data; without a run all, with a word where they differ."""
    if opened:
        others = [file for file, exemplar in picks.items() if not is_of(exemplar, opened.data)]
        for file in others:
            what = "its images are not in these rows of the run's data; left out"
            warnings.warn(f"{Path(folder) / file}: {what}", stacklevel=3)
        if len(others) == len(picks):
            raise ValueError(f"{folder}: no file was picked from the data of this run")
        return {file: exemplar for file, exemplar in picks.items() if file not in others}
    first: dict[int, tuple[str, str]] = {}
    for file, _, row, *_, image, _ in _picked(picks):
        if first.setdefault(row, (digest(image), file))[0] != digest(image):
            what = f"row {row} is another image than in {first[row][1]}: picked from other data"
            warnings.warn(f"{Path(folder) / file}: {what}", stacklevel=3)
    return picks


def _picked(picks: Picks) -> Iterator[tuple]:
    """File, side, row, label, image (1 1 h w) and map (1 p q) of everything that was picked."""
    for file, exemplar in picks.items():
        for side in ("good", "bad"):
            own = getattr(exemplar, side)
            columns = own.index, own.label, own.image.split(1), own.cam.split(1)
            for each in zip(*columns, strict=True):
                yield file, side, *each


def _images(picks: Picks, opened: Run | None) -> list[dict]:
    """The images that were picked, most often first: by whom as good or as bad, and where the
    map lies. An image is known by its pixels."""
    found: dict[str, dict] = {}
    for file, side, row, label, image, cam in _picked(picks):
        new = {"row": row, "label": label, "digest": digest(image), "good": [], "bad": []}
        each = found.setdefault(new["digest"], new)
        each[side].append(file)
        if opened:
            masks = opened.data[row].masks.items()
            large = upsample(cam, tuple(image.shape[2:]))
            each["share"] = rounded({k: region_share(large, m).item() for k, m in masks})
    return sorted(found.values(), key=lambda each: (-len(each["good"] + each["bad"]), each["row"]))


def _pairs(picks: Picks) -> dict[str, dict]:
    """What was picked together, by the rows' names, most often first, with the files."""
    found: dict[str, dict] = {}
    for file, exemplar in picks.items():
        each = {"good": [*exemplar.good.index], "bad": [*exemplar.bad.index], "files": []}
        found.setdefault(digest(*exemplar.tensors), each)["files"].append(file)
    names: dict[str, dict] = {}
    for key, each in sorted(found.items(), key=lambda item: -len(item[1]["files"])):
        name = " / ".join("+".join(map(str, each[side])) for side in ("good", "bad"))
        names[f"{name} ({key[:4]})" if name in names else name] = each | {"digest": key}
    return names


def _write(
    results: dict, picks: Picks, opened: Run | None, files: OwnFiles, *, train: bool, **how
) -> None:
    """Refine with every pair if that is asked for, and write results and figures."""
    settings = Settings(**opened.results["settings"]) if opened else None
    inputs = inputs_of(settings) if opened else {"version": __version__, "data": "", "weights": ""}
    record = {key: results[key] for key in ("experiment", "folder", "run")}
    stage.begin(files, record, inputs, (RESULTS, PICKED, EFFECT), resume=how["resume"], claim=True)
    if train:
        pairs = results["pairs"].values()
        used = (picks[each["files"][0]] for each in pairs)
        works = [_work(settings, opened, each, files.folder, inputs, **how) for each in used]
        do_all(works, "pairs")
        for each, work in zip(pairs, works, strict=True):
            each["effect"] = _figures(work.found["exbl"][Given()])
        models = opened.results["models"]
        results["reference"] = {t: _figures(models[n]) for n, t in BESIDE.items() if n in models}
    write_json(files.own(RESULTS), results)  # before anything is drawn
    files.write(PICKED, plots.png(_gallery(results, picks)))
    if train:
        files.write(EFFECT, plots.png(_effect(results)))


def _work(
    settings: Settings, opened: Run, exemplar: Exemplar, out: Path, inputs: dict, **how
) -> Work:
    """A run of eXBL with this exemplar, in which Unrefined is that of the run opened."""
    only = replace(settings, models=("unrefined", "exbl"))
    task = Task(only, opened.data, opened.rows, only.models)
    folder = out / f"pair-{digest(*exemplar.tensors)[:12]}"
    work = open_work(only, folder, inputs, task=task, exemplar=exemplar, **how)
    work.models["unrefined"] = opened.models["unrefined"]
    work.found["unrefined"][Given()] = opened.results["models"]["unrefined"]
    return work


def _figures(found: dict) -> dict:
    """The measures of a model where the bias does not help it, or else on new images."""
    splits = found["splits"]
    split = splits[next(name for name in ("balanced", "counter", "iid") if name in splits)]
    return {key: split[key] for key in MEASURES if split.get(key) is not None}


def _gallery(results: dict, picks: Picks) -> plots.Figure:
    """The images that were picked most often, under their maps."""
    shown = {digest(image): (image, cam) for *_, image, cam in _picked(picks)}
    most = results["images"][:MOST]
    images, cams = zip(*(shown[each["digest"]] for each in most), strict=True)
    maps = [upsample(c, tuple(i.shape[2:]))[0] for i, c in zip(images, cams, strict=True)]
    titles = [
        f"row {each['row']}, {each['label']}\n"
        + ", ".join(f"{side}: {len(each[side])}" for side in ("good", "bad") if each[side])
        for each in most
    ]
    return plots.gallery([image[0, 0] for image in images], maps, titles=titles)


def _effect(results: dict) -> plots.Figure:
    """How many picked each pair, beside what it did to the model."""
    pairs = results["pairs"].values()
    columns = {"people who picked it": [len(each["files"]) for each in pairs]}
    measures = {k: t for k, t in MEASURES.items() if all(k in each["effect"] for each in pairs)}
    columns |= {title: [each["effect"][key] for each in pairs] for key, title in measures.items()}
    lines = {
        title: {name: found[key] for name, found in results["reference"].items() if key in found}
        for key, title in measures.items()
    }
    rows = ["good " + name.replace(" / ", ", bad ") for name in results["pairs"]]
    return plots.beside(rows, columns, lines)
