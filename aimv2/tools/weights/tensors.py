"""Tensors of published weights: their names, the sizes they show, and their conversion to our names and back.

In the tables of names a row is a module with its ``weight`` and ``bias``, or a single tensor. ``#`` is the number of a
block. If one of our tensors is several of theirs, stacked, braces list the differing parts.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aimv2.base.errors import UsageError, short, some
from aimv2.runs.tensor_file import check_finite
from aimv2.tools.weights.contents import WeightsConfig, empty_network

Names = Mapping[str, str]

OURS: Names = {}  # a name that is not in a table stays as it is
ENCODER = {  # ours: transformers, ml-aim
    "patch_embed": ("embeddings.patch_embed", "preprocessor.patchifier.proj"),
    "patch_norm": ("embeddings.rms_norm", "preprocessor.patchifier.norm"),
    "pos_embed": ("embeddings.position_embedding.weight", "preprocessor.pos_embed"),
    "blocks.#.norm1": ("encoder.layers.#.rms_norm1", "trunk.blocks.#.norm_1"),
    "blocks.#.attn.qkv": ("encoder.layers.#.attention.{q,k,v}_proj", "trunk.blocks.#.attn.qkv"),
    "blocks.#.attn.out": ("encoder.layers.#.attention.out_proj", "trunk.blocks.#.attn.proj"),
    "blocks.#.norm2": ("encoder.layers.#.rms_norm2", "trunk.blocks.#.norm_2"),
    "blocks.#.ffn.gate_up": ("encoder.layers.#.ffn.{gate,up}_proj", "trunk.blocks.#.mlp.{fc1,fc3}"),
    "blocks.#.ffn.down": ("encoder.layers.#.ffn.down_proj", "trunk.blocks.#.mlp.fc2"),
    "norm": ("rms_norm", "trunk.post_trunk_norm"),
}
TRANSFORMERS: Names = {f"encoder.{ours}": theirs for ours, (theirs, _) in ENCODER.items()}
ML_AIM: Names = {f"encoder.{ours}": theirs for ours, (_, theirs) in ENCODER.items()}
TRANSFORMERS_PAIR: Names = {
    **{ours: f"vision_model.{theirs}" for ours, theirs in TRANSFORMERS.items()},
    "image_head.query": "vision_model.head.cls_token",
    "image_head.key_value": "vision_model.head.{k,v}_proj",
    "image_head.out": "vision_model.head.output_proj",
    "image_head.proj": "visual_projection",
    "text_tower.text_embed": "text_model.embeddings.token_embedding",
    "text_tower.text_pos_embed": "text_model.embeddings.position_embedding.weight",
    **{f"text_tower.{ours}": f"text_model.{theirs}" for ours, (theirs, _) in ENCODER.items() if "#" in ours},
    "text_tower.norm": "text_model.rms_norm",
    "text_tower.proj": "text_projection",
    "similarity.logit_scale": "logit_scale",
}
TEXT_SIZES = {  # of the text tower, as its shapes show them
    "text_tower.text_embed.weight": ("vocab_size", "width"),
    "text_tower.text_pos_embed": ("max_text_tokens", "width"),
    "text_tower.proj.weight": ("embed_dim", "width"),
}

PATCHES, POSITIONS = "encoder.patch_embed.weight", "encoder.pos_embed"
FFN = "encoder.blocks.0.ffn.gate_up.weight"
FLAT_TABLES = {TRANSFORMERS[POSITIONS], TRANSFORMERS_PAIR[POSITIONS]}  # [I, D]; ours and Apple's are [1, I, D]


def their_names(names: Names, ours: str) -> list[str]:
    """Return their names of the parts of one of our tensors, in order."""
    block = re.search(r"\.(\d+)\.", ours)
    template, number = (ours.replace(block[0], ".#.", 1), block[1]) if block else (ours, "")
    module, dot, kind = template.rpartition(".")
    start, _, rest = names.get(template, names.get(module, module) + dot + kind).partition("{")
    parts, _, end = rest.partition("}")
    return [(start + part + end).replace("#", number) for part in parts.split(",")]


def mismatch(file: Path, kinds: Mapping[str, Sequence[str]]) -> UsageError:
    """Return the error for tensors that are not those expected, which counts them and names the first.

    Args:
        kinds: by kind (``missing``, ``unexpected``, ``of another shape``) the tensors, escaped.
    """
    counts = ", ".join(f"{len(names)} {kind} ({some(names)})" for kind, names in kinds.items() if names)
    return UsageError(f"{file}: the tensors are not those of an AIMv2 encoder: {counts}")


def measured(file: Path, tensors: Mapping[str, Tensor], names: Names) -> dict[str, Any]:
    """Return the values of a WeightsConfig that shapes show, with ``image_px`` if there is a table of positions.

    No memory is allocated for these sizes, so a file cannot claim more than it holds.

    Raises:
        UsageError: a tensor that shows a size is missing, or has a shape that none of ours can have.
    """
    patches, table = (their_names(names, ours)[0] for ours in (PATCHES, POSITIONS))
    if patches not in tensors:
        raise mismatch(file, {"missing": [short(patches)]})
    shape = list(tensors[patches].shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise mismatch(file, {"of another shape": [f"{patches!r} {shape}, expected [D, 3, P, P]: square patches"]})
    width, patch_px = shape[0], shape[2]
    encoder = {"width": width, "depth": _depth(tensors, names, "encoder"), "positions": "sincos"}
    shown: dict[str, Any] = {"patch_px": patch_px, "encoder": encoder}
    if table in tensors:
        encoder["positions"] = "learned"
        shown["image_px"] = patch_px * _grid(file, table, list(tensors[table].shape), width)
    if not TEXT_SIZES.keys().isdisjoint(tensors) or names is TRANSFORMERS_PAIR:
        shown["text_tower"] = {"depth": _depth(tensors, names, "text_tower")}
        for ours, sizes in TEXT_SIZES.items():
            name = their_names(names, ours)[0]
            if name not in tensors:
                raise mismatch(file, {"missing": [short(name)]})
            if tensors[name].ndim != len(sizes):
                raise mismatch(file, {"of another shape": [f"{name!r} {list(tensors[name].shape)}, expected 2 sizes"]})
            shown["text_tower"] |= zip(sizes, tensors[name].shape, strict=True)
    return shown


def _grid(file: Path, table: str, shape: list[int], width: int) -> int:
    """Return the number of patches along a side from the shape of the table of positions."""
    num_positions = shape[-2] if len(shape) > 1 else 0
    grid = math.isqrt(num_positions)
    if grid < 2 or grid**2 != num_positions:
        expected = f"[{'' if table in FLAT_TABLES else '1, '}N, {width}] with N = 4, 9, 16, … patches"
        raise mismatch(file, {"of another shape": [f"{table!r} {shape}, expected {expected}"]})
    return grid


def _depth(tensors: Mapping[str, Tensor], names: Names, stack: str) -> int:
    """Return the number of blocks, at least 1, so that without any the first one's tensors are reported as missing."""
    stem = their_names(names, f"{stack}.blocks.0.norm1.weight")[0].partition(".0.")[0]
    block = re.compile(re.escape(stem) + r"\.([0-9]+)\.")
    return max(1, len({found[1] for name in tensors if (found := block.match(name))}))


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
        UsageError: a tensor is missing, unexpected, of the wrong shape, or not finite, or the logit scale is negative.
    """
    network = empty_network(config).state_dict()
    expected = {name: list(value.shape) for name, value in to_theirs(network, names).items()}
    differing = {
        "missing": [short(name) for name in expected if name not in tensors],
        "unexpected": [short(name) for name in tensors if name not in expected],
        "of another shape": [
            f"{short(name)} {list(tensors[name].shape)}, expected {shape}"
            for name, shape in expected.items()
            if name in tensors and list(tensors[name].shape) != shape
        ],
    }
    if any(differing.values()):
        raise mismatch(file, differing)
    check_finite(file, tensors)
    whole = {}
    for ours, value in network.items():
        parts = [tensors[name].float().contiguous() for name in their_names(names, ours)]
        whole[ours] = (torch.cat(parts) if len(parts) > 1 else parts[0]).view(value.shape)
    if (scale := whole.get("similarity.logit_scale", torch.zeros(()))) < 0:
        raise UsageError(f"{file}: logit_scale={scale:.4g} is below 0; transformers would raise it to 0, we do not")
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
