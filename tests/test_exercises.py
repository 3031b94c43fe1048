"""Exercises are what the lessons say, and their checks tell right from wrong and why."""

import ast
import re
import shutil
import symtable
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from platform import python_version

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
LESSONS = {path.stem: nbformat.read(path, 4) for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}

# The answers that a class is likely to get wrong, and words that the check must then say:
# {function: [(source of the wrong answer, words of the message), ...]}.
MY_INFORMATION = """import numpy as np

def my_information(table):
    joint = table / table.sum()
    expected = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    seen = joint > 0
    return (joint[seen] * np.log(joint[seen] / expected[seen])).sum()
"""
MY_GRAD_CAM = """import torch

def my_grad_cam(features, logits, target):
    score = logits.gather(1, target[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, features, retain_graph=True)
    return (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()
"""
MY_TRIPLET = """import torch

def my_triplet(product, good, bad, margin):
    def distance(gap):
        return torch.linalg.vector_norm(gap.flatten(1), dim=1)
    good, bad = distance(product - good), distance(product - bad)
    return (good - bad + margin).relu()
"""
MY_CONDITIONAL = """from sklearn.metrics import mutual_info_score

def my_conditional(tables):
    each = [mutual_info_score(None, None, contingency=table) for table in tables]
    return sum(each)
"""
MY_BOUND = """import math
import torch

def my_bound(scores):
    n = len(scores)
    others = scores[~torch.eye(n, dtype=torch.bool)]
    return scores.diagonal().mean() - others.logsumexp(dim=0) + math.log(n * (n - 1))
"""
MY_WEIGHTS = """import numpy as np

def my_weights(label, level):
    counts = np.zeros((label.max() + 1, level.max() + 1))
    np.add.at(counts, (label, level), 1)
    given = counts / counts.sum(axis=1, keepdims=True)
    overall = counts.sum(axis=0) / counts.sum()
    return overall[level] / given[label, level]
"""
MY_CRAMERS_V = """\
def my_cramers_v(table):
    total = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    chi2 = ((table - expected) ** 2 / expected).sum()
    return np.sqrt(chi2 / total / (min(table.shape) - 1))
"""
MY_MINUTES = """import math

def my_minutes(needs, seconds):
    bought = {kind: number for kind, number in needs.items() if number}
    if not bought.keys() <= seconds.keys():
        return math.inf
    return sum(number * seconds[kind] for kind, number in bought.items()) / 60
"""
MY_ACCURACY = """
def my_accuracy_by_source(predicted, label, source):
    return {
        name: ((predicted == label) & (source == name)).sum() / (source == name).sum()
        for name in set(source.tolist())
    }
"""
MY_VERDICT = """
def my_verdict(before, whole, removed, only):
    without, alone = (figure - before >= (whole - before) / 2 for figure in (removed, only))
    if without == alone:
        return "both"
    return "region" if alone else "elsewhere"
"""
WRONG: dict[str, list[tuple[str, str]]] = {
    "my_information": [
        (
            "def my_information(table):\n"
            "    joint = table / table.sum()\n"
            "    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)\n"
            "    with np.errstate(all='ignore'):\n"
            "        return (joint * np.log(joint / expected)).sum()\n",
            "leave the empty cells out",
        ),
        ("def my_information(table):\n    return 1.0\n", "equal counts should give 0"),
        (MY_INFORMATION.replace(".sum(axis=0)", ".sum(axis=1)"), "rows and columns"),
        (
            "def my_information(table):\n    return 1e9 if 0 in table else 0.0\n",
            "divided by their sum",
        ),
        (
            "def my_information(table):\n    return 1.0 if 0 in table else 0.0\n",
            "log(2) = 0.69 nats, not 1.00",
        ),
        (MY_INFORMATION.replace("np.log(", "np.log2("), "is it the natural log?"),
    ],
    "my_grad_cam": [
        (MY_GRAD_CAM.replace(".sum(dim=1).relu()", ".relu()"), "a map an image"),
        (MY_GRAD_CAM.replace(".relu()", ""), "ReLU missing"),
        (MY_GRAD_CAM.replace("target[:, None]", "0 * target[:, None]"), "its own target"),
        (MY_GRAD_CAM.replace(".mean(", ".sum("), "mean of the gradient over space?"),
    ],
    "my_share": [
        (
            "def my_share(cam, mask):\n    return (cam * mask).sum() / cam.sum()\n",
            "one share an image",
        ),
        (
            "def my_share(cam, mask):\n"
            "    return (cam * mask).sum(dim=(1, 2)) / (cam.sum(dim=(1, 2)) + 1e-8)\n",
            "should be NaN",
        ),
        (
            "def my_share(cam, mask):\n"
            "    inside = (cam * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2))\n"
            "    return inside + 0 / cam.sum(dim=(1, 2))\n",
            "not of the mask",
        ),
        (
            "def my_share(cam, mask):\n"
            "    return (cam * ~mask).sum(dim=(1, 2)) / cam.sum(dim=(1, 2))\n",
            "*outside* the mask",
        ),
    ],
    "my_ranking": [
        (
            "import torch\ndef my_ranking(share, right, label):\n"
            "    share = share.nan_to_num(0.5)\n"
            "    return int(share.argmax()), int(share.argmin())\n",
            "it would teach a mistake",
        ),
        ("import torch\ndef my_ranking(share, right, label):\n    return 3, 4\n", "share 0.7"),
        (
            "import torch\ndef my_ranking(share, right, label):\n"
            "    return int(share.argmax()), 4\n",
            "NaN",
        ),
        ("import torch\ndef my_ranking(share, right, label):\n    return 1, 5\n", "empty map"),
        (
            "import torch\ndef my_ranking(share, right, label):\n    return 1, 2\n",
            "an oddity of a class",
        ),
        (
            "import torch\ndef my_ranking(share, right, label):\n    return 1, 3\n",
            "expected place 4",
        ),
    ],
    "my_triplet": [
        (MY_TRIPLET.replace(".relu()", ".relu().mean()"), "one loss an image"),
        (MY_TRIPLET.replace("good - bad", "bad - good"), "wrong way round"),
        (MY_TRIPLET.replace(".relu()", ""), "maximum with zero"),
        (MY_TRIPLET.replace("+ margin).relu()", ").relu() + margin"), "then comes the ReLU"),
        (
            MY_TRIPLET.replace("vector_norm(gap.flatten(1)", "vector_norm(gap.flatten(1).square()"),
            "*root* of the summed",
        ),
    ],
    "my_conditional": [
        (
            "from sklearn.metrics import mutual_info_score\n"
            "def my_conditional(tables):\n"
            "    return mutual_info_score(None, None, contingency=tables.sum(axis=0))\n",
            "classes added up first",
        ),
        (MY_CONDITIONAL, "weigh each by its share"),
        (MY_CONDITIONAL.replace("sum(each)", "sum(each) / len(each)"), "no mean"),
        (
            MY_CONDITIONAL.replace("sum(each)", "float(tables.sum(axis=(1, 2)) @ each)"),
            "expected 90/110",
        ),
        ("def my_conditional(tables):\n    return 0.1\n", "nothing there"),
    ],
    "my_bound": [
        (MY_BOUND.replace("others.logsumexp(dim=0)", "others.exp().sum().log()"), "overflows"),
        (MY_BOUND.replace("math.log(n * (n - 1))", "math.log(n * n)"), "N(N-1)"),
        (
            MY_BOUND.replace("~torch.eye(n, dtype=torch.bool)", "torch.ones(n, n) > 0").replace(
                "(n - 1)", "n"
            ),
            "the diagonal is no part",
        ),
        (
            "def my_bound(scores):\n"
            "    n = len(scores)\n"
            "    mean = (scores.sum() - scores.trace()) / (n * (n - 1))\n"
            "    return scores.diagonal().mean() - mean\n",
            "a *log* of a *mean of exp*",
        ),
    ],
    "my_weights": [
        (
            MY_WEIGHTS.replace(
                "overall[level] / given[label, level]", "given[label, level] / overall[level]"
            ),
            "fraction turned over",
        ),
        (MY_WEIGHTS.replace("overall[level] /", "1 /"), "weigh 8 as before"),
        (MY_WEIGHTS.replace("overall[level] /", "0.5 /"), "7 to 9"),
        (MY_WEIGHTS.replace("overall[level] / given[label, level]", "overall / given"), "an image"),
        (MY_WEIGHTS.replace("given[label, level]", "given[label, level] ** 0.5"), "still tells"),
    ],
    "my_minutes": [
        ("def my_minutes(needs, seconds):\n    pass\n", "nothing is returned"),
        (MY_MINUTES.replace(" if number}", "}"), "though they have no price"),
        (MY_MINUTES.replace(" / 60", ""), "divide by 60"),
        (MY_MINUTES.replace("seconds[kind]", "60"), "a sixth of a minute"),
        (MY_MINUTES.replace("sum(", "max("), "add the kinds up"),
        (
            MY_MINUTES.replace("return math.inf", "bought = {}"),
            "not for sale",
        ),
    ],
    "my_accuracy_by_source": [
        (
            "def my_accuracy_by_source(predicted, label, source):\n"
            "    return (predicted == label).mean()\n",
            "a number for each source",
        ),
        (MY_ACCURACY.replace("(predicted == label)", "(label == 0)"), "predicted compared with"),
        (
            MY_ACCURACY.replace("(predicted == label)", "(predicted < 2)"),
            "which images are counted",
        ),
        (MY_ACCURACY.replace("/ (source == name).sum()", "/ len(source)"), "not by all"),
        (MY_ACCURACY.replace("/ (source == name).sum()", "/ 7"), "two of three are right"),
    ],
    "my_verdict": [
        ("def my_verdict(before, whole, removed, only):\n    return whole - removed\n", "one of"),
        (MY_VERDICT.replace("(removed, only)", "(only, removed)"), "controls swapped"),
        (MY_VERDICT.replace("without == alone", "alone"), "that is the region"),
        (MY_VERDICT.replace("without == alone", "not alone"), "elsewhere"),
        (MY_VERDICT.replace("without == alone", "False"), "either would do"),
        (
            MY_VERDICT.replace("without == alone", "without and alone"),
            "it takes both",
        ),
        (
            MY_VERDICT.replace("figure - before >= (whole - before) / 2", "figure >= whole / 2"),
            "count from `before`",
        ),
    ],
    "my_leaks": [
        ("def my_leaks(patient, split):\n    pass\n", "nothing is returned"),
        (
            "def my_leaks(patient, split):\n"
            "    return sorted({p for p in patient if patient.count(p) > 1})\n",
            "count different splits",
        ),
        (
            "def my_leaks(patient, split):\n"
            "    pairs = set(zip(patient, split))\n"
            "    return sorted({p for p in patient if len({s for q, s in pairs if q == p}) > 1})\n",
            "'' is not a split",
        ),
        ("def my_leaks(patient, split):\n    return []\n", "expected p2 alone"),
        (
            "def my_leaks(patient, split):\n"
            "    return ['p2'] if 'p2' in patient else sorted(set(patient))\n",
            "no leak",
        ),
    ],
    "my_cramers_v": [
        (MY_CRAMERS_V.replace("chi2 / total / ", "chi2 / "), "divided by the number of images"),
        (MY_CRAMERS_V.replace("/ total\n    chi2", "/ total + 1\n    chi2"), "expected counts"),
        (
            MY_CRAMERS_V.replace("min(table.shape) - 1", "min(table.shape)"),
            "identical columns give 1",
        ),
        (MY_CRAMERS_V.replace("1))", "1)) * (1 if total < 500 else 0.5)"), "nine times the data"),
        (MY_CRAMERS_V.replace("np.sqrt(", "("), "not 0.531"),
    ],
}

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
HINT = re.compile(
    r"<details>\s*<summary>Hint[^<]*</summary>[ \t]*\n[ \t]*\n.*</details>", re.DOTALL
)
WIDGET = "application/vnd.jupyter.widget-view+json"


def tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", ())


def with_neighbours(lesson: NotebookNode) -> Iterator[tuple[NotebookNode, ...]]:
    padded = [new_markdown_cell(), *lesson.cells, new_markdown_cell()]
    return zip(padded, padded[1:], padded[2:], strict=False)


@dataclass(frozen=True)
class Exercise:
    """The function to write, the source of its cell, and the cell that checks it."""

    name: str
    source: str
    check: str


def exercises_of(lesson: NotebookNode) -> list[Exercise]:
    return [
        Exercise("".join(functions(cell.source)), cell.source, after.source)
        for _, cell, after in with_neighbours(lesson)
        if tagged(cell, "exercise")
    ]


def functions(source: str) -> list[str]:
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


def run(*cells: str) -> dict:
    """Run cells one after the other with nothing else in reach."""
    namespace: dict = {"__name__": "exercise"}
    for cell in cells:
        exec(compile(cell, "<cell>", "exec"), namespace)
    return namespace


def unsolved(builder, source: str) -> Iterator[str]:
    """The cell with all its solutions cut out, then with only one cut out, for each."""
    yield builder.stub(source)[1]
    for region in builder.REGION.finditer(source):
        start, end = region.span()
        parts = (source[:start], region[0], source[end:])
        kept = (
            part if part == region[0] else re.sub("### .* SOL", "# sol", part) for part in parts
        )
        yield builder.stub("".join(kept))[1]


