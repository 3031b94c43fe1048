"""Experiments from data to results.json, the same for the command line and the lessons."""

from xbl_kit.run.exbl import PRESETS, Run, open_run, prepare, reproduce_exbl
from xbl_kit.run.mimm import reproduce_mimm
from xbl_kit.run.report import by_split, maps_of, summary

__all__ = [
    "PRESETS",
    "Run",
    "by_split",
    "maps_of",
    "open_run",
    "prepare",
    "reproduce",
    "summary",
]

EXPERIMENTS = {"exbl": reproduce_exbl, "mimm-x": reproduce_mimm}


def reproduce(experiment: str = "exbl", **options) -> dict:
    """Run an experiment and return its results.

    `options` are those of `reproduce_exbl` or, for "mimm-x", `run.mimm.reproduce_mimm`.

    Raises ValueError for an unknown experiment, settings or data that are of no use.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"experiment {experiment!r}: expected one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[experiment](**options)
