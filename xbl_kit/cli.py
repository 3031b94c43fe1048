"""The `xbl-kit` command: argument parsing only."""

import argparse
import json
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from xbl_kit import __version__

# What experiments set themselves, not to be given by --option.
TAKEN = {name: f"use --{name}" for name in ("root", "target", "labels", "confounders", "out")}
TAKEN |= {"size": "the size is set by the experiment", "kind": "use --data"}
# As in `xbl_kit.data`, which is not imported here: torch takes seconds and `--help` should not.
LISTED = ("table", "radiography", "chexpert", "mri")
ALL = ("phantom", "morphomnist", *LISTED)
PRESETS = ("classroom", "quick", "paper")
EXBL = "train Unrefined, pick exemplars, refine with eXBL, verify"
CHECK = "list every fault; exit 1 if there is one"
DESCRIBE = "counts, biases, leakage; writes a data card"
COMPARE = "train methods side by side: what works when, for what effort"
PICKS = "a class's picks: how far they agree, and what each pair does to the model"
LESSONS = "copy the lessons and the tables that they read into a folder"
DOCTOR = "say what is missing on this machine, and how to mend it; exit 1 if it is needed"
MIMM = "unlearn several spurious factors at once, beside baselines and an oracle, verify"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 when fine, 1 when it failed, 130 when it was interrupted.

    Wrong usage exits with 2. What went wrong is told in one line; --debug shows where.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = vars(_parser().parse_args(arguments))
    act, options["reading"] = options.pop("act"), dict(options.get("reading", ()))
    debug = options.pop("debug")
    with warnings.catch_warnings():
        warnings.showwarning = lambda said, *_: _tell(said)
        try:
            return act(options, options.pop("json", False))
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            if not isinstance(error, KeyboardInterrupt):
                _tell(_in_words(error))
                return 1
            goes_on = act in (_reproduce, _compare, _picks)
            again = ["xbl-kit", *arguments, *["--resume"] * (goes_on and "resume" not in options)]
            _tell(f"interrupted; `{shlex.join(again)}` {'goes on' if goes_on else 'starts anew'}")
            return 130


def _tell(what: object) -> None:
    print(f"xbl-kit: {' '.join(str(what).split())}", file=sys.stderr)


def _in_words(error: Exception) -> str:
    """An error in words for who did not write the code."""
    said, name = str(error), type(error).__name__
    full = ("out of memory", "allocate memory", "not enough memory")
    if isinstance(error, MemoryError) or any(words in said.lower() for words in full):
        less = "a smaller size or batch needs less, as --preset quick has, or close other programs"
        return f"out of memory ({said or name}); {less}"
    if isinstance(error, ValueError | OSError):
        return said
    return f"{name}: {said}; --debug shows where, which helps when you report it"


def _reproduce(options: dict, as_json: bool) -> int:
    from xbl_kit.run import contents, reproduce, summary

    keys = ("experiment", "data", "preset", "strength", "seed")
    named = ["natural" if options[k] is None else str(options[k]) for k in keys if k in options]
    out = options["out"] = options["out"] or Path("build") / "-".join(named)
    results = reproduce(**options)
    return _report(out, as_json, summary(results), contents(results))


def _compare(options: dict, as_json: bool) -> int:
    from xbl_kit.run import compare, comparison

    out = options["out"] = options["out"] or Path("build") / f"compare-{options['data']}"
    return _report(out, as_json, comparison(compare(**options)))


def _picks(options: dict, as_json: bool) -> int:
    from xbl_kit.run.picks import class_picks, tables

    folder, _ = options.pop("picked"), options.pop("reading")
    out = options["out"] = options["out"] or Path("build") / f"picks-{folder.resolve().name}"
    return _report(out, as_json, *tables(class_picks(folder, **options)))


def _report(out: Path, as_json: bool, *tables) -> int:
    """Print what came of a run: under torchrun one process does."""
    from xbl_kit.storage import is_first_process

    if is_first_process() and as_json:
        print((out / "results.json").read_text(encoding="utf-8"), end="")
    elif is_first_process():
        for table in filter(len, tables):
            print(table.to_string(float_format="{:.2f}".format, na_rep="-"))
        print(f"\nresults, weights and figures: {out}")
    return 0


