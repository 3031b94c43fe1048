"""How many small errors put into a file its tests notice: `python benchmarks/mutants.py`.

One operator, comparison, constant or condition is changed at a time, in memory, and the file's
tests are run. Prints the line of each that no test notices, and the share that is.
"""

import ast
import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE, MODULE = "xbl_kit/data/spelling.py", "xbl_kit.data.spelling"
TESTS = [str(ROOT / "tests/test_spelling.py")]
SWAPS = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Gt: ast.GtE,
    ast.And: ast.Or, ast.Or: ast.And, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd,
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[str, object, object]]:
    """The fields of one node, each with what it is and what it might wrongly be."""
    for field in ("op", "ops"):
        found = getattr(node, field, None)
        kind = type(found[0] if isinstance(found, list) else found)
        if kind in SWAPS:
            yield field, found, [SWAPS[kind]()] if isinstance(found, list) else SWAPS[kind]()
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        wrong = f"{node.value}~" if isinstance(node.value, str) else node.value + 1
        yield "value", node.value, wrong
    if isinstance(node, ast.If | ast.IfExp):
        yield "test", node.test, ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.comprehension) and node.ifs:
        yield "ifs", node.ifs, []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
        if node.func.attr in ("strip", "casefold"):  # left out
            yield "func", node.func, ast.Attribute(node.func.value, "__str__", ast.Load())


def mutants(source: str) -> Iterator[tuple[int, str]]:
    """Line and source of each wrong copy; docstrings and stack levels stay."""
    tree = ast.parse(source)
    words = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    words |= {
        id(k.value) for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg == "stacklevel"
    }
    for node in [node for node in ast.walk(tree) if id(node) not in words]:
        for field, right, wrong in changes(node):
            setattr(node, field, wrong)
            yield getattr(node, "lineno", 0), ast.unparse(ast.fix_missing_locations(tree))
            setattr(node, field, right)


def put(text: str) -> None:
    """Make the mutant what every module that has imported from the file uses."""
    own = sys.modules[MODULE].__dict__
    before = {name: own[name] for name in own if not name.startswith("__")}
    exec(compile(text, FILE, "exec"), own)
    for module in [m for name, m in sys.modules.items() if name.startswith(("xbl_kit", "test_"))]:
        for name, old in before.items():
            if module.__dict__.get(name) is old:
                setattr(module, name, own[name])


def noticed() -> bool:
    """Whether a test fails; what they print is nobody's business."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return pytest.main(["-qx", "-p", "no:cacheprovider", *TESTS, *sys.argv[1:]]) != 0


def main() -> None:
    source, lived, n = (ROOT / FILE).read_text(), 0, 0
    if noticed():
        sys.exit("the tests fail without any mutant")
    for line, text in mutants(source):
        n += 1
        try:
            put(text)
            alive = not noticed()
        except Exception:  # a mutant that cannot even be defined
            alive = False
        lived += alive
        if alive:
            print(f"{FILE}, line {line}: no test notices", flush=True)
    print(f"{n - lived} of {n} noticed, {1 - lived / n:.0%}")


if __name__ == "__main__":
    main()
