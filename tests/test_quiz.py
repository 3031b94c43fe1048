"""The quiz: one right answer a question, a reason for each option, figures that are worked out."""

import importlib.util
import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats.contingency import association
from sklearn.metrics import mutual_info_score

from xbl_kit.losses import exemplar_triplet_loss
from xbl_kit.metrics import activation_precision, region_share

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "teaching"
BIAS = np.array([[0.45, 0.05], [0.05, 0.45]])  # p(y, z) at 90 to 10
BEST = np.log(BIAS / 0.25)  # the best critic of it


def information(joint: np.ndarray) -> float:
    return mutual_info_score(None, None, contingency=1000 * joint)


def benchmark(name: str) -> list[dict] | dict:
    return json.loads((ROOT / "benchmarks" / name).read_text(encoding="utf-8"))


def ruled() -> float:
    """The share of single pairs drawn by the rule that reach .85, with the margin of the lesson."""
    rows = [r for r in benchmark("ruled_pairs.json") if r["margin"] == 3.0 and "several" not in r]
    assert len(rows) == 40
    return np.mean([row["worst_group"] >= 0.85 for row in rows])


def random_pairs() -> float:
    rows = [r for r in benchmark("random_pairs.json") if r["pair"].startswith("random")]
    return np.mean([row["worst_group"] > 0.5 for row in rows])


def children() -> float:
    """The accuracy of healthy children of both sources of the real X-rays, by their numbers."""
    plain = [r for r in benchmark("compare_cxr.json")["table"] if r["method"] == "unrefined"]
    plain = [r for r in plain if r["split"] == "counter" and not r["control"]]
    share = {r["group"]: r["mean"] for r in plain}
    right = round(330 * share["site=Kermany"]) + round(48 * share["site=NIH ChestX-ray14"])
    assert right == 1 + 38
    return right / 378


def noise() -> float:
    """Activation Precision of maps of noise, where the mask takes a fifth of the image."""
    maps = torch.rand(200, 20, 20, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(20) < 4).expand(200, 20, 20)
    return activation_precision(maps, mask)


def triplet() -> float:
    """In the plane: at the distances 2 and 4 from the two exemplars."""
    product, good, bad = (torch.tensor([[[x]]]) for x in (0.0, 2.0, 4.0))
    return exemplar_triplet_loss(product, good, bad, margin=3.0).item()


def share() -> float:
    cam, mask = torch.tensor([[[3.0, 1.0, 0.0]]]), torch.tensor([[[True, False, True]]])
    return region_share(cam, mask).item()


COMPUTED = {
    "00-child": lambda: (3 * 50 + 50) / 400,
    "00-chance": noise,
    "01-bits": lambda: information(np.eye(2) / 2),
    "02-share": share,
    "02-rule": ruled,
    "03-triplet": triplet,
    "03-random": random_pairs,
    "04-bias": lambda: information(BIAS),
    "04-given": lambda: sum(row.sum() * information(row[None] / row.sum()) for row in BIAS),
    "04-sure": lambda: (BIAS * 2 * BEST).sum() - math.log((0.25 * np.exp(2 * BEST)).sum()),
    "05-guess": lambda: 0.9**2,
    "05-weight": lambda: (0.5 / 0.1) ** 3,
    "05-rare": lambda: 12_000 * (1 - 0.98) ** 3,
    "06-source": children,
    "06-hours": lambda: 800 * 120 / 3600,
    "07-v": lambda: association(np.diag([30, 70])),
    "07-many": lambda: 1 - 0.95**10,
}


@pytest.fixture(scope="module")
def quiz():
    spec = importlib.util.spec_from_file_location("quiz", FOLDER / "quiz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def right(question: dict) -> dict:
    return next(one for one in question["options"] if one.get("right"))


def faults(question: dict, headings: dict[str, list[str]]) -> list[str]:
    """What is wrong with a question, in words."""
    options, found = question["options"], []
    if sum(one.get("right") is True for one in options) != 1:
        found.append("not one right answer")
    if not 3 <= len(options) <= 4:
        found.append("not three or four options")
    if not all(one.get("because", "").strip() and one.get("says", "").strip() for one in options):
        found.append("an option without words or a reason")
    if len({one.get("says") for one in options}) < len(options):
        found.append("an option twice")
    if question["see"] not in headings.get(question["lesson"], ()):
        found.append("no such lesson or heading")
    if not question["id"].startswith(question["lesson"] + "-"):
        found.append("an id of another lesson")
    return found


def test_every_question_is_sound(quiz):
    headings = quiz.lessons()
    assert {q["id"]: f for q in quiz.questions() if (f := faults(q, headings))} == {}


def test_every_lesson_has_five_questions_and_no_id_twice(quiz):
    counts = Counter(question["lesson"] for question in quiz.questions())
    assert set(counts) == set(quiz.lessons()) and min(counts.values()) >= 5
    assert max(Counter(question["id"] for question in quiz.questions()).values()) == 1


def test_the_place_of_the_right_answer_tells_nothing(quiz):
    places = Counter(q["options"].index(right(q)) for q in quiz.questions())
    assert max(places.values()) < len(quiz.questions()) * 0.6
    for lesson in quiz.lessons():
        mine = [q["options"].index(right(q)) for q in quiz.questions() if q["lesson"] == lesson]
        assert len(set(mine)) > 1


def test_figures_of_right_answers_are_worked_out(quiz):
    """A right answer that begins with a figure has a `number`, and that is what it says."""
    numbers = {q["id"]: q["number"] for q in quiz.questions() if "number" in q}
    assert numbers.keys() == COMPUTED.keys()
    for question in quiz.questions():
        leading = re.match(r"(?:By )?(\d+(?:\.\d+)?)", right(question)["says"])
        assert bool(leading) == (question["id"] in numbers), question["id"]
        if leading:
            said, worked = leading[1], COMPUTED[question["id"]]()
            assert float(said) == question["number"]
            digits = len(said.partition(".")[2].rstrip("0"))
            assert abs(worked - float(said)) <= 0.5 * 10.0**-digits + 1e-9, question["id"]


def test_the_page_is_what_the_file_says(quiz):
    written = (FOLDER / "quiz.md").read_text(encoding="utf-8")
    assert written == quiz.page(), "run `python docs/teaching/quiz.py`"


OPTIONS = [{"says": str(n), "because": "so", "right": n == 1} for n in range(3)]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"options": [*OPTIONS[:2], OPTIONS[1] | {"says": "x"}]}, "not one right"),
        ({"options": OPTIONS[:2]}, "three or four"),
        ({"options": [*OPTIONS[:2], {"says": "x", "because": " "}]}, "a reason"),
        ({"options": [*OPTIONS[:2], OPTIONS[0]]}, "twice"),
        ({"see": "No such"}, "heading"),
        ({"lesson": "09"}, "another lesson"),
    ],
)
def test_faults_are_seen(change, word):
    sound = {"id": "00-x", "lesson": "00", "see": "Here", "options": OPTIONS}
    assert faults(sound, {"00": ["Here"]}) == []
    assert word in " ".join(faults(sound | change, {"00": ["Here"], "09": []}))
