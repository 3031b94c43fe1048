"""DICOM files: pictures as a viewer shows them, faults in one line."""

import csv
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    generate_uid,
)

from xbl_kit.data import DataError, open_dataset
from xbl_kit.data.dicom import GROUPS, read_dicom
from xbl_kit.data.faults import reading
from xbl_kit.data.picture import picture_size, read_frames, read_picture

COMPUTED = "1.2.840.10008.5.1.4.1.1.1"  # Computed Radiography Image Storage
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"  # Basic Text SR Storage


def write_dicom(path, pixels, *, kind=COMPUTED, syntax=ExplicitVRLittleEndian, **elements):
    """A DICOM file of the stored values `pixels`; `elements` are set as they are."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.PatientName = "Doe^Jane"
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape[:2]
        data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
        data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        if pixels.ndim == 3:
            data.PlanarConfiguration = 0
        data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    data.HighBit = data.get("BitsStored", 1) - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of the values are wrong on purpose
        data.save_as(path, enforce_file_format=True)
    return path


def _ramp(dtype=np.uint16, low=0, high=4095, shape=(12, 20)):
    return np.linspace(low, high, shape[0] * shape[1]).reshape(shape).astype(dtype)


def _naive(values, center, width, function="LINEAR"):
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, one value after the other, 0 to 255."""
    out = np.zeros(values.shape)
    for at, x in np.ndenumerate(values):
        if function == "SIGMOID":
            y = 1 / (1 + np.exp(-4 * (x - center) / width))
        elif x <= center - 0.5 - (width - 1) / 2:
            y = 0
        elif x > center - 0.5 + (width - 1) / 2:
            y = 1
        else:
            y = (x - (center - 0.5)) / (width - 1) + 0.5
        out[at] = 255 * y
    return out


def _close(picture, expected):
    assert picture.mode == "L"
    np.testing.assert_allclose(np.asarray(picture, dtype=float), expected, atol=0.51)


@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
@pytest.mark.parametrize(
    ("dtype", "low", "high", "bits"),
    [
        (np.uint8, 0, 255, 8),
        (np.uint16, 0, 4095, 12),
        (np.int16, -1000, 3000, 16),
        (np.uint32, 5, 90_000, 17),
    ],
)
def test_a_window(tmp_path, function, dtype, low, high, bits):
    pixels, middle, width = _ramp(dtype, low, high), (low + high) // 3, (high - low) // 2
    elements = {"WindowCenter": middle, "WindowWidth": width, "VOILUTFunction": function}
    path = write_dicom(tmp_path / "a.dcm", pixels, BitsStored=bits, **elements)
    _close(read_dicom(path), _naive(pixels.astype(float), middle, width, function))


def test_rescale_then_the_first_of_two_windows(tmp_path):
    pixels = _ramp()
    path = write_dicom(
        tmp_path / "a.dcm",
        pixels,
        BitsStored=12,
        RescaleSlope="0.5",
        RescaleIntercept="-1024",
        WindowCenter=["0", "40"],
        WindowWidth=["800", "10"],
    )
    _close(read_dicom(path), _naive(pixels * 0.5 - 1024, 0, 800))


def test_monochrome_1_is_inverted(tmp_path):
    pixels = _ramp()
    window = {"WindowCenter": 2000, "WindowWidth": 3000, "BitsStored": 12}
    path = write_dicom(
        tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", **window
    )
    _close(read_dicom(path), 255 - _naive(pixels.astype(float), 2000, 3000))


