"""How images become the input of an encoder, in the file ``preprocessor_config.json`` of transformers."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from aimv2.base.errors import UsageError, short
from aimv2.base.files import read_object
from aimv2.data.transforms import CENTRE_CROP, IMAGENET, Colours

FILE = "preprocessor_config.json"
BICUBIC = 3  # of Pillow
BYTE = 1 / 255  # the factor that makes 0..1 of 0..255
LARGEST = 1e6  # value of a mean or standard deviation
UNCHANGED = Colours((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Preprocessing(NamedTuple):
    """How images become the input of an encoder.

    Attributes:
        colours: mean and standard deviation by which they are normalised.
        crop: share of the shorter side that the centre crop shows; None if images are shown in another way.
    """

    colours: Colours = IMAGENET
    crop: float | None = CENTRE_CROP

    def to_json(self, image_px: int) -> str:
        """Return the content of the file, for ``AutoImageProcessor``."""
        assert self.crop, "images are resized by the shorter side, and cropped"
        side = {"height": image_px, "width": image_px}
        values = {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": round(image_px / self.crop)},
            "resample": BICUBIC,
            "do_center_crop": True,
            "crop_size": side,
            "do_rescale": True,
            "rescale_factor": BYTE,
            "do_normalize": True,
            "image_mean": list(self.colours.mean),
            "image_std": list(self.colours.std),
        }
        return json.dumps(values, indent=2) + "\n"


AS_TRAINED = Preprocessing()  # by this project and ml-aim


def read_preprocessing(path: Path) -> Preprocessing | None:
    """Read the file beside weights; None if there is none.

    Args:
        path: the folder of the weights, or their file.

    Raises:
        UsageError: the file is not JSON, or mean and standard deviation are not what they should be.
    """
    file = (path if path.is_dir() else path.parent) / FILE
    if not file.is_file():
        return None
    values = read_object(file)
    if values.get("do_rescale", True) is not True or not math.isclose(
        _number(file, values, "rescale_factor", BYTE), BYTE
    ):
        raise UsageError(f"{file}: do_rescale and rescale_factor must make 0 to 1 of 0 to 255")
    colours = UNCHANGED
    if values.get("do_normalize", True):
        colours = Colours(_three(file, values, "image_mean"), _three(file, values, "image_std"))
        if min(colours.std) <= 0:
            raise UsageError(f"{file}: image_std has {min(colours.std):g}, and must be above 0")
    return Preprocessing(colours, _crop(values))


def _crop(values: dict[str, Any]) -> float | None:
    """Return the share of the shorter side that is shown; None if images are not resized by it, or not cropped."""
    is_cropped = values.get("do_resize", True) and values.get("do_center_crop", True)
    size, cropped = values.get("size"), values.get("crop_size")
    edge = size.get("shortest_edge") if isinstance(size, dict) else size
    height, width = (cropped.get(key) if isinstance(cropped, dict) else cropped for key in ("height", "width"))
    if not is_cropped or values.get("resample", BICUBIC) != BICUBIC or width != height:
        return None
    if not isinstance(edge, int) or not isinstance(height, int) or not 0 < height <= edge:
        return None
    return height / edge


def _three(file: Path, values: dict[str, Any], key: str) -> tuple[float, float, float]:
    given = values.get(key)
    if not isinstance(given, list) or len(given) != 3 or not all(map(_is_number, given)):
        raise UsageError(f"{file}: {key} must be three numbers (got {short(given)})")
    red, green, blue = map(float, given)
    return red, green, blue


def _number(file: Path, values: dict[str, Any], key: str, default: float) -> float:
    given = values.get(key, default)
    if not _is_number(given):
        raise UsageError(f"{file}: {key} must be a number (got {short(given)})")
    return float(given)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