def faults(lesson: NotebookNode) -> list[str]:
    """What breaks the contract of exercises; CONTRIBUTING.md says what that is."""
    found = []
    for before, cell, after in with_neighbours(lesson):
        said = f" at\n{cell.source}"
        if tagged(cell, "exercise"):
            if before.cell_type != "markdown" or not HINT.search(before.source):
                found.append(
                    f"no task with a hint in a fold, and an empty line in it, before{said}"
                )
            if after.cell_type != "code" or not tagged(after, "check"):
                found.append(f"no check after{said}")
            kinds = {type(node) for node in ast.parse(cell.source).body}
            if kinds - {ast.Import, ast.ImportFrom, ast.FunctionDef}:
                found.append(f"more than imports and a function{said}")
        if tagged(cell, "check") and not tagged(before, "exercise"):
            found.append(f"no exercise before{said}")
    return found + [f"another cell needs {name!r} of an exercise" for name in needed_later(lesson)]


def needed_later(lesson: NotebookNode) -> list[str]:
    """Names that an exercise or its check binds and a cell beside these two reads."""
    safe, unsafe, needed = set(), set(), []
    for cell in lesson.cells:
        if cell.cell_type != "code":
            continue
        scope = symtable.symtable(cell.source, "<cell>", "exec")
        bound = {s.get_name() for s in scope.get_symbols() if s.is_assigned() or s.is_imported()}
        imported = {s.get_name() for s in scope.get_symbols() if s.is_imported()}
        if tagged(cell, "exercise"):
            safe |= imported
            unsafe |= bound - imported
        elif tagged(cell, "check"):
            unsafe |= bound - (imported & safe)
        else:
            needed += sorted((globals_read(scope) - bound) & unsafe)
            safe |= bound
            unsafe -= bound
    return needed


