"""Brain MRI in BIDS folders (Gorgolewski et al. 2016): who took part, which volumes there are."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from xbl_kit.data.faults import Fault, one_of, refuse, refuse_all, rising
from xbl_kit.data.manifest import Manifest, numbers
from xbl_kit.data.readers.text_table import read_text_table
from xbl_kit.data.readers.volume import PLANES, read_slices
from xbl_kit.data.spelling import key, missing

TABLE, ENDS = "participants.tsv", ("", ".gz")
OURS = ("image", "mask", "patient")  # columns that are no participant's
SEXES = {"f": "F", "female": "F", "m": "M", "male": "M", "o": "O", "other": "O"}  # those of BIDS


def list_mri(
    root: str | Path | Sequence[str | Path],
    *,
    plane: str = "axial",
    slices: int = 1,
    percentiles: Sequence[float | int] = (1, 99),
    ages: Sequence[float | int] | None = None,
) -> Manifest:
    """The T1-weighted volumes of one BIDS folder or, as `site`s, of several.

    `root` is a BIDS folder, a folder of BIDS folders, or a sequence of them. All columns of
    participants.tsv are taken, "n/a" as not known; `site` is the folder's name, and a column of
    that name is `site_within` where there are several folders. With `ages`, such as (50, 60),
    `age_group` is 0-50 or 60+, not known between. `plane`, `slices` and `percentiles`
    are those of `read_slices`. A participant without a volume, or the reverse, is a faulty row.

    Raises DataError where a folder or its participants.tsv cannot be used.
    """
    one_of("plane", plane, PLANES)
    if slices < 1:
        raise ValueError(f"slices {slices}: expected 1 or more")
    rising("percentiles", percentiles)
    if not 0 <= percentiles[0] <= percentiles[1] <= 100:
        raise ValueError(f"percentiles={tuple(percentiles)}: expected two of 0 to 100")
    if not (sites := _sites(root)):
        raise ValueError(f"root={root!r}: expected one folder or more")
    found = [_rows_of_site(name, folder, len(sites) > 1) for name, folder in sites.items()]
    rows = pd.concat(found).fillna("")
    if ages is not None:
        rising("ages", ages)
        refuse(root, None if "age" in rows else "no column 'age' to make groups of")
        rows["age_group"] = _age_groups(rows["age"], *ages)
    read = partial(read_slices, plane=plane, slices=slices, percentiles=tuple(percentiles))
    return Manifest(rows, tuple(sites.values()), read=read, frames=slices)


def _age_groups(ages: pd.Series, low: float | int, high: float | int) -> np.ndarray:
    ages = ages.mask(ages.isin(missing(ages)), "")  # BIDS advises 89+ for whoever is older
    years = numbers(ages.str.removesuffix("+"))
    wrong = ages[years.isna() & (ages != "")].items()
    refuse_all([Fault(where, f"age is {age!r}, expected years") for where, age in wrong])
    return np.select([years <= low, years >= high], [f"0-{low}", f"{high}+"], "")


def _sites(root: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """The BIDS folders meant, by name; raises DataError for one missing, or two of one name."""
    folders = [Path(each) for each in ([root] if isinstance(root, str | Path) else root)]
    refuse_all([Fault(str(f), "no such folder") for f in folders if not f.is_dir()])
    if len(folders) == 1 and not _is_bids(folder := folders[0]):
        folders = [child for child in sorted(folder.iterdir()) if _is_bids(child)]
        refuse(folder, None if folders else f"no {TABLE}, neither here nor in a folder of it")
    sites: dict[str, Path] = {}
    for folder in folders:
        name = folder.name if folder.name.strip(".") else folder.resolve().name
        if sites.setdefault(name, folder) is not folder:
            refuse(folder, f"the second site of the name {name!r}, the other is {sites[name]}")
    return sites


def _is_bids(folder: Path) -> bool:
    return (folder / TABLE).is_file() or any(folder.glob("sub-*/"))


def _rows_of_site(site: str, folder: Path, several: bool) -> pd.DataFrame:
    """A row for each volume and for each participant without one, by where it is said.

    A volume of nobody in the file has no patient, and nothing else is known of it.
    """
    people = _participants(folder / TABLE)
    places = [f"sub-*/{anat}/sub-*_T1w.nii{z}" for anat in ("anat", "ses-*/anat") for z in ENDS]
    files = [file for place in places for file in sorted(folder.glob(place))]
    subjects = [file.relative_to(folder).parts[0] for file in files]
    names = {key(subject): subject for subject in subjects}  # 12.0 in the table is sub-12
    people["patient"] = people["patient"].map(lambda each: names.get(key(each), each))
    volumes = pd.Series(map(str, files), subjects, dtype=str, name="image")
    if several and "site" in people:
        people["site_within"] = people.pop("site")
    people = pd.DataFrame({"site": site}, people.index).assign(**people)
    people = people.join(volumes, on="patient")
    subject = people["patient"]
    usual = f"{folder}/" + subject + "/anat/" + subject + "_T1w.nii.gz"
    people = people.assign(image=people["image"].fillna(usual), patient=f"{site}/" + subject)
    nobodys = volumes[~volumes.index.isin(subject)].to_frame()
    nobodys.index = nobodys["image"] + f", of no one in {folder / TABLE}"
    return pd.concat([people, nobodys.assign(site=site if several else "", patient="")])


def _participants(file: Path) -> pd.DataFrame:
    """What is known of every participant, by its line; `patient` is the subject's name.

    Raises DataError naming every line that cannot be used.
    """
    people = read_text_table(file, ("participant_id",), separator="\t")
    for name in set(OURS) & set(people):
        refuse(file, f"column {name!r}: the name means something else here, rename it")
    people = people.replace("n/a", "")  # as BIDS has it; what others write, `select` finds
    if "sex" in people:
        people["sex"] = people["sex"].map(lambda sex: SEXES.get(sex.casefold(), sex))
    people["patient"] = "sub-" + people.pop("participant_id").str.replace(
        r"(?i)^sub-", "", regex=True
    )
    faults, first = [], {}
    for where, subject in people["patient"].items():
        if missing([label := subject.removeprefix("sub-")]):
            faults.append(Fault(where, f"participant_id is {label!r}, expected sub-<label>"))
        elif key(subject) in first:
            faults.append(Fault(where, f"{subject} again, first in {first[key(subject)]}"))
        first.setdefault(key(subject), where)
    refuse_all(faults)
    return people
