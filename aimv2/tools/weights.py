"""Folders of weights: published ones, those of ``weights import``, and finished runs; and the files in them.

``transformers`` is ``Aimv2VisionModel``; ``ml-aim`` has Apple's names, which timm's ``aimv2_*`` read too. Ours is a
folder with ``weights.safetensors``, float32 under the names of ``Network``, and ``config.json``, a ``WeightsConfig``.
How to normalise pixels: docs/weights.md.

Files are untrusted: no code in them is run, and every difference from what is expected is an error. Folders are written
completely or not at all.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from aimv2.base.errors import UsageError, short, some
from aimv2.base.files import check_new, read_object, replacing, write_json, write_text
from aimv2.config.model_config import FFN_MULTIPLE
from aimv2.data.transforms import CENTRE_CROP, IMAGENET, Colours
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network
from aimv2.request.origin import WEIGHTS, read_origin
from aimv2.runs.lease import latest_attempt
from aimv2.runs.tensor_file import read_tensors as read_safetensors
from aimv2.runs.tensor_file import save_tensors
from aimv2.tools.weights_layouts import (
    BESIDE,
    FFN,
    HEAD,
    OURS,
    PAIR,
    PATCHES,
    PUBLISHED,
    Weights,
    WeightsLayout,
    empty_network,
    their_names,
    to_ours,
    to_theirs,
    weights_config,
)

FILES = ("model.safetensors", "model.safetensors.index.json", "weights.safetensors")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PREPROCESSING = "preprocessor_config.json"  # of transformers
BICUBIC = 3  # of Pillow
BYTE = 1 / 255  # the factor that makes 0..1 of 0..255
UNCHANGED = Colours((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

NetworkType = TypeVar("NetworkType", bound=Network)
Number = Annotated[float, Field(strict=True, ge=-1e6, le=1e6)]
Three = tuple[Number, Number, Number]


def load_encoder(folder: str | Path) -> Encoder:
    """Load the encoder of a folder that ``weights import`` wrote, or of a finished run.

    Raises:
        UsageError: the folder is neither, or incomplete.
    """
    return network_of(read_weights(folder)).encoder


def network_of(weights: Weights) -> Network:
    return with_tensors(empty_network(weights.config), weights.tensors)


def with_tensors(network: NetworkType, tensors: Mapping[str, Tensor]) -> NetworkType:
    """Return a network on torch's meta device with these tensors, in evaluation mode."""
    copies = {name: value.clone() for name, value in tensors.items()}  # a memory-mapped file may change
    network.load_state_dict(copies, strict=True, assign=True)
    return network.eval()


def read_weights(folder: str | Path) -> Weights:
    """Read a folder that ``weights import`` wrote, or the encoder of a finished run.

    Raises:
        UsageError: the folder is neither, or incomplete.
    """
    origin = read_origin(str(folder), "from")
    where, tensors, omitted = origin.path / "config.json", read_tensors(origin.file), ""
    values = read_object(where)
    if origin.run is not None:
        source = {"layout": "run", "file": origin.path.name, "dtypes": _dtypes(tensors)}
        values = {"source": source, **origin.sizes}
    is_pair = values.pop("text_tower", None) is not None  # in a folder of before, which may have LiT's pair
    if origin.run is not None or is_pair:
        others = sorted({name.partition(".")[0] for name in tensors} - {"encoder"})
        tensors = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
        omitted = ", ".join(others)
    config = weights_config(where, values)
    return Weights(config, to_ours(origin.file, tensors, OURS, config), omitted)


def write_weights(weights: Weights, folder: str | Path, texts: Mapping[str, str] | None = None) -> None:
    """Write weights under our names, and further files by name; a UsageError if the folder is not empty."""
    values = asdict(weights.config)
    if values["encoder"]["ffn_multiple"] == FFN_MULTIPLE:
        del values["encoder"]["ffn_multiple"]  # as in folders of before there was one
    write_folder(Path(folder), WEIGHTS, weights.tensors, values, texts)


