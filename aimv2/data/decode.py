"""Random crops, and decoding of image files to pictures of 8-bit RGB. Letters: P output side.

Pillow decodes JPEG, PNG and WebP; other formats are refused. Any mode of these becomes RGB:

- Transparent pixels are composited on white.
- CMYK and YCCK are read as Adobe writes them, inverted, and converted without a profile.
- 16-bit values are scaled to 8 bit, not clipped.
- ICC profiles are ignored: numbers are used as if they were sRGB, as in most training pipelines.
- Of an animation, the first frame is used.
- The EXIF orientation is applied, and boxes are in the oriented image. Unreadable EXIF data count as upright.

Large JPEGs are *drafted*: libjpeg computes 1/2, 1/4 or 1/8 of the pixels along a side directly from the coefficients,
the smallest of these sizes in which the crop still has as many pixels as the output. This is several times faster.
Within blocks, it averages pixels that bicubic resizing would weight. The box is the same, to a fraction of a pixel.

A file that is corrupt but not cut short may decode to a wrong picture, because JPEG has no checksum.
"""

import contextlib
import dataclasses
import io
import math
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from aimv2.base.errors import BadSampleError
from aimv2.config.data_config import AugmentConfig

FORMATS = ("JPEG", "PNG", "WEBP")
ORIENTED = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})  # where Pillow finds an orientation
DRAFTS = (8, 4, 2)  # pixels of the file, along a side, in a pixel of the draft
CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
NUM_CROP_DRAWS = 2 * CROP_ATTEMPTS + 3
Box = tuple[float, float, float, float]  # left, top, right, bottom
NativeSize = Callable[[int, int], tuple[int, int]]


class Crop(NamedTuple):
    top: int
    left: int
    height: int
    width: int
    is_flipped: bool


class Orientation(NamedTuple):
    """How a stored image becomes upright: it is transposed first, then mirrored."""

    is_transposed: bool = False
    is_mirrored: bool = False  # left and right
    is_upside_down: bool = False

    def stored(self, box: Box, width: int, height: int) -> Box:
        """Return the place, in the stored image, of a box in the upright image of this width and height."""
        left, top, right, bottom = box
        if self.is_mirrored:
            left, right = width - right, width - left
        if self.is_upside_down:
            top, bottom = height - bottom, height - top
        return (top, left, bottom, right) if self.is_transposed else (left, top, right, bottom)

    def upright(self, picture: np.ndarray) -> np.ndarray:
        picture = picture.swapaxes(0, 1) if self.is_transposed else picture
        return picture[:: -1 if self.is_upside_down else 1, :: -1 if self.is_mirrored else 1]


def crop(
    content: bytes, uniform_U: np.ndarray, augment: AugmentConfig, out_px: int | NativeSize, max_pixels: int
) -> np.ndarray:
    """Decode an image file and return a random crop, bicubic with antialiasing, maybe flipped: uint8 [P, P, 3].

    Args:
        uniform_U: float64 [NUM_CROP_DRAWS] on [0, 1), from which ``random_crop`` computes box and flip.
    """
    stored = _Stored(content, max_pixels)
    cropped = random_crop if isinstance(out_px, int) else native_crop
    top, left, height, width, is_flipped = cropped(uniform_U, stored.height, stored.width, augment)
    size = (out_px, out_px) if isinstance(out_px, int) else out_px(height, width)
    picture = stored.resized((left, top, left + width, top + height), size, is_cut=True)
    return picture[:, ::-1] if is_flipped else picture


def square(content: bytes, side: int, max_pixels: int) -> np.ndarray:
    """Decode an image file for evaluation: resize its shorter side, bicubic with antialiasing, and crop the centre.

    The result, uint8 [P, P, 3], is that of torchvision's ``Resize`` and ``CenterCrop``, but for rounding and drafting.
    """
    stored = _Stored(content, max_pixels)
    left, right = _centre(stored.width, stored.height, side)
    top, bottom = _centre(stored.height, stored.width, side)
    return stored.resized((left, top, right, bottom), (side, side), is_cut=False)


def _centre(length: int, other: int, side: int) -> tuple[float, float]:
    """Return start and end of the centre crop along an axis, in pixels of the file."""
    resized = int(side * length / min(length, other))  # torchvision cuts the longer side to whole pixels
    start = round((resized - side) / 2)
    return start * length / resized, (start + side) * length / resized