def _check(options: dict, as_json: bool) -> int:
    from xbl_kit.data.faults import grouped
    from xbl_kit.run import check_data

    faults = check_data(options.pop("data"), **options.pop("reading"), **options)
    if as_json:
        print(json.dumps([fault._asdict() for fault in faults], indent=1))
    else:
        print(*(line + "\n" for line in grouped(faults)), sep="", end="")
        plural = "s" * (len(faults) > 1)
        print(f"{options.get('root')}: {len(faults) or 'no'} fault{plural} found")
    return 1 if faults else 0


def _describe(options: dict, as_json: bool) -> int:
    from xbl_kit.run import describe_data

    out = options["out"] = options["out"] or Path("build") / f"describe-{options['data']}"
    found = describe_data(options.pop("data"), **options.pop("reading"), **options)
    if as_json:
        print(json.dumps(found.record, indent=1))
        return 0
    for table in (found.counts, found.bias, found.pictures):
        if len(table.columns):
            print(table.to_string(float_format="{:.2f}".format), end="\n\n")
    print(*found.notes, *found.leaks, sep="\n")
    print(f"\ndata card and figure: {out}")
    return 0


def _lessons(options: dict, as_json: bool) -> int:
    from xbl_kit.lessons import hand_out

    return hand_out(options["folder"], begin="open" in options)


def _doctor(options: dict, as_json: bool) -> int:
    from xbl_kit.doctor import report

    return report(as_json)


def _reader(read: Callable[[str], object], expected: str) -> Callable[[str], object]:
    def reader(text: str) -> object:
        try:
            return read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}") from None

    return reader


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _region(text: str) -> str | tuple[float, ...]:
    return tuple(float(part) for part in text.split(",")) if "," in text else text


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError
    if key in TAKEN:
        raise argparse.ArgumentTypeError(f"{text!r}: {TAKEN[key]}")
    return key, value  # of what type it is the option knows: `data.options`


def _flag(text: str, metavar: str | None = None, **options) -> dict:
    return {"help": text} | ({"metavar": metavar} if metavar else {}) | options


