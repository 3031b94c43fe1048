"""One value in several spellings, and the words by which tables say that nothing is known."""

import re
import unicodedata
import warnings
from collections.abc import Iterable

import pandas as pd

NOTHING = re.compile(r"[-.?*_\s]*")  # of nothing but such marks
SHOWN = 4  # columns in one message
MISSING = frozenset(
    "na|n/a|n.a|n.a.|#n/a|nan|nat|none|null|nil|unknown|unk|missing|undefined|unspecified|no data|"
    "not available|not applicable|not known|not recorded|not reported|not specified|\\n|"
    "#null!|#value!|#ref!|#name?|#num!|#div/0!".split("|")
)
DASHES = re.compile("[\u2010-\u2015\u2212]")
BETWEEN_DIGITS = re.compile(r"(?<=\d)[\s_-]+(?=\d)")
BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=\d)|\s")
WHOLE = re.compile(r"([^.]*\d)\.0*")  # 12.0, and p12.0, but not 1.2.0
ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")  # those that lead a number


def plain(value: str) -> str:
    """A value as it is seen: without zero-width characters, compatible forms as one (NFKC)."""
    shown = "".join(mark for mark in value if unicodedata.category(mark) != "Cf")
    return DASHES.sub("-", unicodedata.normalize("NFKC", shown).casefold()).strip()


def key(value: str) -> str:
    """What all spellings of a value have in common, to compare them by.

    Letter case, what `plain` takes away, and blanks, hyphens and underscores between words do not
    count; between digits they are one mark, so that 1-5 is not 15. Whole numbers are integers:
    12.0 is 12. Leading zeros stay: 007 may be another patient than 7.
    """
    text = BETWEEN_DIGITS.sub("-", plain(value).strip("_"))
    text = BETWEEN_WORDS.sub("", text)
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def missing(values: Iterable[str]) -> set[str]:
    """Those of a column's different values that say that nothing is known, such as "" and "NA".

    "-" is one of them, unless "+" is there too.
    """
    every = set(values)
    texts = {value: re.sub(r"[\s_-]+", " ", plain(value).strip("<>()[]{}'\"")) for value in every}
    found = {v for v in every if NOTHING.fullmatch(plain(v)) or texts[v].strip() in MISSING}
    return found - {"-"} if "+" in every else found


def blanked(rows: pd.DataFrame, columns: Iterable[str], where: object) -> pd.DataFrame:
    """The rows with "" in place of what is `missing` in these `columns`; a warning counts them."""
    told = []
    for name in columns:
        if words := sorted(missing(rows[name].unique()) - {""}):
            found = rows[name].isin(words)
            told.append(f"{name} in {found.sum()} ({', '.join(map(repr, words))})")
            rows = rows.assign(**{name: rows[name].mask(found, "")})
    if told:
        more = f", ... ({len(told)} columns in all)" if len(told) > SHOWN else ""
        what = f"rows in which a word says not known: {', '.join(told[:SHOWN])}{more}"
        warnings.warn(f"{where}: {what}", stacklevel=4)
    return rows


def one_spelling(column: pd.Series) -> pd.Series:
    """The column with every value as it is first spelled; a warning tells of the others."""
    keys = column.map({value: key(value) for value in column.unique()})
    first = column.groupby(keys, sort=False).transform("first")
    if (other := first != column).any():
        where, here, there = column.index[other][0], column[other].iloc[0], first[other].iloc[0]
        n = f"{keys[other].nunique()} of {keys.nunique()} are spelled in two ways, taken as one"
        warnings.warn(f"{where}: {column.name} {here!r} is {there!r} above; {n}", stacklevel=4)
    return first


def warn_of_zeros(column: pd.Series) -> None:
    """Warn where values differ in leading zeros alone: 007 and 7 are two, and may be one."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(ZEROS.sub("", key(v)), v), v) for v in column.unique()]
    if apart := [pair for pair in pairs if key(pair[0]) != key(pair[1])]:
        one, two = apart[0]
        where = column.index[column == two][0]
        n = f"{len(apart)} such pair{'s' * (len(apart) > 1)}"
        what = f"{column.name} {two!r} and {one!r} count as two, though only zeros differ ({n})"
        warnings.warn(f"{where}: {what}; if they are one, write them alike", stacklevel=4)
