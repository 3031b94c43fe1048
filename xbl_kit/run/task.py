"""What is learned on what: a run's settings, its data, the rows of every split, its network."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xbl_kit.data import KINDS, LISTED, Dataset, open_dataset
from xbl_kit.models import Classifier, build_classifier, build_multihead, cache_stem
from xbl_kit.pick import Box, region_pixels
from xbl_kit.run.presets import PRESETS, USUAL
from xbl_kit.run.recipes import EXPERIMENTS, RECIPES, in_order
from xbl_kit.run.splits import (
    TESTS,
    Rows,
    draw_cohort,
    find_confounded,
    make_confounded,
    split_rows,
)
from xbl_kit.storage import cache_folder
from xbl_kit.train import Schedule


@dataclass(frozen=True)
class Settings:
    """All that decides the results of a run.

    `plan` are entries in place of the `preset`'s, and `weights` (imagenet, none or a file) and
    `backbone` are two of these. `models` are names of `RECIPES`. `exemplars` is "auto" or a file,
    `region` where a good map lies: a mask's name or a box. `confounders` are the spurious factors
    or, for exbl, the columns that make groups. `strength` is P(a class's preferred level | class)
    of each; None takes data on disk as they are. Of these `target` is predicted, with the `labels`
    given, and read with the options `reading` of `open_dataset`. `options` are those of methods:
    {"exbl": {"weight": 0.5}}.
    """

    experiment: str = "exbl"
    data: str = "phantom"
    root: str | Path | None = None
    preset: str | None = None
    plan: Mapping = field(default_factory=dict)
    backbone: str | None = None
    weights: str | Path | None = None
    models: Sequence[str] = ()
    exemplars: str | Path = "auto"
    region: str | Box = "lungs"
    target: str = "label"
    labels: Sequence[str] = ()
    confounders: Sequence[str] = ()
    strength: float | None = 0.9
    reading: Mapping = field(default_factory=dict)
    options: Mapping = field(default_factory=dict)
    seed: int = 0

    def record(self) -> dict:
        """The settings as JSON holds them."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))


def settle(experiment: str, **given) -> Settings:
    """The settings with every default worked out: the whole plan, the models, the confounders.

    Raises ValueError for an unknown setting, experiment, kind of data, preset or model.
    """
    names = [each.name for each in dataclasses.fields(Settings)]
    if unknown := sorted(set(given) - set(names)):
        raise ValueError(f"no setting {unknown[0]!r}, expected some of {', '.join(names)}")
    wanted = Settings(experiment, **given)
    kinds = ("phantom", *LISTED) if experiment == "exbl" else KINDS
    for what, known in (("experiment", EXPERIMENTS), ("data", kinds), ("preset", PRESETS)):
        if (name := getattr(wanted, what)) not in known and name is not None:
            raise ValueError(f"{what} {name!r}: expected one of {', '.join(known)}")
    models = tuple(given.get("models", EXPERIMENTS[experiment]))
    wrong = sorted({*models, *wanted.options} - set(RECIPES))
    if wrong or not models:
        raise ValueError(f"models {wrong}: expected some of {', '.join(RECIPES)}")
    models = (*(name for name in in_order(models) if name not in models), *models)
    usual = "classroom" if experiment == "exbl" else wanted.data
    preset = wanted.preset or (usual if usual in PRESETS else "on disk")
    replaced = {k: str(v) for k in ("weights", "backbone") if (v := getattr(wanted, k))}
    plan = PRESETS[preset] | dict(wanted.plan) | replaced
    confounders = wanted.confounders or USUAL.get((experiment, wanted.data), ())
    chosen = {"models": models, "preset": preset, "plan": plan, "confounders": tuple(confounders)}
    return dataclasses.replace(wanted, **chosen, **{k: plan[k] for k in ("weights", "backbone")})


@dataclass(frozen=True, eq=False)
class Task:
    """Settings with their data opened, a frozen prefix cached, and the rows of every split."""

    settings: Settings
    data: Dataset
    rows: Rows

    @property
    def models(self) -> tuple[str, ...]:
        """The models to train; of data without unbiased rows there is no oracle by default."""
        names = tuple(self.settings.models)
        if names == EXPERIMENTS[self.settings.experiment] and "oracle_train" not in self.rows:
            return tuple(name for name in names if not RECIPES[name].rows)
        return names

    @property
    def tests(self) -> list[str]:
        """The splits that are tested on."""
        return [name for name in TESTS if name in self.rows]

    def network(self, heads: bool) -> Classifier:
        """The untrained network; all models have the same, with the same start."""
        return build_network(self.settings, self.data, heads)

    def schedule(self, key: str, device: str, epochs: int | None = None) -> Schedule:
        """A schedule of the plan, or its "train" where it has none of this name.

        With `epochs` so many are trained, at the rates of the whole schedule, and the last is kept.
        """
        plan, where = self.settings.plan, {"seed": self.settings.seed, "device": device}
        whole = Schedule(**plan.get(key, plan["train"]), **where)
        if epochs is None:
            return whole
        as_long = {"epochs": epochs, "horizon": whole.epochs, "patience": None, "keep": "last"}
        return dataclasses.replace(whole, **as_long)

    def options(self, name: str) -> dict:
        """Those of a method: the plan's, and what was given in their place."""
        usual = self.settings.plan.get("options", {})
        return usual.get(name, {}) | dict(self.settings.options.get(name, {}))


def build_network(settings: Settings, data: Dataset, heads: bool = False) -> Classifier:
    plan, factors = settings.plan, settings.confounders if heads else ()
    options = {"weights": None if plan["weights"] == "none" else plan["weights"]}
    options |= {"seed": settings.seed}
    if heads or "features" in plan:
        levels = {factor: len(data.levels[factor]) for factor in factors}
        options |= {"size": plan.get("features", 4)}
        return build_multihead(plan["backbone"], len(data.classes), levels, **options)
    return build_classifier(plan["backbone"], len(data.classes), hidden=plan["hidden"], **options)


def open_task(settings: Settings) -> Task:
    """Open the data, and check that they have what the models need.

    Raises ValueError for settings or data that are of no use.
    """
    data, rows = (_draw if settings.data not in LISTED else _read)(settings)
    stem = cache_stem(build_network(settings, data), data.images, cache_folder() / "stems")
    task = Task(settings, dataclasses.replace(data, stem=stem), rows)
    for name in in_order(task.models):
        recipe = RECIPES[name]
        if ("exemplar" in recipe.needs and settings.exemplars == "auto") or "masks" in recipe.needs:
            region_pixels(
                data[0], settings.region
            )  # one of no use is said before hours of training
        if "factors" in recipe.needs and not settings.confounders:
            raise ValueError(f"{name} needs the spurious factors: name them as confounders")
        if f"{recipe.rows}train" not in rows:
            raise ValueError(
                f"{name} needs unbiased images to train on; {settings.data!r} has none"
            )
    return task


def _draw(settings: Settings) -> tuple[Dataset, Rows]:
    """Data that are made to measure."""
    kind, plan, factors = settings.data, settings.plan, settings.confounders
    if "preferred" not in plan:
        raise ValueError(f"data {kind!r} are drawn: the plan names no preferred levels")
    if unknown := set(factors) - set(plan["preferred"]):
        known = ", ".join(plan["preferred"])
        raise ValueError(f"confounders {sorted(unknown)}: expected some of {known}")
    if settings.strength is None or settings.labels or settings.target != "label":
        raise ValueError(f"data {kind!r} are drawn: a strength, and no labels, are needed")
    if settings.reading:
        raise ValueError(f"data {kind!r} are drawn by a plan: expected no options of reading")
    made = {"per_class": plan["per_class"], "size": plan["size"], "seed": settings.seed}
    if settings.experiment == "exbl":
        return draw_cohort(preferred=plan["preferred"], **made)
    return make_confounded(
        kind,
        settings.root,
        preferred={factor: plan["preferred"][factor] for factor in factors},
        strength=settings.strength,
        **made,
        **plan.get("drawing", {}),
    )


def _read(settings: Settings) -> tuple[Dataset, Rows]:
    """Data that are as they are, of any kind."""
    factors, size, seed = settings.confounders, settings.plan["size"], settings.seed
    if settings.experiment == "mimm-x" and not factors:
        raise ValueError(f"data {settings.data!r}: which columns are the confounders?")
    options = {"target": settings.target, "labels": settings.labels, "size": size}
    options |= {"confounders": factors or None} | dict(settings.reading)
    data = open_dataset(settings.data, settings.root, **options)
    if settings.experiment == "exbl":
        return data, split_rows(data, seed=seed)
    return data, find_confounded(data, factors, strength=settings.strength, seed=seed)


def prepare(
    kind: str = "phantom",
    root: str | Path | None = None,
    *,
    size: int = 128,
    confounders: Sequence[str] = (),
    seed: int = 0,
    **reading,
) -> tuple[Dataset, Rows]:
    """The data of eXBL's experiment, and its rows by name: train, val, and the splits to test on.

    See `draw_cohort` for phantoms, `split_rows` for data on disk, whose options are `reading`.
    """
    settings = settle("exbl", data=kind, root=root, confounders=confounders, seed=seed)
    settings = dataclasses.replace(settings, plan=settings.plan | {"size": size}, reading=reading)
    return (_draw if kind not in LISTED else _read)(settings)