def test_eight_bits_without_a_window_stay_as_they_are(tmp_path):
    pixels = _ramp(np.uint8, 30, 90)
    assert np.array_equal(np.asarray(read_dicom(write_dicom(tmp_path / "a.dcm", pixels))), pixels)
    path = write_dicom(tmp_path / "b.dcm", pixels, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(np.asarray(read_dicom(path)), 255 - pixels)
    signed = _ramp(np.int8, -128, 127)
    path = write_dicom(tmp_path / "c.dcm", signed)
    assert np.array_equal(np.asarray(read_dicom(path)), (signed.astype(int) + 128))


@pytest.mark.parametrize("window", [{}, {"WindowCenter": "", "WindowWidth": ""}, {"width": 0}])
def test_no_window_means_a_robust_range(tmp_path, window):
    if "width" in window:
        window = {"WindowCenter": 2000, "WindowWidth": 0}
    pixels = _ramp(high=2000)
    pixels[0, 0] = 60_000  # a marker
    path = write_dicom(tmp_path / "a.dcm", pixels, **window)
    low, high = np.percentile(pixels, [1, 99])
    _close(read_dicom(path), 255 * np.clip((pixels - low) / (high - low), 0, 1))


def test_a_lookup_table_comes_before_the_window(tmp_path):
    pixels = _ramp(high=255)
    table = Dataset()
    table.LUTDescriptor = [256, 0, 12]
    table.LUTData = [4095 - 16 * i for i in range(256)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    elements = {"VOILUTSequence": Sequence([table]), "WindowCenter": 10, "WindowWidth": 2}
    path = write_dicom(tmp_path / "a.dcm", pixels, BitsStored=12, **elements)
    _close(read_dicom(path), (4095 - 16.0 * pixels) * 255 / 4095)


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_table_of_8_bits_has_more_than_256_entries(tmp_path, name):
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 8]
    table.LUTData = [i // 16 for i in range(4096)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    window = {"WindowCenter": 128, "WindowWidth": 256} if name[0] == "M" else {}
    path = write_dicom(tmp_path / "a.dcm", _ramp(), **{name: Sequence([table])}, **window)
    _close(read_dicom(path), _ramp() // 16)


def test_colours_become_grey_as_pillow_has_it(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(8, 10, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "a.dcm", pixels)
    _close(read_dicom(path), np.asarray(Image.fromarray(pixels).convert("L")))


def test_pixels_are_made_square(tmp_path):
    pixels = np.repeat(_ramp(np.uint8, 0, 255, (1, 20)), 12, axis=0)
    for spacing, size in (
        ({"PixelSpacing": ["0.4", "0.2"]}, (20, 24)),
        ({"ImagerPixelSpacing": ["0.1", "0.2"]}, (40, 12)),
        ({"PixelAspectRatio": ["2", "1"]}, (20, 24)),
        ({"PixelSpacing": ["0.2", "0.2"], "PixelAspectRatio": ["2", "1"]}, (20, 12)),
        ({"PixelSpacing": ["0", "0.2"]}, (20, 12)),
    ):
        path = write_dicom(tmp_path / "a.dcm", pixels, **spacing)
        assert read_dicom(path).size == picture_size(path) == size


def test_a_file_is_known_by_its_first_bytes_or_its_name(tmp_path):
    pixels = _ramp(np.uint8, 0, 255)
    path = write_dicom(tmp_path / "without_a_suffix", pixels)
    assert np.array_equal(np.asarray(read_picture(path)), pixels)
    assert read_frames(path, 8).shape == (1, 8, 8)
    named = tmp_path / "a.DCM"
    Image.fromarray(pixels).save(tmp_path / "a.png")
    named.write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(
        DataError, match=r"a\.DCM: named \.DCM, but not DICOM: it begins with b'.x89"
    ):
        read_picture(named)
    with pytest.raises(DataError, match=r"absent\.dcm: no such file"):
        read_picture(tmp_path / "absent.dcm")


def _truncated(path):
    write_dicom(path, _ramp())
    path.write_bytes(path.read_bytes()[:-100])


def _without_bits(path):
    write_dicom(path, _ramp())
    data = pydicom.dcmread(path)
    del data.BitsAllocated
    data.save_as(path)


def _compressed(path):
    fragments = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7nothing"])
    write_dicom(path, _ramp(), syntax=JPEGLSLossless, PixelData=fragments)
    # pixels that are compressed must say so
    data = pydicom.dcmread(path)
    data["PixelData"].is_undefined_length = True
    data.save_as(path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (
            lambda path: write_dicom(path, None, kind=REPORT),
            r"DICOM without pixels \(Basic Text SR",
        ),
        (lambda path: write_dicom(path, _ramp(), NumberOfFrames=3), "3 frames in one DICOM file"),
        (
            lambda path: write_dicom(path, _ramp(), PixelData=2 * _ramp().tobytes()),
            "pixels of 2 frames, expected one",
        ),
        (
            lambda path: write_dicom(path, _ramp(), PhotometricInterpretation="PALETTE COLOR"),
            "photometric interpretation PALETTE COLOR, expected one of MONOCHROME1",
        ),
        (
            lambda path: write_dicom(path, np.zeros((4, 4, 3), dtype=np.uint16)),
            "colours of 16 bits, expected 8",
        ),
        (_truncated, r"not a readable DICOM file \(.*(length|bytes)"),
        (_without_bits, r"not a readable DICOM file \(.*Bits ?Allocated"),
        pytest.param(
            _compressed,
            r"cannot be decompressed \(JPEG-LS Lossless.*`pip install \"xbl-kit\[dicom\]\"",
            marks=pytest.mark.skipif(find_spec("pylibjpeg") is not None, reason="it has decoders"),
        ),
        (lambda path: path.write_bytes(b"\0" * 128 + b"DICM" + b"no"), "DICOM"),
    ],
)
def test_a_fault_is_one_line(tmp_path, write, words):
    path = tmp_path / "a.dcm"
    write(path)
    with pytest.raises(DataError, match=rf"a\.dcm: .*{words}") as error:
        read_picture(path)
    assert "\n" not in str(error.value)


def test_too_large_a_picture(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", _ramp())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(DataError, match=r"a\.dcm: too large a picture: 20 x 12 pixels"):
        read_picture(path)


def test_odd_files_are_read_without_a_warning_in_many_threads(tmp_path):
    odd = {"WindowCenter": "128.000000000000000001", "WindowWidth": "200"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write_dicom(tmp_path / "a.dcm", _ramp(high=255), **odd, PixelData=bytes(600))
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(read_dicom, [path] * 100))
    assert len(pictures) == 100 and warnings.filters == before


def test_a_table_of_dicom_images(tmp_path):
    for i in range(4):
        write_dicom(tmp_path / f"{i}.dcm", np.roll(_ramp(np.uint8, 0, 255), 30 * i))
        mask = np.zeros((12, 20), dtype=np.uint8)
        mask[:, :10] = 255
        Image.fromarray(mask).save(tmp_path / f"{i}.png")
    with (tmp_path / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "mask"])
        writer.writerows([f"{i}.dcm", "ab"[i % 2], f"{i}.png"] for i in range(4))
    data = open_dataset("table", tmp_path, size=8)
    assert data.images.shape == (4, 8, 8)
    assert data.masks["lungs"][:, :, :4].all() and not data.masks["lungs"][:, :, 4:].any()


BOX = b"\0\0\0\x0cjP  \r\n\x87\n"  # how a JPEG 2000 file begins


def _jpeg_2000(boxes):
    def write(path):
        fragments = pydicom.encaps.encapsulate([BOX + boxes])
        write_dicom(path, _ramp(np.uint8, 0, 9), syntax=JPEG2000Lossless, PixelData=fragments)
        data = pydicom.dcmread(path)
        data["PixelData"].is_undefined_length = True
        data.save_as(path)

    return write


def _larger(path, **header):
    """Fewer pixels in the file than its header names."""
    write_dicom(path, _ramp(header.pop("dtype", np.uint16)))
    data = pydicom.dcmread(path)
    for name, value in header.items():
        setattr(data, name, value)
    data.save_as(path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_jpeg_2000(bytes(200)), "a JPEG 2000 box of length 0, expected 8 or more"),
        (_jpeg_2000(b"\0\0\0\x08ftyp" + bytes(200)), "a JPEG 2000 box of length 0"),
        (_jpeg_2000(b"\0\0\0\x01jp2h" + bytes(200)), "a JPEG 2000 box of length 1"),
        (
            lambda path: _larger(path, dtype=np.uint32, Rows=9000, Columns=9000),
            r"may take 3\.6 GB, expected 1\.1 at most; make it smaller",
        ),
        (lambda path: _larger(path, Rows=60_000, Columns=60_000), "too large a picture: 60000 x"),
        (
            lambda path: _larger(path, Rows=2, Columns=2, PixelAspectRatio=["1", "60000000"]),
            "too large a picture",
        ),
        (
            lambda path: write_dicom(
                path,
                np.random.default_rng(0).integers(2**16, size=(600, 600)).astype(np.uint16),
                syntax=DeflatedExplicitVRLittleEndian,
            ),
            r"may take 1\.5 GB, expected 1\.1 at most; save it without deflate",
        ),
    ],
)
def test_a_file_that_would_never_end_or_fill_the_memory(tmp_path, write, words):
    write(tmp_path / "a.dcm")
    with pytest.raises(DataError, match=rf"a\.dcm: {words}") as error:
        read_picture(tmp_path / "a.dcm")
    assert "\n" not in str(error.value)


FRAME = np.pad(np.zeros((20, 30), bool), 6, constant_values=True)
LEVELS = np.pad(_ramp(np.int32, 20_000, 30_000, (20, 30)), 6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 25_000, "WindowWidth": 8000}])
@pytest.mark.parametrize(
    ("padding", "dtype", "elements"),
    [
        (0, np.uint16, {"PixelPaddingValue": 0}),
        (65_535, np.uint16, {"PixelPaddingValue": 65_535}),
        (-32_768, np.int16, {"PixelPaddingValue": -32_768}),
        (-2000, np.int16, {"PixelPaddingValue": 63_536}),  # a sign lost, as some scanners write it
        (7, np.uint16, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9}),
        (50_000, np.uint16, {"PixelPaddingValue": 60_000, "PixelPaddingRangeLimit": 40_000}),
        (90_000, np.uint32, {"PixelPaddingValue": 90_000, "BitsStored": 17}),
        (5, np.uint16, {"PixelPaddingValue": 5, "RescaleSlope": "-2", "RescaleIntercept": "9e4"}),
    ],
)
def test_padding_counts_for_nothing_and_is_black(
    tmp_path, photometric, window, padding, dtype, elements
):
    shift = 10_000 if dtype == np.int16 else 0
    if "RescaleSlope" in elements and window:
        window = {"WindowCenter": 40_000, "WindowWidth": 16_000}
    if window:
        window = window | {"WindowCenter": window["WindowCenter"] - shift}
    levels, elements = (LEVELS - shift).astype(dtype), elements | window
    for name, value in elements.items():
        if name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
            kind = "UL" if value > 65_535 else "SS" if value < 0 else "US"
            elements[name] = pydicom.DataElement(pydicom.tag.Tag(name), kind, value)
    elements["PhotometricInterpretation"] = photometric
    plain = {n: v for n, v in elements.items() if "Padding" not in n}
    inner = write_dicom(tmp_path / "a.dcm", levels[6:-6, 6:-6].copy(), **plain)
    whole = write_dicom(tmp_path / "b.dcm", np.where(FRAME, padding, levels).astype(dtype), **plain)
    data = pydicom.dcmread(whole)
    for name in elements.keys() - plain.keys():
        data[pydicom.tag.Tag(name)] = elements[name]
    data.save_as(whole)
    found = np.asarray(read_dicom(whole))
    assert not found[FRAME].any()
    assert np.array_equal(found[~FRAME].reshape(20, 30), np.asarray(read_dicom(inner)))


