"""Decoding, beside undrafted Pillow, torchvision and pictures made by hand; and hostile bytes."""

import io
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.transforms.transforms as theirs
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms import functional
from torchvision.transforms.transforms import CenterCrop, InterpolationMode, Resize

from aimv2.base.errors import BadSampleError
from aimv2.config.data_config import AugmentConfig
from aimv2.config.native import size_within
from aimv2.data.decode import CROP_ATTEMPTS, NUM_CROP_DRAWS, crop, native_crop, random_crops, square
from tests.helpers.marks import exhaustive

PAPER = AugmentConfig(min_scale=0.4, flip_probability=0.5)
WHOLE = AugmentConfig(min_scale=1, min_ratio=0.01, max_ratio=100, flip_probability=0)
LIMIT = 10**7
WHITE = (255, 255, 255)


def photograph(width, height, seed=0, sizes=(3, 9, 30, 90)):
    """Return smooth colours with some detail, as photographs have."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).resize((width, height)))
        for size in sizes
    ]
    return Image.fromarray(np.average(layers, axis=0, weights=(4, 3, 2, 1)[: len(sizes)]).astype(np.uint8))


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def draws(count, seed=0):
    return np.random.default_rng(seed).random((count, NUM_CROP_DRAWS))


def whole(content, px):
    """Return the whole of a square file."""
    return crop(content, draws(1)[0] * [*[0] * 10, *[1] * 13], WHOLE, px, LIMIT)


def png(width, height, depth, colour, rows, *chunks):
    """Write a PNG by hand: rows of bytes, and further chunks before them."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*each) for each in chunks) + data + chunk(b"IEND", b"")


def difference(picture, other):
    return np.abs(picture.astype(int) - other.astype(int))


@pytest.mark.parametrize(("format", "out_px"), [("PNG", 16), ("PNG", 100), ("JPEG", 100)])
def test_crops_are_torchvisions(format, out_px):
    content = encoded(photograph(150, 190), format)
    image = Image.open(io.BytesIO(content))
    boxes, flips = random_crops(draws(12), 190, 150, PAPER)
    assert 0 < flips.sum() < 12
    for uniform_U, box, is_flipped in zip(draws(12), boxes.tolist(), flips, strict=True):
        expected = functional.resized_crop(image, *box, [out_px, out_px], InterpolationMode.BICUBIC, antialias=True)
        expected = functional.hflip(expected) if is_flipped else expected
        found = crop(content, uniform_U, PAPER, out_px, LIMIT)
        assert (found.dtype, found.shape) == (np.uint8, (out_px, out_px, 3))
        np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("size", [(150, 190), (401, 203), (64, 64), (1, 300), (301, 7)])
@pytest.mark.parametrize("side", [16, 50, 64])
def test_squares_are_torchvisions(size, side):
    image = photograph(*size)
    expected = CenterCrop(side)(Resize(side, InterpolationMode.BICUBIC)(image))
    assert difference(square(encoded(image, "PNG"), side, LIMIT), np.asarray(expected)).max() <= 1  # rounding


@pytest.mark.parametrize("side", [64, exhaustive(100), exhaustive(224)])
def test_drafted_pictures_stay_close_to_undrafted_ones(side):
    image = photograph(1801, 1203)
    content = encoded(image, "JPEG", quality=90)
    undrafted = encoded(Image.open(io.BytesIO(content)), "PNG", compress_level=1)
    for uniform_U in draws(6):
        pictures = [crop(file, uniform_U, PAPER, side, LIMIT) for file in (content, undrafted)]
        assert difference(*pictures).mean() < 1
    assert difference(square(content, side, LIMIT), square(undrafted, side, LIMIT)).mean() < 1


def test_drafts_do_not_move_the_picture():
    """The centre of mass of a white rectangle stays where it is, to a fiftieth of an output pixel."""
    pixels = np.zeros((1603, 1201), dtype=np.uint8)
    pixels[500:1100, 400:800] = 255
    for orientation in range(1, 9):
        centres = []
        for format in ("JPEG", "PNG"):
            content = encoded(Image.fromarray(pixels), format, exif=_exif({ExifTags.Base.Orientation: orientation}))
            picture = crop(content, np.full(NUM_CROP_DRAWS, 0.6), replace(PAPER, min_scale=0.9), 100, LIMIT)
            mass = picture[..., 0].astype(float)
            place = np.arange(100)
            centres.append([(mass.sum(axis) * place).sum() / mass.sum() for axis in (0, 1)])
        np.testing.assert_allclose(centres[0], centres[1], atol=0.02)


