"""What is learned on what: a run's settings, its data, the rows of every split, its network."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from xbl_kit import __version__
from xbl_kit.batch import Box, region_pixels
from xbl_kit.data import KINDS, LISTED, Dataset, open_dataset
from xbl_kit.data.faults import one_of
from xbl_kit.data.open import Root, data_digest, fitted_to
from xbl_kit.data.options import fitted, keywords
from xbl_kit.digests import file_digest
from xbl_kit.models import Classifier, build_classifier, build_multihead, cache_stem
from xbl_kit.run.recipes import EXPERIMENTS, RECIPES, Given, Recipe, in_order
from xbl_kit.run.splits import Rows, draw_cohort, find_confounded, make_confounded, split_rows
from xbl_kit.schedule import PRECISIONS, Schedule
from xbl_kit.storage import cache_folder

PRESETS = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
TESTS = ("iid", "balanced", "inverted", "counter")
CONTROLS = ("region-removed", "region-only")
USUAL = PRESETS.pop("confounders")
AS_GIVEN = ("root", "weights", "exemplars")  # where "none" and "auto" are words, and no path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides the results of a run.

    `plan` are entries in place of the `preset`'s, and `weights` (imagenet, none or a file) and
    `backbone` are two of these. `models` are names of `RECIPES`, trained with a `precision`.
    `exemplars` is a file, or "auto", which picks `pairs` of them; `region` is where a good map
    lies: a mask's name or a box.
    `confounders` are the spurious factors or, for exbl, the columns that make groups. `strength` is
    P(a class's preferred level | class) of each, by default 1 for exbl and .9 for mimm-x; None,
    exbl's default for data on disk, takes these as they are. Of these `target` is predicted, with
    the `labels` given, and read with the options `reading` of `open_dataset`. `options` are those
    of methods: {"exbl": {"weight": 0.5}}.

    For compare: `images` that break the bias are given, so many or so many, in `draws` each, or a
    pool of `unlabelled` ones. `biased` is the class that the bias speaks for, by default the one
    that Unrefined takes most of the counter-group for. `control` "region-removed" trains and tests
    on images without the region, "region-only" on images with nothing but it.
    """

    experiment: str = "exbl"
    data: str = "phantom"
    root: Root = None
    preset: str | None = None
    plan: Mapping = field(default_factory=dict)
    backbone: str | None = None
    weights: str | Path | None = None
    precision: str = "no"
    models: Sequence[str] = ()
    exemplars: str | Path = "auto"
    pairs: int = 1
    region: str | Box = "lungs"
    target: str = "label"
    labels: Sequence[str] = ()
    confounders: Sequence[str] = ()
    strength: float | None = None
    reading: Mapping = field(default_factory=dict)
    options: Mapping = field(default_factory=dict)
    images: Sequence[int] = ()
    draws: int = 1
    unlabelled: int = 0
    biased: str = ""
    control: str | None = None
    seed: int = 0

    @property
    def record(self) -> dict:
        """The settings as JSON has them."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))


def settle(experiment: str, **given) -> Settings:
    """The settings with every default worked out: the whole plan, the models, the confounders.

    Raises ValueError for an unknown setting, experiment, kind of data, preset or model.
    """
    for name in given:
        one_of("setting", name, keywords(Settings))
    one_of("experiment", experiment, EXPERIMENTS)
    given |= {k: v for k, v in fitted(given, Settings).items() if k not in AS_GIVEN}
    wanted, exbl = Settings(experiment=experiment, **given), experiment != "mimm-x"
    data, models = wanted.data, given.get("models", EXPERIMENTS[experiment])
    one_of("data", data, ("phantom", *LISTED) if exbl else KINDS)
    one_of("control", wanted.control, (None, *CONTROLS))
    one_of("precision", wanted.precision, PRECISIONS)
    for name, least in {"draws": 1, "unlabelled": 0, "pairs": 1, "images": 1, "seed": 0}.items():
        if (value := np.min(getattr(wanted, name), initial=least)) < least:
            raise ValueError(f"{name}={value}: expected at least {least}")
    for name in (*models, *wanted.options) or ("",):
        one_of("method", name, RECIPES)
    usual = "classroom" if exbl else data if data in PRESETS else "on disk"
    preset = one_of("preset", wanted.preset or usual, PRESETS)
    chosen = {k: str(v) for k in ("weights", "backbone") if (v := getattr(wanted, k))}
    for name in wanted.plan:
        one_of("entry of the plan", name, sorted({"content"}.union(*PRESETS.values())))
    return replace(
        wanted,
        preset=preset,
        plan=PRESETS[preset] | dict(wanted.plan) | chosen,
        reading=fitted_to(data, wanted.reading) if data in LISTED else wanted.reading,
        strength=given.get("strength", None if exbl and data in LISTED else 1.0 if exbl else 0.9),
        models=(*(name for name in in_order(models) if name not in models), *models),
        confounders=tuple(wanted.confounders or USUAL[experiment].get(data, ())),
    )


def givens(recipe: Recipe, settings: Settings) -> list[Given]:
    """All that a recipe is trained with; nothing but `Given()` where no images are given."""
    used, draws = {*recipe.needs, *recipe.takes}, range(settings.draws)
    found = [] if {"images", "pool"} & set(recipe.needs) else [Given()]
    if "images" in used:
        found += [Given(images=k, draw=draw) for k in settings.images for draw in draws]
    if "pool" in used and settings.unlabelled:
        found += [Given(unlabelled=settings.unlabelled, draw=draw) for draw in draws]
    return found


@dataclass(frozen=True, eq=False)
class Task:
    """Settings, their data with a frozen prefix cached, the rows of every split, the models."""

    settings: Settings
    data: Dataset
    rows: Rows
    models: Sequence[str]

    def options(self, name: str) -> dict:
        """The options of a recipe's method: the plan's, and in their place the user's."""
        usual, given = self.settings.plan.get("options", {}), self.settings.options
        return usual.get(name, {}) | dict(given.get(name, {}))

    def schedule(self, key: str, device: str, epochs: int | None = None) -> Schedule:
        """A schedule of the plan, or its "train" where it has none of this name.

        With `epochs` so many are trained, at the rates of the whole schedule, and the last is kept.
        """
        plan, seed = self.settings.plan, self.settings.seed
        own = {"seed": seed, "precision": self.settings.precision, "device": device}
        whole = Schedule(**plan.get(key, plan["train"]), **own)
        if epochs is None:
            return whole
        return replace(whole, epochs=epochs, horizon=whole.epochs, patience=None, keep="last")