def _odd(path, pixels=None, **texts):
    """Elements as a vendor wrote them, whatever is allowed."""
    write_dicom(path, _ramp(high=3999) if pixels is None else pixels, BitsStored=12)
    data = pydicom.dcmread(path)
    for name, text in texts.items():
        content = text.encode() + b" " * (len(text) % 2)
        tag = pydicom.tag.Tag(name)
        vr = pydicom.datadict.dictionary_VR(tag)
        data[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(content), content, 0, False, True)
    data.save_as(path)
    return path


@pytest.mark.parametrize(
    ("texts", "alike"),
    [
        ({"RescaleSlope": "", "RescaleIntercept": ""}, {}),
        ({"RescaleSlope": "2", "RescaleIntercept": ""}, {}),
        ({"RescaleIntercept": "-1024"}, {}),
        ({"WindowCenter": "", "WindowWidth": "4000"}, {}),
        ({"WindowCenter": "2000", "WindowWidth": "-4000"}, {}),
        ({"WindowCenter": "2000", "WindowWidth": "0.5"}, {}),
        ({"WindowCenter": "7", "WindowWidth": "0", "VOILUTFunction": "SIGMOID"}, {}),
        ({"PixelSpacing": ""}, {}),
        (
            {"WindowCenter": "2000\\1000", "WindowWidth": "3000", "VOILUTFunction": ""},
            {"WindowCenter": "2000", "WindowWidth": "3000", "VOILUTFunction": "LINEAR"},
        ),
        (  # an intercept alone moves the values before the window
            {"RescaleIntercept": "-1024", "WindowCenter": "0", "WindowWidth": "1000"},
            {"WindowCenter": "1024", "WindowWidth": "1000"},
        ),
    ],
)
def test_what_is_empty_or_too_narrow_is_absent(tmp_path, texts, alike):
    odd, usual = _odd(tmp_path / "a.dcm", **texts), _odd(tmp_path / "b.dcm", **alike)
    assert np.array_equal(np.asarray(read_dicom(odd)), np.asarray(read_dicom(usual)))


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("item", [None, {}, {"LUTDescriptor": [256, 0, 12]}])
def test_a_table_without_entries_is_absent(tmp_path, name, item):
    table = Dataset()
    for key, value in (item or {}).items():
        setattr(table, key, value)
        table[key].VR = "US"
    sequence = Sequence([] if item is None else [table])
    path = write_dicom(tmp_path / "a.dcm", _ramp(high=3999), **{name: sequence})
    plain = write_dicom(tmp_path / "b.dcm", _ramp(high=3999))
    assert np.array_equal(np.asarray(read_dicom(path)), np.asarray(read_dicom(plain)))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"WindowCenter": "2000,5", "WindowWidth": "40"}, "WindowCenter is '2000,5', expected num"),
        ({"PixelSpacing": "0,143\\0,143"}, "PixelSpacing is .*0,143.*, expected numbers"),
        ({"RescaleSlope": "1,0", "RescaleIntercept": "0"}, "RescaleSlope is '1,0'"),
        ({"RescaleSlope": "nan", "RescaleIntercept": "0"}, "RescaleSlope is 'nan'"),
        ({"WindowCenter": "5", "WindowWidth": "9", "VOILUTFunction": "CUBIC"}, "is 'CUBIC', expec"),
    ],
)
def test_numbers_that_are_none_are_named(tmp_path, texts, words):
    with pytest.raises(DataError, match=words) as error:
        read_dicom(_odd(tmp_path / "a.dcm", **texts))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "width", "expected"),
    [
        ("LINEAR", "1", lambda x: x > 99.5),
        ("LINEAR_EXACT", "0.5", lambda x: np.clip((x - 100) / 0.5 + 0.5, 0, 1)),
        ("linear_exact", "40", lambda x: np.clip((x - 100) / 40 + 0.5, 0, 1)),
        ("SIGMOID", "0.5", lambda x: 1 / (1 + np.exp(-8.0 * (x - 100)))),
    ],
)
def test_a_narrow_window_by_its_own_function(tmp_path, function, width, expected):
    pixels = np.arange(60, 140, dtype=np.uint16).reshape(8, 10)
    texts = {"WindowCenter": "100", "WindowWidth": width, "VOILUTFunction": function}
    path = _odd(tmp_path / "a.dcm", pixels, **texts)
    _close(read_dicom(path), 255 * expected(pixels.astype(float)))


