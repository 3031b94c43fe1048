"""Make slides of the lessons, build/slides/NN_name.html: one file each, no internet needed.

python docs/teaching/slides.py [NN ...]

What goes on a slide is read from the lesson as it is saved: its title and aims, every question to
predict, exercises, formulas, statements in bold, tables and figures. The lesson's whole text is in
the speaker's notes (key S). `?print-pdf` behind the address prints.
"""

import re
import sys
from html import escape
from importlib.util import find_spec
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from mistune import create_markdown

ROOT = Path(__file__).resolve().parents[2]
HTML = create_markdown(escape=False, plugins=["table", "strikethrough"])
MATH = re.compile(r"\$\$(.+?)\$\$|\$(?!\s)([^$\n]+?)(?<!\s)\$", re.DOTALL)
BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
ASKED = re.compile(r"\*\*(Predict|Exercise|Look before)")
SHOWN = re.compile(r"\s*(\||\$\$|- |1\. )")  # tables, formulas, lists
STYLE = """
.reveal { font: 30px/1.35 system-ui, sans-serif; color: #1b1b1b; background: #fff; }
.reveal .slides { text-align: left; }
.reveal h1 { font-size: 1.6em; } .reveal h2 { font-size: 1.1em; color: #0b5394; margin: 0 0 .5em; }
.reveal p, .reveal ul, .reveal ol { margin: .5em 0; } .reveal li { margin: .3em 0 .3em 1.2em; }
.reveal strong, .reveal th { font-weight: 700; } .reveal em { font-style: italic; }
.long { font-size: .72em; }
.reveal table { font-size: .75em; margin: auto;
border-collapse: collapse; } .reveal th, .reveal td { padding: .2em .6em; text-align: left;
border-bottom: 1px solid #bbb; } .reveal img { display: block; margin: auto; max-width: 100%; }
.reveal code { font-size: .9em; } .reveal small { color: #444; font-size: .7em; }
details { display: none; }
"""
SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{css}</style></head>
<body><div class="reveal"><div class="slides">
{slides}
</div></div>
<script>{reveal}</script><script>{notes}</script>
<script>Reveal.initialize({{hash: true, slideNumber: true, width: 1280, height: 720,
center: false, transition: "none", plugins: [RevealNotes]}});</script></body></html>
"""


def formula(found: re.Match) -> str:
    """MathML, which browsers draw by themselves."""
    block = "block" if found[1] else "inline"
    return convert((found[1] or found[2]).strip(), display=block)


def html(text: str) -> str:
    """Markdown as HTML, without links, which lead to files that a room may not have."""
    plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    return HTML(MATH.sub(formula, plain))


def slide(heading: str, body: str, notes: str = "") -> str:
    aside = f'<aside class="notes">{html(notes)}</aside>' if notes else ""
    words = len(re.sub(r"<math.*?</math>|<[^>]+>", " ", body, flags=re.DOTALL).split())
    body = f'<div class="long">{body}</div>' if words > 150 else body
    return f"<section><h2>{escape(heading)}</h2>\n{body}{aside}</section>"


def from_text(heading: str, text: str) -> list[str]:
    """Slides of a section's text: questions and exercises, then what is in bold, with formulas."""
    kept = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    paragraphs = re.sub(r"(?<=\S)\s(?=\*\*Predict)", "\n\n", kept.strip()).split("\n\n")
    asked = [one for one in paragraphs if ASKED.match(one)]
    found = [slide(heading, html(one), text) for one in asked]
    shown = [
        f"{before}\n\n{one}" if one.startswith("$$") and not ASKED.match(before) else one
        for before, one in zip(["", *paragraphs], paragraphs, strict=False)
        if SHOWN.match(one)
    ]
    rest = "\n\n".join(one for one in paragraphs if one not in shown and not ASKED.match(one))
    key = [" ".join(one.split()) for one in BOLD.findall(rest) if not one.startswith("Step")]
    key = [f"- {one[0].upper()}{one[1:]}" for one in key if len(one) > 24]
    for body in (*shown, "\n".join(key)):
        found += [slide(heading, html(body), text)] if body else []
    return found


def from_output(heading: str, output: nbformat.NotebookNode) -> list[str]:
    """A slide of a figure or of a small table, none of anything else."""
    data = output.get("data", {})
    if "image/png" in data:
        alt = escape(output.metadata.get("image/png", {}).get("alt", ""), quote=True)
        source = f"data:image/png;base64,{data['image/png']}"
        caption = f"<p><small>{alt}</small></p>" if len(alt) < 160 else ""
        body = f'<img class="r-stretch" alt="{alt}" src="{source}">{caption}'
        return [slide(heading, body)]
    table = re.search(r"<table.*</table>", data.get("text/html", ""), re.DOTALL)
    small = table and table[0].count("<tr") <= 14
    return [slide(heading, table[0].replace(' border="1"', ""))] if small else []


def slides(lesson: nbformat.NotebookNode) -> str:
    title, _, aims = lesson.cells[0].source.partition("\n")
    found = [f"<section><h1>{escape(title.lstrip('# '))}</h1>{html(aims)}</section>"]
    heading = title.lstrip("# ")
    for cell in lesson.cells[1:]:
        if cell.cell_type == "code":
            for output in cell.outputs:
                found += from_output(heading, output)
            continue
        before, *sections = re.split(r"^#{2,3} ", cell.source, flags=re.MULTILINE)
        found += from_text(heading, before)
        for section in sections:
            heading, _, text = section.partition("\n")
            if heading == "What you can say now":  # the list, and how to cite
                points, *_, cite = text.strip().split("\n\n")
                found.append(slide(heading, html(points) + f"<small>{html(cite)}</small>", text))
            else:
                found += from_text(heading, text)
    return "\n".join(found)


def main(numbers: list[str]) -> None:
    package = find_spec("sphinx_revealjs")
    if package is None:
        sys.exit('slides: sphinx-revealjs is not installed; pip install "xbl-kit[slides]"')
    reveal = Path(package.origin).parent / "_static" / "revealjs"

    def read(name: str) -> str:
        return (reveal / name).read_text(encoding="utf-8").replace("</script", r"<\/script")

    css = read("dist/reset.css") + read("dist/reveal.css") + STYLE
    code = {"reveal": read("dist/reveal.js"), "notes": read("plugin/notes/notes.js")}
    target = ROOT / "build" / "slides"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if not numbers or path.name[:2] in numbers:
            shown = slides(nbformat.read(path, as_version=4))
            page = SHELL.format(title=escape(path.stem), css=css, slides=shown, **code)
            (target / f"{path.stem}.html").write_text(page, encoding="utf-8", newline="\n")
            print(f"build/slides/{path.stem}.html: {shown.count('<section>')} slides")


if __name__ == "__main__":
    main(sys.argv[1:])
