"""BIDS folders (Gorgolewski et al. 2016): who took part, and which volumes there are of whom."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from xbl_kit.data.faults import DataError, Fault

TABLE = "participants.tsv"
OURS = ("image", "mask", "patient")  # columns that are no participant's
UNKNOWN = ("n/a", "na", "nan")  # BIDS has n/a, R and pandas write the others
SEXES = {"f": "F", "female": "F", "m": "M", "male": "M", "o": "O", "other": "O"}  # those of BIDS


def find_sites(root: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """The BIDS folders that are meant, by name.

    Raises DataError where one is missing, or two have one name.
    """
    folders = [Path(root)] if isinstance(root, str | Path) else [Path(each) for each in root]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(Fault(str(folder), "no such folder"))
    if len(folders) == 1 and not _is_bids(folders[0]):
        folder = folders[0]
        folders = [child for child in sorted(folder.iterdir()) if _is_bids(child)]
        if not folders:
            what = f"no {TABLE}, neither here nor in a folder of it"
            raise DataError(Fault(str(folder), what))
    sites: dict[str, Path] = {}
    for folder in folders:
        name = folder.name if folder.name.strip(".") else folder.resolve().name
        if name in sites:
            what = f"the second site of the name {name!r}, the other is {sites[name]}"
            raise DataError(Fault(str(folder), what))
        sites[name] = folder
    return sites


def _is_bids(folder: Path) -> bool:
    return folder.is_dir() and ((folder / TABLE).is_file() or any(folder.glob("sub-*/")))


def site_rows(site: str, folder: Path, several: bool) -> tuple[list[dict[str, str]], list[str]]:
    """A row for each volume and for each participant without one, and where each comes from.

    A volume of nobody in the file has no patient, and nothing else is known of it.
    """
    people, volumes = _participants(folder / TABLE), _volumes(folder)
    rows, where = [], []
    for subject, (line, person) in people.items():
        if several and "site" in person:
            person["site_within"] = person.pop("site")
        person = {"site": site} | person | {"patient": f"{site}/{subject}"}
        expected = [folder / subject / "anat" / f"{subject}_T1w.nii.gz"]
        for file in volumes.pop(subject, expected):
            rows.append({"image": str(file)} | person)
            where.append(line)
    for file in (file for files in volumes.values() for file in files):
        rows.append({"image": str(file), "site": site if several else "", "patient": ""})
        where.append(f"{file}, of no one in {folder / TABLE}")
    return rows, where


def _volumes(folder: Path) -> dict[str, list[Path]]:
    """The T1-weighted volumes of every subject, with or without sessions; none is opened."""
    volumes = defaultdict(list)
    for anat in ("anat", "ses-*/anat"):
        for file in sorted(folder.glob(f"sub-*/{anat}/sub-*_T1w.nii*")):
            if file.name.endswith((".nii", ".nii.gz")):
                volumes[file.relative_to(folder).parts[0]].append(file)
    return volumes


def _participants(file: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Of every subject its line in the file and what is known of it.

    Raises DataError naming every line that cannot be used.
    """
    (place, names), *lines = _read_tsv(file)
    if what := _unusable(names):
        raise DataError(Fault(place, what))
    people: dict[str, tuple[str, dict[str, str]]] = {}
    faults = []
    for place, values in lines:
        person = {n: _known(n, v) for n, v in zip(names, values, strict=False) if n}
        subject = "sub-" + person.pop("participant_id", "").removeprefix("sub-")
        if len(values) != len(names):
            faults.append(Fault(place, f"{len(values)} values, expected {len(names)}"))
        elif subject == "sub-":
            faults.append(Fault(place, "participant_id is '', expected sub-<label>"))
        elif subject in people:
            faults.append(Fault(place, f"{subject} again, first in {people[subject][0]}"))
        people.setdefault(subject, (place, person))
    if faults:
        raise DataError(*faults)
    return people


def _unusable(names: list[str]) -> str | None:
    """What is wrong with the names of the columns, if anything is."""
    if "participant_id" not in names:
        return f"no column 'participant_id', expected in a table divided by tabs, found {names}"
    for name in names:
        if name in OURS:
            return f"column {name!r}: the name means something else here, rename it"
        if name and names.count(name) > 1:
            return f"column {name!r} {names.count(name)} times"
    return None


def _read_tsv(file: Path) -> list[tuple[str, list[str]]]:
    """The lines of a table that are not empty, each with its place."""
    if not file.is_file():
        raise DataError(Fault(str(file), "not found"))
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, delimiter="\t")
            lines = [(f"{file}, line {reader.line_num}", line) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(Fault(str(file), f"not a readable tsv file ({error})")) from None
    lines = [(where, [value.strip() for value in line]) for where, line in lines if any(line)]
    if not lines:
        raise DataError(Fault(str(file), "empty file"))
    return lines


def _known(column: str, value: str) -> str:
    """A value as all sites write it, "" where it is not known."""
    if value.casefold() in UNKNOWN:
        return ""
    return SEXES.get(value.casefold(), value) if column == "sex" else value
