"""The objectives by their names, and the networks that runs train, with initial weights or those they start from."""

import hashlib
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

import torch
from fvcore.nn import parameter_count
from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.config.run_config import RunConfig
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.definitions.objectives import Objective, objective
from aimv2.model.initial import init_weights_
from aimv2.model.layers import Stack
from aimv2.model.network import Network
from aimv2.model.positions import in_reading_order, reading_order, resample
from aimv2.objectives.aimv2 import AIMv2, CapPa, CaptionOnly, ImageOnly
from aimv2.objectives.base import Implementation
from aimv2.objectives.contrastive import CLIP, SigLIP
from aimv2.request.origin import Origin, parts_of, read_origin
from aimv2.runs.tensor_file import check_finite, read_tensors

BUILT_IN: Mapping[str, type[Implementation[Any]]] = {
    "aimv2": AIMv2,
    "caption": CaptionOnly,
    "image_only": ImageOnly,
    "cappa": CapPa,
    "clip": CLIP,
    "siglip": SigLIP,
}


def implementation_of(goal: Objective) -> type[Implementation[Any]]:
    """Return an objective's network and losses; a plug-in's are imported here."""
    if not isinstance(goal.implementation, str):
        return goal.implementation()
    if goal.implementation in BUILT_IN:
        return BUILT_IN[goal.implementation]
    implementation: type[Implementation[Any]] = resolve_name(goal.implementation)
    return implementation


def build(config: RunConfig) -> Network:
    """Build the run's network with its initial weights."""
    model = build_empty(config)
    model.to_empty(device="cpu")
    init_weights_(model, seed=config.seed)
    return model


def build_empty(config: RunConfig) -> Network:
    """Build the run's network without weights, on the meta device. Frozen parts require no gradients."""
    with torch.device("meta"):
        model: Network = implementation_of(objective(config.objective.name)).network(config)
    for module in model.modules():
        if isinstance(module, Stack):
            module.is_residual_cast = config.residual == "bfloat16"
    for part in config.start.frozen:
        getattr(model, part).requires_grad_(False)
    return model


def parameters_by_part(config: RunConfig) -> dict[str, int]:
    """Count the parameters of each part of the run's network on the meta device."""
    model = build_empty(config)
    counted = parameter_count(model)
    return {part: counted[part] for part, _ in model.named_children()}


def start_network(model: Network, config: RunConfig, tokenizer: CaptionTokenizer) -> Network:
    """Give the run's network the weights of ``start.weights``, if there are any, and return it.

    Parts that ``start.weights`` lacks start from random weights; parts that the run lacks are left out. Learned
    positions of patches are resampled to the run's image size. Broken weights, those that do not fit, and those that
    were trained with another tokenizer are UsageErrors.
    """
    if config.start.weights is None:
        return model
    origin = read_origin(config.start.weights)
    taken = {name: value for name, value in model.state_dict().items() if name.partition(".")[0] in origin.parts}
    has_text = any("text_embed" in name for name in taken)
    if has_text and CaptionTokenizer.load(origin.tokenizer).fingerprint != tokenizer.fingerprint:
        path, typed = str(origin.path), f"data.tokenizer={origin.tokenizer}"
        raise UsageError(f"start.weights={path!r} has text parts for another tokenizer; type {typed}")
    given = read_tensors(origin.file)
    check_finite(origin.file, given)
    state = {name: _fitting(name, value, given, config, origin) for name, value in taken.items()}
    model.load_state_dict(state, strict=False)
    return model


def content_of_start(config: RunConfig) -> dict[str, Any] | None:
    """Return what a run starts from, for the manifest; None if all weights are random.

    A checksum says which weights they were, because a run of the same name may end with others on other hardware.
    """
    if config.start.weights is None:
        return None
    origin = read_origin(config.start.weights)
    with origin.file.open("rb") as content:
        checksum = hashlib.file_digest(content, "sha256").hexdigest()
    parts = sorted(origin.parts & parts_of(config))
    return {"weights": config.start.fingerprint, "path": str(origin.path), "sha256": checksum, "parts": parts}


def _fitting(name: str, own: Tensor, given: Mapping[str, Tensor], config: RunConfig, origin: Origin) -> Tensor:
    """Return the given tensor for a parameter, resampled if it is a table of positions of patches."""
    if name not in given:
        raise UsageError(f"{origin.file} has no {name}, which the run's network has")
    value, model = given[name], config.model
    if name == "encoder.pos_embed":
        value = resample(value, model.grid, model.grid)
    elif name.endswith("image_pos_embed"):  # of the decoder
        value = _resampled_in_order(value, model.patch_order, origin.sizes["image_px"] // model.patch_px, model.grid)
    if value.shape != own.shape:
        raise UsageError(f"{origin.file}: {name} is {list(value.shape)}, but the run's network has {list(own.shape)}")
    return value.to(own.dtype)


def _resampled_in_order(table_IE: Tensor, order: str, grid: int, new_grid: int) -> Tensor:
    """Resample a table of positions of patches in reading order."""
    raster_IE = table_IE
    if (places := reading_order(order, grid)) is not None:
        raster_IE = torch.empty_like(table_IE)
        raster_IE[list(places)] = table_IE
    return in_reading_order(resample(raster_IE[None], new_grid, new_grid), order, new_grid)[0]
