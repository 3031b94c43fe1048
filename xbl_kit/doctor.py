"""What this machine has of what the kit needs, and how to mend what it lacks."""

import json
import os
import shutil
import sys
import tempfile
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


def _one(fine: object, what: str, mend: str = "", otherwise: str = "note") -> list[Finding]:
    return [Finding("ok", what) if fine else Finding(otherwise, what, mend)]


def _why(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _python() -> list[Finding]:
    mend = "install Python 3.11 or newer and make the environment anew"
    fine = sys.version_info >= (3, 11)
    return _one(fine, f"Python {sys.version.split()[0]}", mend, "missing")


def _packages() -> list[Finding]:
    """Whether what the kit names, and what lessons need, is there and new enough."""
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in metadata.requires("xbl-kit") or ()]
    needed = [each for each in needed if not each.marker or each.marker.evaluate({"extra": "lab"})]
    faults = []
    for name, wanted in ((each.name, each.specifier) for each in needed):
        version = _version(name)
        if not (version and wanted.contains(version, prereleases=True)):
            what = f"{name} {version}, expected {wanted}" if version else f"{name} is not installed"
            faults.append(Finding("missing", what, f'pip install "{name}{wanted}"'))
    return faults or _one(True, f"{len(needed)} packages, all as new as they need to be")


def _networks() -> list[Finding]:
    """torchvision is built for one version of torch, and fails beside any other."""
    what = " with ".join(f"{name} {_version(name) or '-'}" for name in ("torch", "torchvision"))
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        return _one(True, what)
    except Exception as error:
        mend = "`pip install --upgrade torch torchvision`, both from the same index"
        return [Finding("missing", f"{what} do not work together ({_why(error)})", mend)]


def _gpu() -> list[Finding]:
    import torch

    if torch.cuda.is_available():
        return _one(True, f"GPU: {torch.cuda.get_device_name()}")
    idle = shutil.which("nvidia-smi")
    what = "a GPU that torch cannot use" if idle else "no GPU, and the lessons need none"
    mend = "a build of torch for CUDA, and a driver that fits it, would use it"
    return _one(not idle, what, mend)


def _threads() -> list[Finding]:
    import torch

    cores, used = os.cpu_count() or 1, torch.get_num_threads()
    return _one(used <= cores, f"{used} threads on {cores} cores", f"set OMP_NUM_THREADS={cores}")


def _memory() -> list[Finding]:
    import psutil

    free = psutil.virtual_memory().available / GB
    mend = f"lessons need about {MEMORY:.0f} GB: close other programs"
    return _one(free >= MEMORY, f"{free:.1f} GB of memory free", mend)


def _cache() -> list[Finding]:
    """Whether the folder of the caches, or the one in which it will be made, can be written to."""
    from xbl_kit.storage import cache_folder

    folder = cache_folder().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        mend = "set XBL_KIT_CACHE to a folder that you may write to"
        return [Finding("missing", f"caches in {folder}: {error.strerror}", mend)]
    free = shutil.disk_usage(there).free / GB
    mend = f"set XBL_KIT_CACHE to a disk with {ROOM:.0f} GB"
    return _one(free >= ROOM, f"caches in {folder}, {free:.1f} GB free", mend)


def _weights() -> list[Finding]:
    import torch
    from torchvision.models import MobileNet_V2_Weights as Weights

    name = Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    there = Path(torch.hub.get_dir(), "checkpoints", name).is_file()
    what = "ImageNet weights" if there else "no ImageNet weights, which only --preset paper needs"
    mend = f"downloaded when first needed, 14 MB; without internet give {name} by --weights FILE"
    return _one(there, what, mend)


def _fonts() -> list[Finding]:
    from matplotlib import font_manager

    font_manager.findfont("DejaVu Sans", fallback_to_default=False)  # ValueError without
    return _one(True, "fonts of the figures")


def _browser() -> list[Finding]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    what = f"browser for tests: {found}" if found else "no Chromium, which only tests need"
    return _one(found, what, "your system's package of Chromium, or `playwright install chromium`")


CHECKS = (_python, _packages, _networks, _gpu, _threads, _memory, _cache)
CHECKS += (_weights, _fonts, _browser)


def examine() -> list[Finding]:
    """All findings; a check that fails itself, as most do without torch, is one that says so."""
    found = []
    for check in CHECKS:
        try:
            found += check()
        except Exception as error:
            what = f"{check.__name__[1:]}: could not be looked at ({_why(error)})"
            found.append(Finding("note", what))
    return found


def report(as_json: bool = False) -> int:
    """Print all findings, one a line; returns 1 where something needed is missing, else 0."""
    found = examine()
    if as_json:
        print(json.dumps([one._asdict() for one in found], indent=1))
    for status, what, mend in () if as_json else found:
        print(f"{status:8} {what}" + f"; {mend}" * bool(mend))
    return int(any(one.status == "missing" for one in found))
