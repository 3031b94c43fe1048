"""Tables in files of text, and one line on whatever is wrong with one."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xbl_kit.data.faults import DataError, Fault, nearest, refuse, refuse_all, some
from xbl_kit.data.manifest import RESERVED
from xbl_kit.data.spelling import key

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
NO_TEXT = re.compile(r"[\0\udc80-\udcff]")  # NUL, and bytes that are escaped as surrogates
EXCEL = re.compile(r'"?sep=([,;|\t])"?,*(?:\r\n?|\n)', re.IGNORECASE)
EMPTY = "empty file, expected a first line with column names"
STARTS = dict.fromkeys(("PK\3\4", "\udcd0\udccf"), "a workbook of Excel; save it as CSV UTF-8")
STARTS |= dict.fromkeys(("\udcff\udcfe", "\udcfe\udcff"), "saved as UTF-16, expected UTF-8")


def read_text_table(
    file: Path, needed: Sequence[str], *, separator: str = ",", hint: str = ""
) -> pd.DataFrame:
    """A table as text, "" where a cell is empty; its index says where each row begins.

    Blank lines, lines of empty cells and columns without a name are left out; blanks around a cell
    do not count. A first line `sep=;`, as Excel has it, says what divides cells.
    Raises DataError where the file is missing, not UTF-8, divided by something else, lacks a column
    that is `needed` (`hint` says what then), has one twice, or lines of too many or too few cells.
    """
    (_, names), *lines = _lines(file, separator)
    if what := _unusable(names, needed, separator):
        raise DataError(Fault(str(file), what + hint * ("no column" in what and "; " not in what)))
    lines = [(where, cells) for where, cells in lines if any(cells)]
    expected = f"expected {len(names)} as in line 1"
    ragged = [(where, len(cells)) for where, cells in lines if len(cells) != len(names)]
    refuse_all([Fault(where, f"{n} cells, {expected}") for where, n in ragged])
    rows = pd.DataFrame([cells for _, cells in lines], columns=names, dtype=str)
    rows.index = [where for where, _ in lines]
    return rows.drop(columns="", errors="ignore")


def _lines(file: Path, separator: str) -> list[tuple[str, list[str]]]:
    """Where each row of a table begins, and its cells."""
    text, before = _text(file), 1
    if said := EXCEL.match(text):
        text, before, separator = text[said.end() :], 2, said[1]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines, where = [], f"{file}, line {before}"
    try:
        for cells in reader:
            if cells:
                lines.append((where, [cell.strip() for cell in cells]))
            where = f"{file}, line {reader.line_num + before}"
    except csv.Error as error:
        raise DataError(Fault(where, f"not readable as csv ({error})")) from None
    refuse(file, EMPTY if not lines or lines[0][1] == [""] else None)
    return lines


def _unusable(names: Sequence[str], needed: Sequence[str], separator: str) -> str | None:
    """What is wrong with the names of columns, if anything is."""
    for mark, word in SEPARATORS.items():
        if len(names) == 1 and mark in names[0] and mark != separator:
            expected = f"expected {SEPARATORS[separator]}"
            said = f"a first line {'sep=' + mark!r} says so"
            return f"columns are separated by {word}, {expected}; {said}"
    for name in names:
        if name and names.count(name) > 1:
            return f"column {name!r} is there {names.count(name)} times"
    for name in needed:
        if name not in names:
            found = some(filter(None, names), meant=name, advice=f"rename {{near!r}} to {name!r}")
            return f"no column {name!r} in its first line, found {found}"
    for name in names:
        if (ours := key(name)) in RESERVED and name not in (ours, *needed):
            return f"column {name!r}: rename it to {ours!r}, or else if no {ours} is meant"
    return None


def _text(file: Path) -> str:
    """What a file of UTF-8 text holds; raises DataError where it is none."""
    there = "a file, expected a folder" if file.parent.is_file() else "no such folder"
    refuse(file.parent, None if file.parent.is_dir() else there)
    refuse(file, None if file.is_file() else f"not found{nearest(file)}")
    try:
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(Fault(str(file), f"cannot be read ({error.strerror})")) from None
    if wrong := NO_TEXT.search(text):
        byte = wrong[0].encode(errors="surrogateescape")[0]
        what = f"byte {byte:#04x} is not UTF-8, perhaps Latin-1; save it as UTF-8"
        if byte == 0:
            what = "holds a NUL byte, expected text in UTF-8; perhaps saved as UTF-16"
        what = next((of for start, of in STARTS.items() if text.startswith(start)), what)
        line = text.count("\n", 0, wrong.start()) + 1
        refuse(f"{file}, line {line}", what)
    return text
