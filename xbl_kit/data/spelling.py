"""One value in several spellings, and the words by which tables say that nothing is known."""

import re
import unicodedata
import warnings
from collections.abc import Iterable
from decimal import Decimal

import pandas as pd

NOTHING = re.compile(r"[-.?*_/\\\s]*")  # of nothing but such marks
SHOWN = 4  # columns in one message
MISSING = frozenset(
    r"""na|n/a|n.a|n.a.|#n/a|nan|nat|none|null|nil|unknown|unk|missing|undefined|unspecified|no data
not available|not applicable|not known|not recorded|not reported|not specified|not provided|not done
not collected|not assessed|not given|not determined|no info|no value|no answer|missing data|n / a
missing value|missing values|n.d|n/d|n/k|tbd|blank|empty|\n|n\a|pd.na|#n/a n/a|1.#qnan|1.#ind|#nv
#n/v|#null|#null!|#value!|#ref!|#name?|#num!|#div/0!|k.a|unbekannt|nicht bekannt|nicht erhoben
keine angabe|inconnu|desconocido""".replace("\n", "|").split("|")
)
# Seen no more than what Unicode calls format: controls, fillers, choices of a variant.
UNSEEN = re.compile("[\0-\x08\x0e-\x1b\x7f\u034f\u115f\u1160\u3164\ufe00-\ufe0f\uffa0]")
ALIKE = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")  # by key, for `str.translate`
ALIKE |= dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc`\xb4"), "'") | {0x131: "i", 0x307: None}
BETWEEN_DIGITS = re.compile(r"(?<=\d)[\s_-]+(?=\d)")
BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=\d)|\s")
WHOLE = re.compile(r"([^.]*\d)\.0*")  # 12.0 and p12.0, but not 1.2.0
COMMAS = re.compile(r"[+-]?([1-9]\d{0,2}(,\d{3})+(\.\d*)?|\d*(?P<last>,)\d+)")  # 1,000, or 0,5
NUMBER = re.compile(r"[+-]?(0|[1-9]\d*|(?=\.))(\.\d+)?(e\+?\d\d?)?")  # +5, .5, 1e3, not 007
SAME = {"female": "f", "male": "m"}  # of labels and factors
SAME |= dict.fromkeys(("true", "yes", "y"), "1") | dict.fromkeys(("false", "no", "n"), "0")
DATE = re.compile(r"(?<!\d)(\d{4})[-/.](\d\d?)[-/.](\d\d?)(?!\d)(?:[ t]00:00(?::00)?)?")
# Zeros that lead a number, or end it, and marks of thousands, as in 1 234.
ZEROS = re.compile(r"(?<![\d.])0+(?=\d)|(\.\d*[1-9])0+(?!\d)|(?<=\d)['-](?=\d{3}(?!\d))")


def plain(value: str) -> str:
    """A value as it is seen: without zero-width characters, compatible forms as one (NFKC)."""
    if not (value.isascii() and value.isprintable()):  # as most values are, of which all is seen
        value = "".join(m for m in UNSEEN.sub("", value) if unicodedata.category(m) != "Cf")
        value = unicodedata.normalize("NFKC", value)
    return value.casefold().translate(ALIKE).strip()


def key(value: str) -> str:
    """What all spellings of a value have in common, to compare them by.

    Letter case, what `plain` takes away, and blanks, hyphens and underscores between words do not
    count; between digits they are one mark, so that 1-5 is not 15. Whole numbers are integers:
    12.0, 12,0 and +12 are 12, 1e3 is 1000, and so is 1,000; 0,5 is 0.5. Leading zeros stay: 007
    may be another patient.
    """
    text = BETWEEN_DIGITS.sub("-", DATE.sub(r"\1-\2-\3", plain(value).strip("_'\"")))
    text = BETWEEN_WORDS.sub("", text)
    if found := COMMAS.fullmatch(text):
        text = text.replace(",", "." if found["last"] else "")
    if NUMBER.fullmatch(text):
        text = f"{Decimal(text):f}"
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def missing(values: Iterable[str]) -> set[str]:
    """Those of a column's different values that say that nothing is known, such as "" and "NA".

    "-" is one of them, unless "+" is there too.
    """
    bare = {value: plain(value).strip("<>()[]{}'\"") for value in values}
    texts = {value: re.sub(r"[\s_-]+", " ", text).strip(" .;") for value, text in bare.items()}
    found = {v for v in bare if NOTHING.fullmatch(bare[v]) or texts[v] in MISSING}
    return {v for v in found if bare[v] != "-"} if "+" in bare.values() else found


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
    first = column.groupby(keys).transform("first")
    if (other := first != column).any():
        where, here, there = column.index[other][0], column[other].iloc[0], first[other].iloc[0]
        n = f"{keys[other].nunique()} of {keys.nunique()} are spelled in two ways, taken as one"
        warnings.warn(f"{where}: {column.name} {here!r} is {there!r} above; {n}", stacklevel=4)
    return first


def warn_of_zeros(column: pd.Series) -> None:
    """Warn where zeros or marks alone differ: 007 and 7, or 1 234 and 1234, may be one."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(ZEROS.sub(r"\1", key(v)), v), v) for v in column.unique()]
    if apart := [pair for pair in pairs if key(pair[0]) != key(pair[1])]:
        one, two = apart[0]
        where = column.index[column == two][0]
        n = f"{len(apart)} such pair{'s' * (len(apart) > 1)}"
        apart = f"count as two, though only zeros or marks differ ({n})"
        what = f"{column.name} {two!r} and {one!r} {apart}; if they are one, write them alike"
        warnings.warn(f"{where}: {what}", stacklevel=4)
