"""Time JPEG decoders beside Pillow: decoding, cropping to 80 % of each side, and resizing to 224 px by Pillow.

The larger JPEG is decoded at a quarter of its size. It needs: pip install simplejpeg opencv-python-headless
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from analysis.costs.ratios import relative
from benchmarks.options import Timed
from benchmarks.results import Cell, Table
from benchmarks.synthetic import PHOTOGRAPHS, draw
from benchmarks.timing import CLOCKS, interleaved

SIZES = ((500, 375, 1), (2000, 1500, 4))  # of photographs, and by how much they are reduced

Decode = Callable[[bytes, tuple[int, int]], Image.Image]  # from a file and the least size in pixels


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Options(Timed):
    """How to time."""

    threads: int = Field(default=1, gt=0, description="CPU threads; loader workers have one")


def measure(options: Options) -> Iterator[Table]:
    """Yield a table of all decoders and sizes; a missing package is a UsageError."""
    rows: list[dict[str, Cell]] = []
    for width, height, reduction in SIZES:
        content = draw(replace(PHOTOGRAPHS, width=width, height=height), np.random.default_rng(0))
        decoders = {"Pillow": pillow, **others(reduction)}
        size = (width // reduction, height // reduction)
        calls = {name: partial(picture, decode, content, size) for name, decode in decoders.items()}
        seconds = interleaved(calls, options.repeats, clock=CLOCKS[options.clock])
        rows += [
            {
                "JPEG": f"{width} x {height} px, {len(content) / 1000:.0f} kB",
                "decoder": name,
                "ms": 1000 * float(np.median(seconds_R)),
                "its time / Pillow's": relative(seconds_R, seconds["Pillow"]) if name != "Pillow" else None,
            }
            for name, seconds_R in seconds.items()
        ]
    yield Table("decoders", rows)


def pillow(content: bytes, size: tuple[int, int]) -> Image.Image:
    """Decode by Pillow, drafted to the size."""
    image = Image.open(io.BytesIO(content))
    image.draft(None, size)
    return image


def others(reduction: int) -> dict[str, Decode]:
    """Return the other decoders.

    Raises:
        UsageError: a package is missing.
    """
    try:
        import cv2
        import simplejpeg
    except ImportError as error:
        raise UsageError(f"{error}; install it with: pip install simplejpeg opencv-python-headless") from error
    cv2.setNumThreads(1)
    flag = {1: cv2.IMREAD_COLOR_RGB, 4: cv2.IMREAD_REDUCED_COLOR_4}[reduction]
    return {
        "simplejpeg": lambda content, size: Image.fromarray(
            simplejpeg.decode_jpeg(content, min_width=size[0], min_height=size[1])
        ),
        "OpenCV": lambda content, size: Image.fromarray(cv2.imdecode(np.frombuffer(content, np.uint8), flag)),
    }


def picture(decode: Decode, content: bytes, size: tuple[int, int]) -> Image.Image:
    """Return the middle of a picture, 224 px wide and high."""
    image = decode(content, size)
    left, top = image.width // 10, image.height // 10
    return image.crop((left, top, 9 * left, 9 * top)).resize((224, 224), Image.Resampling.BICUBIC)
