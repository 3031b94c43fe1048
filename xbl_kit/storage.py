"""What lies on disk: each file written whole or not at all, and never over somebody else's."""

import errno
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import count
from pathlib import Path
from platform import node
from threading import get_native_id

import psutil
import safetensors.torch
import torch
from torch import nn

from xbl_kit.weights import fill, plain, read_weights

FOREIGN = "was not written by xbl-kit and stays as it is; choose another folder, or rename this"
OTHER = "the state of another training; delete it to start anew"


def cache_folder() -> Path:
    """Where downloads and caches land: $XBL_KIT_CACHE or ~/.cache/xbl-kit."""
    return Path(os.environ.get("XBL_KIT_CACHE") or Path.home() / ".cache" / "xbl-kit")


def is_first_process() -> bool:
    """Whether this is the process that writes: under `torchrun` one a machine, else always."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def write_whole(
    path: str | Path,
    write: Callable[[Path], object] | bytes,
    *,
    size: int = 0,
    what: str = "",
) -> None:
    """Fill a temporary file beside `path`, or let `write` do so, and rename it once it is on disk.

    Nobody ever sees half a file: what fails leaves the old one as it is. Where `write` needs `size`
    bytes they are set aside first, and it opens the file without emptying it. Of the processes that
    `torchrun` starts on a machine only the first one writes. Raises OSError, which says `what` for.
    """
    if not is_first_process():
        return
    path = Path(path)
    partial = path.with_name(f".{path.name}.{node()}-{os.getpid()}-{get_native_id()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode  # as the umask has it, whatever `write` makes of the file
        _set_aside(partial, size)
        if callable(write):
            write(partial)
        else:
            partial.write_bytes(write)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        if partial.stat().st_mode != mode:
            partial.chmod(mode)
        partial.replace(path)
    except OSError as error:
        said = (error.strerror or str(error)) + (what and f"; {what}")
        raise OSError(error.errno, said, str(path)) from None
    finally:
        if partial.exists():
            partial.unlink(missing_ok=True)


def _set_aside(path: Path, size: int) -> None:
    """Take `size` bytes of the disk, where that can be done; OSError where it has not as many."""
    if size and hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system without it
                    raise


def sweep(folder: str | Path) -> None:
    """Remove what `write_whole` left half-written where its process, of this machine, is gone."""
    ours = re.compile(rf"\..+\.{re.escape(node())}-(\d{{1,9}})-\d+\.partial")
    for path in Path(folder).glob(".*.partial"):
        found = ours.fullmatch(path.name)
        if found and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)


def names_like(path: Path) -> Iterator[Path]:
    """x.md, x-1.md, x-2.md, and so on."""
    yield path
    yield from (path.with_stem(f"{path.stem}-{number}") for number in count(1))


def write_beside(path: str | Path, content: bytes) -> Path:
    """Write `content` where no file of this name holds something else, such as a person's words:
    else to x-1.md, or the next that is free, with a warning. Returns where it is."""
    for each in names_like(Path(path)):
        if not os.path.lexists(each):
            write_whole(each, content)
        if not os.path.lexists(each) or (each.is_file() and each.read_bytes() == content):
            break
        warnings.warn(f"{each}: says something else, and stays as it is", stacklevel=3)
    return each


def write_json(path: str | Path, content: dict) -> None:
    """Write `content` as JSON; a NaN is an error, since JSON has none."""
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def load_json(path: str | Path) -> object:
    """The content of a JSON file, or None where there is none; ValueError names another file."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from None


def save_model(model: nn.Module, path: str | Path) -> None:
    """Write the weights of `model` as safetensors, under the names that it has when not wrapped."""
    state = {name: tensor.contiguous() for name, tensor in plain(model.state_dict()).items()}
    write_whole(path, safetensors.torch.save(state))


def load_model(model: nn.Module, path: str | Path) -> None:
    """Read weights that `save_model` wrote into `model`.

    Raises ValueError naming the file where it is damaged, of another network, or holds a NaN.
    """
    fill(model, read_weights(path), f"{path}: weights of another network")


def save_state(state: dict, path: str | Path, run: str = "") -> None:
    """Write the state of a training, and the name of the `run` that it is of."""
    whole = BytesIO()  # `torch.save` itself does not say that a disk is full
    torch.save({**state, "run": run}, whole)
    write_whole(path, whole.getvalue())


def load_state(path: str | Path, run: str = "") -> dict | None:
    """The state of a training of `run` that `save_state` wrote, on the CPU; None without a file."""
    if not Path(path).exists():
        return None
    try:
        found = dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        what = "not a readable training state; delete it to start anew"
        raise ValueError(f"{path}: {what}") from error
    if found.get("run", "") != run:
        raise ValueError(f"{path}: {OTHER}")
    return found


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

    def begin(
        self, names: Iterable[str], *, keep: Iterable[str] = (), claim: bool = False, **content
    ) -> None:
        """Remove all own files but those to `keep`, and write a record with this `content`.

        With `claim` the names are own ones from now on. Raises ValueError, before anything is
        removed, where one of them is somebody else's file.
        """
        names = list(names)
        for name in names:
            self._refuse(name)
            sweep((self.folder / name).parent)
        self.remove(self.names - set(keep))
        self.content = content
        self.names |= set(names if claim else ())
        self.save(anew=True)

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
        write_whole(self.own(name), content)

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

    def save(self, *, anew: bool = False) -> None:
        """Write the record, with what other processes noted there unless it begins `anew`."""
        there = {} if anew else load_json(self.record) or {}
        record = {"written_by": "xbl-kit", "files": sorted(self.names)}
        write_json(self.record, there | self.content | record)

    def _refuse(self, name: str) -> None:
        """Raise ValueError for another's file in the place of a file, or of a folder to hold it."""
        for part in (Path(name), *Path(name).parents[:-1]) if is_first_process() else ():
            path = self.folder / part
            holds = part != Path(name) and path.is_dir() and not path.is_symlink()
            ours = part.as_posix() in self.names and not path.is_dir()
            if os.path.lexists(path) and not (holds or ours):
                raise ValueError(f"{path} {FOREIGN}")
