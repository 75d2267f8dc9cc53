"""Detect, read and write weights in a published layout."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from aimv2.base.errors import UsageError, short, some
from aimv2.base.files import read_object
from aimv2.tools.weights.contents import Weights, dtypes, split_off_encoder, weights_config
from aimv2.tools.weights.files import find, read_tensors, write_folder
from aimv2.tools.weights.layouts import PUBLISHED, Layout, PairLayout
from aimv2.tools.weights.tensors import FFN, PATCHES, measured, their_names, to_ours, to_theirs


def read_published(path: str | Path, layout: str = "auto") -> Weights:
    """Read published weights, under our names.

    Sizes come from the tensors; a ``config.json`` beside them has to agree. Only it states the number of heads; if it
    does not, heads are 128 wide, as in all published models. A head of transformers is omitted.

    Args:
        path: a .safetensors file, the index of several, or a folder with one of them.
        layout: one of LAYOUTS; ``auto`` detects it by the names of the tensors.

    Raises:
        UsageError: the file cannot be read safely; tensors are missing, unexpected, of the wrong shape or type, or not
            finite; or our encoder cannot be this model.
    """
    file = find(Path(path))
    tensors = read_tensors(file)
    found = _detect(file, tensors, layout)
    shown = measured(file, tensors, found.names)
    where, stated = str(file), {}
    if (description := file.with_name("config.json")).exists():
        where = str(description)
        stated = found.stated(where, read_object(description))
    source = {"layout": found.name, "file": file.name, "dtypes": dtypes(tensors)}
    config = weights_config(where, {**found.values(where, stated, shown), "source": source})
    found.check(where, stated, config)
    encoder = {name: value for name, value in tensors.items() if name not in found.head}
    head = ", ".join(sorted(tensors.keys() - encoder.keys()))
    omitted = f"{head}: our encoder has no attention-pooling head" if head else ""
    return Weights(config, to_ours(file, encoder, found.names, config), omitted)


def write_published(
    weights: Weights, folder: str | Path, layout: str = "transformers", texts: Mapping[str, str] | None = None
) -> None:
    """Write weights in a published layout, with a ``config.json``; parts that the layout lacks are omitted.

    Args:
        texts: further files by name, such as the model card.

    Raises:
        UsageError: the layout has no such encoder, or the folder is not empty, or cannot be written.
    """
    weights = expressible(weights, layout)
    kind = Layout if weights.config.text_tower is None else PairLayout
    target = next(each for each in PUBLISHED if each.name == layout and type(each) is kind)
    tensors, description = to_theirs(weights.tensors, target.names), target.description(weights.config)
    write_folder(Path(folder), target.file, tensors, description, texts)


def _detect(file: Path, tensors: Mapping[str, Tensor], layout: str) -> Layout:
    """Return the layout whose name the patch embedding has or, in case that is missing, the first FFN."""
    if PATCHES in tensors:
        raise UsageError(f"{file} has our names already; use weights export with its folder, or its run's")
    candidates = [each for each in PUBLISHED if layout in ("auto", each.name)]
    for ours in (PATCHES, FFN):
        for candidate in candidates:
            if their_names(candidate.names, ours)[0] in tensors:
                return candidate
    patches = " or ".join(their_names(candidate.names, PATCHES)[0] for candidate in candidates)
    actual = f"its names are {some([short(name) for name in tensors])}" if tensors else "it holds no tensors"
    raise UsageError(f"{file} is not an AIMv2 in layout={layout}, which has {patches}; {actual}")


def expressible(weights: Weights, layout: str) -> Weights:
    """Return the parts that a layout has: only that of transformers has a text tower.

    Raises:
        UsageError: no layout has such an encoder; the values that differ are named.
    """
    config = weights.config
    wanted = {"norm": "rms", "ffn": "swiglu", "patch_order": "raster"}
    have = {**asdict(config.encoder), "patch_order": config.patch_order}
    if reasons := [f"{key}={have[key]!r} in place of {only!r}" for key, only in wanted.items() if have[key] != only]:
        raise UsageError(f"layout={layout} has no encoder with {' and '.join(reasons)}")
    if config.text_tower is None or layout == "transformers":
        return weights
    encoder, others = split_off_encoder(weights.tensors)
    return Weights(replace(config, text_tower=None), encoder, f"{others}: layout={layout} has no such parts")