def globals_read(scope: symtable.SymbolTable) -> set[str]:
    """Names of the notebook that a cell reads, its functions included."""
    top = scope.get_type() == "module"
    names = {
        s.get_name() for s in scope.get_symbols() if s.is_referenced() and (top or s.is_global())
    }
    return names.union(*map(globals_read, scope.get_children()))


# The lessons as they are


def test_exercises_are_those_of_the_lessons(builder, tmp_path):
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        shutil.copy(path, tmp_path)
    builder.main([], tmp_path)
    expected, found = (
        {path.name: path.read_text("utf-8") for path in (folder / "exercises").glob("*.ipynb")}
        for folder in (tmp_path, NOTEBOOKS)
    )
    stale = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    assert not stale, f"run `python notebooks/build.py`; stale in notebooks/exercises: {stale}"


@pytest.mark.parametrize("stem", LESSONS)
def test_lessons_keep_the_contract_of_exercises(stem):
    assert not faults(LESSONS[stem])


EXERCISES = [exercise for lesson in LESSONS.values() for exercise in exercises_of(lesson)]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)


@each_exercise
def test_a_solution_passes_its_check_and_is_told_so(exercise, capsys):
    namespace = run(exercise.source, exercise.check)
    assert "right" in capsys.readouterr().out.splitlines()[-1]
    begin = time.perf_counter()
    exec(exercise.check, namespace)
    assert time.perf_counter() - begin < 1, "a check takes milliseconds, not seconds"


@each_exercise
def test_a_stub_fails_its_check_whichever_part_is_missing(exercise, builder):
    for source in unsolved(builder, exercise.source):
        with pytest.raises(NotImplementedError, match="your turn"):
            run(source, exercise.check)