def _exif(tags):
    exif = Image.Exif()
    exif.update(tags)
    return exif


def test_large_jpegs_are_drafted(monkeypatch):
    decoded = []
    cut = Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda image, box: decoded.append(image.size) or cut(image, box))
    content = encoded(photograph(1601, 1200), "JPEG")
    for px in (100, 150, 151, 300, 301, 600, 601):
        crop(content, np.zeros(NUM_CROP_DRAWS), replace(WHOLE, min_ratio=1601 / 1200, max_ratio=1601 / 1200), px, LIMIT)
    eighth, quarter, half, full = (201, 150), (401, 300), (801, 600), (1601, 1200)
    assert decoded == [eighth, eighth, quarter, quarter, half, half, full]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_before_the_box(orientation, format):
    options = {} if format == "JPEG" else {"lossless": True}
    content = encoded(photograph(90, 61), format, exif=_exif({ExifTags.Base.Orientation: orientation}), **options)
    upright = encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(content))), "PNG")
    for uniform_U in draws(5):
        # Pillow resizes rows before columns, and rounds between the two.
        pictures = [crop(file, uniform_U, PAPER, 24, LIMIT) for file in (content, upright)]
        assert difference(*pictures).max() <= (2 if format != "JPEG" else 30)
        assert difference(*pictures).mean() < 2
    assert difference(square(content, 40, LIMIT), square(upright, 40, LIMIT)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_native_crops_are_torchvisions_of_the_upright_image(orientation):
    content = encoded(photograph(190, 101), "PNG", exif=_exif({ExifTags.Base.Orientation: orientation}))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    for uniform_U in draws(5):
        top, left, height, width, is_flipped = native_crop(uniform_U, upright.height, upright.width, PAPER)
        size = size_within(height, width, patch_px=8, area=30)
        assert abs(size[0] / size[1] * width / height - 1) < 0.6, "the aspect ratio is kept, but for whole patches"
        box = (top, left, height, width)
        expected = functional.resized_crop(upright, *box, list(size), InterpolationMode.BICUBIC, antialias=True)
        expected = functional.hflip(expected) if is_flipped else expected
        found = crop(content, uniform_U, PAPER, partial(size_within, patch_px=8, area=30), LIMIT)
        assert found.shape == (*size, 3)
        assert difference(found, np.asarray(expected)).max() <= 2  # Pillow rounds between rows and columns


def test_unreadable_exif_counts_as_upright():
    image = photograph(32, 32)
    expected = whole(encoded(image, "JPEG"), 32)
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM", b"Exif\0\0" + b"\xff" * 40):
        np.testing.assert_array_equal(whole(encoded(image, "JPEG", exif=exif), 32), expected)
    for orientation in (0, 9, 200):
        exif = _exif({ExifTags.Base.Orientation: orientation})
        np.testing.assert_array_equal(whole(encoded(image, "JPEG", exif=exif), 32), expected)


GREY = np.array([[0, 60], [128, 255]], dtype=np.uint8)
OPAQUE_RED, CLEAR_RED, HALF_BLUE = (255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 255, 128)


def _rgba(*colours):
    return Image.fromarray(np.array(colours, dtype=np.uint8).reshape(2, 2, 4))


def _palette():
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2, 0])
    return image


