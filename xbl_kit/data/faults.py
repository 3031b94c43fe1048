"""What is wrong with a user's data, each fault in one line."""

import ctypes
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from xbl_kit.data.spelling import plain

SHOWN = 8  # names in one message
ALIKE = 4  # faults of one kind are told in one line
# Of a file, a line, a patient, a name that is like it.
PLACE = re.compile(r"\S*/.*?(?=: |; |$)|\d+|'[^']*'(?= in line|\?$)")
MEANT = "did you mean {near!r}?"
MOST_BYTES = 2**30  # of memory that one file may want, worked out from its header
MOST_SECONDS = 60  # for one file


class Fault(NamedTuple):
    """One fault: `where` names the file (and line), `what` the value and what was expected.

    `row` is the row of the manifest that cannot be used for it, None where it is no single row.
    """

    where: str
    what: str
    row: int | None = None

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.what}".splitlines())


class DataError(ValueError):
    """Data that cannot be used; the message is the first of its `faults` and counts the others."""

    def __init__(self, *faults: Fault):
        self.faults = faults
        more = f" (and {len(faults) - 1} more; `xbl-kit data check` lists all)"
        super().__init__(str(faults[0]) + (more if len(faults) > 1 else ""))


def refuse(where: object, what: str | None) -> None:
    """Raise DataError where something is wrong with a file or folder."""
    if what:
        raise DataError(Fault(str(where), what))


def refuse_all(faults: Sequence[Fault]) -> None:
    """Raise DataError where there are faults."""
    if faults:
        raise DataError(*faults)


def grouped(faults: Iterable[Fault]) -> list[str]:
    """A line a fault; of four and more that differ in places alone the first, with a count."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(PLACE.sub("", fault.what), []).append(fault)
    lines = []
    for alike in kinds.values():
        more = f" (and {len(alike) - 1} more like it; `--json` lists all)"
        lines += map(str, alike) if len(alike) < ALIKE else [f"{alike[0]}{more}"]
    return lines


def too_much(wanted: float | int, out: str) -> str | None:
    """What is wrong with a file that may want more memory than there may be, and the way out."""
    if wanted > MOST_BYTES:
        return f"may take {wanted / 1e9:,.1f} GB, expected {MOST_BYTES / 1e9:,.1f} at most; {out}"
    return None


def one_of(what: str, value: Any, known: Collection[object]) -> Any:
    """A setting, called `what`, as it is; ValueError for one that is none of those `known`."""
    if value not in known:
        raise ValueError(f"{what} {value!r}: expected one of {', '.join(map(str, known))}")
    return value


def rising(what: str, values: Sequence[float | int]) -> None:
    """ValueError for a setting that is not two numbers, the lower first."""
    if len(values) != 2 or not values[0] < values[1]:
        raise ValueError(f"{what}={tuple(values)}: expected two, the lower first, such as 50,60")


def some(names: Iterable[str], *, meant: str, advice: str = MEANT) -> str:
    """The first few names, with commas, how many there are, and `advice` on one like `meant`."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    seen = {plain(name): name for name in names}
    for near in get_close_matches(plain(meant), seen, n=1, cutoff=0.75):
        more += f"; {advice.format(near=seen[near])}"
    return ", ".join(names[:SHOWN]) + more


def by_name(folder: Path) -> dict[str, str]:
    """The names in a folder, by how they look in lower case, with and without their suffix."""
    paths = sorted(folder.glob("*"))
    return {plain(name): path.name for path in paths for name in (path.stem, path.name)}


def nearest(path: Path, listed: Callable[[Path], dict[str, str]] = by_name) -> str:
    """Advice on a name that differs in letter case, Unicode form or suffix from a missing one."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    (name, *below), names = path.absolute().relative_to(folder).parts, listed(folder)
    near = names.get(plain(name)) or names.get(plain(Path(name).stem))
    return f"; did you mean {near!a}?" if near and (folder / near).is_dir() == bool(below) else ""


class TooLong(BaseException):
    """Raised in a thread that reads a file for too long; no `except Exception` keeps it."""


@contextmanager
def time_limit(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Raise TooLong in this thread, main or not, once its Python code has run for so long."""
    raise_in, thread = ctypes.pythonapi.PyThreadState_SetAsyncExc, threading.get_ident()
    timer = threading.Timer(seconds, raise_in, (ctypes.c_ulong(thread), ctypes.py_object(TooLong)))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        raise_in(ctypes.c_ulong(thread), None)  # what is not raised yet shall not be raised later


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever libraries raise for a file, any exception for broken ones, into a DataError."""
    try:
        yield
        return
    except DataError:
        raise
    except FileNotFoundError:
        what = "no such file"
    except TooLong:
        what = f"not read within {MOST_SECONDS} s; it is damaged, or needs to be saved anew"
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        what = f"not a readable {kind} ({said})"
    raise DataError(Fault(str(path), what)) from None
