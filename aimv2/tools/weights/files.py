"""Read untrusted files of weights, and write folders completely or not at all."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from aimv2.base.errors import UsageError, short, some
from aimv2.base.files import check_new, replacing, write_json, write_text
from aimv2.base.files import read_object as read_object
from aimv2.runs.lease import latest_attempt
from aimv2.runs.tensor_file import read_tensors as read_safetensors
from aimv2.runs.tensor_file import save_tensors

FILES = ("model.safetensors", "model.safetensors.index.json", "weights.safetensors", "pytorch_model.bin")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
NESTED = ("state_dict", "model")  # keys under which training checkpoints hold the weights


def find(path: Path) -> Path:
    """Return the file of weights at a path, which may be the file or its folder.

    Raises:
        UsageError: there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"from={str(path)!r}: there is no such file or folder")
    found = next((path / name for name in FILES if (path / name).is_file()), None)
    if found is not None:
        return found
    if latest_attempt(path) is not None:
        raise UsageError(f"{path} is the folder of a run; use: weights export")
    raise UsageError(f"{path} has no weights: none of {', '.join(FILES)}")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read tensors by name: of the types in DTYPES, on the CPU, not empty.

    Args:
        file: .safetensors, the index of several of them, or a ``state_dict()`` saved by ``torch.save``, which may be
            under one of the keys in NESTED.

    Raises:
        UsageError: the file is of another kind, incomplete, or holds anything else.
    """
    if file.name.endswith(".safetensors.index.json"):
        tensors = _read_shards(file)
    elif file.suffix == ".safetensors":
        tensors = read_safetensors(file)
    elif file.suffix in (".pth", ".pt", ".bin"):
        tensors = _read_checkpoint(file)
    else:
        raise UsageError(f"{file} must be a .safetensors, .safetensors.index.json, .pth, .pt or .bin file")
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


def _read_checkpoint(file: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        size = file.stat().st_size
        # torch.save does not compress: an archive that unpacks to more than the file is made to fill the memory.
        if sum(entry.file_size for entry in entries) > size:
            raise UsageError(f"{file} unpacks to more than its size, which no checkpoint of torch.save does")
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except UsageError:
        raise
    except Exception as error:  # a parser may fail in any way on untrusted bytes
        raise UsageError(f"{file} is not a checkpoint of torch.save (1.6 or later) without code in it") from error
    if isinstance(state, Mapping):
        state = next((state[key] for key in NESTED if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise UsageError(f"{file} must be a state_dict() saved by torch.save: names and tensors")
    for name, value in state.items():
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.device.type != "cpu":
            raise UsageError(f"{file}: {short(name)} is not a plain tensor")
    # A view with strides of 0 may have more values than its storage.
    if sum(value.numel() * value.element_size() for value in state.values()) > size:
        raise UsageError(f"{file} has tensors of more values than the file can hold")
    return {name: value.detach().clone() for name, value in state.items()}  # two names may be views of one storage


def write_folder(
    folder: Path,
    file: str,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write the tensors, a ``config.json`` and further texts by the names of their files, all or none.

    Raises:
        UsageError: the folder is not empty, or cannot be written.
    """
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
