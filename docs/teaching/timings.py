"""Write timings.md: minutes by section, from the lessons as they are and measured seconds.

python docs/teaching/timings.py
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parents[1] / "notebooks"
WORDS, LINES, EXERCISE, GUESS = 200, 20, 6, 1.5  # words, lines a minute; minutes each
HEAD = f"""\
# Timings

<!-- Written by `python docs/teaching/timings.py` from timings.json; change that. -->

Minutes for a student who works alone, by section:

- **read**: {WORDS} words of text a minute and {LINES} lines of code;
- **do**: {EXERCISE} minutes for each exercise and {GUESS} for each **Predict**;
- **run**: what the computer needs, the first time.

How *run* was measured. Whole lessons, with the start of the kernel, by `make run`: two at once
on two cores without a GPU, in seconds: {{quiet}}. In 00 are the 265 in
which `build/start-here` is trained, in 05 the 268 of `build/mimm-x`. For the sections each code
cell of {{lessons}} was timed once, on two cores where other work was going on
({{busy}} s in all), and these shares were applied to the totals. Of the other lessons
the whole time stands in the first line. With a prepared `build/` it is less than a minute in 00,
01 and 02; lesson 03 trains two models in any case.

For a room add a third.
"""


def lessons() -> dict[str, list[tuple[str, str, list[dict]]]]:
    """Of each lesson, by its number, the sections: heading, text, code cells."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        sections = found.setdefault(path.stem[:2], [])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                sections[-1][2].append(cell | {"source": source})
                continue
            before, *parts = re.split(r"^#{1,3} (.*)$", source, flags=re.MULTILINE)
            if sections:
                heading, text, code = sections[-1]
                sections[-1] = (heading, text + before, code)
            sections += [(head, text, []) for head, text in zip(*[iter(parts)] * 2, strict=True)]
    return found


def rows(measured: dict) -> dict[str, list[tuple[str, float, float, float]]]:
    """Of each lesson (heading, minutes to read, to do, to run) of its sections."""
    found = {}
    for number, sections in lessons().items():
        seconds = measured["sections"].get(number, {sections[0][0]: 1.0})
        scale = measured["quiet"][number] / sum(seconds.values()) / 60
        found[number] = [
            (
                heading,
                len(text.split()) / WORDS
                + sum(len(cell["source"].splitlines()) for cell in code) / LINES,
                EXERCISE * sum("exercise" in cell["metadata"].get("tags", ()) for cell in code)
                + GUESS * text.count("**Predict"),
                scale * seconds.get(heading, 0),
            )
            for heading, text, code in sections
        ]
    return found


def page() -> str:
    measured = json.loads((HERE / "timings.json").read_text(encoding="utf-8"))
    said = {
        "quiet": ", ".join(f"{n} {seconds}" for n, seconds in measured["quiet"].items()),
        "lessons": ", ".join(measured["measured"]),
        "busy": ", ".join(map(str, measured["measured"].values())),
    }
    parts = [HEAD.format(**said)]
    for number, sections in rows(measured).items():
        title = sections[0][0]
        parts.append(f"## {title if title.startswith(number) else f'{number} · {title}'}\n")
        parts.append("| section | read | do | run | minutes |\n|---|---|---|---|---|")
        sections = [("(aims)", *sections[0][1:]), *sections[1:]]
        total = ("**all**", *(sum(row[column] for row in sections) for column in (1, 2, 3)))
        for heading, *minutes in (*sections, total):
            cells = " | ".join(f"{one:.1f}" if one >= 0.05 else "" for one in minutes)
            parts.append(f"| {heading} | {cells} | {sum(minutes):.0f} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    (HERE / "timings.md").write_text(page(), encoding="utf-8", newline="\n")
