"""One picture from a file: its depth, masks as people save them, and the limits of a file."""

import struct
import threading
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from xbl_kit.data import DataError, faults
from xbl_kit.data.faults import TooLong, reading, time_limit
from xbl_kit.data.picture import picture_size, read_frames, read_mask, read_picture
from xbl_kit.data.properties import with_properties
from xbl_kit.data.readers import list_table

GREY = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (64, 1))  # 12 bits of 16
COLOUR = np.dstack([GREY] * 3)
CLEAR = np.full_like(GREY, 65535)


def png(path, width, height, bits, colour, rows):
    def chunk(kind, data):
        code = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", code)

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def _png(colour, *channels):
    array = np.dstack(channels).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in array.reshape(64, -1))
    return lambda path: png(path, 64, 64, 16, colour, rows)


def _ppm(magic, array, most=4095):
    body = array.astype(">u2" if most > 255 else np.uint8).tobytes()
    return lambda path: path.write_bytes(b"%s\n64 64\n%d\n" % (magic, most) + body)


def _patched(kind, mark, offset, value):
    """An 8-bit colour file whose header says that it has more."""

    def write(path):
        Image.fromarray((COLOUR // 16).astype(np.uint8)).save(path, kind)
        content = bytearray(path.read_bytes())
        at = content.index(mark) + offset
        for channel in range(3 if kind == "JPEG2000" else 1):
            content[at + 3 * channel] = value
        path.write_bytes(content)

    return write


def _sgi(path):
    header = struct.pack(">hBBHHHHii", 474, 0, 2, 3, 64, 64, 3, 0, 65535)
    body = COLOUR.astype(">u2").transpose(2, 0, 1).tobytes()
    path.write_bytes(header.ljust(512, b"\0") + body)


DEEP = {
    "PNG, grey": (_png(0, GREY), 16),
    "PNG, colour": (_png(2, *[GREY] * 3), 16),
    "PNG, grey and alpha": (_png(4, GREY, CLEAR), 16),
    "PNG, colour and alpha": (_png(6, *[GREY] * 3, CLEAR), 16),
    "TIFF, grey": (lambda path: tifffile.imwrite(path, GREY), 16),
    "TIFF, colour": (lambda path: tifffile.imwrite(path, COLOUR, photometric="rgb"), 16),
    "TIFF, deflated": (
        lambda path: tifffile.imwrite(path, COLOUR, photometric="rgb", compression="zlib"),
        16,
    ),
    "TIFF, fractions": (lambda path: tifffile.imwrite(path, GREY.astype(np.float32)), 32),
    "PGM": (_ppm(b"P5", GREY), 12),
    "PPM": (_ppm(b"P6", COLOUR), 12),
    "PPM, 10 bits": (_ppm(b"P6", COLOUR // 4, 1023), 10),
    "JPEG 2000, grey": (lambda path: Image.fromarray(GREY).save(path, "JPEG2000"), 16),
    "JPEG 2000, colour": (_patched("JPEG2000", b"\xff\x4f\xff\x51", 42, 11), 12),
    "SGI": (_sgi, 16),
}


@pytest.mark.parametrize("case", DEEP)
def test_more_than_eight_bits_are_refused_by_the_depth_of_the_file(tmp_path, case):
    write, bits = DEEP[case]
    write(tmp_path / "a.img")
    with pytest.raises(DataError, match=rf"a\.img: {bits} bits a channel, expected 8; scale it"):
        read_picture(tmp_path / "a.img")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000", "SGI", "BMP", "WEBP"])
@pytest.mark.parametrize("colours", [False, True])
def test_eight_bits_and_fewer_are_read(tmp_path, kind, colours):
    pixels = ((COLOUR if colours else GREY) // 16).astype(np.uint8)
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(pixels).save(tmp_path / "a.img", kind, **options)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.img")), GREY // 16)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.float32])
def test_a_tiff_with_a_sign_is_refused(tmp_path, kind):
    tifffile.imwrite(tmp_path / "a.tif", (GREY // 16).astype(np.int16).clip(0, 100).astype(kind))
    with pytest.raises(DataError, match=r"a\.tif: (numbers with a sign|(16|32) bits a channel)"):
        read_picture(tmp_path / "a.tif")


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "a.png").write_text(f"version https://git-lfs.github.com/spec/v1\noid {9**40}\n")
    with pytest.raises(DataError, match=r"a\.png: a pointer of Git LFS .*`git lfs pull`"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("turn", [0, 1, 9])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, turn):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    grey = (GREY // 16).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png")), grey)


def test_few_grey_levels_are_spread(tmp_path):
    bits = GREY > 2000
    Image.fromarray(bits).save(tmp_path / "a.png")
    _ppm(b"P5", GREY // 1024, 3)(tmp_path / "b.pgm")
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png")), 255 * bits)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "b.pgm")), GREY // 1024 * 85)


def _lungs(size=128):
    y, x = np.mgrid[:size, :size] / size
    return sum(((x - at) / 0.17) ** 2 + ((y - 0.5) / 0.35) ** 2 < 1 for at in (0.3, 0.7)) > 0


def _dot(row, column):
    dot = np.zeros((128, 128), np.uint8)
    dot[row, column] = 1  # even, so that halving by nearest neighbour passes over it
    return dot


def _read(tmp_path, mask, name="mask.png", **options):
    noise = np.random.default_rng(0).integers(255, size=(96, 96), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.png")
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(
        tmp_path / name, **options
    )
    return read_mask(tmp_path / name, 64, tmp_path / "image.png")


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (_lungs().astype(np.uint8), r"grey pixels such as 1, .* save 255 \* \(mask > 0\) as PNG"),
        (2 * _lungs().astype(np.uint8), r"such as 2, .* save 255 \* \(mask > 0\)"),
        (np.arange(128**2, dtype=np.uint8).reshape(128, 128), r"save 255 \* \(mask > 127\) as PNG"),
        (np.dstack([255 * _lungs(), *2 * [0 * _lungs()]]).astype(np.uint8), r"such as 76.*> 0\)"),
        (np.dstack(4 * [255 * _lungs()]).astype(np.uint8), "transparent .*; save it on a black"),
        (np.full((128, 128), 255, np.uint8), "empty mask, 255 everywhere.*; draw it"),
        ((255 * ~_lungs()).astype(np.uint8), "white all along its border.*inverted, save 255 - m"),
        (255 * (np.hypot(*np.mgrid[-64:64, -64:64]) > 20).astype(np.uint8), "inverted, save 255"),
        (255 * np.pad(np.zeros((90, 90), np.uint8), 19, constant_values=1), "inverted, save 255"),
        (255 * _dot(64, 64), "nothing left of it at 64 x 64 pixels; use a larger size"),
        ((255 * _lungs()[:90]).astype(np.uint8), "128 x 90 pixels.*; crop or pad both alike"),
    ],
)
def test_a_mask_is_refused_with_a_way_out(tmp_path, mask, words):
    with pytest.raises(DataError, match=rf"mask\.png: .*{words}") as error:
        _read(tmp_path, mask)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mask.png", "mask.bmp"])
@pytest.mark.parametrize(
    "mask",
    [
        _lungs(),
        (255 * _lungs()).astype(np.uint8),
        np.dstack([255 * _lungs()] * 3).astype(np.uint8),
        np.broadcast_to(np.arange(128) < 64, (128, 128)).copy(),  # half of the border is white
        np.hypot(*np.mgrid[-64:64, -64:64]) < 80,  # all but the corners
    ],
)
def test_a_mask_of_white_on_black_is_read(tmp_path, mask, name):
    inside = mask[..., 0] if mask.ndim == 3 else mask
    assert _read(tmp_path, mask, name).mean() == pytest.approx((inside > 0).mean(), abs=0.02)


@pytest.mark.parametrize("shape", [(60_000, 1), (1, 60_000), (40_000, 20)])
def test_a_picture_counts_with_its_padding(tmp_path, shape):
    thin = np.arange(np.prod(shape), dtype=np.uint32).astype(np.uint8).reshape(shape)
    Image.fromarray(thin).save(tmp_path / "a.png")
    assert read_frames(tmp_path / "a.png", 8).shape == (1, 8, 8)
    most = max(shape)
    with pytest.raises(
        DataError, match=f"too large a picture: {most} x {most} pixels with its pad"
    ):
        read_frames(tmp_path / "a.png", 8, pad=True)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF"])
def test_a_bomb_is_no_traceback(tmp_path, monkeypatch, kind):
    grey = (GREY // 16).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "bomb.img", kind)
    Image.fromarray(grey[:9]).save(tmp_path / "a.img", kind)
    (tmp_path / "metadata.csv").write_text("image,label\nbomb.img,a\na.img,b\n", encoding="utf-8")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # an error from twice as many on
    for read in (read_picture, picture_size):
        with pytest.raises(DataError, match=r"bomb\.img: too large a picture: Image size"):
            read(tmp_path / "bomb.img")
    assert with_properties(list_table(tmp_path))["(pixels)"].tolist() == ["", "64 x 9"]


def _spin():
    while True:
        pass


def _swallow():
    while True:
        try:
            _spin()
        except Exception:
            continue


@pytest.mark.parametrize(
    "work", [_spin, _swallow, lambda: [time.sleep(0.01) for _ in range(10**9)]]
)
@pytest.mark.parametrize("thread", [False, True])
def test_what_never_ends_is_ended(tmp_path, work, thread):
    said = []

    def read():
        try:
            with reading(tmp_path / "a.dcm", "DICOM file"), time_limit(0.2):
                work()
        except DataError as error:
            said.append(str(error))

    if thread:
        other = threading.Thread(target=read, daemon=True)
        other.start()
        other.join(20)
    else:
        read()
    (line,) = said
    assert f"a.dcm: not read within {faults.MOST_SECONDS} s; it is damaged, or needs" in line


def test_a_time_limit_ends_with_its_block():
    with suppress(TooLong):
        for _ in range(20):
            with time_limit(0.05):
                pass
    for _ in range(20):
        time.sleep(0.01)  # nothing is raised after the end


@pytest.mark.parametrize("read", [read_picture, picture_size])
def test_a_file_that_is_not_there_or_not_to_be_read(tmp_path, read):
    with pytest.raises(DataError, match=r"absent\.png: no such file"):
        read(tmp_path / "absent.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png: not a readable picture \(.*directory"):
        read(tmp_path / "folder.png")