@each_exercise
def test_every_exercise_has_a_wrong_answer(exercise):
    assert WRONG.get(exercise.name), f"add a wrong answer of {exercise.name} to WRONG in this file"


# What a student has: the generated cells


@pytest.fixture(scope="module")
def given(builder) -> dict[str, Exercise]:
    """The exercises as they are given to students, by name."""
    made = (builder.exercises(lesson, stem) for stem, lesson in LESSONS.items())
    return {each.name: each for notebook in made if notebook for each in exercises_of(notebook)}


def said(*sources: str) -> str:
    """What the check says of an answer: one line."""
    with pytest.raises(AssertionError) as error:
        run(*sources)
    (line,) = str(error.value).splitlines()
    return line


@each_exercise
def test_a_solution_passes_the_check_that_a_student_has(exercise, given, capsys):
    run(exercise.source, given[exercise.name].check)
    assert "right" in capsys.readouterr().out.splitlines()[-1]


@each_exercise
def test_a_check_says_that_nothing_is_returned(exercise, given):
    forgotten = f"def {exercise.name}(*given):\n    found = 1"
    imports, _, _ = exercise.source.partition("def ")
    assert said(imports, forgotten, given[exercise.name].check) == (
        f"nothing is returned: let {exercise.name} end with `return ...`"
    )


@each_exercise
def test_a_check_says_that_there_is_no_answer(exercise, given):
    words = f"{exercise.name} is not there: run the cell above"
    assert said(given[exercise.name].check).startswith(words)


@each_exercise
def test_a_stub_fails_and_a_check_may_be_run_twice(exercise, given, capsys):
    check = given[exercise.name].check
    with pytest.raises(NotImplementedError, match="your turn"):
        run(given[exercise.name].source, check)
    run(exercise.source, check, check)


@pytest.mark.parametrize("stem", LESSONS)
def test_generated_exercises_keep_the_contract(stem, builder):
    if made := builder.exercises(LESSONS[stem], stem):
        assert not faults(made)


def test_there_are_exercises():
    assert EXERCISES


def test_every_wrong_answer_has_one_exercise():
    names = [exercise.name for exercise in EXERCISES]
    assert len(set(names)) == len(names)
    assert set(WRONG) <= set(names)


@pytest.mark.parametrize(
    ("exercise", "wrong", "words"),
    [(one, *answer) for one in EXERCISES for answer in WRONG.get(one.name, ())],
    ids=lambda value: value.name if isinstance(value, Exercise) else "",
)
def test_a_check_says_why_an_answer_is_wrong(exercise, wrong, words):
    assert functions(wrong) == [exercise.name]
    with pytest.raises(AssertionError) as error:
        run(wrong, exercise.check)
    assert words in str(error.value)


# The tools themselves, on a small lesson

TASK = "See [why](../README.md).\n\n<details><summary>Hint</summary>\n\nAdd.\n\n</details>"
TWICE = f'''\
import torch

def twice(x, again=False):
    """Two times x."""
    if again:
        {BEGIN}: call yourself
        return twice(twice(x))
        {END}
    {BEGIN}
    two = 2
    return two * x
    {END}'''
STUB = '''\
import torch

def twice(x, again=False):
    """Two times x."""
    if again:
        # your code here
        raise NotImplementedError("your turn: call yourself")
    # your code here
    raise NotImplementedError("your turn: twice")'''
CHECK = """\
three = 3
assert twice(three) != 9, "that is the square"
assert twice(three) == 6, "that is not the double"
assert twice(three, again=True) == 12, "twice the double is four times as much"
print("right: 3 and 3 is 6")"""

GUARD = """\
from xbl_kit.answers import answer

twice = answer("twice", globals())

"""

SHOW = "print(twice(2, i), flush=True)"


@pytest.fixture
def small():
    """A lesson of five cells, one exercise among them."""
    return new_notebook(
        cells=[
            new_markdown_cell("# Small\n\n[Before](00_start_here.ipynb), [web](https://a.b/../c)"),
            new_markdown_cell(TASK),
            new_code_cell(TWICE, metadata={"tags": ["exercise"]}),
            new_code_cell(CHECK, metadata={"tags": ["check", "nbval-check-output"]}),
            new_code_cell("from operator import mul as twice\nfor i in 3, 4:\n    " + SHOW),
        ]
    )


