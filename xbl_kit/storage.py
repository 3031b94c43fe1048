"""Where files land, each written whole or not at all, and by one process of a machine."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

RECORD = ".xbl-kit.json"  # in a folder, the names of the files that were written there


def cache_folder() -> Path:
    """Where downloads and caches land: $XBL_KIT_CACHE or ~/.cache/xbl-kit."""
    return Path(os.environ.get("XBL_KIT_CACHE") or Path.home() / ".cache" / "xbl-kit")


def is_first_process() -> bool:
    """Whether this is the process that writes: under `torchrun` one a machine, else always."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def write_whole(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: no half-written files.

    Of the processes that `torchrun` starts on a machine only the first one writes.
    """
    if not is_first_process():
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def own_names(folder: str | Path) -> set[str]:
    """What the record in a folder lists, relative to the folder; nothing where there is none.

    Raises ValueError for a record that is none, or that lists a file outside the folder.
    """
    folder, record = Path(folder), Path(folder) / RECORD
    if not record.exists():
        return set()
    try:
        names = set(json.loads(record.read_text(encoding="utf-8"))["files"])
        inside = all(_is_inside(folder, name) for name in names)
    except (KeyError, OSError, TypeError, ValueError):
        inside = False
    if not inside:
        what = "not a list of files in this folder, as it was written; choose another folder"
        raise ValueError(f"{record}: {what}")
    return names


def start_over(folder: str | Path, names: Iterable[str]) -> None:
    """Prepare a folder for files of these `names`: those recorded there go, and no other.

    `names` are relative to the folder, and the next record. Raises ValueError, before anything is
    removed, where a folder without a record holds something, or a foreign file has such a name.
    """
    if not is_first_process():
        return
    folder, names = Path(folder), sorted(set(names))
    own = {name for name in own_names(folder) if not (folder / name).is_dir()}
    if (folder / RECORD).exists():
        foreign = next((f for name in names if (f := _in_the_way(folder, name, own))), None)
    else:
        foreign = min(folder.iterdir(), default=None) if folder.exists() else None
    if foreign:
        what = "was not written by xbl-kit and stays as it is; choose another folder"
        raise ValueError(f"{folder}: {foreign.relative_to(folder)} {what}")
    for name in own:
        (folder / name).unlink(missing_ok=True)
    content = json.dumps({"files": names}, indent=1)
    write_whole(folder / RECORD, lambda path: path.write_text(content, encoding="utf-8"))


def _is_inside(folder: Path, name: str) -> bool:
    return (folder / name).parent.resolve().is_relative_to(folder.resolve())


def _in_the_way(folder: Path, name: str, own: set[str]) -> Path | None:
    """The file that is not ours in the place of a file, or of a folder that is to hold it."""
    for part in (Path(name), *Path(name).parents[:-1]):
        path = folder / part
        free = part.as_posix() in own or not (path.exists() or path.is_symlink())
        if not free and (part == Path(name) or path.is_symlink() or not path.is_dir()):
            return path
    return None
