"""The `xbl-kit` command: argument parsing only."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xbl_kit import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 when fine, 1 when it failed. Wrong usage exits with 2."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    # Imported here, since torch takes seconds and `--help` should not.
    from xbl_kit.run import reproduce, summary

    as_json = options.pop("json")
    options.pop("command")
    options["out"] = options["out"] or _default_out(options)
    try:
        results = reproduce(**options)
    except (ValueError, OSError) as error:
        print(f"xbl-kit: {error}", file=sys.stderr)
        return 1
    if as_json:
        print((Path(options["out"]) / "results.json").read_text(encoding="utf-8"), end="")
    else:
        print(summary(results).to_string(float_format="{:.2f}".format))
        print(f"\nresults, weights and figures: {options['out']}")
    return 0


def _default_out(options: dict) -> Path:
    name = "-".join(str(options[key]) for key in ("experiment", "data", "preset", "seed"))
    return Path("build") / name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xbl-kit", description="Unlearning spurious correlations in medical images."
    )
    parser.add_argument("--version", action="version", version=f"xbl-kit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    reproduce = commands.add_parser("reproduce", help="run a paper's experiment end to end")
    experiments = reproduce.add_subparsers(dest="experiment", required=True)
    _add_exbl(experiments)
    return parser


def _add_exbl(experiments) -> None:
    add = experiments.add_parser(
        "exbl",
        help="train Unrefined, pick exemplars, refine with eXBL, verify",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    ).add_argument
    add("--data", choices=("phantom", "table"), default="phantom", help="kind of data set")
    add("--root", type=Path, metavar="PATH", help="folder of the data, with metadata.csv")
    add("--preset", choices=("classroom", "paper"), default="classroom", help="model and schedule")
    add("--weights", metavar="imagenet|none|FILE", help="starting weights; the preset's by default")
    add("--exemplars", default="auto", metavar="auto|FILE", help="who picks the explanations")
    add(
        "--region",
        type=_region,
        default="lungs",
        metavar="NAME|L,T,R,B",
        help="mask or box (shares of the image) where a good map lies, for --exemplars auto",
    )
    add(
        "--confounders",
        type=_names,
        default=(),
        metavar="A,B,..",
        help="columns to report groups by",
    )
    add("--seed", type=int, default=0, help="seed of data, weights and order")
    add("--out", type=Path, metavar="DIR", help="folder to write to (default: build/...)")
    add("--resume", action="store_true", help="go on with a run that was stopped")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    add("--json", action="store_true", help="print results.json instead of a table")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _region(text: str) -> str | tuple[float, ...]:
    parts = text.split(",")
    if len(parts) == 1:
        return text
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a name or four numbers L,T,R,B"
        ) from None
