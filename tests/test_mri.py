"""Brain MRI: drawn heads, stored in every way there is, give one upright picture."""

import gzip
import importlib
import itertools
import subprocess
import sys
import tracemalloc
from functools import cache
from pathlib import Path
from zlib import crc32

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from xbl_kit.data import DataError, faults, list_images, open_dataset
from xbl_kit.data.background import blacken
from xbl_kit.data.cache import in_parallel
from xbl_kit.data.check import check
from xbl_kit.data.readers.mri import list_mri
from xbl_kit.data.readers.volume import read_slices

FIELD = 192.0  # mm, of a cube
# What is in a head, from the outside in: grey, centre and radii in mm towards R, A and S.
HEAD = {
    "neck": (0.5, (0, -10, -85), (40, 45, 60)),
    "nose": (0.6, (0, 82, -25), (10, 12, 14)),
    "scalp": (1.0, (0, 0, 0), (66, 84, 76)),
    "skull": (0.15, (0, 0, 0), (61, 79, 71)),
    "brain": (0.7, (0, 0, 0), (57, 75, 67)),
    "right eye": (1.0, (26, 66, -14), (11, 11, 11)),
    "left eye": (1.0, (-26, 66, -14), (11, 11, 11)),
    "right ventricle": (0.2, (11, -4, -2), (7, 22, 18)),
    "left ventricle": (0.2, (-11, -4, -2), (7, 22, 18)),
    "tumour, on the left": (1.0, (-36, -24, 14), (11, 11, 11)),
}
SITES = {"nako": ("LPS", np.int16), "ukb": ("RAS", np.float32)}


@cache
def draw_head(shape=(64, 64, 64), *, ventricles=1.0, scale=1.0, tumour=True):
    """A head in a field of 192 mm, RAS; the grey of voxel ijk is that of its centre."""
    voxel = FIELD / np.array(shape)
    affine = np.diag([*voxel, 1])
    affine[:3, 3] = voxel / 2 - FIELD / 2
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    at = at * voxel + affine[:3, 3]
    volume = np.zeros(shape, np.float32)
    for part, (grey, centre, radii) in HEAD.items():
        wide = scale * (ventricles if "ventricle" in part else 1.0)
        inside = (((at - scale * np.array(centre)) / (wide * np.array(radii))) ** 2).sum(-1) < 1
        if tumour or "tumour" not in part:
            volume[inside] = grey
    cleft = (np.abs(at[..., 0]) < 4) & (at[..., 2] > 24)  # between the hemispheres
    volume[cleft & (volume == np.float32(0.7))] = 0.3
    return nib.Nifti1Image(volume, affine)


def store(image, file: Path, *, axes="RAS", dtype=np.float32, gain=1.0, offset=0.0) -> Path:
    """The image written with other axes and another type of voxel."""
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(axes)))
    turned = image.as_reoriented(turn)
    voxels = np.asarray(turned.dataobj) * gain + offset
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(dtype), turned.affine), file)
    return file


def write_bids(root: Path, *, per_cell=20, sites=tuple(SITES), shape=(24, 24, 24), seed=0) -> Path:
    """BIDS folders with `per_cell` subjects of each site, diagnosis (ventricles) and sex (size).

    Sites differ in grey values, noise, orientation and type of voxel.
    """
    generator = np.random.default_rng(seed)
    for site in sites:
        axes, dtype = SITES[site]
        lines = ["participant_id\tage\tsex\tdiagnosis"]
        cells = itertools.product(range(per_cell), ("AD", "CN"), "FM")
        for number, (_, diagnosis, sex) in enumerate(cells):
            image = draw_head(
                shape,
                ventricles=generator.normal(2.0 if diagnosis == "AD" else 1.0, 0.1),
                scale=generator.normal(1.0 if sex == "M" else 0.9, 0.01),
                tumour=False,
            )
            bright = np.asarray(image.dataobj) ** (0.6 if site == "ukb" else 1.0)
            noise = generator.normal(0, 0.03, shape)
            image = nib.Nifti1Image(np.abs(bright + noise).astype(np.float32), image.affine)
            subject = f"sub-{number:03}"
            file = root / site / subject / "anat" / f"{subject}_T1w.nii.gz"
            store(image, file, axes=axes, dtype=dtype, gain=900 if dtype == np.int16 else 1.0)
            lines.append(f"{subject}\t{generator.integers(45, 85)}\t{sex}\t{diagnosis}")
        (root / site / "participants.tsv").write_text("\n".join(lines) + "\n")
    return root