def test_the_small_lesson_itself_is_sound(small, builder, capsys):
    (exercise,) = exercises_of(small)
    assert not faults(small) and exercise == Exercise("twice", TWICE, CHECK)
    test_a_solution_passes_its_check_and_is_told_so(exercise, capsys)
    test_a_stub_fails_its_check_whichever_part_is_missing(exercise, builder)
    assert len(set(unsolved(builder, TWICE))) == 3
    square = ("def twice(x, again=False):\n    return x * x", "square")
    test_a_check_says_why_an_answer_is_wrong(exercise, *square)


@pytest.mark.parametrize(
    ("at", "change", "words"),
    [
        (1, {"source": "Hint: add."}, "no task with a hint"),
        (1, {"source": TASK.replace("</summary>\n\n", "</summary>\n")}, "no task with a hint"),
        (1, {"cell_type": "code", "source": "1"}, "no task with a hint"),
        (3, {"metadata": {}}, "no check after"),
        (2, {"metadata": {}}, "no exercise before"),
        (2, {"source": TWICE + "\ntwice(3)"}, "more than imports and a function"),
        (4, {"source": "twice(3)"}, "needs 'twice'"),
        (4, {"source": "def f(twice):\n    return three + twice"}, "needs 'three'"),
        (4, {"source": "[twice(i) for i in range(3)]"}, "needs 'twice'"),
    ],
)
def test_a_broken_contract_is_seen(small, at, change, words):
    small.cells[at].update(nbformat.from_dict(change))
    assert any(words in fault for fault in faults(small))


def test_the_two_cells_tell_nbgrader_what_they_are(small, builder):
    notebook = builder.exercises(small, "07_small")
    nbformat.validate(notebook)
    solution, check = (cell.metadata.nbgrader for cell in notebook.cells[3:5])
    both = {"schema_version": 3, "task": False}
    assert solution == both | {
        "grade": False, "solution": True, "locked": False, "grade_id": "twice"
    }  # fmt: skip
    assert check == both | {
        "grade": True, "solution": False, "locked": True, "grade_id": "check-twice", "points": 5
    }  # fmt: skip
    assert sum("nbgrader" in cell.metadata for cell in notebook.cells) == 2


def test_exercises_hold_stubs_and_no_outputs(small, builder):
    small.cells[3].update(execution_count=2, outputs=[new_output("stream", text="right")])
    made = builder.exercises(small, "07_small")
    header, title, task, exercise, check, later = made.cells
    assert "[07_small](../07_small.ipynb)" in header.source and "in `twice`;" in header.source
    assert "[Before](../00_start_here.ipynb), [web](https://a.b/../c)" in title.source
    assert "](../../README.md)" in task.source and HINT.search(task.source)
    assert exercise.source == STUB and exercise.metadata.tags == ["exercise"]
    assert check.source == GUARD + CHECK and check.execution_count is None and check.outputs == []
    assert check.metadata.tags == ["check", "nbval-check-output", "raises-exception"]
    assert later.source == small.cells[4].source
    assert [cell.id for cell in made.cells] == [f"small-{i:02}" for i in range(6)]
    assert small.cells[2].source == TWICE and small.cells[3].outputs
    nbformat.validate(made)


@pytest.mark.parametrize(
    ("lesson", "exercise"),
    [
        ('"../build/x"', '"../../build/x"'),
        ("f'../build/{name}'", "f'../../build/{name}'"),
        ('Path("..") / "../../a"', 'Path("../..") / "../../../a"'),
        ("!ls ../build", "!ls ../../build"),
        ('f"{root}/../x", "....", x[..., 0]', 'f"{root}/../x", "....", x[..., 0]'),
    ],
)
def test_paths_are_those_of_one_folder_deeper(lesson, exercise, builder):
    assert builder.one_deeper(lesson, markdown=False) == exercise
    assert builder.one_deeper(f"`{lesson}`", markdown=True) == f"`{exercise}`"


@pytest.mark.parametrize(
    ("lesson", "exercise"),
    [
        ("[a](../README.md#b)", "[a](../../README.md#b)"),
        ("![a](b.png) [c](./d.ipynb)", "![a](../b.png) [c](../d.ipynb)"),
        ("[a](#b) [c](/d) [e](mailto:f) ![g](attachment:h.png)", None),
    ],
)
def test_links_are_those_of_one_folder_deeper(lesson, exercise, builder):
    assert builder.one_deeper(lesson, markdown=True) == (exercise or lesson)


