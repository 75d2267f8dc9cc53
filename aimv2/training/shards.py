"""Folders of tensors in safetensors shards: each rank writes its own, and any number of ranks can read them.

They are written with ``torch.distributed.checkpoint``, in Hugging Face's format, because the metadata of its other
formats are a pickle. A JSON file beside the shards has values about the tensors and a checksum of each shard. A folder
is complete or absent.
"""

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from aimv2.base.files import sync
from aimv2.runs.tensor_file import save_tensors

ABOUT = "about.json"
CHUNK_BYTES = 1 << 24

# In one process this is what we want, and torch repeats it for each file.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


class Described(NamedTuple):
    """What the JSON file says: values about the tensors, and the checksum of each shard, by its name."""

    about: dict[str, Any]
    shards: dict[str, str]


def write_shards(
    tensors: Mapping[str, Tensor],
    path: Path,
    partial: Path,
    about: Mapping[str, Any],
    *,
    group: dist.ProcessGroup | None = None,
    on_written: Callable[[], None] = lambda: None,
) -> None:
    """Write tensors to a new folder; all ranks of the group call it, and the first one writes the JSON file."""
    writer = _Writer(path, partial, about, on_written)
    try:
        save(dict(tensors), storage_writer=writer, process_group=group, no_dist=group is None)
    except CheckpointException as error:
        shutil.rmtree(partial, ignore_errors=True)  # all ranks have ended their writes
        first = _first(error)
        raise OSError(f"{path} cannot be written: {first}") if isinstance(first, OSError) else first from None


def read_about(path: Path) -> Described:
    """Read the JSON file of a folder."""
    content = json.loads((path / ABOUT).read_bytes())
    if not isinstance(content, dict) or content.get("checksum") != _checksum(str(content.get("text")).encode()):
        raise ValueError(f"the checksum of {ABOUT} does not match its content")
    return Described(**json.loads(content["text"]))


def write_about(path: Path, described: Described) -> None:
    """Write the JSON file of a folder that nobody reads yet, with a checksum."""
    text = json.dumps(described._asdict())
    with (path / ABOUT).open("w") as file:
        json.dump({"text": text, "checksum": _checksum(text.encode())}, file)
        file.flush()
        os.fsync(file.fileno())


def verify_shards(path: Path, described: Described) -> None:
    """Compare the shards with their checksums."""
    if {shard.name for shard in path.glob("*.safetensors")} != set(described.shards):
        raise ValueError(f"its shards are not those of {ABOUT}")
    for name, checksum in described.shards.items():
        if checksum_of_file(path / name) != checksum:
            raise ValueError(f"the checksum of {name} does not match its content")


def tensors_in(path: Path) -> dict[str, TensorStorageMetadata]:
    """Return the sizes and types of the tensors in a folder, by name."""
    saved = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    return {name: tensor for name, tensor in saved.items() if isinstance(tensor, TensorStorageMetadata)}


def load_shards(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill tensors, or the shards of DTensors that this process holds, from a folder, in place."""
    try:
        load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    except CheckpointException as error:
        raise _first(error) from None


def checksum_of_file(path: Path) -> str:
    """Return the CRC-32 of a file, 8 hex digits."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"


class _Writer(HuggingFaceStorageWriter):
    """Writes shards under the partial name; ``finish``, called on the first rank, adds the JSON file and renames."""

    def __init__(self, path: Path, partial: Path, about: Mapping[str, Any], on_written: Callable[[], None]) -> None:
        super().__init__(str(partial), save_distributed=True)
        self._target, self._partial, self._about, self._on_written = path, partial, about, on_written

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write and sync this rank's shard, if it has one.

        torch's own method builds the shard as one string, for which safetensors holds the GIL, so that training stalls.
        """
        written: Future[list[WriteResult]] = Future()
        written.set_result([self._shard(plan, planner)] if plan.items else [])
        return written

    def _shard(self, plan: SavePlan, planner: SavePlanner) -> WriteResult:
        path = self._partial / f"shard-{plan.storage_data['shard_index']:05d}.safetensors"
        tensors, places = dict[str, Tensor](), {}
        for item in plan.items:
            tensor = planner.resolve_data(item)
            assert isinstance(tensor, Tensor), "nothing else is saved"
            assert item.tensor_data is not None, "a tensor has a place"
            tensors[item.index.fqn] = tensor
            places[item.index.fqn] = {"saved_offsets": item.tensor_data.chunk.offsets}
        try:
            save_tensors(tensors, path, {"DCP_SHARDING_INFO": json.dumps(places)})  # as the reader expects it
        except SafetensorError as error:  # raised when the disk is full
            raise OSError(str(error)) from error
        sync(path)
        return WriteResult(MetadataIndex(path.name), 0, checksum_of_file(path))

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        shards = {shard.index.fqn: shard.storage_data for of_rank in results for shard in of_rank}
        write_about(self._partial, Described(dict(self._about), shards))
        sync(self._partial)
        self._on_written()
        try:
            self._partial.rename(self._target)
        except FileNotFoundError:  # the first one
            self._target.parent.mkdir(exist_ok=True)
            self._partial.rename(self._target)
        sync(self._target.parent)


def _first(error: CheckpointException) -> BaseException:
    """Return the error of the first rank that failed."""
    return error.failures[min(error.failures)][0]


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"
