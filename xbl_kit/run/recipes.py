"""The methods by name, as the engine trains them, and the experiments made of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from xbl_kit.methods import Method, cdep, explained, features, mimm, weighted
from xbl_kit.methods.last_layer import dfr
from xbl_kit.methods.second_opinion import second_opinion


@dataclass(frozen=True)
class Recipe:
    """How a method comes to a model: `build(model, known, **options)` gives it.

    The model starts as that of the recipe `after`, or fresh, and has a head for each spurious
    factor where `heads`. It is trained on the rows "train" and "val", with `rows` before their
    names, by the preset's `schedule`, or for as many epochs as the model of `as_long_as` kept.
    Where `schedule` is None nothing is trained, and `build` gives the corrected logits, (n, k), of
    every row of the data. `needs` is what a person has to give: "exemplar", "masks", "factors",
    "images" that break the bias; "pool" stands for images without labels, in their place.
    `takes` is what it makes use of where it is given. Where `fresh` the model starts anew, and the
    method is told what that of `after` makes of the data.
    """

    build: Callable[..., Method | Tensor]
    title: str
    after: str | None = None
    rows: str = ""
    heads: bool = False
    schedule: str | None = "train"
    as_long_as: str | None = None
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    fresh: bool = False


class Given(NamedTuple):
    """What a person gives a method: so many counter images, or unlabelled ones; which draw."""

    images: int = 0
    unlabelled: int = 0
    draw: int = 0


REFINED = {"after": "unrefined", "schedule": "refine"}
CORRECTED = {"after": "unrefined", "schedule": None}
FACTORS = {"needs": ("factors",)}
RECIPES = {
    "unrefined": Recipe(weighted.erm, "Unrefined"),
    "control": Recipe(weighted.erm, "Control", **REFINED, as_long_as="exbl"),
    "exbl": Recipe(explained.exbl_picked, "eXBL", **REFINED, needs=("exemplar",)),
    "rrr": Recipe(explained.rrr, "RRR", **REFINED, needs=("masks",)),
    "rrr-g": Recipe(explained.rrr_g, "RRR-G", **REFINED, needs=("masks",)),
    "hint": Recipe(explained.hint, "HINT", **REFINED, needs=("masks",)),
    "cdep": Recipe(cdep.cdep, "CDEP", **REFINED, needs=("masks",)),
    "rbr": Recipe(explained.rbr, "RBR", **REFINED, needs=("masks",)),
    "caipi": Recipe(explained.caipi, "CAIPI", **REFINED, needs=("masks",)),
    "added-images": Recipe(weighted.added_images, "Added images", **REFINED, needs=("images",)),
    "dfr": Recipe(dfr, "DFR", **CORRECTED, needs=("images",)),
    "second-opinion": Recipe(
        second_opinion, "Second opinion", **CORRECTED, needs=("images", "pool")
    ),
    "jtt": Recipe(weighted.jtt, "JTT", after="unrefined", fresh=True, takes=("images",)),
    "erm": Recipe(weighted.erm, "ERM"),
    "reweighted": Recipe(weighted.reweighted, "Reweighted ERM", **FACTORS, takes=("images",)),
    "group-dro": Recipe(weighted.group_dro, "GroupDRO", **FACTORS, takes=("images",)),
    "adversary": Recipe(features.adversary, "Adversary", **FACTORS),
    "dcor": Recipe(features.dcor, "Distance correlation", **FACTORS),
    "hsic": Recipe(features.hsic_penalty, "HSIC", **FACTORS),
    "club": Recipe(features.club, "CLUB", **FACTORS),
    "multitask": Recipe(mimm.multitask, "Multitask", heads=True, **FACTORS),
    "mimm-x": Recipe(mimm.mimm_x_reconstructed, "MIMM-X", heads=True, **FACTORS),
    "balanced-dcor": Recipe(mimm.balanced_dcor, "Balanced dCor", heads=True, **FACTORS),
    "oracle": Recipe(weighted.erm, "Oracle", rows="oracle_", schedule="oracle"),
}

PAPERS = {
    "exbl": ("unrefined", "control", "exbl", "oracle"),
    "mimm-x": ("erm", "reweighted", "multitask", "mimm-x", "balanced-dcor", "oracle"),
}
EXPERIMENTS = {**PAPERS, "compare": ("unrefined", "control", "exbl", "oracle")}


def in_order(names: Iterable[str]) -> list[str]:
    """The recipes `names` and those they wait for, each after all that it waits for."""
    ordered: list[str] = []
    for name in names:
        waits_for = RECIPES[name].after, RECIPES[name].as_long_as
        before = in_order(filter(None, waits_for))
        ordered += [each for each in (*before, name) if each not in ordered]
    return ordered