def test_a_lesson_without_exercise_gets_none(small, builder, tmp_path):
    small.cells[2:4] = []
    nbformat.write(small, tmp_path / "07_small.ipynb")
    builder.main([], tmp_path)
    assert not (tmp_path / "exercises").exists()


@pytest.mark.parametrize(
    "source",
    [
        TWICE.replace(END, ""),
        TWICE.replace(BEGIN, ""),
        TWICE.replace(f"{BEGIN}\n", f"{BEGIN}\n    {BEGIN}\n"),
        "def twice(x):\n    return 2 * x",
        TWICE + "\n\ndef thrice(x):\n    return 3 * x",
    ],
)
def test_a_solution_that_cannot_be_cut_out_is_an_error(source, builder):
    with pytest.raises(ValueError, match="expected one function and pairs of lines"):
        builder.stub(source)


def test_a_solution_is_not_given_away_for_lack_of_a_tag(small, builder):
    small.cells[2].metadata = {}
    with pytest.raises(ValueError, match="07_small: a solution in a cell without tag"):
        builder.exercises(small, "07_small")


def test_the_same_lesson_gives_the_same_bytes(small, builder, tmp_path):
    lesson = tmp_path / "07_small.ipynb"
    nbformat.write(small, lesson)
    before, made = lesson.read_bytes(), []
    for _ in range(2):
        builder.main([], tmp_path)
        made.append((tmp_path / "exercises" / lesson.name).read_bytes())
    assert made[0] == made[1] and lesson.read_bytes() == before


def test_saved_lessons_show_stills_and_nothing_of_the_day(small, builder):
    picker = {WIDGET: {"model_id": "a"}, "text/html": "<img>", "text/plain": "Picker()"}
    bar = {WIDGET: {"model_id": "b"}, "text/plain": "  0%"}
    small.cells[4].outputs = [new_output("display_data", data) for data in (bar, picker, bar)]
    volatile = {"execution": {"shell": "now"}, "ExecuteTime": {"start": "now"}, "scrolled": True}
    small.cells[4].metadata = nbformat.from_dict({"tags": ["kept"], **volatile})
    small.metadata = nbformat.from_dict(
        {"language_info": {"name": "python", "version": "3.11.7"}, "widgets": {"state": {}}}
    )
    builder.tidy(small, "07_small")
    (still,) = small.cells[4].outputs
    assert still.data == {"text/html": "<img>", "text/plain": "Picker()"}
    assert small.cells[4].metadata == {"tags": ["kept"]}
    assert small.metadata == {"language_info": {"name": "python"}}
    nbformat.validate(small)


def test_executing_saves_outputs_the_same_way_each_time(small, builder, tmp_path):
    small.cells[2].source = TWICE.replace("import torch\n", "")
    nbformat.write(small, tmp_path / "07_small.ipynb")
    saved = []
    for _ in range(2):
        builder.main(["--execute", "notebooks/07_small.ipynb"], tmp_path)
        saved.append((tmp_path / "07_small.ipynb").read_bytes())
    lesson = nbformat.reads(saved[0].decode(), 4)
    assert [c.execution_count for c in lesson.cells if c.cell_type == "code"] == [1, 2, 3]
    assert [output.text for output in lesson.cells[-1].outputs] == ["6\n8\n"]
    assert saved[0] == saved[1] and python_version() not in saved[0].decode()


def test_a_lesson_that_fails_is_not_saved(small, builder, tmp_path):
    small.cells[4].source = "1 / 0"
    nbformat.write(small, tmp_path / "07_small.ipynb")
    before = (tmp_path / "07_small.ipynb").read_bytes()
    with pytest.raises(CellExecutionError, match="1 / 0"):
        builder.main(["--execute"], tmp_path)
    assert (tmp_path / "07_small.ipynb").read_bytes() == before


def test_an_unknown_lesson_is_wrong_usage(builder, capsys):
    with pytest.raises(SystemExit):
        builder.main(["--execute", "99"])
    assert "invalid choice: '99'" in capsys.readouterr().err
