"""Tables in files of text, and one line on whatever is wrong with one."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xbl_kit.data.faults import DataError, Fault, some

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
NO_TEXT = re.compile(r"[\0\udc80-\udcff]")  # NUL, and bytes that are escaped as surrogates
UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")


def read_text_table(file: Path, needed: Sequence[str], *, separator: str = ",") -> pd.DataFrame:
    """A table as text, "" where a cell is empty; its index says where each row begins.

    Blank lines and columns without a name are left out. In a table divided by tabs spaces around a
    cell do not count. Raises DataError where the file is missing, not UTF-8, divided by something
    else, lacks a column that is `needed`, has one twice, or lines with too many or too few cells.
    """
    (_, names), *lines = _lines(file, separator)
    if what := _unusable(names, needed, separator):
        raise DataError(Fault(str(file), what))
    expected = f"expected {len(names)} as in line 1"
    if ragged := [(where, len(cells)) for where, cells in lines if len(cells) != len(names)]:
        raise DataError(*(Fault(where, f"{n} cells, {expected}") for where, n in ragged))
    rows = pd.DataFrame([cells for _, cells in lines], columns=names, dtype=str)
    rows.index = [where for where, _ in lines]
    return rows.drop(columns="", errors="ignore")


def _lines(file: Path, separator: str) -> list[tuple[str, list[str]]]:
    """Where each row of a table begins, and its cells."""
    text = io.StringIO(_text(file), newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    lines, where = [], f"{file}, line 1"
    try:
        for cells in reader:
            if cells:
                lines.append((where, [c.strip() for c in cells] if separator == "\t" else cells))
            where = f"{file}, line {reader.line_num + 1}"
    except csv.Error as error:
        raise DataError(Fault(where, f"not readable as csv ({error})")) from None
    return lines


def _unusable(names: Sequence[str], needed: Sequence[str], separator: str) -> str | None:
    """What is wrong with the names of columns, if anything is."""
    for mark, word in SEPARATORS.items():
        if len(names) == 1 and mark in names[0] and mark != separator:
            return f"columns are separated by {word}, expected {SEPARATORS[separator]}"
    for name in names:
        if name and names.count(name) > 1:
            return f"column {name!r} is there {names.count(name)} times"
    for name in needed:
        if name not in names:
            found = some(filter(None, names), meant=name)
            return f"no column {name!r} in its first line, found {found}"
    return None


def _text(file: Path) -> str:
    """What a file of UTF-8 text holds; raises DataError where it is none."""
    if not file.parent.is_dir():
        raise DataError(Fault(str(file.parent), "no such folder"))
    if not file.is_file():
        raise DataError(Fault(str(file), "not found"))
    try:
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(Fault(str(file), f"cannot be read ({error.strerror})")) from None
    if wrong := NO_TEXT.search(text):
        byte = wrong[0].encode(errors="surrogateescape")[0]
        what = f"byte {byte:#04x} is not UTF-8, perhaps Latin-1; save it as UTF-8"
        if byte == 0:
            what = "holds a NUL byte, expected text in UTF-8; perhaps saved as UTF-16"
        elif text.startswith(UTF_16):
            what = "saved as UTF-16, expected UTF-8"
        line = text.count("\n", 0, wrong.start()) + 1
        raise DataError(Fault(f"{file}, line {line}", what))
    if not text.strip():
        raise DataError(Fault(str(file), "empty file, expected a first line with column names"))
    return text