def read_published(path: str | Path) -> Weights:
    """Read published weights, under our names; the names of the tensors say in which layout they are.

    Sizes come from the ``config.json`` beside them. A head of transformers is omitted, and so is all but the image
    encoder of LiT's pair, ``Aimv2Model``.

    Args:
        path: a .safetensors file, the index of several, or a folder with one of them.

    Raises:
        UsageError: the file cannot be read safely; tensors are missing, unexpected, of the wrong shape or type, or not
            finite; or our encoder cannot be this model.
    """
    file = find(Path(path))
    tensors = read_tensors(file)
    reasons = list[str]()
    if is_pair := any(name.startswith(PAIR) for name in tensors):
        beside = {name: name.partition(".")[0] for name in tensors if not name.startswith(PAIR)}
        if unexpected := [short(name) for name, part in beside.items() if part not in BESIDE]:
            raise UsageError(f"{file}: a pair of encoders with {len(unexpected)} unexpected ({some(unexpected)})")
        reasons.append(f"{', '.join(sorted(set(beside.values())))}: of a pair, only the image encoder is read")
        tensors = {name.removeprefix(PAIR): value for name, value in tensors.items() if name.startswith(PAIR)}
    layout = _detect(file, tensors)
    description = file.with_name("config.json")
    if not description.exists():
        raise UsageError(f"{file} needs its config.json beside it, which states the sizes of the model")
    stated = read_object(description)
    if is_pair:
        if (kind := stated.get("model_type", "aimv2")) != "aimv2":
            raise UsageError(f"{description}: model_type={short(kind)} must be 'aimv2'")
        if not isinstance(stated := stated.get("vision_config") or {}, dict):
            raise UsageError(f"{description}: vision_config must be an object")
    source = {"layout": layout.name, "file": file.name, "dtypes": _dtypes(tensors)}
    config = layout.config(description, stated, tensors, source)
    if head := sorted(name for name in tensors if name in HEAD):
        reasons.append(f"{', '.join(head)}: our encoder has no attention-pooling head")
    encoder = {name: value for name, value in tensors.items() if name not in HEAD}
    return Weights(config, to_ours(file, encoder, layout.names, config), "; ".join(reasons))


def write_published(
    weights: Weights, folder: str | Path, layout: str = "transformers", texts: Mapping[str, str] | None = None
) -> None:
    """Write weights in a published layout, with a ``config.json``, and further files by name, such as a model card.

    A UsageError if the layout has no such encoder, or the folder is not empty, or cannot be written.
    """
    require_expressible(weights, layout)
    target = next(each for each in PUBLISHED if each.name == layout)
    tensors, description = to_theirs(weights.tensors, target.names), {**target.header, **target.sizes(weights.config)}
    write_folder(Path(folder), target.file, tensors, description, texts)


def _detect(file: Path, tensors: Mapping[str, Tensor]) -> WeightsLayout:
    """Return the layout whose name the patch embedding has or, in case that is missing, the first FFN."""
    if PATCHES in tensors:
        raise UsageError(f"{file} has our names already; use weights export with its folder, or its run's")
    for ours in (PATCHES, FFN):
        for layout in PUBLISHED:
            if their_names(layout.names, ours)[0] in tensors:
                return layout
    patches = " or ".join(their_names(layout.names, PATCHES)[0] for layout in PUBLISHED)
    actual = f"its names are {some([short(name) for name in tensors])}" if tensors else "it holds no tensors"
    raise UsageError(f"{file} is not an AIMv2, which has {patches}; {actual}")


def require_expressible(weights: Weights, layout: str) -> None:
    """Raise a UsageError if a layout has no such encoder."""
    config = weights.config
    wanted = {"norm": "rms", "ffn": "swiglu", "patch_order": "raster"}
    have = {**asdict(config.encoder), "patch_order": config.patch_order}
    if reasons := [f"{key}={have[key]!r} in place of {only!r}" for key, only in wanted.items() if have[key] != only]:
        raise UsageError(f"layout={layout} has no encoder with {' and '.join(reasons)}")


def _dtypes(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()})


def find(path: Path) -> Path:
    """Return the file of weights at a path, which may be the file or its folder; a UsageError if there is none."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"from={str(path)!r}: there is no such file or folder")
    if file := next((path / name for name in FILES if (path / name).is_file()), None):
        return file
    if latest_attempt(path) is not None:
        raise UsageError(f"{path} is the folder of a run; use: weights export")
    raise UsageError(f"{path} has no weights: none of {', '.join(FILES)}")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read tensors by name, of the types in DTYPES, from a .safetensors file or the index of several."""
    if file.name.endswith(".safetensors.index.json"):
        tensors = _read_shards(file)
    elif file.suffix == ".safetensors":
        tensors = read_safetensors(file)
    else:
        raise UsageError(
            f"{file} must be a .safetensors or .safetensors.index.json file; convert one of torch.save, which may hold"
            " code, with: safetensors.torch.save_file(torch.load(FILE, weights_only=True), FILE.safetensors)"
        )
    for name, value in tensors.items():
        if value.dtype not in DTYPES:
            raise UsageError(f"{file}: {short(name)} is {value.dtype}; weights are float32, float16 or bfloat16")
        if not value.numel():
            raise UsageError(f"{file}: {short(name)} of shape {list(value.shape)} holds no values")
    return tensors


