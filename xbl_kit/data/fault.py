"""What is wrong with a user's data, each fault in one line."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One fault: `where` names the file (and line), `what` the value and what was expected.

    `row` is the row of the listing that cannot be used for it, None where it is no single row.
    """

    where: str
    what: str
    row: int | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class DataError(ValueError):
    """Data that cannot be used; the message is the first of its `faults` and counts the others."""

    def __init__(self, *faults: Fault):
        self.faults = faults
        more = f" (and {len(faults) - 1} more; `xbl-kit data check` lists all)"
        super().__init__(str(faults[0]) + (more if len(faults) > 1 else ""))
