"""Images of different grids in one tensor, as strips of patches.

A strip has the patches of an image side by side, in raster order, and then zeros, the mean colour. It is an image with
a single row of patches, which the patch embedding and the pixel targets read like any other.

Letters: B images, A patches of the area, p side of a patch in pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aimv2.data.transforms import crop_and_resize, network_input
from aimv2.native import size_within


def strips(images: Sequence[Tensor], patch_px: int, area: int) -> tuple[Tensor, Tensor]:
    """Return images as strips, and their grids.

    Args:
        images: float32 [3, height, width] each, multiples of p, of at most A patches.

    Returns:
        float32 [B, 3, p, A x p], and rows and columns of each image, int64 [B, 2].
    """
    strip = torch.zeros(len(images), 3, patch_px, area, patch_px)
    grids = []
    for own, image in zip(strip, images, strict=True):
        rows, columns = (side // patch_px for side in image.shape[1:])
        cells = image.view(3, rows, patch_px, columns, patch_px).permute(0, 2, 1, 3, 4)
        own[:, :, : rows * columns] = cells.reshape(3, patch_px, rows * columns, patch_px)
        grids.append((rows, columns))
    return strip.flatten(3), torch.tensor(grids)


def resized(
    pictures: Sequence[np.ndarray], boxes: tuple[np.ndarray, np.ndarray], *, patch_px: int, area: int
) -> list[Tensor]:
    """Crop square pictures of one size and resize them to fit an area: float32 [3, height, width] each, normalised.

    Args:
        pictures: uint8 [S, S, 3] each.
        boxes: boxes and flips, as ``random_crops`` returns them.
    """
    box_B4, flip_B = boxes
    sizes = [size_within(height, width, patch_px=patch_px, area=area) for height, width in box_B4[:, 2:].tolist()]
    found: list[Tensor] = [torch.empty(0)] * len(pictures)
    for size in dict.fromkeys(sizes):  # those of one size together, which is faster
        rows = [row for row, own in enumerate(sizes) if own == size]
        image_BSSC = torch.from_numpy(np.stack([pictures[row] for row in rows]))
        for row, image in zip(rows, crop_and_resize(image_BSSC, box_B4[rows], flip_B[rows], size), strict=True):
            found[row] = image
    return found


def normalised(pictures: Sequence[np.ndarray]) -> list[Tensor]:
    """Return pictures of any sizes, uint8 [height, width, 3], as network inputs: float32 [3, height, width] each."""
    return [network_input(torch.from_numpy(picture[None].copy()))[0] for picture in pictures]
