"""Tensors of published weights: the sizes they show, and their conversion to our names and back."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.tools.weights.contents import WeightsConfig, empty_network
from aimv2.tools.weights.files import count, short, some
from aimv2.tools.weights.names import FLAT_TABLES, PATCHES, POSITIONS, Names, their_names

MAX_DEPTH = 1000  # so that a file of many tiny tensors cannot make us build as many blocks


class MismatchError(UsageError):
    """Tensors differ from those expected. The message counts them and names the first.

    Args:
        misshapen: the actual and the expected shape as text, by name.

    Attributes:
        names: all of them by kind (``missing``, ``unexpected``, ``of another shape``), one line of escaped text each.
    """

    def __init__(
        self,
        file: Path,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshapen: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        kinds: dict[str, list[tuple[str, str]]] = {
            "missing": [(name, "") for name in missing],
            "unexpected": [(name, "") for name in unexpected],
            "of another shape": [(name, f" {shapes}") for name, shapes in misshapen.items()],
        }
        counts = ", ".join(
            f"{len(found)} {kind} ({some([short(name) + shapes for name, shapes in found])})"
            for kind, found in kinds.items()
            if found
        )
        super().__init__(f"{file}: the tensors are not those of an AIMv2 encoder: {counts}")
        self.names = {kind: [repr(name) + text for name, text in found] for kind, found in kinds.items() if found}


def measured(file: Path, tensors: Mapping[str, Tensor], names: Names, *, has_text_tower: bool) -> dict[str, Any]:
    """Return the values of a WeightsConfig that shapes show, with ``image_px`` if there is a table of positions.

    No memory is allocated for these sizes, so a file cannot claim more than it holds.

    Raises:
        UsageError: a tensor that shows a size is missing, or has a shape that none of ours can have.
    """
    width, num_channels, num_rows, num_columns = _shape(file, tensors, names, PATCHES, num_dims=4)
    if num_channels != 3 or num_rows != num_columns:
        raise UsageError(
            f"{file}: patches are {num_rows} x {num_columns} with {count(num_channels, 'channel')}, not square with 3"
        )
    encoder = {"width": width, "depth": _depth(file, tensors, names, "encoder"), "positions": "sincos"}
    shown: dict[str, Any] = {"patch_px": num_rows, "encoder": encoder, "text_tower": None}
    table = their_names(names, POSITIONS)[0]
    if table in tensors:
        encoder["positions"] = "learned"
        shown["image_px"] = num_rows * _grid(file, table, list(tensors[table].shape), width)
    if has_text_tower:
        vocab_size, text_width = _shape(file, tensors, names, "text_tower.text_embed.weight", num_dims=2)
        shown["text_tower"] = {
            "width": text_width,
            "depth": _depth(file, tensors, names, "text_tower"),
            "embed_dim": _shape(file, tensors, names, "text_tower.proj.weight", num_dims=2)[0],
            "vocab_size": vocab_size,
            "max_text_tokens": _shape(file, tensors, names, "text_tower.text_pos_embed", num_dims=2)[0],
        }
    return shown


def _shape(file: Path, tensors: Mapping[str, Tensor], names: Names, ours: str, num_dims: int) -> torch.Size:
    name = their_names(names, ours)[0]
    if name not in tensors:
        raise MismatchError(file, missing=[name])
    shape = tensors[name].shape
    if len(shape) != num_dims:
        raise MismatchError(file, misshapen={name: f"{list(shape)}, expected {num_dims} dimensions"})
    return shape


def _grid(file: Path, table: str, shape: list[int], width: int) -> int:
    """Return the number of patches along a side from the shape of the table of positions."""
    num_positions = shape[-2] if len(shape) > 1 else 0
    grid = math.isqrt(num_positions)
    if grid < 2 or grid**2 != num_positions:
        expected = f"[{'' if table in FLAT_TABLES else '1, '}N, {width}] with N = 4, 9, 16, … patches"
        raise MismatchError(file, misshapen={table: f"{shape}, expected {expected}"})
    return grid


def _depth(file: Path, tensors: Mapping[str, Tensor], names: Names, stack: str) -> int:
    """Return the number of blocks, at least 1, so that without any the first one's tensors are reported as missing."""
    stem = their_names(names, f"{stack}.blocks.0.norm1.weight")[0].partition(".0.")[0]
    block = re.compile(re.escape(stem) + r"\.([0-9]+)\.")
    numbers = {found[1] for name in tensors if (found := block.match(name))}
    depth = len(numbers)
    if depth > MAX_DEPTH:
        raise UsageError(f"{file}: {depth} blocks are more than {MAX_DEPTH}, the limit")
    # Compared as text: a name may contain 1000000000, or a number with thousands of digits.
    if absent := [number for number in map(str, range(depth)) if number not in numbers]:
        stray = min(numbers.difference(map(str, range(depth))))
        raise UsageError(f"{file}: '{stem}.{absent[0]}' is missing, but the file has {short(f'{stem}.{stray}')}")
    return max(1, depth)


def check_agrees(where: Path | str, stated: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a config.json whose values contradict the tensors; missing keys are allowed.

    Raises:
        UsageError: naming the first such key, its value and the one expected.
    """
    for key, value in expected.items():
        # A number of another type is refused too: True is not 1, and 128.0 is not a size.
        if key in stated and (stated[key] != value or type(stated[key]) is not type(value)):
            raise UsageError(f"{where}: {key}={short(stated[key])}, but with these tensors it must be {value!r}")


def to_ours(file: Path, tensors: Mapping[str, Tensor], names: Names, config: WeightsConfig) -> dict[str, Tensor]:
    """Return the tensors under our names, float32.

    Raises:
        UsageError: a tensor is missing, unexpected, of the wrong shape, or not finite.
    """
    network = empty_network(config).state_dict()
    expected = {name: list(value.shape) for name, value in to_theirs(network, names).items()}
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshapen = {
        name: f"{list(tensors[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in tensors and list(tensors[name].shape) != shape
    }
    if missing or unexpected or misshapen:
        raise MismatchError(file, missing=missing, unexpected=unexpected, misshapen=misshapen)
    if broken := [short(name) for name, value in tensors.items() if not value.isfinite().all()]:
        raise UsageError(f"{file}: values that are not finite in {count(len(broken), 'tensor')} ({some(broken)})")
    whole = {}
    for ours, value in network.items():
        parts = [tensors[name].float().contiguous() for name in their_names(names, ours)]
        whole[ours] = (torch.cat(parts) if len(parts) > 1 else parts[0]).view(value.shape)
    return whole


def to_theirs(tensors: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Return our tensors under their names: the inverse of ``to_ours``."""
    renamed = {}
    for ours, whole in tensors.items():
        theirs = their_names(names, ours)
        parts = whole.chunk(len(theirs)) if len(theirs) > 1 else [whole]
        for name, value in zip(theirs, parts, strict=True):
            renamed[name] = value[0] if name in FLAT_TABLES else value
    return renamed
