"""Cropping, flipping and resizing of whole batches of square pictures, and strips of patches.

Letters: B images, S source side, P output side, A patches of an area, p side of a patch in pixels.

Resizing is linear in the pixels and separable. Each crop is therefore two small matrices, one for rows and one for
columns, and a batch of different crops is two batched products, on any device.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.config.native import size_within


class Colours(NamedTuple):
    """Mean and standard deviation of red, green and blue on 0..1, by which images are normalised."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Colours((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRE_CROP = 0.875  # share of the side that evaluation uses (ml-aim and ml-l3m validation transforms)


def hide_patches(image: Tensor, uniform_BI: np.ndarray, fraction: float) -> Tensor:
    """Set the patches with the smallest numbers to 0, the same share in every image: float32 [B, 3, P, P]."""
    num_patches = uniform_BI.shape[1]
    grid = math.isqrt(num_patches)
    is_seen_BI = uniform_BI.argsort(axis=1).argsort(axis=1) >= round(fraction * num_patches)
    is_seen = torch.from_numpy(is_seen_BI.reshape(-1, 1, grid, grid)).to(image.dtype)
    pixels = image.shape[-1] // grid
    return image * is_seen.repeat_interleave(pixels, dim=2).repeat_interleave(pixels, dim=3)


def centred_images(images: np.ndarray, out_px: int, share: float = CENTRE_CROP) -> Tensor:
    """Centre-crop pictures for evaluation to a share of their side: uint8 [B, S, S, 3] to float32 [B, 3, P, P]."""
    size = round(images.shape[1] * share)
    if size == out_px == images.shape[1]:  # resizing would change nothing, and takes longer than a small encoder
        return network_input(torch.from_numpy(images))
    start = (images.shape[1] - size) // 2
    box_B4 = np.tile([start, start, size, size], (len(images), 1))
    return crop_and_resize(torch.from_numpy(images), box_B4, np.zeros(len(images), dtype=bool), out_px)


def crop_and_resize(
    image_BSSC: Tensor, box_B4: np.ndarray, flip_B: np.ndarray, out_px: int | tuple[int, int]
) -> Tensor:
    """Crop each image to its box, resize it (bicubic with antialiasing, as Pillow), flip it and normalise it.

    Args:
        image_BSSC: uint8 [B, S, S, 3].
        box_B4: int64 [B, 4], (top, left, height, width).
        flip_B: bool [B].

    Returns:
        float32 [B, 3, P, P], or [B, 3, height, width], normalised with the ImageNet mean and standard deviation.
    """
    side = image_BSSC.shape[1]
    height, width = (out_px, out_px) if isinstance(out_px, int) else out_px
    row_BPS = resize_weights(box_B4[:, 0], box_B4[:, 2], side, height)
    column_BPS = resize_weights(box_B4[:, 1], box_B4[:, 3], side, width)
    column_BPS = np.where(flip_B[:, None, None], column_BPS[:, ::-1], column_BPS)

    device = image_BSSC.device
    pixels_BSX = image_BSSC.to(torch.float32).flatten(2)
    rows_BPSC = torch.bmm(torch.from_numpy(row_BPS).to(device), pixels_BSX).reshape(-1, height, side, 3)
    # [B, S, P x C]: the columns become the contracted axis.
    columns_BSX = rows_BPSC.transpose(1, 2).flatten(2)
    resized_BPPC = torch.bmm(torch.from_numpy(column_BPS).to(device), columns_BSX).reshape(-1, width, height, 3)
    return normalised(resized_BPPC.permute(0, 3, 2, 1).clamp(0, 255))


