"""The methods by name, as the engine trains them, and the experiments made of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from xbl_kit.methods import Method, explained, mimm, weighted


@dataclass(frozen=True)
class Recipe:
    """How a method comes to a model: `build(model, known, **options)` gives it.

    The model starts as that of the recipe `after`, or fresh, and has a head for each spurious
    factor where `heads`. It is trained on the rows "train" and "val", with `rows` before their
    names, by the preset's `schedule`, or for as many epochs as the model of `as_long_as` kept.
    `needs` is what a person has to give: "exemplar", "masks", "factors".
    """

    build: Callable[..., Method]
    title: str
    after: str | None = None
    rows: str = ""
    heads: bool = False
    schedule: str = "train"
    as_long_as: str | None = None
    needs: tuple[str, ...] = ()


REFINED = {"after": "unrefined", "schedule": "refine"}
RECIPES = {
    "unrefined": Recipe(weighted.erm, "Unrefined"),
    "control": Recipe(weighted.erm, "Control", **REFINED, as_long_as="exbl"),
    "exbl": Recipe(explained.exbl_picked, "eXBL", **REFINED, needs=("exemplar",)),
    "rrr": Recipe(explained.rrr, "RRR", **REFINED, needs=("masks",)),
    "erm": Recipe(weighted.erm, "ERM"),
    "reweighted": Recipe(weighted.reweighted, "Reweighted ERM", needs=("factors",)),
    "group-dro": Recipe(weighted.group_dro, "GroupDRO", needs=("factors",)),
    "multitask": Recipe(mimm.multitask, "Multitask", heads=True, needs=("factors",)),
    "mimm-x": Recipe(mimm.mimm_x_reconstructed, "MIMM-X", heads=True, needs=("factors",)),
    "balanced-dcor": Recipe(mimm.balanced_dcor, "Balanced dCor", heads=True, needs=("factors",)),
    "oracle": Recipe(weighted.erm, "Oracle", rows="oracle_", schedule="oracle"),
}

EXPERIMENTS = {
    "exbl": ("unrefined", "control", "exbl", "oracle"),
    "mimm-x": ("erm", "reweighted", "multitask", "mimm-x", "balanced-dcor", "oracle"),
}


def in_order(names: Iterable[str]) -> list[str]:
    """The recipes `names` and those they wait for, each after all that it waits for."""
    ordered: list[str] = []
    for name in names:
        waits_for = RECIPES[name].after, RECIPES[name].as_long_as
        before = in_order(filter(None, waits_for))
        ordered += [each for each in (*before, name) if each not in ordered]
    return ordered
