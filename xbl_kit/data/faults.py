"""What is wrong with a user's data, each fault in one line."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

SHOWN = 8  # names in one message


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


def one_of(what: str, value: Any, known: Collection[object]) -> Any:
    """A setting, called `what`, as it is; ValueError for one that is none of those `known`."""
    if value not in known:
        raise ValueError(f"{what} {value!r}: expected one of {', '.join(map(str, known))}")
    return value


def some(names: Iterable[str], *, meant: str) -> str:
    """The first few names, with commas, how many there are, and whether one like `meant` was."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    plain = {name.strip().casefold(): name for name in names}
    for near in get_close_matches(meant.strip().casefold(), plain, n=1, cutoff=0.75):
        more += f"; did you mean {plain[near]!r}?"
    return ", ".join(names[:SHOWN]) + more