@pytest.mark.parametrize("name", ["a.dcm", "IM0001", "a.img"])
@pytest.mark.parametrize(
    "encoding", [(True, True), (False, True), (False, False)], ids=["implicit", "explicit", "big"]
)
def test_a_data_set_without_preamble_is_read(tmp_path, name, encoding):
    pixels = _ramp(high=3999)
    data = pydicom.dcmread(write_dicom(tmp_path / "whole.dcm", pixels, BitsStored=12))
    expected = np.asarray(read_picture(tmp_path / "whole.dcm"))
    implicit, little = encoding
    bare = Dataset({tag: data[tag] for tag in data.keys()})
    if not little:
        bare.PixelData = pixels.astype(">u2").tobytes()
    bare.save_as(tmp_path / name, implicit_vr=implicit, little_endian=little)
    assert np.array_equal(np.asarray(read_picture(tmp_path / name)), expected)
    assert picture_size(tmp_path / name) == (20, 12)


def test_a_data_set_that_hides_its_compression_is_refused(tmp_path):
    _compressed(tmp_path / "whole.dcm")
    data = pydicom.dcmread(tmp_path / "whole.dcm")
    bare = Dataset({tag: data[tag] for tag in data.keys()})
    bare.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(DataError, match="compressed pixels, which Explicit VR Little Endian has n"):
        read_picture(tmp_path / "a.dcm")