GREEN, BLUE, RED = (0, 255, 0), (0, 0, 255), (255, 0, 0)
CLEAR_COLOUR = struct.pack(">3H", 65535, 0, 0x1234)
WORDS = struct.pack(">4H", 0, 257 * 60 + 128, 257 * 128 - 128, 65535)
RGBA = _rgba(OPAQUE_RED, CLEAR_RED, HALF_BLUE, (1, 2, 3, 255))
BY_HAND = {
    "L": (encoded(Image.fromarray(GREY), "PNG"), [(v, v, v) for v in GREY.flat]),
    "L with a transparent colour": (
        encoded(Image.fromarray(GREY), "PNG", transparency=60),
        [(0, 0, 0), WHITE, (128, 128, 128), WHITE],
    ),
    "1": (encoded(Image.fromarray(GREY > 100), "PNG"), [(0, 0, 0), (0, 0, 0), WHITE, WHITE]),
    "LA": (
        encoded(Image.fromarray(np.array([[[9, 255], [9, 0]], [[200, 255], [0, 51]]], dtype=np.uint8)), "PNG"),
        [(9, 9, 9), WHITE, (200, 200, 200), (204, 204, 204)],
    ),
    "RGBA": (encoded(RGBA, "PNG"), [RED, WHITE, (127, 127, 255), (1, 2, 3)]),
    "RGBA in WebP": (encoded(RGBA, "WEBP", lossless=True), [RED, WHITE, (127, 127, 255), (1, 2, 3)]),
    "P": (encoded(_palette(), "PNG"), [RED, GREEN, BLUE, RED]),
    "P with a transparent colour": (encoded(_palette(), "PNG", transparency=1), [RED, WHITE, BLUE, RED]),
    "P with alphas": (encoded(_palette(), "PNG", transparency=b"\xff\x00\x80"), [RED, WHITE, (127, 127, 255), RED]),
    "RGB with a transparent colour": (
        encoded(_rgba(OPAQUE_RED, (0, 255, 0, 9), (0, 0, 255, 9), OPAQUE_RED).convert("RGB"), "PNG", transparency=RED),
        [WHITE, GREEN, BLUE, WHITE],
    ),
    "16-bit grey": (png(2, 2, 16, 0, [WORDS[:4], WORDS[4:]]), [(0, 0, 0), (60, 60, 60), (128, 128, 128), WHITE]),
    "16-bit grey with a transparent value": (
        png(2, 2, 16, 0, [WORDS[:4], WORDS[4:]], (b"tRNS", WORDS[2:4])),
        [(0, 0, 0), WHITE, (128, 128, 128), WHITE],
    ),
    "16-bit RGB": (
        png(2, 1, 16, 2, [struct.pack(">6H", 65535, 0, 257 * 77, 257 * 10, 257 * 20, 257 * 30)]),
        [(255, 0, 77), (10, 20, 30)],
    ),
    "16-bit RGB with a transparent colour": (
        png(2, 1, 16, 2, [CLEAR_COLOUR + struct.pack(">3H", 10, 20, 30)], (b"tRNS", CLEAR_COLOUR)),
        [WHITE, (0, 0, 0)],
    ),
    "16-bit grey and alpha": (png(2, 1, 16, 4, [struct.pack(">4H", 257 * 9, 65535, 257 * 9, 0)]), [(9, 9, 9), WHITE]),
    "2-bit grey": (png(2, 2, 2, 0, [b"\x10", b"\xb0"]), [(0, 0, 0), (85, 85, 85), (170, 170, 170), WHITE]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_every_mode_becomes_rgb(name):
    content, expected = BY_HAND[name]
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    for row in range(height):
        for column in range(width):
            # A box of one pixel, so that nothing is interpolated.
            uniform_U = np.zeros(NUM_CROP_DRAWS)
            uniform_U[-3:] = (row + 0.5) / height, (column + 0.5) / width, 0.5
            share = 1 / (width * height)
            one = replace(WHOLE, min_scale=share, max_scale=share, min_ratio=1, max_ratio=1)
            found = crop(content, uniform_U, one, 1, LIMIT)
            assert tuple(found[0, 0].tolist()) == tuple(map(int, expected[row * width + column]))
    assert square(content, 2, LIMIT).shape == (2, 2, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_jpegs_of_every_mode_show_their_colours(mode, options):
    colours = photograph(64, 64, sizes=(3, 9))  # smooth, because JPEG halves the resolution of colours
    content = encoded(colours.convert(mode), "JPEG", quality=95, **options)
    expected = np.asarray(colours.convert("L").convert("RGB") if mode == "L" else colours)
    assert difference(whole(content, 64), expected).mean() < 3


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_animations_show_their_first_frame(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(whole(content, 8), np.full((8, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(format):
    content = encoded(photograph(32, 32), format)
    for decode in (lambda: whole(content, 32), lambda: square(content, 32, LIMIT)):
        with pytest.raises(BadSampleError) as caught:
            decode()
        assert caught.value.reason == "undecodable image"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_truncated_files_are_refused(format):
    content = encoded(photograph(80, 60), format)
    for length in [0, 1, 10, *range(20, len(content) - 20, len(content) // 25)]:
        with pytest.raises(BadSampleError, match=r"^undecodable image: "):
            square(content[:length], 16, LIMIT)
        with pytest.raises(BadSampleError, match=r"^undecodable image: "):
            whole(content[:length], 16)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_images_over_the_limit_are_refused_by_their_header(format):
    content = encoded(photograph(40, 30), format)
    assert square(content, 8, 40 * 30).shape == (8, 8, 3)
    header = content[: len(content) if format == "WEBP" else -200]  # the rest is not read
    with pytest.raises(BadSampleError) as caught:
        square(header, 8, 40 * 30 - 1)
    assert caught.value.reason == "image over the pixel limit"
    assert caught.value.detail == "40 x 30 is more than 1,199 pixels"


def bombs(side):
    """Return small files whose headers say that they have side x side pixels."""
    small = Image.new("RGB", (40, 30))
    size = struct.pack(">II", side, side)
    as_png = bytearray(encoded(small, "PNG"))
    as_png[16:24] = size
    as_png[29:33] = struct.pack(">I", zlib.crc32(as_png[12:29]))
    as_jpeg = bytearray(encoded(small, "JPEG"))
    frame = as_jpeg.index(b"\xff\xc0") + 5
    as_jpeg[frame : frame + 4] = struct.pack(">HH", side, side)
    as_webp = bytearray(encoded(small, "WEBP"))
    frame = as_webp.index(b"\x9d\x01\x2a") + 3
    as_webp[frame : frame + 4] = struct.pack("<HH", side, side)
    return {"PNG": as_png, "JPEG": as_jpeg, "WEBP": as_webp}


PEAK = """
import re, sys
from pathlib import Path
from aimv2.base.errors import BadSampleError
from aimv2.data.decode import square

def peak_mb():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000

before = peak_mb()
for path in sys.argv[1:]:
    try:
        square(Path(path).read_bytes(), 16, 10**8)
    except BadSampleError as error:
        assert error.reason == "image over the pixel limit", error
    else:
        raise AssertionError(path)
assert peak_mb() - before < 50, (before, peak_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_bombs_take_no_memory(tmp_path):
    """Below and above Pillow's own limits; decoded, each has at least 480 MB."""
    paths = []
    for side in (12_600, 16_000):
        for format, content in bombs(side).items():
            paths.append(tmp_path / f"{side}.{format}")
            paths[-1].write_bytes(content)
    done = subprocess.run([sys.executable, "-W", "error", "-c", PEAK, *paths], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


REAL = {
    "JPEG": encoded(photograph(61, 47), "JPEG", exif=_exif({ExifTags.Base.Orientation: 6})),
    "progressive JPEG": encoded(photograph(61, 47), "JPEG", progressive=True),
    "CMYK JPEG": encoded(photograph(61, 47).convert("CMYK"), "JPEG"),
    "PNG": encoded(photograph(31, 27), "PNG", exif=_exif({ExifTags.Base.Orientation: 3})),
    "palette PNG": encoded(photograph(61, 47).quantize(16), "PNG", transparency=b"\0\x80\xff"),
    "16-bit PNG": png(4, 4, 16, 0, [bytes(range(8))] * 4, (b"tRNS", b"\0\1")),
    "animated PNG": encoded(photograph(9, 9), "PNG", save_all=True, append_images=[photograph(9, 9, 1)]),
    "WebP": encoded(photograph(61, 47), "WEBP", exif=_exif({ExifTags.Base.Orientation: 8})),
    "animated WebP": encoded(photograph(9, 9), "WEBP", save_all=True, append_images=[photograph(9, 9, 1)]),
}


def mutated(content, random):
    """Change, cut out, insert, repeat or cut off bytes."""
    data = bytearray(content)
    for _ in range(random.integers(1, 5)):
        if not data:
            break
        place = int(random.integers(0, len(data))) if random.random() < 0.6 else int(random.integers(0, 64)) % len(data)
        length = int(random.integers(1, 9))
        match random.integers(0, 6):
            case 0:
                data[place] ^= 1 << int(random.integers(0, 8))
            case 1:
                data[place : place + length] = random.bytes(len(data[place : place + length]))
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = random.bytes(length)
            case 4:
                data[place:place] = data[place : place + 40 * length]
            case 5 if random.random() < 0.3:
                del data[place + 1 :]
    return bytes(data)


def decoded(content, seed):
    """Return the pictures that both ways to decode give; any exception but a bad sample, and any warning, is raised."""
    pictures = []
    for decode in (lambda: crop(content, draws(1, seed)[0], PAPER, 16, 10**6), lambda: square(content, 16, 10**6)):
        with suppress(BadSampleError):
            pictures.append(decode())
    return pictures


def are_pictures(found):
    return all((picture.dtype, picture.shape) == (np.uint8, (16, 16, 3)) for picture in found)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("seeds", [range(150), exhaustive(range(150, 2150))], ids=str)
def test_mutated_files_give_a_picture_or_a_bad_sample(name, seeds):
    found = [decoded(mutated(REAL[name], np.random.default_rng((seed, 7))), seed) for seed in seeds]
    assert all(map(are_pictures, found))
    assert 0 < sum(map(len, found)) < 2 * len(found), "some mutations decode, and some do not"


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\1\0\0WEBPVP8"]))
def test_any_bytes_give_a_picture_or_a_bad_sample(tail, head):
    assert are_pictures(decoded(head + tail, 0))


RANGES = {
    "scale": st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    "ratio": st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
}


def of_torchvision(uniform_U, height, width, scale, ratio):
    """Run torchvision's code with our uniform numbers in place of its random ones, in float64."""
    attempts = zip(uniform_U[:CROP_ATTEMPTS], uniform_U[CROP_ATTEMPTS:], strict=False)
    uniforms = iter([number for attempt in attempts for number in attempt])
    offsets = iter(uniform_U[-3:-1])

    def number(value):
        return torch.as_tensor(value, dtype=torch.float64)

    fake = SimpleNamespace(
        tensor=number,
        log=torch.log,
        exp=torch.exp,
        empty=lambda size: SimpleNamespace(uniform_=lambda low, high: number(low + next(uniforms) * (high - low))),
        randint=lambda low, high, size: number(int(low + next(offsets) * (high - low))).int(),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "torch", fake)
        image = SimpleNamespace(shape=(3, height, width))
        patch.setattr(theirs.F, "get_dimensions", lambda image: image.shape)
        return list(theirs.RandomResizedCrop.get_params(image, list(scale), list(ratio)))


# torchvision's largest box can be empty if a side is shorter than 10 px; ours has at least one pixel.
@given(seed=st.integers(0, 10**6), height=st.integers(16, 700), width=st.integers(16, 700), **RANGES)
def test_boxes_are_torchvisions(seed, height, width, scale, ratio):
    config = replace(PAPER, min_scale=scale[0], max_scale=scale[1], min_ratio=ratio[0], max_ratio=ratio[1])
    boxes, _ = random_crops(draws(4, seed), height, width, config)
    expected = [of_torchvision(uniform_U, height, width, scale, ratio) for uniform_U in draws(4, seed)]
    assert boxes.tolist() == expected


@given(seed=st.integers(0, 10**6), height=st.integers(1, 300), width=st.integers(1, 300), **RANGES)
def test_boxes_are_within_the_image(seed, height, width, scale, ratio):
    config = replace(PAPER, min_scale=scale[0], max_scale=scale[1], min_ratio=ratio[0], max_ratio=ratio[1])
    boxes, _ = random_crops(draws(8, seed), height, width, config)
    top, left, rows, columns = boxes.T
    assert min(rows.min(), columns.min()) >= 1
    assert min(top.min(), left.min()) >= 0
    assert (top + rows).max() <= height
    assert (left + columns).max() <= width


def test_boxes_of_squares_are_pinned():
    # Runs on scenes have these boxes under their stored names.
    boxes, flips = random_crops(draws(3), 48, 48, PAPER)
    assert boxes.tolist() == [[0, 0, 39, 46], [3, 1, 40, 45], [2, 13, 36, 35]]
    assert flips.tolist() == [False, False, True]
