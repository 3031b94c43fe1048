"""Experiments from data to results.json, the same for the command line and the lessons."""

from pathlib import Path

from xbl_kit.checkpoint import load_json
from xbl_kit.data.describe import describe_data
from xbl_kit.data.open import check_data
from xbl_kit.run.content import read_parts
from xbl_kit.run.exbl import PRESETS, open_exbl, prepare, reproduce_exbl
from xbl_kit.run.folder import Run
from xbl_kit.run.mimm import open_mimm, reproduce_mimm
from xbl_kit.run.report import by_split, contents, maps_of, summary

__all__ = [
    "PRESETS",
    "Run",
    "by_split",
    "check_data",
    "contents",
    "describe_data",
    "maps_of",
    "open_run",
    "prepare",
    "read_parts",
    "reproduce",
    "summary",
]

EXPERIMENTS = {"exbl": (reproduce_exbl, open_exbl), "mimm-x": (reproduce_mimm, open_mimm)}


def reproduce(experiment: str = "exbl", **options) -> dict:
    """Run an experiment and return its results.

    `options` are those of `reproduce_exbl` or, for "mimm-x", `run.mimm.reproduce_mimm`.

    Raises ValueError for an unknown experiment, settings or data that are of no use.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"experiment {experiment!r}: expected one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[experiment][0](**options)


def open_run(out: str | Path) -> Run:
    """What a finished run left in the folder `out`, to go on with.

    The data are opened again, from where the run had them.

    Raises FileNotFoundError where no run came to its end.
    """
    out = Path(out)
    results, settings = load_json(out / "results.json"), load_json(out / "run.json")
    if results is None or settings is None:
        raise FileNotFoundError(f"{out}: no finished run; `reproduce(..., out={str(out)!r})` first")
    return EXPERIMENTS[settings["experiment"]][1](out, results, settings)
