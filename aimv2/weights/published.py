"""Weights as others publish them: which layout they are in, reading them, and writing them."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from aimv2.errors import UsageError
from aimv2.weights.contents import Weights, WeightsConfig, dtypes, split_off_encoder, weights_config
from aimv2.weights.files import find, read_object, read_tensors, short, some, write_folder
from aimv2.weights.layout import Layout
from aimv2.weights.ml_aim import MlAim
from aimv2.weights.names import FFN, PATCHES, their_names
from aimv2.weights.tensors import measured, to_ours, to_theirs
from aimv2.weights.timm import Timm
from aimv2.weights.transformers import PairModel, VisionModel

PUBLISHED: tuple[Layout, ...] = (VisionModel(), PairModel(), Timm(), MlAim())
LAYOUTS = ("transformers", "timm", "ml-aim")


def read_published(path: str | Path, layout: str = "auto") -> Weights:
    """Read weights as others publish them, under our names.

    Sizes are those of the tensors; a ``config.json`` beside them has to agree. It alone says how many heads there are;
    where it does not, heads are 128 wide, as in all published models. A head of transformers or timm is left behind.

    Args:
        path: a .safetensors file or the index of several, a checkpoint of ``torch.save``, or a folder with one of them.
        layout: one of LAYOUTS; ``auto`` goes by the names of the tensors.

    Raises:
        UsageError: no file that can be read without trusting it; tensors that are missing, unexpected, of the wrong
            shape or kind, or not finite; or a model that our encoder is not.
    """
    file = find(Path(path))
    tensors = read_tensors(file)
    found = _detect(file, tensors, layout)
    seen = measured(file, tensors, found.names, has_text_tower=found.has_text_tower)
    where, said = str(file), {}
    if (description := file.with_name("config.json")).exists():
        where = str(description)
        said = found.said(where, read_object(description))
    source = {"layout": found.name, "file": file.name, "dtypes": dtypes(tensors)}
    config = weights_config(where, {**found.values(where, said, seen), "source": source})
    found.check(where, said, config)
    encoder = {name: value for name, value in tensors.items() if name not in found.head}
    head = ", ".join(sorted(tensors.keys() - encoder.keys()))
    left_behind = f"{head}: our encoder has no attention-pooling or classifier head" if head else ""
    weights = Weights(config, to_ours(file, encoder, found.names, config), left_behind)
    _check_scale(file, weights)
    return weights


def write_published(weights: Weights, folder: str | Path, layout: str = "transformers") -> Weights:
    """Write weights as others load them, with a ``config.json``; parts that the layout does not have are left behind.

    ``timm.create_model`` takes the file's ``architecture`` and ``model_args``, or ``local-dir:`` and the folder.

    Returns:
        what was written, under our names still.

    Raises:
        UsageError: the layout has no such encoder, or the folder is not empty, or cannot be written.
    """
    _check_expressible(weights.config, layout)
    has_text_tower = weights.config.text_tower is not None
    if has_text_tower and layout != "transformers":
        has_text_tower = False
        encoder, others = split_off_encoder(weights.tensors)
        config = replace(weights.config, text_tower=None)
        weights = Weights(config, encoder, f"{others}: layout={layout} has no such parts")
    _check_scale(weights.config.source.file, weights)
    target = next(each for each in PUBLISHED if (each.name, each.has_text_tower) == (layout, has_text_tower))
    tensors, description = to_theirs(weights.tensors, target.names), target.description(weights.config)
    write_folder(Path(folder), target.file, tensors, description)
    return weights


def _detect(file: Path, tensors: Mapping[str, Tensor], layout: str) -> Layout:
    """The layout, or that of them all, whose name the patch embedding has, or else, for it may be missing, an FFN."""
    if PATCHES in tensors:
        raise UsageError(f"{file} has our own names already; weights export reads its folder, or its run's")
    candidates = [each for each in PUBLISHED if layout in ("auto", each.name)]
    for ours in (PATCHES, FFN):
        for candidate in candidates:
            if their_names(candidate.names, ours)[0] in tensors:
                return candidate
    patches = " or ".join(candidate.names[PATCHES] for candidate in candidates)
    seen = f"the names are {some([short(name) for name in tensors])}" if tensors else "it holds no tensors"
    raise UsageError(f"{file} is no AIMv2 in layout={layout}, which has {patches}; {seen}")


def _check_expressible(config: WeightsConfig, layout: str) -> None:
    wanted = {"norm": "rms", "ffn": "swiglu", "patch_order": "raster"}
    if layout == "timm":
        wanted["positions"] = "learned"
    have = {**asdict(config.encoder), "patch_order": config.patch_order}
    if reasons := [f"{key}={have[key]!r} in place of {only!r}" for key, only in wanted.items() if have[key] != only]:
        raise UsageError(f"layout={layout} has no encoder with {' and '.join(reasons)}")


def _check_scale(where: Path | str, weights: Weights) -> None:
    scale = weights.tensors.get("similarity.logit_scale")
    if scale is not None and scale < 0:
        raise UsageError(f"{where}: logit_scale={scale:.4g} is below 0, to which transformers raises it and we do not")
