"""What this machine has of what the kit needs, and how to mend what it lacks."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOM, MEMORY = 2.0, 2.0  # GB that are free: for caches, and to run the lessons in
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
GB = 1e9


class Finding(NamedTuple):
    """One line: "ok", "note" (all works without, or slower) or "missing", what, and a way out."""

    status: str
    what: str
    mend: str = ""


def _python() -> Iterator[Finding]:
    version = sys.version.split()[0]
    old = sys.version_info < (3, 11)
    mend = "install Python 3.11 or newer and make the environment anew" if old else ""
    yield Finding("missing" if old else "ok", f"Python {version}", mend)


def _packages() -> Iterator[Finding]:
    """Whether what the kit names, and what lessons need, is there and new enough."""
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in metadata.requires("xbl-kit") or ()]
    needed = [one for one in needed if not one.marker or one.marker.evaluate({"extra": "lab"})]
    faults = 0
    for one in needed:
        try:
            version = metadata.version(one.name)
            if one.specifier.contains(version, prereleases=True):
                continue
            what = f"{one.name} {version}, expected {one.specifier}"
        except metadata.PackageNotFoundError:
            what = f"{one.name} is not installed"
        faults += 1
        yield Finding("missing", what, f'pip install "{one.name}{one.specifier}"')
    if not faults:
        yield Finding("ok", f"{len(needed)} packages, all as new as they need to be")


def _networks() -> Iterator[Finding]:
    """torchvision is built for one version of torch, and fails beside any other."""
    versions = " with ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision"))
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        yield Finding("ok", versions)
    except Exception as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        mend = "`pip install --upgrade torch torchvision`, both from the same index"
        yield Finding("missing", f"{versions} do not work together ({why})", mend)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(none)"


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        yield Finding("ok", f"GPU: {torch.cuda.get_device_name()}")
    elif shutil.which("nvidia-smi"):
        mend = "a build of torch for CUDA, and a driver that fits it, would use it"
        yield Finding("note", "a GPU that torch cannot use", mend)
    else:
        yield Finding("ok", "no GPU, and the lessons need none")


def _threads() -> Iterator[Finding]:
    import torch

    cores, used = os.cpu_count() or 1, torch.get_num_threads()
    mend = f"set OMP_NUM_THREADS={cores}" if used > cores else ""
    yield Finding("note" if mend else "ok", f"{used} threads on {cores} cores", mend)


def _memory() -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available / GB
    mend = f"lessons need about {MEMORY:.0f} GB: close other programs" if free < MEMORY else ""
    yield Finding("note" if mend else "ok", f"{free:.1f} GB of memory free", mend)


def _cache() -> Iterator[Finding]:
    """Whether the folder of the caches, or the one in which it will be made, can be written to."""
    from xbl_kit.storage import cache_folder

    folder = cache_folder().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    mend = "set XBL_KIT_CACHE to a folder that you may write to"
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        yield Finding("missing", f"caches in {folder}: {error.strerror}", mend)
        return
    free = shutil.disk_usage(there).free / GB
    few = f"set XBL_KIT_CACHE to a disk with {ROOM:.0f} GB" if free < ROOM else ""
    yield Finding("note" if few else "ok", f"caches in {folder}, {free:.1f} GB free", few)


def _weights() -> Iterator[Finding]:
    import torch
    from torchvision.models import MobileNet_V2_Weights as Weights

    name = Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    folder = Path(torch.hub.get_dir(), "checkpoints")
    if (folder / name).is_file():
        yield Finding("ok", f"ImageNet weights, {folder / name}")
        return
    mend = f"it is downloaded once, 14 MB; without internet give it by --weights FILE ({name})"
    yield Finding("note", "no ImageNet weights, which only --preset paper needs", mend)


def _fonts() -> Iterator[Finding]:
    from matplotlib import font_manager

    font_manager.findfont("DejaVu Sans", fallback_to_default=False)  # ValueError without
    yield Finding("ok", "fonts of the figures")


def _browser() -> Iterator[Finding]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    mend = "" if found else "your system's package of Chromium, or `playwright install chromium`"
    words = f"browser for tests: {found}" if found else "no Chromium, which only tests need"
    yield Finding("ok" if found else "note", words, mend)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...]
CHECKS = (_python, _packages, _networks, _gpu, _threads, _memory, _cache)
CHECKS += (_weights, _fonts, _browser)


def examine() -> list[Finding]:
    """All findings; a check that fails itself, as most do without torch, is one that says so."""
    found = []
    for check in CHECKS:
        try:
            found += check()
        except Exception as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            found.append(Finding("note", f"{check.__name__[1:]}: could not be looked at ({why})"))
    return found


def report(as_json: bool = False) -> int:
    """Print all findings, one a line; returns 1 where something needed is missing, else 0."""
    found = examine()
    if as_json:
        print(json.dumps([one._asdict() for one in found], indent=1))
    for status, what, mend in () if as_json else found:
        print(f"{status:8} {what}" + f"; {mend}" * bool(mend))
    return int(any(one.status == "missing" for one in found))
