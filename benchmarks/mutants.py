"""How many small errors put into a file its tests notice, file by file.

Run: OMP_NUM_THREADS=1 python benchmarks/mutants.py (hours; `--files metrics` takes the files whose
name contains a word, `--every 5` each fifth error). One operator, comparison, constant or condition
is changed at a time, in memory alone, and the file's tests are run in a process of their own; one
that takes ten times as long as they do without an error counts as noticed. Prints the line of each
error that no test notices, and writes mutants.json.
"""

import ast
import json
import os
import signal
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import captum.attr  # noqa: F401, what many tests import is imported once, before the processes part
import pytest
import pytorch_grad_cam  # noqa: F401
import quantus  # noqa: F401
import seaborn  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torchvision  # noqa: F401

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TESTS = {
    "data/spelling": ["test_spelling"],
    "explain": ["test_explain"],
    "losses/explanation": ["test_losses"],
    "metrics": ["test_metrics"],
    "data/confound": ["test_confound"],
}
SWAPS = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.And: ast.Or, ast.Or: ast.And, ast.Sub: ast.Add, ast.Add: ast.Sub, ast.Mult: ast.Div,
    ast.Div: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[str, object, object]]:
    """The fields of one node, each with what it is and what it might wrongly be."""
    for field in ("op", "ops"):
        found = getattr(node, field, None)
        kind = type(found[0] if isinstance(found, list) else found)
        if kind in SWAPS:
            yield field, found, [SWAPS[kind]()] if isinstance(found, list) else SWAPS[kind]()
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | str | int | float):
        yield "value", node.value, wrong(node.value)
    if isinstance(node, ast.If | ast.IfExp):
        yield "test", node.test, ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.comprehension) and node.ifs:
        yield "ifs", node.ifs, []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
        if node.func.attr in ("strip", "casefold"):  # left out
            yield "func", node.func, ast.Attribute(node.func.value, "__str__", ast.Load())


def wrong(value: bool | str | int | float) -> bool | str | int | float:
    """Another value of the kind."""
    if isinstance(value, bool):
        return not value
    return f"{value}~" if isinstance(value, str) else value + 1


def unseen(tree: ast.Module) -> Iterator[ast.AST]:
    """What does not change what a program computes: docstrings, types, messages, stack levels."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
        if isinstance(node, ast.keyword) and node.arg == "stacklevel":
            yield node.value
        said = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "what"
        if said or isinstance(node, ast.JoinedStr | ast.Raise):
            yield from ast.walk(node)
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                yield from ast.walk(getattr(node, field))


def mutants(source: str) -> Iterator[tuple[int, str]]:
    """Line and source of each wrong copy."""
    tree = ast.parse(source)
    kept = {id(node) for node in unseen(tree)}
    for node in [node for node in ast.walk(tree) if id(node) not in kept]:
        for field, right, other in changes(node):
            setattr(node, field, other)
            yield getattr(node, "lineno", 0), ast.unparse(ast.fix_missing_locations(tree))
            setattr(node, field, right)


def plant(file: Path, text: str) -> None:
    """Let this process import the text in place of the file, and none of its compiled copies."""
    read = SourceFileLoader.get_data

    def get_data(self: SourceFileLoader, path: str) -> bytes:
        if Path(path).suffix == ".pyc" and Path(path).name.split(".")[0] == file.stem:
            raise OSError("compiled before")
        return text.encode() if Path(path) == file else read(self, path)

    SourceFileLoader.get_data = get_data
    sys.dont_write_bytecode = True


def noticed(file: Path, text: str, tests: list[str], limit: float) -> bool:
    """Whether a test fails, in a process of its own, or runs for longer than the limit."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(limit) + 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        plant(file, text)
        paths = [str(ROOT / "tests" / f"{name}.py") for name in tests]
        os._exit(pytest.main(["-qx", "-p", "no:cacheprovider", "-m", "not slow", *paths]) != 0)
    return os.waitpid(child, 0)[1] != 0


def score(name: str, every: int) -> dict[str, int]:
    """How many errors there are, and how many of these are noticed."""
    file, tests = ROOT / "xbl_kit" / f"{name}.py", TESTS[name]
    source, start = file.read_text(encoding="utf-8"), time.monotonic()
    if noticed(file, source, tests, 3600):
        sys.exit(f"{name}: its tests fail without any error in it")
    limit, found = 10 * (time.monotonic() - start), list(mutants(source))[::every]
    seen = 0
    for line, text in found:
        result = noticed(file, text, tests, limit)
        seen += result
        if not result:
            print(f"{name}, line {line}: no test notices", flush=True)
    print(f"{name}: {seen} of {len(found)} noticed, {seen / len(found):.0%}", flush=True)
    return {"errors": len(found), "noticed": seen}


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="")
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    out = HERE / "mutants.json"
    table = json.loads(out.read_text()) if out.exists() else {}
    for name in [name for name in TESTS if given.files in name]:
        table[name] = score(name, given.every) | {"every": given.every}
        out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
