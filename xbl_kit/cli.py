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
    from xbl_kit.run import contents, reproduce, summary

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
        tables = (summary, contents) if options["experiment"] == "mimm-x" else (summary,)
        for table in tables:
            print(table(results).to_string(float_format="{:.2f}".format))
        print(f"\nresults, weights and figures: {options['out']}")
    return 0


def _default_out(options: dict) -> Path:
    keys = ("experiment", "data", "preset", "strength", "seed")
    named = {key: options[key] for key in keys if key in options}
    return Path("build") / "-".join("natural" if v is None else str(v) for v in named.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xbl-kit", description="Unlearning spurious correlations in medical images."
    )
    parser.add_argument("--version", action="version", version=f"xbl-kit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    reproduce = commands.add_parser("reproduce", help="run a paper's experiment end to end")
    experiments = reproduce.add_subparsers(dest="experiment", required=True)
    for add in (_add_exbl, _add_mimm):
        _add_shared(add(experiments))
    return parser


def _add_exbl(experiments) -> argparse.ArgumentParser:
    parser = experiments.add_parser(
        "exbl",
        help="train Unrefined, pick exemplars, refine with eXBL, verify",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", choices=("phantom", "table"), default="phantom", help="kind of data set")
    add("--preset", choices=("classroom", "paper"), default="classroom", help="model and schedule")
    add("--exemplars", default="auto", metavar="auto|FILE", help="who picks the explanations")
    add(
        "--region",
        type=_region,
        default="lungs",
        metavar="NAME|L,T,R,B",
        help="mask or box (shares of the image) where a good map lies, for --exemplars auto",
    )
    confounders = "columns to report groups by"
    add("--confounders", type=_names, default=(), metavar="A,B,..", help=confounders)
    return parser


def _add_mimm(experiments) -> argparse.ArgumentParser:
    parser = experiments.add_parser(
        "mimm-x",
        help="unlearn several spurious factors at once, beside baselines and an oracle, verify",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    kinds = ("phantom", "morphomnist", "table")
    add("--data", choices=kinds, default="phantom", help="kind of data set")
    add("--target", default="label", metavar="COL", help="a table's column to predict")
    add("--labels", type=_names, default=(), metavar="L1,L2", help="its values (default: all)")
    confounders = "the spurious factors (default: all that the kind of data has; a table: columns)"
    add("--confounders", type=_names, default=(), metavar="A,B,..", help=confounders)
    strength = "P(a class's preferred level | class); 'natural' takes a table's own"
    add("--strength", type=_strength, default=0.9, metavar="P|natural", help=strength)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--root", type=Path, metavar="PATH", help="folder of the data, for tables and MNIST")
    add("--weights", metavar="imagenet|none|FILE", help="starting weights; the data's by default")
    add("--seed", type=int, default=0, help="seed of data, weights and order")
    add("--out", type=Path, metavar="DIR", help="folder to write to (default: build/...)")
    add("--resume", action="store_true", help="go on with a run that was stopped")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    add("--json", action="store_true", help="print results.json instead of a table")


def _strength(text: str) -> float | None:
    if text == "natural":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number or 'natural'") from None


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
