"""The book: `make book` renders the texts, the lessons as they are saved, and the docstrings.

The source folder is the whole repository, so that one relative link serves a reader of the files
and a reader of the book. Nothing is executed, and nothing comes from the network.
"""

import json
import os
import re
import sys
from base64 import b64decode
from functools import partial
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

import xbl_kit

sys.path.insert(0, str(Path(__file__).resolve().parent))
from citations import linked

project, author = "xbl-kit", "The xbl-kit authors"
release = version = xbl_kit.__version__
copyright = "the xbl-kit authors. Code: Apache-2.0; lessons and texts: CC BY 4.0"
smartquotes = False  # quotes in docstrings are those of code
language, root_doc = "en", "docs/index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinxcontrib.bibtex"]
include_patterns = ["docs/**", "notebooks/**", "data/README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = ["**/.ipynb_checkpoints", "build", ".venv", ".git", "xbl_kit", "tests"]
exclude_patterns += ["benchmarks", "notebooks/apps", "data/cache", "data/downloads", "data/sample"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other packages: their books are not at hand

nb_execution_mode = "off"
nb_mime_priority_overrides = [  # the picker is a live widget and, in a page, a still picture
    ("html", "text/html", 0),
    ("html", "application/vnd.jupyter.widget-view+json", None),
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
bibtex_bibfiles, bibtex_cite_id = ["references.bib"], "{key}"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults, autodoc_inherit_docstrings = True, False
add_module_names = False

html_theme, html_title = "furo", f"xbl-kit {release}"
html_static_path, html_css_files, html_js_files = ["_static"], ["book.css"], ["book.js"]
html_math_renderer = "mathml"
html_copy_source = html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"

# A folder of lessons that were run here, to be shown in place of those in notebooks/.
RAN = os.environ.get("XBL_KIT_LESSONS")
WIDGET = "application/vnd.jupyter.widget-view+json"


def math(self, node):
    """MathML, which browsers draw by themselves."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    self.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def read(app, docname, source):
    """The page with its citations linked; of a notebook, what a page without a kernel can show."""
    path = Path(app.env.doc2path(docname))
    cite = partial(linked, docname=docname, bibliography="docs/bibliography")
    if path.suffix != ".ipynb":
        source[0] = cite(source[0]).replace(" ± ", "\xa0±\xa0")
        return
    ran = Path(RAN, path.name) if RAN and path.parent.name == "notebooks" else path
    notebook = json.loads((ran if ran.is_file() else path).read_text(encoding="utf-8"))
    app.env.temp_data["figures"] = figures = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = cite("".join(cell["source"]))
            continue
        # A progress bar without its kernel would stand still, wherever it was at the end.
        cell["outputs"] = [one for one in cell["outputs"] if not is_live(one.get("data", {}))]
        figures += [one for one in cell["outputs"] if "image/png" in one.get("data", {})]
    source[0] = json.dumps(notebook)


def is_live(data):
    return WIDGET in data and "text/html" not in data


def describe_figures(app, doctree):
    """Give every figure of a notebook the text that its output carries."""
    outputs = app.env.temp_data.pop("figures", [])
    figures = [one for one in doctree.findall(nodes.image) if "jupyter_execute" in one["uri"]]
    for figure, output in zip(figures, outputs, strict=True):
        figure["alt"] = output["metadata"].get("image/png", {}).get("alt", "figure")
        header = b64decode("".join(output["data"]["image/png"])[:32])
        width, height = (int.from_bytes(header[at : at + 4]) for at in (16, 20))
        if width > 2 * height:
            figure["classes"].append("wide")


def plain_text(app, what, name, obj, options, lines):
    """Docstrings are plain text with `code`, not reStructuredText."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"`([^`]*)`", line)
            parts[::2] = [re.sub(r"([\\*|_<])", r"\\\1", text) for text in parts[::2]]
            parts[1::2] = [f"``{code}``" for code in parts[1::2]]
            lines[number] = "".join(parts)


def forward(app, error):
    """Pages where readers look first: build/book/index.html and, after a run, build/NN.html."""
    if error or app.builder.name != "html":
        return
    target = Path(app.outdir)
    pages = {target / "index.html": "docs/index.html"}
    if RAN:
        for lesson in sorted(Path(RAN).glob("*.ipynb")):
            to = f"{target.name}/notebooks/{lesson.stem}.html"
            pages[target.parent / f"{lesson.stem}.html"] = to
    for page, to in pages.items():
        page.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>xbl-kit</title>'
            f'<meta http-equiv="refresh" content="0; url={to}"><a href="{to}">xbl-kit</a></html>\n',
            encoding="utf-8",
        )


def setup(app):
    app.add_config_value("ran", RAN, "env", (str, type(None)))  # another one: read all anew
    app.add_html_math_renderer("mathml", (math, None), (math, None))
    app.connect("source-read", read)
    app.connect("doctree-read", describe_figures)
    app.connect("autodoc-process-docstring", plain_text)
    app.connect("build-finished", forward)
    return {"parallel_read_safe": True}
