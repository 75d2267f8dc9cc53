"""Read untrusted files of weights, and write folders completely or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from aimv2.base.errors import UsageError, short, some
from aimv2.base.files import check_new, replacing, write_json, write_text
from aimv2.base.files import read_object as read_object
from aimv2.runs.lease import latest_attempt
from aimv2.runs.tensor_file import read_tensors as read_safetensors
from aimv2.runs.tensor_file import save_tensors

FILES = ("model.safetensors", "model.safetensors.index.json", "weights.safetensors")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


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
        file: .safetensors, or the index of several of them.

    Raises:
        UsageError: the file is of another kind, incomplete, or holds anything else.
    """
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
