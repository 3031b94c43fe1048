"""What lies on disk: each file written whole or not at all, and never over somebody else's."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

FOREIGN = "was not written by xbl-kit and stays as it is; choose another folder"


def cache_folder() -> Path:
    """Where downloads and caches land: $XBL_KIT_CACHE or ~/.cache/xbl-kit."""
    return Path(os.environ.get("XBL_KIT_CACHE") or Path.home() / ".cache" / "xbl-kit")


def is_first_process() -> bool:
    """Whether this is the process that writes: under `torchrun` one a machine, else always."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
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


def names_like(path: Path) -> Iterator[Path]:
    """x.md, x-1.md, x-2.md, and so on."""
    yield path
    yield from (path.with_stem(f"{path.stem}-{number}") for number in count(1))


def write_beside(path: str | Path, content: bytes) -> Path:
    """Write `content` where no file of this name holds something else, such as a person's words:
    else to x-1.md, or the next that is free, with a warning. Returns where it is."""
    for each in names_like(Path(path)):
        if not os.path.lexists(each):
            write_whole(each, lambda partial: partial.write_bytes(content))
        if not os.path.lexists(each) or (each.is_file() and each.read_bytes() == content):
            break
        warnings.warn(f"{each}: says something else, and stays as it is", stacklevel=3)
    return each


def digest(*parts: str | np.ndarray | torch.Tensor) -> str:
    """A hash of texts, arrays and tensors, one after the other."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        array = part.numpy(force=True) if isinstance(part, torch.Tensor) else part
        found.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(array))
    return found.hexdigest()


def write_json(path: str | Path, content: dict) -> None:
    """Write `content` as JSON; a NaN is an error, since JSON has none."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def load_json(path: str | Path) -> object:
    """The content of a JSON file, or None where there is none; ValueError names another file."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from None


def save_model(model: nn.Module, path: str | Path) -> None:
    """Write the weights of `model` as safetensors."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_whole(path, lambda partial: save_file(state, partial))


def load_model(model: nn.Module, path: str | Path) -> None:
    """Read weights that `save_model` wrote into `model`.

    Raises ValueError naming the file where it is damaged or belongs to another network.
    """
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from error


def load_state(path: str | Path) -> dict | None:
    """The state of a training that `torch.save` wrote, on the CPU; None where there is none."""
    options = {"map_location": "cpu", "weights_only": True}
    try:
        return torch.load(path, **options) if Path(path).exists() else None
    except Exception as error:
        what = "not a readable training state; delete it to start anew"
        raise ValueError(f"{path}: {what}") from error


class OwnFiles:
    """A folder with a record of the files that the kit wrote there: none but these is ever removed
    or written over. `content` stands in the record beside the `names`, relative to the folder.

    Raises ValueError for a folder that holds files and no record, for a record that is none, and
    for one that lists a file outside the folder.
    """

    def __init__(self, folder: str | Path, record: str = ".xbl-kit.json"):
        self.folder, self.record = Path(folder), Path(folder) / record
        self.content: dict = {}
        self.names: set[str] = set()
        if self.record.exists():
            self._read()
        elif self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: not a folder; choose another")
        elif self.folder.exists():
            names = sorted(path.name for path in self.folder.iterdir())
            if others := [name for name in names if not name.startswith(".")]:
                raise ValueError(f"{self.folder}: {others[0]} {FOREIGN}")

    def _read(self) -> None:
        try:
            self.content = dict(load_json(self.record))
            # A run of an older version says what its experiment is, and lists nothing.
            ours = self.content.pop("written_by", None) == "xbl-kit" or "experiment" in self.content
            self.names = set(self.content.pop("files", ()))
            parents = {(self.folder / name).parent.resolve() for name in self.names}
            inside = ours and all(each.is_relative_to(self.folder.resolve()) for each in parents)
        except (OSError, TypeError, ValueError):
            inside = False
        if not inside:
            what = "not a record of files in this folder; choose another folder"
            raise ValueError(f"{self.record}: {what}")

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def begin(self, names: Iterable[str], *, keep: Iterable[str] = (), **content) -> None:
        """Remove all own files but those to `keep`, and write a record with this `content`.

        Raises ValueError, before anything is removed, where one of `names`, which will be written,
        is somebody else's file.
        """
        for name in names:
            self._refuse(name)
        self.remove(self.names - set(keep))
        self.content = content
        self.save()

    def own(self, name: str) -> Path:
        """The path of a file that is about to be written, from now on an own one.

        Raises ValueError where somebody else's file has this name.
        """
        if name not in self.names:
            self._refuse(name)
            self.names.add(name)
            self.save()
        return self.folder / name

    def write(self, name: str, content: bytes) -> None:
        """Write an own file, whole or not at all."""
        write_whole(self.own(name), lambda partial: partial.write_bytes(content))

    def remove(self, names: Iterable[str]) -> None:
        """Remove some own files."""
        for name in self.names & set(names):
            if is_first_process() and not (self.folder / name).is_dir():
                (self.folder / name).unlink(missing_ok=True)
        self.names -= set(names)
        self.save()

    def set_aside(self, name: str) -> Path:
        """Rename a file that shall not be lost: x.npz becomes x-1.npz, or the next that is free."""
        free = next(path for path in names_like(self.folder / name) if not os.path.lexists(path))
        if is_first_process():
            (self.folder / name).rename(free)
        self.names.discard(name)
        self.save()
        return free

    def save(self) -> None:
        """Write the record."""
        record = {"written_by": "xbl-kit", "files": sorted(self.names)}
        write_json(self.record, self.content | record)

    def _refuse(self, name: str) -> None:
        """Raise ValueError for another's file in the place of a file, or of a folder to hold it."""
        for part in (Path(name), *Path(name).parents[:-1]) if is_first_process() else ():
            path = self.folder / part
            there = path.is_symlink() or (
                path.exists() and (part == Path(name) or not path.is_dir())
            )
            if there and (part.as_posix() not in self.names or path.is_dir()):
                raise ValueError(f"{path} {FOREIGN}")