@pytest.mark.parametrize("high", [15, 10, 0])
def test_pixels_that_do_not_end_at_the_highest_bit_are_refused(tmp_path, high):
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", _ramp(), BitsStored=12))
    data.HighBit = high
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(DataError, match=f"HighBit is {high}, expected 11"):
        read_picture(tmp_path / "a.dcm")


def _groups(name, sequence, **elements):
    """The functional groups of an enhanced object, with these elements in one of them."""
    inner, group = Dataset(), Dataset()
    for keyword, value in elements.items():
        setattr(inner, keyword, value)
    setattr(group, sequence, Sequence([inner]))
    return {name: Sequence([group])}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize(
    ("sequence", "elements"),
    [
        ("FrameVOILUTSequence", {"WindowCenter": "1000", "WindowWidth": "500"}),
        ("PixelValueTransformationSequence", {"RescaleSlope": "-2", "RescaleIntercept": "9000"}),
        ("PixelMeasuresSequence", {"PixelSpacing": ["0.2", "0.1"]}),
    ],
)
def test_an_enhanced_object_of_one_frame_is_read_as_any_other(tmp_path, name, sequence, elements):
    plain = read_dicom(write_dicom(tmp_path / "a.dcm", _ramp(), **elements))
    groups = _groups(name, sequence, **elements)
    enhanced = read_dicom(write_dicom(tmp_path / "b.dcm", _ramp(), NumberOfFrames=1, **groups))
    without = read_dicom(write_dicom(tmp_path / "c.dcm", _ramp()))
    assert enhanced.size == plain.size and enhanced.tobytes() == plain.tobytes()
    assert enhanced.tobytes() != without.tobytes()


def test_what_a_library_says_is_cut_short(tmp_path):
    with pytest.raises(DataError, match=r"not a readable picture .x+.$") as error:
        with reading(tmp_path / "a", "picture"):
            raise RuntimeError("x" * 10_000)
    assert len(str(error.value)) < 300 + len(str(tmp_path)) + 50
