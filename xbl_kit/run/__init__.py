"""Experiments from data to results.json, the same for the command line and the lessons."""

from xbl_kit.data.describe import describe_data
from xbl_kit.data.open import check_data
from xbl_kit.run.compare import compare
from xbl_kit.run.engine import open_run, reproduce
from xbl_kit.run.measure import evaluate
from xbl_kit.run.picks import class_picks
from xbl_kit.run.recipes import EXPERIMENTS, RECIPES, Recipe
from xbl_kit.run.report import by_split, comparison, contents, effect, maps_of, summary
from xbl_kit.run.stage import Run
from xbl_kit.run.task import PRESETS, prepare

__all__ = ["EXPERIMENTS", "PRESETS", "RECIPES", "Recipe", "Run", "by_split", "check_data"]
__all__ += ["class_picks", "compare", "comparison", "contents", "describe_data", "effect"]
__all__ += ["evaluate", "maps_of", "open_run", "prepare", "reproduce", "summary"]