SKIP = {"dest": "reading", "action": "append_const", "const": ("skip_faulty", True)}
OPTION = {"dest": "reading", "action": "append", "type": _reader(_option, "KEY=VALUE")}
NAMES = {"action": "extend", "type": _names}  # given twice: all of them, not the last
NUMBERS = {"action": "extend", "type": _reader(lambda t: [*map(int, _names(t))], "whole numbers")}
STRENGTH = {"type": _reader(lambda t: None if t == "natural" else float(t), "a number, or natural")}
REGION = {"type": _reader(_region, "a name or four numbers L,T,R,B")}
# Each flag is declared once; a command names those it takes. What is not given is not passed on.
FLAGS = {
    "root": _flag("folder of the data", "PATH", type=Path),
    "target": _flag("column to predict (default: label)", "COL"),
    "labels": _flag("its values to take (default: all)", "L1,L2", **NAMES),
    "option": _flag("an option of the kind of data: see data/README.md", "KEY=VALUE", **OPTION),
    "skip-faulty": _flag("leave out rows with a fault, and say how many", **SKIP),
    "confounders": _flag("the spurious factors, or columns to report", "A,B,..", **NAMES),
    "strength": _flag("P(a class's own level | class), or natural", "P", **STRENGTH),
    "preset": _flag("model and schedule", default="classroom", choices=PRESETS),
    "exemplars": _flag("who picks the explanations (default: auto)", "auto|FILE"),
    "pairs": _flag("pick so many good and so many bad ones (default: 1)", "N", type=int),
    "region": _flag("a good map's mask or box (default: lungs)", "NAME|L,T,R,B", **REGION),
    "models": _flag("the methods to train (default: the experiment's)", "M1,M2", **NAMES),
    "backbone": _flag("a network of ours or of torchvision's (default: the data's)", "NAME"),
    "weights": _flag("starting weights (default: the data's)", "imagenet|none|FILE"),
    "methods": _flag("what to train beside unrefined, names of recipes", "M1,M2", **NAMES),
    "seeds": _flag("seeds of data, weights and order (default: 0)", "N1,N2", **NUMBERS),
    "images": _flag("give so many images that break the bias, or so many", "K1,K2", **NUMBERS),
    "draws": _flag("how often these are drawn (default: 1)", "N", type=int),
    "unlabelled": _flag("give so many without labels, half break the bias", "N", type=int),
    "controls": _flag("also without, or with nothing but, the region", "C1,C2", **NAMES),
    "biased": _flag("class that the bias speaks for (default: as Unrefined errs)", "LABEL"),
    "picked": _flag("folder with an exemplar file each", "FOLDER", type=Path),
    "run": _flag("the finished run that was picked from, such as build/start-here", "DIR"),
    "train": _flag("refine with every pair that was picked", action="store_true"),
    "shown": _flag("how many images each person saw (default: 300)", "N", type=int),
    "seed": _flag("seed of data, weights and order (default: 0)", type=int, default=0),
    "out": _flag("folder to write to (default: build/...)", "DIR", type=Path, default=None),
    "resume": _flag("go on with a run that was stopped", action="store_true"),
    "device": _flag("where to train (default: auto)", choices=("auto", "cpu", "cuda")),
    "precision": _flag("bf16: half the bits in training, for GPUs", choices=("no", "bf16")),
    "folder": _flag("where to", nargs="?", type=Path, default=Path("xbl-kit-lessons")),
    "open": _flag("then start JupyterLab on the first lesson", action="store_true"),
    "debug": _flag("show where an error was raised", action="store_true", default=False),
    "json": _flag("print JSON instead of tables", action="store_true"),
}
PLACES = ("folder", "picked")  # given by their place, without a name
LOOKING = ("root", "target", "option", "labels", "confounders")
TRAINING = (*LOOKING, "skip-faulty", "backbone", "weights", "precision")
ENDING = ("out", "resume", "device", "json")
GIVEN = ("images", "draws", "unlabelled", "biased", "controls")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xbl-kit", description="Unlearning spurious correlations in medical images."
    )
    parser.add_argument("--version", action="version", version=f"xbl-kit {__version__}")
    commands = parser.add_subparsers(required=True)
    reproduce = commands.add_parser("reproduce", help="run a paper's experiment end to end")
    experiments = reproduce.add_subparsers(dest="experiment", required=True)
    data = commands.add_parser("data", help="look at a data set before training")
    looks = data.add_subparsers(required=True)
    drawn, exbl = ("phantom", *LISTED), ("preset", "exemplars", "pairs", "region", "seed")
    mimm, compared = ("strength", "seed"), (*exbl[:-1], "strength", "methods", "seeds", *GIVEN)
    for within, name, text, act, kinds, flags in (
        (experiments, "exbl", EXBL, _reproduce, drawn, (*TRAINING, "models", *exbl, *ENDING)),
        (experiments, "mimm-x", MIMM, _reproduce, ALL, (*TRAINING, "models", *mimm, *ENDING)),
        (commands, "compare", COMPARE, _compare, drawn, (*TRAINING, *compared, *ENDING)),
        (commands, "picks", PICKS, _picks, (), ("picked", "run", "train", "shown", *ENDING)),
        (looks, "check", CHECK, _check, LISTED, (*LOOKING, "json")),
        (looks, "describe", DESCRIBE, _describe, ALL, (*LOOKING, "out", "json")),
        (commands, "lessons", LESSONS, _lessons, (), ("folder", "open")),
        (commands, "doctor", DOCTOR, _doctor, (), ("json",)),
    ):
        command = within.add_parser(name, help=text, argument_default=argparse.SUPPRESS)
        command.set_defaults(act=act, **({"strength": 0.9} if name == "mimm-x" else {}))
        how = {"default": "phantom"} if act in (_reproduce, _compare) else {"required": True}
        if kinds:
            command.add_argument("--data", choices=kinds, help="kind of data set", **how)
        for flag in (*flags, "debug"):
            command.add_argument(flag if flag in PLACES else f"--{flag}", **FLAGS[flag])
    return parser