def build_network(settings: Settings, data: Dataset, heads: bool = False) -> Classifier:
    """The untrained network; all models have the same, with the same start."""
    plan, size, seed = settings.plan, len(data.classes), settings.seed
    start = {"weights": None if plan["weights"] == "none" else plan["weights"], "seed": seed}
    if not heads and "features" not in plan:
        return build_classifier(plan["backbone"], size, hidden=plan["hidden"], **start)
    levels = {f: len(data.levels[f]) for f in settings.confounders if heads}
    return build_multihead(plan["backbone"], size, levels, size=plan.get("features", 4), **start)


def open_task(settings: Settings) -> Task:
    """Open the data, and check that they have what the models need.

    Raises ValueError for settings or data that are of no use, OSError for weights not to be had.
    """
    for name in settings.models:  # what is of no use is said before the minutes of drawing
        if "factors" in RECIPES[name].needs and not settings.confounders:
            raise ValueError(f"{name} needs the spurious factors: name them as confounders")
        if not givens(RECIPES[name], settings):
            raise ValueError(f"{name} needs images that break the bias: `xbl-kit compare --images`")
    if settings.data == "phantom" and settings.plan["weights"] != "none":
        build_classifier(settings.plan["backbone"], weights=settings.plan["weights"])
    data, rows = (_read if settings.data in LISTED else _draw)(settings)
    if control := settings.control:
        data = replace(data, images=_without(data, settings.region, control == "region-only"))
    models = tuple(settings.models)
    if models == EXPERIMENTS[settings.experiment] and "oracle_train" not in rows:
        models = tuple(name for name in models if not RECIPES[name].rows)  # no oracle by default
    for name in in_order(models):
        recipe = RECIPES[name]
        picked = "exemplar" in recipe.needs and settings.exemplars == "auto"
        if picked or "masks" in recipe.needs:
            region_pixels(data[0], settings.region)  # of no use: said before hours of training
        if f"{recipe.rows}train" not in rows:
            raise ValueError(f"{name} needs unbiased images to train on, and there are none")
    stem = cache_stem(build_network(settings, data), data.images, cache_folder() / "stems")
    return Task(settings, replace(data, stem=stem), rows, models)