def _read_shards(index: Path) -> dict[str, Tensor]:
    file_of = read_object(index).get("weight_map")
    if not isinstance(file_of, dict) or not all(isinstance(shard, str) for shard in file_of.values()):
        raise UsageError(f"{index} must have a weight_map from tensors to files")
    shards = sorted(set(file_of.values()))
    for shard in shards:
        # The name is untrusted: it must not lead out of the folder.
        if Path(shard).name != shard or not os.path.isfile(index.parent / shard):
            raise UsageError(f"{index} names {short(shard)}, which is not a file beside it")
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        read = read_safetensors(index.parent / shard)
        if differing := read.keys() ^ {name for name, other in file_of.items() if other == shard}:
            names = some([short(name) for name in sorted(differing)])
            raise UsageError(f"{index.parent / shard} does not hold the tensors that the index lists: {names}")
        tensors |= read
    return tensors


def write_folder(
    folder: Path,
    file: str,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> None:
    check_new(folder)
    try:
        with replacing(folder.resolve(), only_new=True) as partial:
            partial.mkdir(parents=True)
            # Older versions of transformers require the metadata.
            save_tensors(dict(tensors), partial / file, metadata={"format": "pt"})
            write_json(partial / "config.json", config)
            for name, text in (texts or {}).items():
                write_text(partial / name, text)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{folder} cannot be written: {error}") from error


class Preprocessing(NamedTuple):
    """How images become the input of an encoder."""

    colours: Colours = IMAGENET  # mean and standard deviation by which they are normalised
    crop: float | None = CENTRE_CROP  # share of the shorter side that is shown; None if they are shown in another way

    def to_json(self, image_px: int) -> str:
        """Return the content of the file, for ``AutoImageProcessor``."""
        assert self.crop, "images are resized by the shorter side, and cropped"
        values = {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": round(image_px / self.crop)},
            "resample": BICUBIC,
            "do_center_crop": True,
            "crop_size": {"height": image_px, "width": image_px},
            "do_rescale": True,
            "rescale_factor": BYTE,
            "do_normalize": True,
            "image_mean": list(self.colours.mean),
            "image_std": list(self.colours.std),
        }
        return json.dumps(values, indent=2) + "\n"


AS_TRAINED = Preprocessing()  # by this project and ml-aim


def preprocessing_of(weights: Path) -> dict[str, str]:
    """Return the content of the file beside weights, a folder or a file, by its name; empty if there is none."""
    file = (weights if weights.is_dir() else weights.parent) / PREPROCESSING
    return {PREPROCESSING: file.read_text()} if read_preprocessing(weights) else {}


def read_preprocessing(weights: Path) -> Preprocessing | None:
    """Read the file beside weights, a folder or a file; None if there is none."""
    file = (weights if weights.is_dir() else weights.parent) / PREPROCESSING
    if not file.is_file():
        return None
    values = read_object(file)
    factor = values.get("rescale_factor", BYTE)
    if values.get("do_rescale", True) is not True or not isinstance(factor, float) or not math.isclose(factor, BYTE):
        raise UsageError(f"{file}: do_rescale and rescale_factor must make 0 to 1 of 0 to 255")
    colours = UNCHANGED
    if values.get("do_normalize", True):
        try:
            three = TypeAdapter(Three).validate_python
            colours = Colours(three(values.get("image_mean")), three(values.get("image_std")))
        except ValidationError as error:
            raise UsageError(f"{file}: image_mean and image_std must be three numbers each") from error
        if min(colours.std) <= 0:
            raise UsageError(f"{file}: image_std has {min(colours.std):g}, and must be above 0")
    return Preprocessing(colours, _crop(values))


def _crop(values: dict[str, Any]) -> float | None:
    """Return the share of the shorter side that is shown; None if images are not resized by it, or not cropped."""
    is_cropped = values.get("do_resize", True) and values.get("do_center_crop", True)
    match values:
        case {"size": {"shortest_edge": int(edge)}, "crop_size": {"height": int(height), "width": int(width)}}:
            is_square = width == height and 0 < height <= edge and values.get("resample", BICUBIC) == BICUBIC
            return height / edge if is_cropped and is_square else None
    return None
