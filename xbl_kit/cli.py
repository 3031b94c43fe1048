"""The `xbl-kit` command: argument parsing only."""

import argparse
import ast
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from xbl_kit import __version__

# What experiments set themselves, not to be given by --option.
TAKEN = {"size": "the size is set by the experiment", "confounders": "use --confounders"}
# As in `xbl_kit.data`, which is not imported here: torch takes seconds and `--help` should not.
LISTED = ("table", "radiography", "chexpert", "mri")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 when fine, 1 when it failed. Wrong usage exits with 2."""
    options = vars(_parser().parse_args(arguments))
    act = options.pop("act")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: _complain(message)
        try:
            return act(options)
        except (ValueError, OSError) as error:
            _complain(error)
            return 1


def _complain(message: object) -> None:
    print(f"xbl-kit: {message}", file=sys.stderr)


def _reproduce(options: dict) -> int:
    from xbl_kit.run import contents, reproduce, summary
    from xbl_kit.storage import is_first_process

    as_json = options.pop("json")
    options["reading"] = dict(options["reading"])
    options["out"] = options["out"] or _default_out(options)
    results = reproduce(**options)
    if not is_first_process():
        return 0
    if as_json:
        print((Path(options["out"]) / "results.json").read_text(encoding="utf-8"), end="")
    else:
        tables = (summary, contents) if options["experiment"] == "mimm-x" else (summary,)
        for table in tables:
            print(table(results).to_string(float_format="{:.2f}".format))
        print(f"\nresults, weights and figures: {options['out']}")
    return 0


def _check(options: dict) -> int:
    from xbl_kit.run import check_data

    as_json = options.pop("json")
    faults = check_data(options.pop("data"), **dict(options.pop("reading")), **options)
    if as_json:
        print(json.dumps([fault._asdict() for fault in faults], indent=1))
    else:
        print(*faults, sep="\n", end="\n" * bool(faults))
        plural = "s" * (len(faults) > 1)
        print(f"{options['root']}: {len(faults) or 'no'} fault{plural} found")
    return 1 if faults else 0


def _describe(options: dict) -> int:
    from xbl_kit.run import describe_data

    out = options["out"] = options["out"] or Path("build") / f"describe-{options['data']}"
    found = describe_data(options.pop("data"), **dict(options.pop("reading")), **options)
    for table in (found.counts, found.bias):
        print(table.to_string(float_format="{:.2f}".format), end="\n\n")
    print(*found.leaks, sep="\n")
    print(f"\ndata card and figure: {out}")
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
    commands = parser.add_subparsers(required=True)
    reproduce = commands.add_parser("reproduce", help="run a paper's experiment end to end")
    experiments = reproduce.add_subparsers(dest="experiment", required=True)
    for add in (_add_exbl, _add_mimm):
        _add_shared(add(experiments))
    data = commands.add_parser("data", help="look at a data set before training")
    _add_data(data.add_subparsers(required=True))
    return parser


def _add_data(commands) -> None:
    check = commands.add_parser("check", help="list every fault; exit 1 if there is one")
    describe = commands.add_parser("describe", help="counts, biases, leakage; writes a data card")
    check.set_defaults(act=_check)
    check.add_argument("--json", action="store_true", help="print the faults as JSON")
    describe.set_defaults(act=_describe)
    describe.add_argument("--out", type=Path, metavar="DIR", help="folder to write to")
    for parser, kinds in ((check, LISTED), (describe, ("phantom", "morphomnist", *LISTED))):
        parser.add_argument("--data", choices=kinds, required=True, help="kind of data set")
        parser.add_argument("--target", default="label", metavar="COL", help="column of the label")
        _add_reading(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, metavar="PATH", help="folder of the data")
    parser.add_argument(
        "--option",
        dest="reading",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the kind of data, such as uncertain=zeros; see data/README.md",
    )


def _add_exbl(experiments) -> argparse.ArgumentParser:
    parser = experiments.add_parser(
        "exbl",
        help="train Unrefined, pick exemplars, refine with eXBL, verify",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", choices=("phantom", *LISTED), default="phantom", help="kind of data set")
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
    kinds = ("phantom", "morphomnist", *LISTED)
    add("--data", choices=kinds, default="phantom", help="kind of data set")
    add("--target", default="label", metavar="COL", help="a table's column to predict")
    add("--labels", type=_names, default=(), metavar="L1,L2", help="its values (default: all)")
    confounders = "the spurious factors (default: all that the kind of data has; a table: columns)"
    add("--confounders", type=_names, default=(), metavar="A,B,..", help=confounders)
    strength = "P(a class's preferred level | class); 'natural' takes a table's own"
    add("--strength", type=_strength, default=0.9, metavar="P|natural", help=strength)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(act=_reproduce)
    _add_reading(parser)
    add = parser.add_argument
    add(
        "--skip-faulty",
        dest="reading",
        action="append_const",
        const=("skip_faulty", True),
        help="leave out rows with a fault, and say how many",
    )
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


def _option(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE")
    if key in TAKEN:
        raise argparse.ArgumentTypeError(f"{text!r}: {TAKEN[key]}")
    values = [_value(part) for part in value.split(",")]
    return key, values if len(values) > 1 else values[0]


def _value(text: str) -> object:
    """A number or truth value where it reads as one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


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
