"""Position embeddings and the order in which patches are read. Letters: I patches, D width."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.base import address

BASE = 10_000.0  # ml-aim ``SinCosPosEmbed``


@lru_cache(maxsize=64)
def sincos(num_rows: int, num_columns: int, width: int, device: torch.device) -> Tensor:
    """Return fixed 2-D positions of a grid in raster order: float32 [I, D].

    The first half of the channels encodes the column, the second the row, as in the native AIMv2-L. Each half has
    sines, then cosines, of frequencies 10000^(-4j/D).

    Source: ml-aim ``SinCosPosEmbed``.
    """
    with torch.inference_mode(False):  # an inference tensor could not be used in training later
        frequency = BASE ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
        sides = (torch.arange(side, dtype=torch.float64) for side in (num_rows, num_columns))
        row, column = torch.meshgrid(*sides, indexing="ij")
        halves = [torch.outer(place.flatten(), frequency) for place in (column, row)]
        return torch.cat([part for angle in halves for part in (angle.sin(), angle.cos())], dim=1).float().to(device)


def sincos_of_grids(grid_B2: Tensor, num_patches: int, width: int) -> Tensor:
    """Return the positions of images whose patches fill their own grids in raster order: float32 [B, I, D].

    Each image has those of ``sincos`` for its rows and columns, and meaningless ones after its own patches.

    Args:
        grid_B2: int64 [B, 2], rows and columns of each image.
    """
    # The columns of a single row. Rows are encoded by the same function.
    place_ID = sincos(1, num_patches, width, grid_B2.device)[:, : width // 2]
    pos_I = torch.arange(num_patches, device=grid_B2.device)
    column_BI, row_BI = pos_I % grid_B2[:, 1:], pos_I // grid_B2[:, 1:]
    return torch.cat([place_ID[column_BI], place_ID[row_BI]], dim=2)


@lru_cache(maxsize=64)
def reading_order(order: str, grid: int) -> tuple[int, ...] | None:
    """Return the raster indices of a square grid's patches in reading order; None is raster order.

    ``spiral`` starts at the centre (in an even grid, the patch above and left of it) and goes right, down, left, up.
    ``random`` is one permutation for all images, runs and seeds: part of the design, not a source of variance.

    Source: AIM v1 Table 3b compares raster, spiral, checkerboard and random without showing them.
    """
    if order == "raster":
        return None
    if order == "random":
        permutation = address.generator(seed=0, purpose="patch order", sample_id=grid).permutation(grid * grid)
        return tuple(permutation.tolist())
    assert order == "spiral", f"no such patch order: {order}"
    row = column = (grid - 1) // 2
    found = [row * grid + column]
    for turn in range(2 * grid):
        down, right = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn % 4]
        for _ in range(turn // 2 + 1):
            row, column = row + down, column + right
            if 0 <= row < grid and 0 <= column < grid:
                found.append(row * grid + column)
    return tuple(found)


def in_reading_order(patch_BIX: Tensor, order: str, grid: int) -> Tensor:
    """Bring patches [B, I, ...] from raster order to reading order."""
    places = reading_order(order, grid)
    return patch_BIX if places is None else patch_BIX[:, _on_device(places, patch_BIX.device)]


@lru_cache(maxsize=64)
def _on_device(places: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # an inference tensor could not be used in training later
        return torch.tensor(places, device=device)


def resample(pos_embed: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """Resample learned positions [1, I, D] of a square grid to another grid: [1, I', D].

    The method is timm's: bicubic with antialiasing, in float32. The same grid is returned unchanged. The paper does not
    describe how its 336 px and 448 px models were initialised (section 2.4).
    """
    grid = round(pos_embed.shape[1] ** 0.5)
    assert grid * grid == pos_embed.shape[1], "the table's grid is not square"
    if (num_rows, num_columns) == (grid, grid):
        return pos_embed
    table_1DHW = pos_embed.float().reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    table_1DHW = F.interpolate(table_1DHW, size=(num_rows, num_columns), mode="bicubic", antialias=True)
    return table_1DHW.flatten(2).transpose(1, 2).to(pos_embed.dtype)
