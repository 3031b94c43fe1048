"""Write quiz.md, the questions with their answers folded away, from quiz.toml.

python docs/teaching/quiz.py
"""

import json
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parents[1] / "notebooks"
HEAD = """\
# Quiz

<!-- Written by `python docs/teaching/quiz.py` from quiz.toml; change that. -->

Read a question, let everybody choose a letter, let neighbours convince each other, vote again; then
unfold the answer. What each wrong answer shows is said under it. A test checks that every question
has one right answer and a reason for every option, and works the figures out again.
"""


def questions() -> list[dict]:
    return tomllib.loads((HERE / "quiz.toml").read_text(encoding="utf-8"))["question"]


def lessons() -> dict[str, list[str]]:
    """The headings of each lesson by its number, its title first."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ("".join(one["source"]) for one in cells if one["cell_type"] == "markdown")
        lines = "\n".join(texts).splitlines()
        found[path.stem[:2]] = [line.lstrip("# ") for line in lines if line.startswith("#")]
    return found


def written(question: dict) -> str:
    """One question: its name, what is asked, lettered options, and the folded reasons."""
    options = dict(zip("ABCD", question["options"], strict=False))
    asked = [f"{letter}. {one['says']}" for letter, one in options.items()]
    reasons = [
        f"- **{letter}{' is right' if one.get('right') else ''}:** {one['because']}"
        for letter, one in options.items()
    ]
    lines = [f"**{question['id']}** · {question['ask']}", "", *(f"- {line}" for line in asked), ""]
    lines += ["<details><summary>Answer</summary>", "", *reasons, ""]
    return "\n".join([*lines, f"In the lesson: *{question['see']}*", "", "</details>", ""])


def page() -> str:
    parts = [HEAD]
    for lesson, (title, *_) in lessons().items():
        parts.append(f"## {title if title.startswith(lesson) else f'{lesson} · {title}'}\n")
        mine = [one for one in questions() if one["lesson"] == lesson]
        parts += [written(one) for one in mine]
    return "\n".join(parts)


if __name__ == "__main__":
    (HERE / "quiz.md").write_text(page(), encoding="utf-8", newline="\n")