def _site(root: Path, table: str, *files: str) -> Path:
    """A BIDS folder: a table, written with commas for tabs, and these volumes, no two alike."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "participants.tsv").write_text(table.replace(",", "\t"))
    for file in files:
        image = draw_head((12, 12, 12))
        noise = np.random.default_rng(crc32(f"{root.name}/{file}".encode())).random(image.shape)
        store(nib.Nifti1Image(image.dataobj + noise / 4, image.affine), root / file)
    return root


def _names(numbers):
    return [f"sub-{n:02}/anat/sub-{n:02}_T1w.nii.gz" for n in numbers]


TABLE = "participant_id,age,sex,group\nsub-01,30,F,ill\nsub-02,n/a,male,well\n03,89+,m,ill\n"


@pytest.fixture
def site(tmp_path):
    return _site(tmp_path / "nako", TABLE, *_names((1, 2, 3)))


# ---- pictures


def _centre(mask):
    return [axis.mean() / n for axis, n in zip(np.nonzero(mask), mask.shape, strict=True)]


def test_heads_are_upright_and_left_is_on_the_right(tmp_path):
    """By where things are: the tumour is on the left, eyes are in front, the neck is below."""
    heads = (draw_head(), draw_head(tumour=False))
    files = [store(image, tmp_path / f"{i}.nii") for i, image in enumerate(heads)]
    right, front, up = (0.5 + v / FIELD for v in HEAD["tumour, on the left"][1])
    for plane, behind, expected in (
        ("axial", up, (1 - front, 1 - right)),
        ("coronal", front, (1 - up, 1 - right)),
        ("sagittal", right, (1 - up, 1 - front)),
    ):
        stacks = (read_slices(file, 64, plane=plane, slices=35) for file in files)
        with_it, without = (stack.astype(int) for stack in stacks)
        depth, *place = _centre(np.abs(with_it - without) > 60)
        assert place == pytest.approx(expected, abs=0.02)
        assert (depth > 0.5) == (behind > 0.5), "upwards, forwards, to the right"
    below = read_slices(files[0], 64, plane="coronal")[0][-3:]
    assert below.any() and not read_slices(files[0], 64, plane="coronal")[0][:3].any(), "neck"


def test_a_slice_is_what_a_plain_look_into_the_volume_gives(tmp_path):
    """Naive: voxel by voxel from world coordinates, with no reorientation of arrays."""
    image = draw_head((64, 64, 64))
    file = store(image, tmp_path / "head.nii.gz", axes="PIR", dtype=np.int16, gain=800)
    stored = nib.load(file)
    voxels, back = np.asarray(stored.dataobj), np.linalg.inv(stored.affine)
    dark, bright = np.percentile(voxels, (2, 98))
    low, high = np.percentile(voxels[voxels > dark + 0.1 * (bright - dark)], (1, 99))
    inside = [k for k in range(64) if (np.asarray(image.dataobj)[:, :, k] > 0.1).sum() > 60]
    middle = (max(inside[0], inside[-1] - 47) + inside[-1]) // 2
    found = read_slices(file, 64)[0]
    for row, column in itertools.product(range(0, 64, 3), repeat=2):
        world = image.affine @ (63 - column, 63 - row, middle, 1)
        grey = voxels[tuple((back @ world)[:3].round().astype(int))]
        assert found[row, column] == round(255 * np.clip((grey - low) / (high - low), 0, 1))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_orientation_type_and_spacing_do_not_show(tmp_path, plane):
    expected = read_slices(store(draw_head(), tmp_path / "0.nii"), 64, plane=plane)[0].astype(int)
    assert expected.max() == 255 and expected[0].max() == 0
    for axes, dtype, gain, offset in (
        ("LPS", np.int16, 1000, 0),
        ("PIR", np.uint8, 200, 20),
        ("SAL", np.float64, 1e-3, -5),
        ("IRP", np.uint16, 4000, 100),
    ):
        image = draw_head()
        file = store(
            image, tmp_path / f"{axes}.nii.gz", axes=axes, dtype=dtype, gain=gain, offset=offset
        )
        found = read_slices(file, 64, plane=plane)[0].astype(int)
        assert np.abs(found - expected).max() <= 3
    for shape in ((128, 64, 64), (64, 64, 26), (64, 26, 64), (26, 64, 64)):
        file = store(draw_head(shape), tmp_path / "spaced.nii.gz", axes="ASR")
        found = read_slices(file, 64, plane=plane)[0].astype(int)
        assert np.abs(found - expected).mean() < 16, shape
        for side in (0, 1):
            lengths = [np.ptp(np.flatnonzero((p > 60).any(axis=side))) for p in (found, expected)]
            assert abs(lengths[0] - lengths[1]) <= 3, shape


def test_scaled_voxels_and_both_endings_read_alike(tmp_path):
    image = draw_head((32, 32, 32))
    expected = read_slices(store(image, tmp_path / "a.nii"), 32)
    scaled = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    scaled.set_data_dtype(np.int16)  # nibabel then writes scl_slope and scl_inter
    nib.save(scaled, tmp_path / "b.nii.gz")
    assert nib.load(tmp_path / "b.nii.gz").dataobj.slope != 1
    assert np.abs(read_slices(tmp_path / "b.nii.gz", 32).astype(int) - expected).max() <= 1
    four = nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine)
    nib.save(four, tmp_path / "c.nii")
    assert (read_slices(tmp_path / "c.nii", 32) == expected).all()


def test_a_narrow_field_is_padded_with_black(tmp_path):
    image = draw_head((32, 32, 32)).slicer[8:24, :, :]
    found = read_slices(store(image, tmp_path / "a.nii"), 64)[0]
    assert found.shape == (64, 64) and not found[:, :16].any() and not found[:, 48:].any()
    assert found[32, 18:46].any()


def test_the_middle_is_that_of_the_head(tmp_path):
    image = draw_head((64, 64, 64))
    expected = read_slices(store(image, tmp_path / "a.nii"), 64, plane="coronal")[0]
    voxels = np.pad(np.asarray(image.dataobj), ((0, 0), (40, 0), (0, 0)))
    affine = image.affine.copy()
    affine[1, 3] -= 40 * 3
    wide = nib.Nifti1Image(voxels, affine)
    assert (read_slices(store(wide, tmp_path / "b.nii"), 64, plane="coronal")[0] == expected).all()
    voxels = np.asarray(image.dataobj).copy()
    voxels[20:44, 20:44, :8] = 0.5  # a longer neck
    long = store(nib.Nifti1Image(voxels, image.affine), tmp_path / "c.nii")
    assert (read_slices(long, 64) == read_slices(tmp_path / "a.nii", 64)).all()


def test_stacks_are_neighbours_around_the_middle(tmp_path):
    file = store(draw_head((32, 32, 32)), tmp_path / "a.nii")
    stack = read_slices(file, 32, plane="sagittal", slices=5)
    assert stack.shape == (5, 32, 32)
    assert (stack[2:3] == read_slices(file, 32, plane="sagittal")).all()
    assert (stack[1:4] == read_slices(file, 32, plane="sagittal", slices=3)).all()
    assert (stack[1:] == read_slices(file, 32, plane="sagittal", slices=4)).all() or (
        stack[:4] == read_slices(file, 32, plane="sagittal", slices=4)
    ).all()


def test_hot_voxels_and_nan_margins_do_no_harm(tmp_path):
    image = draw_head((48, 48, 48))
    expected = read_slices(store(image, tmp_path / "a.nii"), 48)
    voxels = np.asarray(image.dataobj, dtype=np.float64)
    voxels[0, 0, :9] = (1e300, -1e300, np.inf, -np.inf, np.nan, 1e6, 1e6, 1e6, 1e6)
    file = store(nib.Nifti1Image(voxels, image.affine), tmp_path / "b.nii", dtype=np.float64)
    assert (read_slices(file, 48) == expected).all()
    voxels[voxels == 0] = np.nan
    file = store(nib.Nifti1Image(voxels, image.affine), tmp_path / "c.nii", dtype=np.float64)
    found = read_slices(file, 48)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95 and not found[0, :2].any()


def test_wider_percentiles_give_less_contrast(tmp_path):
    file = store(draw_head((32, 32, 32)), tmp_path / "a.nii")
    assert np.ptp(read_slices(file, 32)) == 255
    tight, wide = (read_slices(file, 32, percentiles=p)[0] for p in ((40, 60), (0, 100)))
    assert ((tight > 0) & (tight < 255)).sum() < ((wide > 0) & (wide < 255)).sum()


# ---- volumes that are of no use


def _faulty(file: Path, what: str) -> None:
    head = np.asarray(draw_head((12, 12, 12)).dataobj)
    affine = np.diag([16.0, 16, 16, 1])
    whole = file.with_name("whole.nii.gz")
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(24, 24, 24)), affine), whole)
    volumes = {
        "plane": head[0],
        "one slice": head[:, :, :1],
        "two volumes": np.stack([head, head], axis=-1),
        "zero": 0 * head,
        "NaN": np.nan * head,
        "complex": head.astype(np.complex64),
    }
    if what in volumes:
        nib.save(nib.Nifti1Image(volumes[what], affine), file)
    elif what == "no orientation":
        nib.save(nib.Nifti1Image(head, None), file)
    elif what == "micron":
        image = nib.Nifti1Image(head, affine)
        image.header.set_xyzt_units(what)
        nib.save(image, file)
    elif what == "two ways":
        image = nib.Nifti1Image(head, affine)
        image.set_sform(affine, code=1)
        image.set_qform(affine * (-1, 1, 1, 1), code=1)
        nib.save(image, file)
    elif what == "voxels in the header":
        data = bytearray(nib.Nifti1Image(head, affine).to_bytes())
        data[108:112] = bytes(4)  # vox_offset
        file.write_bytes(gzip.compress(bytes(data)))
    elif what == "flat affine":
        image = nib.Nifti1Image(head, affine)
        image.header.set_sform(np.diag([16.0, 0, 16, 1]), code=1)
        image.header.set_qform(None, code=0)
        image.header["srow_y"] = 0
        data = bytearray(image.to_bytes())
        data[280 + 16 : 280 + 32] = bytes(16)  # srow_y
        file.write_bytes(gzip.compress(bytes(data)))
    else:
        content = {
            "truncated": whole.read_bytes()[:2000],
            "text": b"hello" * 100,
            "no gzip": gzip.decompress(whole.read_bytes()),
            "short": gzip.compress(gzip.decompress(whole.read_bytes())[:5000]),
            "text in gzip": gzip.compress(b"hello" * 100),
        }
        file.write_bytes(content[what])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("truncated", "not a readable NIfTI volume"),
        ("short", "not a readable NIfTI volume"),
        ("text", "not a readable NIfTI volume"),
        ("no gzip", "not a readable NIfTI volume"),
        ("text in gzip", "not a readable NIfTI volume"),
        ("plane", "shape 12 x 12, expected one volume"),
        ("one slice", "shape 12 x 12 x 1, expected one volume"),
        ("two volumes", "shape 12 x 12 x 12 x 2, expected one volume"),
        ("zero", "the same value, 0, everywhere"),
        ("NaN", "no voxel with a finite value"),
        ("complex", "voxels of type complex64, expected numbers"),
        ("no orientation", r"no orientation \(qform and sform codes are 0\)"),
        ("micron", "voxel sizes in micron, expected mm"),
        ("flat affine", "an affine that is of no use"),
        ("two ways", "qform and sform say LAS and RAS, expected one orientation"),
        ("voxels in the header", "voxels from byte 0 on, within the header"),
    ],
)
def test_a_faulty_volume_is_named_in_one_line(site, what, words):
    _faulty(site / _names([2])[0], what)
    with pytest.raises(DataError, match=rf"sub-02_T1w\.nii\.gz: .*{words}") as error:
        open_dataset("mri", site, target="group", size=16)
    assert "\n" not in str(error.value) and len(error.value.faults) == 1
    (site / "whole.nii.gz").unlink(missing_ok=True)
    (site / "sub-02/anat/whole.nii.gz").unlink(missing_ok=True)
    faults = check(list_images("mri", site, target="group"))
    assert [fault.row for fault in faults] == [1]


def test_too_large_sparse_and_partly_empty_volumes(tmp_path, monkeypatch):
    head = draw_head((12, 12, 12))
    file = store(head, tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a\.nii: an empty coronal slice near the middle"):
        read_slices(file, 16, plane="coronal", slices=12)
    monkeypatch.setattr(faults, "MOST_BYTES", 12**3 * 16 - 1)  # 4 of a float32, and 12 to work with
    with pytest.raises(DataError, match=r"a\.nii: too large a volume: 12 x 12 x 12 voxels"):
        read_slices(file, 16)
    monkeypatch.undo()
    voxels = np.zeros((12, 12, 12), np.float32)
    voxels[5:7, 5:7, 5:7] = 7  # fewer than 2 % of the voxels
    found = read_slices(store(nib.Nifti1Image(voxels, head.affine), tmp_path / "b.nii"), 12)[0]
    assert np.flatnonzero(found).size == 4 and found.max() == 255


def test_too_few_slices(site):
    with pytest.raises(DataError, match=r"12 coronal slices, expected 13 or more"):
        open_dataset("mri", site, target="group", plane="coronal", slices=13)


# ---- folders


def test_one_site_is_read(site):
    data = open_dataset("mri", site, target="group", size=16, slices=3, ages=(30, 80))
    assert data.images.shape == (9, 16, 16) and data.classes == ("ill", "well")
    assert data.label.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert data.patient.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.levels["sex"] == ("F", "M") and "site" not in data.levels
    assert data.confounders["sex"][::3].tolist() == [0, 1, 1]
    assert data.levels["age_group"] == ("0-30", "80+")
    assert data.confounders["age_group"][::3].tolist() == [0, -1, 1]
    assert "participant_id" not in list_mri(site).rows


def test_sites_sessions_and_equal_names_of_patients(tmp_path, site):
    table = "participant_id,sex,site,centre\nsub-01,F,Jena,x\nsub-02,f,Kiel,n/a\n"
    sessions = [f"sub-01/ses-{s}/anat/sub-01_ses-{s}_T1w.nii" for s in "ab"]
    _site(tmp_path / "ukb", table, *sessions, *_names([2]))
    for root in (tmp_path, [site, str(tmp_path / "ukb")]):
        listing = list_mri(root)
        rows = listing.rows
        assert rows["site"].tolist() == 3 * ["nako"] + 3 * ["ukb"]
        assert rows["site_within"].tolist() == ["", "", "", "Jena", "Jena", "Kiel"]
        assert rows["sex"].tolist() == ["F", "M", "M", "F", "F", "F"]
        assert rows["group"].tolist() == ["ill", "well", "ill", "", "", ""]
        assert rows["centre"].tolist() == ["", "", "", "x", "x", ""]
        assert rows["age"].tolist() == ["30", "", "89+", "", "", ""]
        people = ["nako/sub-01", "nako/sub-02", "nako/sub-03"]
        assert rows["patient"].tolist() == [*people, "ukb/sub-01", "ukb/sub-01", "ukb/sub-02"]
        assert rows.index[5].endswith("ukb/participants.tsv, line 3")
        data = open_dataset("mri", root, target="site", size=16, confounders=["sex"])
        assert data.label.tolist() == [0, 0, 0, 1, 1, 1]
        assert len(data.patient.unique()) == 5
    alone = list_mri(tmp_path / "ukb").rows
    assert alone["site"].tolist() == ["Jena", "Jena", "Kiel"] and "site_within" not in alone


def test_lines_without_a_value_are_passed_over(tmp_path):
    site = _site(tmp_path / "a", "participant_id , sex\n\n,\nsub-01 , F\n , \n", *_names([1]))
    listing = list_mri(site)
    assert listing.rows["patient"].tolist() == ["a/sub-01"] and listing.rows["sex"].iloc[0] == "F"
    assert listing.rows.index[0].endswith("participants.tsv, line 4")


def test_the_listing_opens_no_volume(site):
    for file in site.rglob("*.nii.gz"):
        file.write_bytes(b"")
    (site / "sub-01/anat/._sub-01_T1w.nii.gz").write_bytes(b"left by a Mac")
    (site / "sub-01/anat/sub-01_T1w.json").write_text("{}")
    assert len(list_mri(site)) == 3


def test_volumes_do_not_pile_up_in_memory(site):
    """Read one after another they take the room of one."""
    files = [site / name for name in _names((1, 2, 3))]
    for number, file in enumerate(files):
        store(draw_head((64, 64, 64), scale=0.9 + number / 20), file)

    def peak(paths):
        tracemalloc.start()
        pictures = [read_slices(path, 16) for path in paths]
        found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found[1] - sum(p.nbytes for p in pictures), found[0]

    one, many = peak(files[:1]), peak(4 * files)
    assert one[0] > 4 * 64**3 and many[0] < 1.2 * one[0] and many[1] < 64**3
    assert len(list(in_parallel(lambda row: read_slices(files[row], 16), 3, "reading"))) == 3


def test_participants_without_a_volume_and_volumes_of_nobody(site):
    anat = site / "sub-03/anat"
    (anat / "sub-03_T1w.nii.gz").rename(anat / "sub-04_T1w.nii.gz")
    anat.parent.rename(site / "sub-04")
    with pytest.raises(DataError) as error:
        open_dataset("mri", site, target="group", size=16)
    lines = [str(fault) for fault in error.value.faults]
    missing = site / "sub-03/anat/sub-03_T1w.nii.gz"
    assert f"{site}/participants.tsv, line 4: image {missing}: no such file" in lines
    found = site / "sub-04/anat/sub-04_T1w.nii.gz"
    nobody = f"{found}, of no one in {site}/participants.tsv"
    assert f"{nobody}: patient is '', expected a value" in lines
    assert list_mri(site).rows["site"].tolist() == ["nako", "nako", "nako", ""]
    with pytest.warns(UserWarning, match="2 of 4 rows left out"):
        data = open_dataset("mri", site, target="group", size=16, skip_faulty=True)
    assert data.label.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("participant_id;sex\nsub-01;F\n", "columns are separated by semicolons, expected tabs"),
        ("subject,sex\nsub-01,F\n", "no column 'participant_id' in its first line.* subject, sex"),
        ("participant_id,sex\nsub-01,F\n\n01,M\n", "line 4: sub-01 again, first in .*line 2"),
        ("participant_id,sex\nsub-01,F\n\n1.0,M\n1,M\n", "line 5: sub-1 again, first in .*line 4"),
        ("participant_id,sex\nsub-01,F\n?,M\n", r"line 3: participant_id is '\?', expected sub-"),
        ("participant_id,sex\nsub-01,F\nn/a,M\n", "line 3: participant_id is '', expected sub-"),
        ("participant_id,Split\nsub-01,test\n", "column 'Split': rename it to 'split'"),
        ("participant_id,sex\nsub-01,F,2\n", "line 2: 3 cells, expected 2"),
        ("participant_id,sex\nsub-01\n", "line 2: 1 cells, expected 2"),
        ("participant_id,patient\nsub-01,1\n", "column 'patient': the name means something else"),
        ("participant_id,sex,sex\nsub-01,F,M\n", "column 'sex' is there 2 times"),
        ("\n", "empty file"),
    ],
)
def test_a_fault_in_the_participants_is_one_line(tmp_path, table, words):
    _site(tmp_path / "a", table, *_names([1]))
    with pytest.raises(DataError, match=rf"participants\.tsv.*{words}") as error:
        list_mri(tmp_path / "a")
    assert "\n" not in str(error.value)


def test_a_folder_that_is_none(tmp_path, site):
    for root, words in (
        (tmp_path / "absent", "absent: no such folder"),
        ([site, tmp_path / "absent"], "absent: no such folder"),
        (site / "sub-01/anat", "no participants.tsv, neither here nor in a folder of it"),
        ([site, site], "the second site of the name 'nako'"),
    ):
        with pytest.raises(DataError, match=words):
            list_mri(root)
    (tmp_path / "other/sub-01").mkdir(parents=True)
    with pytest.raises(DataError, match=r"other/participants\.tsv: not found"):
        list_mri(tmp_path)
    (site / "participants.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"participants\.tsv, line 1: saved as UTF-16"):
        list_mri(site)


def test_wrong_options(site, tmp_path):
    for options, words in (
        ({"plane": "oblique"}, "plane 'oblique': expected one of sagittal, coronal, axial"),
        ({"slices": 0}, "slices 0: expected 1 or more"),
        ({"percentiles": (99, 1)}, r"percentiles=\(99, 1\): expected two, the lower"),
        ({"percentiles": (1, 101)}, r"percentiles=\(1, 101\): expected two of 0 to 100"),
        ({"percentiles": (5,)}, r"percentiles=\(5,\): expected two, the lower first"),
        ({"ages": (60, 50)}, r"ages=\(60, 50\): expected two, the lower first"),
        ({"ages": (50,)}, r"ages=\(50,\): expected two, the lower first"),
    ):
        with pytest.raises(ValueError, match=words):
            list_mri(site, **options)
    with pytest.raises(ValueError, match="expected one folder or more"):
        list_mri([])
    with pytest.raises(DataError, match="no column 'age'"):
        list_mri(_site(tmp_path / "b", "participant_id\nsub-01\n"), ages=(40, 60))
    (site / "participants.tsv").write_text("participant_id\tage\nsub-01\ttwenty\n")
    with pytest.raises(DataError, match=r"line 2: age is 'twenty', expected years"):
        list_mri(site, ages=(40, 60))
    with pytest.raises(DataError, match="no column 'label', expected one of site, age"):
        open_dataset("mri", site)


def test_two_sites_as_in_the_experiment(tmp_path):
    data = open_dataset("mri", write_bids(tmp_path, per_cell=2), target="diagnosis", size=24)
    assert len(data) == 16 and data.classes == ("AD", "CN")
    assert data.levels["site"] == ("nako", "ukb") and data.levels["sex"] == ("F", "M")
    middle = data.images[:, 8:16, 8:16].mean(axis=(1, 2))
    ill = data.label.numpy() == 0
    for level in (0, 1):
        of_site = data.confounders["site"].numpy() == level
        assert middle[of_site & ill].max() < middle[of_site & ~ill].min(), "ventricles are dark"


def _slices_of(voxels, tmp_path, name):
    image = nib.Nifti1Image(voxels.astype(np.float32), np.diag([3.0, 3, 3, 1]))
    nib.save(image, tmp_path / name)
    return read_slices(tmp_path / name, 64)[0].astype(int)


@pytest.mark.parametrize(
    ("score", "background"),
    [
        (lambda brain: (brain - 100) / 30, 0),  # z-scored within the brain
        (lambda brain: (brain - 100) / 30, np.nan),
        (lambda brain: (brain - 100) / 30, -7),
        (lambda brain: (brain - 100) / 30, 9),
        (lambda brain: (brain - 70) / 40, -1),
        (lambda brain: -brain, -100),
        (lambda brain: brain, np.inf),
    ],
)
def test_a_background_of_one_value_is_black_wherever_it_lies(tmp_path, score, background):
    generator = np.random.default_rng(0)
    at = np.stack(np.mgrid[:40, :40, :40]) - np.array([20, 20, 24]).reshape(3, 1, 1, 1)
    brain, white = ((at**2).sum(0) < radius**2 for radius in (15, 9))
    levels = np.where(white, 130, 80) + 4 * generator.standard_normal(brain.shape)
    scored = score(levels)
    least = scored[brain].min()
    raw = _slices_of(
        np.where(brain, scored - least + 50 * scored[brain].std(), 0), tmp_path, "a.nii"
    )
    found = _slices_of(np.where(brain, scored, background), tmp_path, "b.nii")
    assert not found[:, 0].any() and not found[0].any() and not raw[0].any()
    assert abs(found - _slices_of(np.where(brain, scored, least), tmp_path, "c.nii")).max() <= 3
    ring, middle = found[32, 10:14].mean(), found[30:34, 30:34].mean()
    assert (ring < middle) == (scored[white].mean() > scored[brain].mean())


@pytest.mark.parametrize("noise", [1e-6, 0.02, 0.05])
def test_a_background_with_a_little_noise_is_black_and_what_is_alike_in_the_head_is_not(
    tmp_path, noise
):
    generator = np.random.default_rng(0)
    at = np.stack(np.mgrid[:40, :40, :40]) - np.array([20, 20, 24]).reshape(3, 1, 1, 1)
    brain, inner = ((at**2).sum(0) < radius**2 for radius in (15, 6))
    sides = np.where(at[0] > 0, 1.5, -1.5) + generator.normal(0, 0.2, brain.shape)
    scored = np.where(inner, 0, sides)
    least = scored[brain].min()
    noisy = np.where(brain, scored, generator.normal(0, noise, brain.shape))
    found = _slices_of(noisy, tmp_path, "a.nii")
    expected = _slices_of(np.where(brain, scored, least), tmp_path, "b.nii")
    assert (abs(found - expected) > 3).mean() < 0.002 and 90 < found[32, 32] < 165


def test_noise_that_is_not_small_and_a_dark_one_stay(tmp_path):
    generator = np.random.default_rng(0)
    at = np.stack(np.mgrid[:40, :40, :40]) - 20
    brain = (at**2).sum(0) < 15**2
    for level, noise in ((0, 0.5), (-5, 0.05)):
        volume = np.where(brain, generator.normal(size=brain.shape), level).astype(np.float32)
        volume[~brain] += generator.normal(0, noise, (~brain).sum())
        before = volume.copy()
        blacken(volume)
        assert (volume == before).all()


@pytest.mark.parametrize("side", [0.001, 400.0])
def test_voxels_that_are_not_in_mm_are_refused(tmp_path, side):
    image = nib.Nifti1Image(
        np.random.default_rng(0).random((40, 40, 40)), np.diag([*[side] * 3, 1])
    )
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(DataError, match="mm from end to end, expected a head; convert its voxel"):
        read_slices(tmp_path / "a.nii", 16)


def test_nibabels_log_is_left_alone(tmp_path, caplog):
    code = "import nibabel; l = nibabel.imageglobals.logger; a = l.level, l.filters[:]; "
    code += "import xbl_kit.data; assert (l.level, l.filters) == a"
    subprocess.run([sys.executable, "-c", code], check=True)
    header = nib.Nifti1Header()
    header.set_data_shape((4, 4, 4))
    header["vox_offset"], header["magic"] = 360, b"n+1"  # no multiple of 16, which nibabel tells
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(12 + 256))
    logger = nib.imageglobals.logger
    nib.load(tmp_path / "a.nii")
    told = len(caplog.records)
    with pytest.raises(DataError, match="no orientation"):
        read_slices(tmp_path / "a.nii", 8)
    assert told and len(caplog.records) == told and not logger.filters


@pytest.mark.parametrize("share", [0.0, 0.15])
def test_one_value_within_a_head_is_no_background(tmp_path, share):
    generator = np.random.default_rng(0)
    voxels = generator.normal(100, 20, size=(20, 20, 20))
    voxels[8:12, 8:12, 8 : 8 + int(40 * share)] = 100
    found = _slices_of(voxels, tmp_path, "a.nii")
    assert 60 < found[28:36, 28:36].mean() < 190


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1000,) * 3, np.uint8), ((2000, 2000, 40), np.float64), ((600, 600, 600), np.int16)],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_wants_too_much_memory_is_refused(tmp_path, shape, dtype, suffix):
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = header.binaryblock + bytes(16_000)
    file = tmp_path / f"a{suffix}"
    file.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"too large a volume: .* take .* GB, expected 1\.1 at most"
    ):
        read_slices(file, 8)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf, 2.5, 1.0])
def test_a_slope_that_is_none_scales_nothing(tmp_path, slope):
    image = draw_head((16, 16, 16))
    voxels = (1000 * np.asarray(image.dataobj)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, image.affine), tmp_path / "a.nii")
    plain = read_slices(tmp_path / "a.nii", 32)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([slope, 0], np.float32).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    assert np.array_equal(read_slices(tmp_path / "a.nii", 32), plain)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("xbl_kit.data.mri", ["list_mri", "read_slices"]),
        ("xbl_kit.methods.exbl", ["ExBL"]),
        ("xbl_kit.checkpoint", ["load_model", "save_model"]),
    ],
)
def test_older_names_are_kept_for_a_while(module, names):
    with pytest.warns(DeprecationWarning, match="moved to xbl_kit"):
        found = importlib.reload(importlib.import_module(module))
    assert found.__all__ == names and all(callable(getattr(found, name)) for name in names)
