"""Each kind of bad data is refused in one line that names its place and its fault."""

import csv
import io
import os
import re
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xbl_kit.data import DataError, list_images, open_dataset
from xbl_kit.data.cache import in_parallel, read_mask
from xbl_kit.data.check import ALIKE, _alike, check, row_faults
from xbl_kit.data.manifest import Manifest

N, SIDE = 24, 96
LABELS = ("Pneumonia", "Normal")
SPLITS = ("train",) * 12 + ("val",) * 6 + ("test",) * 6


def _rows() -> list[dict[str, str]]:
    """Two images a patient, who has one split and sex; every split has every label."""
    return [
        {
            "image": f"images/{i}.png",
            "label": LABELS[i // 2 % 2],
            "mask": f"masks/{i}.png",
            "patient": f"p{i // 2}",
            "age": str(30 + i) if i else "",
            "sex": "FM"[i // 4 % 2],
            "split": SPLITS[i],
            "counter": "0",
        }
        for i in range(N)
    ]


def _pixels(i: int) -> np.ndarray:
    """A random picture with as much of the fine as natural ones have, neither black nor white."""
    generator, drawn = np.random.default_rng(i), np.zeros((SIDE, SIDE))
    for coarse in (5, 10, 20, 40):
        noise = Image.fromarray(generator.normal(size=(coarse, coarse)).astype(np.float32))
        drawn += np.asarray(noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) * 100 / coarse
    return np.clip(120 + drawn, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """The pictures of good data."""
    root = tmp_path_factory.mktemp("good")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    lungs = np.zeros((SIDE, SIDE), dtype=np.uint8)
    lungs[:, : SIDE // 2] = 255
    for i in range(N):
        Image.fromarray(_pixels(i)).save(root / f"images/{i}.png")
        Image.fromarray(lungs).save(root / f"masks/{i}.png")
    return root


def _write_table(root: Path, rows: list[dict[str, str]]) -> None:
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)


Rows = list[dict[str, str]]
Spoiler = Callable[[Path, Rows], None]


class Case(NamedTuple):
    """How data are spoiled, the words of the fault, and how many rows are left without it.

    `left` is None where no single row is at fault; `folder` spoils what the others have written.
    """

    name: str
    spoil: Spoiler
    words: str
    left: int | None = N - 1
    after: bool = False


def _cell(row: int, column: str, value: str) -> Spoiler:
    return lambda root, rows: rows[row].update({column: value})


def _cells(column: str, value: str, *, where: str, equals: str) -> Spoiler:
    def spoil(root, rows):
        for row in rows:
            if row[where] == equals:
                row[column] = value

    return spoil


def _file(content: bytes, path: str = "images/3.png") -> Spoiler:
    return lambda root, rows: (root / path).write_bytes(content)


def _picture(picture: Image.Image, kind: str = "PNG", path="images/3.png", **options) -> Spoiler:
    return lambda root, rows: picture.save(root / path, kind, **options)


def _copy(row: int, to: int, **changes: str) -> Spoiler:
    def spoil(root, rows):
        (root / f"images/{to}.png").write_bytes((root / f"images/{row}.png").read_bytes())

    return spoil


def _recoded(row: int, to: int) -> Spoiler:
    """Saved again as a smaller and brighter JPEG."""

    def spoil(root, rows):
        bright = Image.fromarray(np.clip(_pixels(row) * 1.1 + 5, 0, 255).astype(np.uint8))
        small = bright.resize((SIDE * 4 // 5, SIDE * 4 // 5))
        small.save(root / f"images/{to}.png", "JPEG", quality=60)

    return spoil


def _link(target: Callable[[Path], Path]) -> Spoiler:
    def spoil(root, rows):
        (root / "images/3.png").unlink()
        (root / "images/3.png").symlink_to(target(root))

    return spoil


def _table(change: Callable[[str], str | bytes]) -> Spoiler:
    def spoil(root, rows):
        file = root / "metadata.csv"
        text = change(file.read_bytes().decode())
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def _line(number: int, change: Callable[[str], str]) -> Spoiler:
    def spoil(text):
        lines = text.split("\r\n")
        lines[number - 1] = change(lines[number - 1])
        return "\r\n".join(lines)

    return _table(spoil)


def _pipe(root, rows):
    (root / "images/3.png").unlink()
    os.mkfifo(root / "images/3.png")


def _outside(root, rows):
    Image.fromarray(_pixels(3)).save(root.parent / "outside.png")
    rows[3]["image"] = "../outside.png"


def _no_table(root, rows):
    (root / "metadata.csv").unlink()


def _folder_for_table(root, rows):
    _no_table(root, rows)
    (root / "metadata.csv").mkdir()


def _coded(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _png(width: int, height: int) -> bytes:
    """A PNG that claims this size and holds no pixel."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b""), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def _damaged() -> bytes:
    content = bytearray(_coded(GREY, "PNG"))
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


GREY = Image.fromarray(_pixels(3))
LARGE = GREY.resize((200, 200))
HALF = np.zeros((SIDE, SIDE), dtype=np.uint8)
HALF[: SIDE // 2] = 255
CLEAR = Image.merge("LA", (GREY, Image.fromarray(HALF)))
LINE, IMAGE, MASK = r"metadata\.csv, line 5", r"images/3\.png", r"masks/3\.png"
AGE = "expected years from 0 to 120"

CELLS = [
    Case("no image", _cell(3, "image", "images/99.png"), rf"{LINE}: image .*99\.png: no such file"),
    Case("no mask", _cell(3, "mask", "masks/99.png"), rf"{LINE}: mask .*99\.png: no such file"),
    Case("no image path", _cell(3, "image", ""), f"{LINE}: image is '', expected a path"),
    Case("no mask path", _cell(3, "mask", ""), f"{LINE}: mask is '', expected a path"),
    Case("path out of the root", _outside, f"{LINE}: image .*leads out of"),
    Case("absolute path", _cell(3, "image", "/etc/hosts"), f"{LINE}: image /etc/hosts: leads out"),
    Case("folder as image", _cell(3, "image", "images"), f"{LINE}: image .*images: not a file"),
    Case("long name", _cell(3, "image", 300 * "a"), f"{LINE}: image .*aa: cannot be read"),
    Case("a line in a path", _cell(3, "image", "a\nb"), f"{LINE}: image .*a b: no such file"),
    Case("backslashes", _cell(3, "image", r"images\3.png"), "folders are separated by /"),
    Case("no label", _cell(3, "label", ""), f"{LINE}: label is '', expected a value"),
    Case("label nan", _cell(3, "label", "NaN"), f"{LINE}: label is 'NaN', expected a value"),
    Case("blank label", _cell(3, "label", " "), f"{LINE}: label is '', expected a value"),
    Case(
        "label and what is not seen",
        _cell(3, "label", "Normal\u200b"),
        rf"{LINE}: label is 'Normal.u200b', in 11 other rows 'Normal' \(first in line 4\): write",
    ),
    Case(
        "mistyped label",
        _cell(2, "label", "Nomral"),
        "line 4: label is 'Nomral', which no other row of 24 has; did you mean 'Normal'",
    ),
    Case(
        "mistyped in a phrase",
        lambda root, rows: (
            [row.update(label=row["label"].replace("Pneu", "Viral Pneu")) for row in rows]
            + [rows[5].update(label="Viral Pnuemonia")]
        ),
        "line 7: label is 'Viral Pnuemonia'.*did you mean 'Viral Pneumonia'",
    ),
    Case("label in capitals", _cell(3, "label", "NORMAL"), "'NORMAL', in 11 other rows 'Normal'"),
    Case("level in small", _cell(5, "sex", "m"), "line 7: sex is 'm', in 11 other rows 'M'"),
    Case("no patient", _cell(3, "patient", ""), f"{LINE}: patient is '', expected a value"),
    Case("unknown split", _cell(3, "split", "eval"), f"{LINE}: split is 'eval', expected one of"),
    Case("no split", _cell(3, "split", ""), f"{LINE}: split is '', expected one of train, val"),
    Case("unknown counter", _cell(3, "counter", "yes"), f"{LINE}: counter is 'yes', expected one"),
    *(
        Case(f"age {age}", _cell(3, "age", age), rf"{LINE}: age is '{age}', {AGE}")
        for age in ("-3", "430", "abc", "045Y", "20-430")
    ),
    Case(
        "patient in two splits",
        _cell(13, "patient", "p2"),
        "line 15: patient 'p2' has split 'val', yet 'train' in line 6",
    ),
    Case(
        "patient of two sexes",
        _cell(3, "sex", "M"),
        f"{LINE}: patient 'p1' has sex 'M', yet 'F' in line 4",
    ),
]
SETS = [
    Case(
        "one class",
        lambda root, rows: [row.update(label="Normal") for row in rows],
        "label is 'Normal' in every row, expected 2 or more values",
        None,
    ),
    Case(
        "split without a class",
        _cells("label", "Normal", where="split", equals="val"),
        "split 'val' has no row with label 'Pneumonia'",
        None,
    ),
]
FILES = [
    Case("no bytes", _file(b""), f"{LINE}: image .*{IMAGE}: empty file"),
    Case("text", _file(b"hello"), f"{IMAGE}: not a picture, it begins with b'hello'"),
    Case("half a PNG", _file(_coded(GREY, "PNG")[:300]), f"{IMAGE}: not a readable picture"),
    Case("half a JPEG", _file(_coded(LARGE, "JPEG")[:2000]), f"{IMAGE}: not a readable picture"),
    Case("half a TIFF", _file(_coded(GREY, "TIFF")[:60]), f"{IMAGE}: not a (readable )?picture"),
    Case("damaged PNG", _file(_damaged()), f"{IMAGE}: not a readable picture"),
    Case("no pixels", _file(_png(0, 9)), f"{IMAGE}: not a (readable )?picture"),
    Case("bomb", _file(_png(60_000, 60_000)), f"{IMAGE}: too large a picture"),
    Case("small bomb", _file(_png(10_000, 10_000)), f"{IMAGE}: too large a picture"),
    Case(
        "16 bits",
        _picture(Image.fromarray(_pixels(3).astype(np.uint16) * 100)),
        f"{IMAGE}: 16 bits a channel, expected 8; scale it to 0-255",
    ),
    Case(
        "fractions",
        _picture(Image.fromarray(_pixels(3).astype(np.float32)), "TIFF"),
        f"{IMAGE}: 32 bits a channel, expected 8",
    ),
    Case("CMYK", _picture(GREY.convert("CMYK"), "JPEG"), f"{IMAGE}: picture of mode CMYK"),
    Case("transparent", _picture(CLEAR), f"{IMAGE}: transparent pixels, expected none"),
    Case(
        "turned",
        _picture(GREY, "JPEG", exif=_turned()),
        rf"{IMAGE}: stored turned or mirrored \(EXIF orientation 6\), expected upright",
    ),
    Case(
        "pages",
        _picture(GREY, "TIFF", save_all=True, append_images=[GREY]),
        f"{IMAGE}: 2 pictures in one file, expected one",
    ),
    Case("one grey", _picture(Image.new("L", (9, 9), 7)), f"{IMAGE}: the same grey, 7, everywhere"),
    Case("pipe", _pipe, f"{LINE}: image .*{IMAGE}: not a file"),
    Case("loop of links", _link(lambda root: root / "images/3.png"), f"{LINE}.*: a loop of links"),
    Case("link out of the root", _link(lambda root: Path("/etc/hosts")), f"{LINE}.*leads out of"),
]
MASKS = [
    Case("no mask bytes", _file(b"", "masks/3.png"), f"{LINE}: mask .*{MASK}: empty file"),
    Case("black mask", _picture(Image.new("L", (9, 9)), path="masks/3.png"), f"{MASK}: empty mask"),
    Case(
        "white mask",
        _picture(Image.new("L", (9, 9), 255), path="masks/3.png"),
        f"{MASK}: empty mask, 255 everywhere",
    ),
    Case(
        "mask of another shape",
        _picture(Image.fromarray(HALF[:, : SIDE // 2]), path="masks/3.png"),
        f"{MASK}: mask of 48 x 96 pixels, its image has 96 x 96",
    ),
    Case(
        "mask of 0 and 1",
        _picture(Image.fromarray(HALF // 255), path="masks/3.png"),
        f"{MASK}: mask with grey pixels such as 1, expected only 0 and 255",
    ),
    Case("the image as mask", _cell(3, "mask", "images/3.png"), f"{IMAGE}: mask with grey pixels"),
]
COPIES = [
    Case(
        "a row twice",
        lambda root, rows: rows.append(dict(rows[3])),
        r"line 26 .*images/3\.png\): the same picture as line 5$",
        N,
    ),
    Case("a file twice", _copy(2, 3), rf"{LINE} .*{IMAGE}\): the same picture as line 4"),
    Case(
        "a picture with two labels",
        _copy(3, 5),
        r"line 7 .*: the same picture as line 5, yet label is 'Pneumonia' and 'Normal'",
        N - 2,
    ),
    Case(
        "a picture in two splits",
        _copy(3, 18),
        "line 20 .*: the same picture as line 5, yet split is 'test' and 'train'",
        N - 2,
    ),
]
TABLES = [
    Case("no table", _no_table, r"metadata\.csv: not found", None, True),
    Case("folder for a table", _folder_for_table, r"metadata\.csv: not found", None, True),
    Case("no bytes in the table", _table(lambda t: ""), "empty file, expected a first", None, True),
    Case("only names", _table(lambda t: t.splitlines()[0]), "no images", None, True),
    Case(
        "UTF-16",
        _table(lambda t: t.encode("utf-16")),
        "line 1: saved as UTF-16, expected UTF-8",
        None,
        True,
    ),
    Case(
        "UTF-16 without its mark",
        _table(lambda t: t.encode("utf-16-le")),
        "line 1: holds a NUL byte, .*perhaps saved as UTF-16",
        None,
        True,
    ),
    Case(
        "Latin-1",
        _table(lambda t: t.replace("p4", "pé").encode("latin-1")),
        "line 10: byte 0xe9 is not UTF-8, perhaps Latin-1",
        None,
        True,
    ),
    Case("NUL", _line(5, lambda line: line + "\0"), f"{LINE}: holds a NUL byte", None, True),
    Case(
        "semicolons",
        _table(lambda t: t.replace(",", ";")),
        "separated by semicolons, expected commas",
        None,
        True,
    ),
    Case("tabs", _table(lambda t: t.replace(",", "\t")), "separated by tabs", None, True),
    Case(
        "a column twice",
        _table(lambda t: t.replace("age", "sex")),
        "column 'sex' is there 2 times",
        None,
        True,
    ),
    Case(
        "a cell too many",
        _line(5, lambda line: line + ",x"),
        f"{LINE}: 9 cells, expected 8 as in line 1",
        None,
        True,
    ),
    Case(
        "a cell too few",
        _line(5, lambda line: line.rpartition(",")[0]),
        f"{LINE}: 7 cells, expected 8 as in line 1",
        None,
        True,
    ),
    Case(
        "a quote left open",
        _line(5, lambda line: '"' + line),
        rf"{LINE}: not readable as csv",
        None,
        True,
    ),
    Case(
        "no first line",
        _table(lambda t: t.partition("\r\n")[2]),
        r"no column 'image' in its first line, found images/0\.png",
        None,
        True,
    ),
    Case(
        "no column image",
        _table(lambda t: t.replace("image,", "Images,")),
        r"no column 'image' .*rename 'Images' to 'image'",
        None,
        True,
    ),
    Case(
        "no column label",
        _table(lambda t: t.replace("label", " Label ")),
        "no column 'label', .*rename it or name it as the target: 'Label'",
        None,
        True,
    ),
]
STOPPING = [*CELLS, *SETS, *FILES, *MASKS, *COPIES, *TABLES]
JUDGED = [
    Case(
        "a picture saved again, of another label",
        _recoded(3, 5),
        r"line 7 .*images/5\.png\): looks like line 5, yet label is 'Normal' and 'Pneumonia'",
    ),
    Case(
        "a picture saved again, in another split",
        _recoded(3, 18),
        "line 20 .*: looks like line 5, yet split is 'train' and 'test'",
    ),
]


@pytest.fixture
def spoiled(good, tmp_path) -> Callable[..., Path]:
    """Makes a folder of data that is good but for some cases."""

    def spoil(*cases: Case) -> Path:
        root = shutil.copytree(good, tmp_path / "data")
        rows = _rows()
        for case in (case for case in cases if not case.after):
            case.spoil(root, rows)
        _write_table(root, rows)
        for case in (case for case in cases if case.after):
            case.spoil(root, rows)
        return root

    return spoil


def _faults(root: Path, **options):
    try:
        return check(list_images("table", root, **options))
    except DataError as error:
        return list(error.faults)


def _names(cases: list[Case]) -> dict:
    return {"argvalues": cases, "ids": [case.name for case in cases]}


def test_good_data_have_no_fault(spoiled):
    root = spoiled()
    assert _faults(root) == []
    assert len(open_dataset("table", root, size=8, skip_faulty=True)) == N
    assert len(STOPPING) + len(JUDGED) >= 40


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Image size")  # Pillow's own
@pytest.mark.parametrize("case", **_names(STOPPING))
def test_bad_data_are_refused_in_one_line(spoiled, case):
    root = spoiled(case)
    faults = _faults(root)
    with pytest.raises(DataError, match=case.words) as error:
        open_dataset("table", root, size=8)
    assert str(error.value).startswith(str(faults[0])) and "\n" not in str(error.value)
    assert len(str(faults[0]).replace(str(root), "").replace(300 * "a", "")) < 170
    if case.left is None:
        assert [fault.row for fault in faults] == [None] * len(faults)
        with pytest.raises(DataError, match=case.words):
            open_dataset("table", root, size=8, skip_faulty=True)
        return
    rows = N + (case.name == "a row twice")
    assert len({fault.row for fault in faults}) == rows - case.left
    assert case not in COPIES or len(faults) == rows - case.left
    with pytest.warns(UserWarning, match=f"{rows - case.left} of {rows} rows left out"):
        data = open_dataset("table", root, size=8, skip_faulty=True)
    assert len(data) == case.left


@pytest.mark.parametrize("case", **_names(JUDGED))
def test_lookalikes_are_listed_and_do_not_stop(spoiled, case):
    root = spoiled(case)
    (fault,) = _faults(root)
    assert re.search(case.words, str(fault))
    assert len(open_dataset("table", root, size=8)) == N


def test_ten_faults_are_listed_at_once(spoiled):
    cases = [
        Case("", _cell(0, "age", "430"), "line 2: age is '430'"),
        Case("", _cell(2, "label", ""), "line 4: label is ''"),
        Case("", _cell(4, "image", "images/99.png"), r"line 6: image .*99\.png: no such file"),
        Case("", _cell(6, "split", "first"), "line 8: split is 'first'"),
        Case("", _cell(8, "sex", "M"), "line 11: patient 'p4' has sex 'F', yet 'M' in line 10"),
        Case("", _file(b"hello", "images/12.png"), r"images/12\.png: not a picture"),
        Case("", _file(_coded(GREY, "PNG")[:300], "images/13.png"), r"13\.png: not a readable"),
        Case("", _picture(Image.new("L", (9, 9)), path="masks/16.png"), r"16\.png: empty mask"),
        Case("", _copy(20, 21), r"line 23 .*images/21\.png\): the same picture as line 22"),
        Case("", _recoded(22, 10), r"line 24 .*images/22\.png\): looks like line 12"),
    ]
    faults = [str(fault) for fault in _faults(spoiled(*cases))]
    assert len(faults) == len(cases), "\n".join(faults)
    for case in cases:
        assert [bool(re.search(case.words, fault)) for fault in faults].count(True) == 1


def test_whatever_pillow_raises_is_a_fault(spoiled, monkeypatch):
    def broken(path):
        raise struct.error("unpack requires a buffer of 4 bytes")

    root = spoiled()
    monkeypatch.setattr("PIL.Image.open", broken)
    with pytest.raises(DataError, match=r"images/0\.png: not a readable picture \(unpack requires"):
        open_dataset("table", root, size=8)


def test_a_row_can_have_several_faults(spoiled):
    root = spoiled(CELLS[0]._replace(spoil=_cell(3, "age", "430")), FILES[1])
    whats = [fault.what for fault in _faults(root)]
    assert len(whats) == 2 and "age" in whats[0] and "not a picture" in whats[1]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of its own, to look into."""
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cache_that_cannot_be_written_is_named(spoiled, cache):
    root = spoiled()
    cache.write_text("a file where a folder should be")
    with pytest.raises(OSError, match=r"decoded images need 3 MB, XBL_KIT_CACHE.*cache/images"):
        open_dataset("table", root, size=256)


def test_a_full_disk_leaves_no_half_cache(spoiled, cache):
    resource = pytest.importorskip("resource")
    root = spoiled()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large; decoded images need 3 MB"):
            open_dataset("table", root, size=256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((cache / "images").iterdir()) == []
    assert len(open_dataset("table", root, size=256)) == N


def test_an_interrupted_reading_leaves_no_half_cache(spoiled, cache, monkeypatch):
    root = spoiled()
    with monkeypatch.context() as patch:
        patch.setattr("xbl_kit.data.cache.read_mask", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_dataset("table", root, size=8)
    assert list((cache / "images").iterdir()) == []
    assert open_dataset("table", root, size=8).images.any()


def _interrupted(path, size, image):
    if image.stem == str(N - 1):
        raise KeyboardInterrupt
    return read_mask(path, size, image)


def test_a_changed_file_is_read_anew(spoiled, cache):
    root = spoiled()
    before = open_dataset("table", root, size=8).images.copy()
    assert (open_dataset("table", root, size=8).images == before).all()
    assert len(list((cache / "images").iterdir())) == 2, "the pictures and what was found"
    GREY.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "images/3.png")
    changed = (open_dataset("table", root, size=8).images != before).any(axis=(1, 2))
    assert np.flatnonzero(changed).tolist() == [3]


@pytest.mark.parametrize("n", [0, 1, 8, 300, 25_001])
def test_work_in_parallel_keeps_its_order(n):
    assert list(in_parallel(lambda row: row * row, n, "squares")) == [i * i for i in range(n)]


def test_an_error_ends_the_rest_of_the_work():
    done = []

    def work(row):
        done.append(row)
        time.sleep(0.001)
        if row == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parallel(work, 30_000, "rows")
    assert len(done) < 3_000


def test_lookalikes_are_found_as_one_by_one():
    looks = np.random.default_rng(0).random((60, 100)) < 0.5
    looks[40:] = looks[:20]
    looks[40:, :16] ^= np.arange(20)[:, None] > np.arange(16)  # 0 to 16 bits of 100 differ
    slow = [
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if np.mean(looks[i] != looks[j]) <= ALIKE
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xbl_kit.data.check.TILE", 7)
        assert sorted(_alike(looks)) == slow and 3 < len(slow) < 12


SOUND = [
    {"COVID": 251, "Lung_Opacity": 333, "Normal": 669, "Viral Pneumonia": 330},
    {"grade 1": 500, "grade 2": 90, "grade 3": 1},
    {"Stage I": 1, "Stage II": 40, "Stage III": 300},
    {"grade10": 300, "grade11": 1},
    {"AP": 900, "PA": 2, "AP Supine": 1},
    {"no": 300, "yes": 1},
    {"0-4": 300, "5-9": 1},
    {"F": 20, "M": 1},
    {"male": 1, "female": 90},
    {"normal": 300, "abnormal": 1},
    {"typical": 300, "atypical": 1},
    {"anterior": 300, "posterior": 1},
    {"left lung": 1, "right lung": 300},
    {"T1w": 300, "T2w": 1},
    {"benign": 300, "malignant": 1},
    {"mistyped": 40, "mistaped": 10},
]
SLIPS = [("Pneumonia", "Pnuemonia"), ("Lung_Opacity", "Lung_Opcity"), ("COVID", "CVOID")]


def _labelled(counts: dict[str, int], **options) -> Manifest:
    labels = [name for name, n in counts.items() for _ in range(n)]
    where = [str(i) for i in range(len(labels))]
    return Manifest(pd.DataFrame({"label": labels}, where), (Path(),), **options)


@pytest.mark.parametrize("counts", SOUND)
def test_real_sets_of_labels_are_not_taken_for_slips(counts):
    assert row_faults(_labelled(counts)) == []


@pytest.mark.parametrize(("right", "wrong"), SLIPS)
def test_a_slip_is_found_unless_the_labels_are_named(right, wrong):
    counts = {right: 300, "other": 200, wrong: 2}
    words = f"only 2 rows of 502 has; did you mean {right!r}"
    assert [words in fault.what for fault in row_faults(_labelled(counts))] == [True, True]
    assert row_faults(_labelled(counts, labels=tuple(counts))) == []


@pytest.mark.parametrize("ages", ["30 30.5 1-5 80+ <5 0 120", "young old young", "045Y 006M 001D"])
def test_ages_in_years_ranges_or_words_are_sound(ages):
    values = ages.split()
    rows = pd.DataFrame({"label": ["a", "b", *values][: len(values)], "Age": values}, values)
    assert row_faults(Manifest(rows, (Path(),))) == []


def test_the_real_chest_x_rays_have_no_fault(cxr):
    assert _faults(cxr) == []
