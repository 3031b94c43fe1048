"""One zip for a room without internet: wheels, lessons, trained models, and the book if it is made.

python hosting/bundle.py                 for machines of this kind, with the same version of Python
python hosting/bundle.py --torch cpu     torch without CUDA: 2 GB less
python hosting/bundle.py --torch none    for rooms that have torch already

A bundle for Windows is made on Windows: pip chooses packages by the machine that it runs on.
"""

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from xbl_kit.lessons import FIRST, shipped
from xbl_kit.storage import write_whole

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH = ("torch-", "torchvision-", "triton-", "nvidia_", "cuda_")  # how its wheels are called
README = """\
xbl-kit {version}, for {platform} and Python {python}. Nothing here needs the internet.

1. Install Python {python} if it is not there. In this folder, make an environment:
       python3 -m venv environment              (Windows: py -{python} -m venv environment)
2. Install the kit into it:
       environment/bin/pip install --no-index --find-links wheels "xbl-kit[lab]"
                                                (Windows: environment\\Scripts\\pip ...)
3. Open the first lesson:
       environment/bin/jupyter lab {first}
                                                (Windows: environment\\Scripts\\jupyter ...)

{torch}build/ holds trained models: lessons that find theirs need no training. {book}
"""


def build_wheel(to: Path) -> Path:
    """A wheel of the kit, from a copy: setuptools leaves its own folders where it works."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "xbl-kit")
        shutil.copytree(ROOT / "xbl_kit", copy / "xbl_kit", ignore=lambda *_: ["__pycache__"])
        for name in (*SOURCES, *shipped(ROOT)):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        _pip("wheel", "--no-deps", "--wheel-dir", to, copy)
    (wheel,) = to.glob("xbl_kit-*.whl")
    return wheel


def _pip(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "pip", *map(str, arguments), "--quiet"], check=True)


def download(wheel: Path, torch: str | None) -> None:
    """All that the kit needs with JupyterLab, beside its wheel."""
    to, options = wheel.parent, ["--constraint", ROOT / "constraints.txt"]
    if torch == "cpu":
        options += ["--extra-index-url", CPU_INDEX]
    _pip("download", "--dest", to, *options, f"{wheel}[lab]")
    for file in to.iterdir() if torch == "none" else ():
        if file.name.startswith(TORCH):
            file.unlink()


def trained() -> list[Path]:
    """The runs that the lessons name and that are finished."""
    lessons = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("notebooks/*.ipynb"))
    names = sorted(set(re.findall(r"\.\./build/([\w-]+)", lessons)))
    runs = [ROOT / "build" / name for name in names]
    return [run for run in runs if (run / "results.json").is_file()]


def contents(wheels: Path) -> dict[str, Path]:
    """The files of the bundle by their place in it."""
    found = {f"wheels/{path.name}": path for path in sorted(wheels.iterdir())}
    found |= shipped(ROOT)
    for folder in (*trained(), ROOT / "build" / "book"):
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        found |= {path.relative_to(ROOT).as_posix(): path for path in files}
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", choices=("cpu", "none"), help="which wheels of torch")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "xbl-kit-bundle.zip")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        download(wheel, options.torch)
        found = contents(Path(folder))
        book = "Open build/book/index.html to read." if "build/book/index.html" in found else ""
        readme = README.format(
            version=wheel.name.split("-")[1],
            platform=sysconfig.get_platform(),
            python="{}.{}".format(*sys.version_info),
            first=FIRST,
            torch="torch and torchvision are to be there already.\n" * (options.torch == "none"),
            book=book,
        )
        write_whole(options.out, lambda path: _zip(path, found, readme))
    size = options.out.stat().st_size / 1e6
    runs = ", ".join(run.name for run in trained()) or "none; `make trained` makes them"
    print(f"{options.out}: {len(found)} files, {size:.0f} MB; trained: {runs}")


def _zip(path: Path, found: dict[str, Path], readme: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr("xbl-kit-bundle/README.txt", readme)
        for name, file in found.items():
            packed.write(file, f"xbl-kit-bundle/{name}")


if __name__ == "__main__":
    main()