def strips(images: Sequence[Tensor], patch_px: int, area: int) -> tuple[Tensor, Tensor]:
    """Return images of different grids as strips of patches, and the grids.

    A strip has the patches of an image side by side, in raster order, and then zeros, the mean colour once images are
    normalised. It is an image with a single row of A patches, which the patch embedding and the pixel targets read like
    any other.

    Args:
        images: [3, height, width] each, multiples of p, of at most A patches, the area.

    Returns:
        [B, 3, p, A x p] of the type of the images, and rows and columns of each image, int64 [B, 2].
    """
    strip = images[0].new_zeros(len(images), 3, patch_px, area, patch_px)
    grids = []
    for row, image in zip(strip, images, strict=True):
        rows, columns = (side // patch_px for side in image.shape[1:])
        cells = image.view(3, rows, patch_px, columns, patch_px).permute(0, 2, 1, 3, 4)
        row[:, :, : rows * columns] = cells.reshape(3, patch_px, rows * columns, patch_px)
        grids.append((rows, columns))
    return strip.flatten(3), torch.tensor(grids)


def resized_within(
    pictures: Sequence[np.ndarray], boxes: tuple[np.ndarray, np.ndarray], *, patch_px: int, area: int
) -> list[Tensor]:
    """Crop pictures, uint8 [S, S, 3] each, and resize them to fit an area: float32 [3, height, width], normalised."""
    box_B4, flip_B = boxes
    sizes = [size_within(height, width, patch_px=patch_px, area=area) for height, width in box_B4[:, 2:].tolist()]
    images: list[Tensor] = [torch.empty(0)] * len(pictures)
    for size in dict.fromkeys(sizes):  # those of one size together, which is faster
        rows = [row for row, size_of_row in enumerate(sizes) if size_of_row == size]
        image_BSSC = torch.from_numpy(np.stack([pictures[row] for row in rows]))
        for row, image in zip(rows, crop_and_resize(image_BSSC, box_B4[rows], flip_B[rows], size), strict=True):
            images[row] = image
    return images


def network_input(image_BPPC: Tensor, colours: Colours = IMAGENET) -> Tensor:
    """Normalise pictures that have the network's size: uint8 [B, P, P, 3] to float32 [B, 3, P, P]."""
    return normalised(image_BPPC.permute(0, 3, 1, 2), colours=colours)


def normalised(pixels_BCPP: Tensor, grid_B2: Tensor | None = None, colours: Colours = IMAGENET) -> Tensor:
    """Normalise values of 0..255, to float32."""
    mean, std = _statistics(pixels_BCPP.device, colours)
    # A contiguous copy that is changed in place: four times as fast as new tensors in the order of the pictures.
    copy_BCPP = pixels_BCPP.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    copy_BCPP.div_(255).sub_(mean).div_(std)
    if grid_B2 is not None:
        patch_px, width = copy_BCPP.shape[-2:]
        pos_A = torch.arange(width // patch_px, device=grid_B2.device)
        is_padding_BA = pos_A >= grid_B2.prod(dim=1, keepdim=True)
        copy_BCPP.masked_fill_(is_padding_BA.repeat_interleave(patch_px, dim=1)[:, None, None], 0)
    return copy_BCPP


@lru_cache  # a copy of them to a GPU waits for what it computes
def _statistics(device: torch.device, colours: Colours) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation: float32 [3, 1, 1] each."""
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in colours)
    return mean, std


def resize_weights(start_B: np.ndarray, size_B: np.ndarray, side: int, out_px: int) -> np.ndarray:
    """Return the weights of source pixels in each output pixel along one axis: float32 [B, P, S], rows sum to 1."""
    scale_B11 = (size_B / out_px)[:, None, None]
    centre_BP1 = start_B[:, None, None] + (np.arange(out_px)[None, :, None] + 0.5) * scale_B11
    source_S = np.arange(side)
    weight_BPS = _cubic((source_S + 0.5 - centre_BP1) / np.maximum(scale_B11, 1))
    inside_B1S = (source_S >= start_B[:, None, None]) & (source_S < (start_B + size_B)[:, None, None])
    weight_BPS = weight_BPS * inside_B1S
    normalised_BPS: np.ndarray = weight_BPS / weight_BPS.sum(axis=2, keepdims=True)
    return normalised_BPS.astype(np.float32)


def unnormalise(image: Tensor) -> np.ndarray:
    """Convert network input [3, P, P] back to a picture, uint8 [P, P, 3]."""
    mean, std = _statistics(torch.device("cpu"), IMAGENET)
    pixels = (image.cpu().float() * std + mean).clamp(0, 1) * 255
    return pixels.round().to(torch.uint8).permute(1, 2, 0).numpy()


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Return Keys' cubic kernel; a = -0.5 as in Pillow."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