def _without(data: Dataset, region: str | Box, outside: bool) -> np.ndarray:
    """The images (n, h, w; in memory) with 0 inside the region, or `outside` of it."""
    images = np.array(data.images)
    for rows in torch.arange(len(data)).split(256):
        inside = region_pixels(data[rows], region).numpy()
        images[rows.numpy()] *= inside if outside else ~inside
    return images


def _draw(settings: Settings) -> tuple[Dataset, Rows]:
    """Data that are made to measure."""
    kind, plan, factors = settings.data, settings.plan, settings.confounders
    for factor in factors:
        one_of("confounder", factor, plan["preferred"])
    if settings.strength is None or settings.labels or settings.reading:
        needed = "a strength, no labels, and expected no options of reading"
        raise ValueError(f"data {kind!r} are drawn by a plan: {needed}")
    made = {"per_class": plan["per_class"], "size": plan["size"], "seed": settings.seed}
    if settings.experiment != "mimm-x":
        return draw_cohort(plan["preferred"], strength=settings.strength, **made)
    made |= {"preferred": {factor: plan["preferred"][factor] for factor in factors}}
    made |= {"strength": settings.strength} | plan.get("drawing", {})
    return make_confounded(kind, settings.root, **made)


def _read(settings: Settings) -> tuple[Dataset, Rows]:
    """Data that are as they are, of any kind."""
    factors, strength, seed = settings.confounders, settings.strength, settings.seed
    exbl = settings.experiment != "mimm-x"
    if exbl and strength is not None:
        what = f"strength={strength}: {settings.experiment} takes data on disk as they are"
        raise ValueError(what)
    if not (exbl or factors):
        raise ValueError(f"data {settings.data!r}: which columns are the confounders?")
    data = open_dataset(settings.data, settings.root, **_reading(settings))
    for factor in factors:
        one_of("confounder", factor, data.levels)
    if exbl:
        return data, split_rows(data, seed=seed)
    return data, find_confounded(data, factors, strength=strength, seed=seed)


def _reading(settings: Settings) -> dict:
    """The options of `open_dataset`."""
    options = {"target": settings.target, "labels": settings.labels}
    options["confounders"] = settings.confounders if settings.experiment == "mimm-x" else None
    return options | {"size": settings.plan["size"]} | dict(settings.reading)


def inputs_of(settings: Settings) -> dict[str, str]:
    """What a run is made from beside its settings, to see whether it has changed since: version of
    the package, digest of data on disk, digest of a file of weights."""
    how, root = _reading(settings) if settings.data in LISTED else {}, settings.root
    data = "" if root is None else data_digest(settings.data, root, **how)
    return {"version": __version__, "data": data, "weights": file_digest(settings.plan["weights"])}


def prepare(
    kind: str = "phantom", root: str | Path | None = None, **settings
) -> tuple[Dataset, Rows]:
    """eXBL's data with `Settings`, and its rows by name, as `_draw` and `_read` have them."""
    task = open_task(settle("exbl", data=kind, root=root, **settings))
    return task.data, task.rows