@contextlib.contextmanager
def _bad_if_undecodable() -> Iterator[None]:
    """Turn any error of Pillow into a bad sample, and hide its warnings: hostile bytes can cause every kind."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (BadSampleError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, of 179 million pixels
        raise BadSampleError("image over the pixel limit", str(error)) from error
    except Exception as error:
        raise BadSampleError("undecodable image", str(error) or type(error).__name__) from error


class _Stored:
    """An image file, of which, if it is a JPEG, only the header is decoded at first; its size is that upright."""

    def __init__(self, content: bytes, max_pixels: int) -> None:
        with _bad_if_undecodable():
            self._image = Image.open(io.BytesIO(content), formats=FORMATS)
            self.width, self.height = self._image.size
            if self.width * self.height > max_pixels:
                size = f"{self.width} x {self.height}"
                raise BadSampleError("image over the pixel limit", f"{size} is more than {max_pixels:,} pixels")
            if not isinstance(self._image, JpegImageFile):
                self._image.load()  # the EXIF data of a PNG may come last
                self.width, self.height = self._image.size
            self._orientation = _orientation(self._image)
        if self._orientation.is_transposed:
            self.width, self.height = self.height, self.width

    def resized(self, box: Box, size: tuple[int, int], *, is_cut: bool) -> np.ndarray:
        """Decode and resize a box of the upright image to this height and width: uint8 [height, width, 3]."""
        left, top, right, bottom = self._orientation.stored(box, self.width, self.height)
        stored_size = size if self._orientation.is_transposed else size[::-1]
        with _bad_if_undecodable():
            scale = _draft(self._image, (right - left, bottom - top), stored_size)
            left, top, right, bottom = (edge / scale for edge in (left, top, right, bottom))
            part: Image.Image = self._image
            if is_cut:
                start_x, start_y = math.floor(left), math.floor(top)
                part = part.crop((start_x, start_y, math.ceil(right), math.ceil(bottom)))
                left, top, right, bottom = left - start_x, top - start_y, right - start_x, bottom - start_y
            picture = _rgb(part).resize(stored_size, Image.Resampling.BICUBIC, box=(left, top, right, bottom))
            return self._orientation.upright(np.asarray(picture))


def _orientation(image: Image.Image) -> Orientation:
    tag = 1
    if not image.info.keys().isdisjoint(ORIENTED):
        # Pillow raises many kinds of errors for broken EXIF data; the picture may still be whole.
        with contextlib.suppress(Exception):
            tag = image.getexif().get(ExifTags.Base.Orientation, 1)
    return Orientation(tag in (5, 6, 7, 8), tag in (2, 3, 6, 7), tag in (3, 4, 7, 8))


def _draft(image: ImageFile.ImageFile, box_px: tuple[float, float], size: tuple[int, int]) -> int:
    """Let a JPEG decode to a smaller size and load the image; return how many times smaller the sides are."""
    sides = list(zip(box_px, size, strict=True))
    scale = next((scale for scale in DRAFTS if all(box >= scale * out for box, out in sides)), 1)
    if not isinstance(image, JpegImageFile) or not image.draft(None, (image.width // scale, image.height // scale)):
        scale = 1
    image.load()
    return scale


def _rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode that the formats can hold, as the module's docstring says."""
    transparency = image.info.get("transparency")
    if image.mode == "I;16":
        value = np.asarray(image)
        grey = ((value.astype(np.uint32) + 128) // 257).astype(np.uint8)
        if transparency is not None:
            grey[value == transparency] = 255
        return Image.fromarray(grey).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # convert always copies
    if isinstance(transparency, tuple) and max(transparency) > 255:
        # Pillow keeps the high bytes of 16-bit colours, but all of the transparent colour.
        image.info["transparency"] = tuple(value >> 8 for value in transparency)
    with_alpha = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, with_alpha).convert("RGB")


def random_crop(uniform_U: np.ndarray, height: int, width: int, config: AugmentConfig) -> Crop:
    """Compute the box of RandomResizedCrop, and the flip, from uniform numbers; the config has values for all.

    The area is uniform in the scale range and the aspect ratio log-uniform, both rounded to pixels. Of ten attempts the
    first that fits counts, or else the largest centred box of an allowed ratio.

    Source: ``RandomResizedCrop.get_params`` of torchvision.
    """
    assert config.min_scale is not None, "AugmentConfig.of() sets it"
    assert config.flip_probability is not None, "AugmentConfig.of() sets it"
    *drawn, at_top, at_left, at_flip = uniform_U.tolist()
    is_flipped = at_flip < config.flip_probability
    low, high = math.log(config.min_ratio), math.log(config.max_ratio)
    for at_area, at_ratio in zip(drawn[:CROP_ATTEMPTS], drawn[CROP_ATTEMPTS:], strict=True):
        area = height * width * (config.min_scale + at_area * (config.max_scale - config.min_scale))
        ratio = float(np.exp(low + at_ratio * (high - low)))  # math.exp may differ in the last bit
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            return Crop(
                int(at_top * (height - rows + 1)), int(at_left * (width - columns + 1)), rows, columns, is_flipped
            )
    rows = max(min(round(width / config.min_ratio), height), 1)
    columns = max(min(round(height * config.max_ratio), width), 1)
    return Crop((height - rows) // 2, (width - columns) // 2, rows, columns, is_flipped)


def native_crop(uniform_U: np.ndarray, height: int, width: int, config: AugmentConfig) -> Crop:
    """Compute a crop whose aspect ratio is in the configured range relative to the image's own, and the flip."""
    ratio = width / height
    relative = dataclasses.replace(config, min_ratio=config.min_ratio * ratio, max_ratio=config.max_ratio * ratio)
    return random_crop(uniform_U, height, width, relative)


def random_crops(
    uniform_BU: np.ndarray, height: int, width: int, config: AugmentConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes (top, left, height, width), int64 [B, 4], and flips, bool [B], of images of one size."""
    crops = [random_crop(uniform_U, height, width, config) for uniform_U in uniform_BU]
    return np.array([crop[:4] for crop in crops]), np.array([crop.is_flipped for crop in crops])
