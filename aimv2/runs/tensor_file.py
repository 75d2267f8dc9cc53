"""Tensor files of a run, written whole or not at all; those that a later attempt reads say what they belong to."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from aimv2.base.errors import UsageError, count, short, some
from aimv2.base.files import replacing, sync
from aimv2.runs.attempt import CHECKPOINT_PARTIAL as PARTIAL
from aimv2.runs.provenance import digest

Tensors = Mapping[str, Tensor]


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions that the umask gives a new file; the caller removes what an error
    left of it."""
    # safetensors 0.8 renames a temporary file that only its owner may read. Reading the umask would change it for all
    # threads, so an ordinary new file shows the permissions instead.
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata)
    path.chmod(mode)


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write or replace a file of an attempt's folder, whole or not at all."""
    try:
        # What a killed process leaves there is deleted with the partial checkpoints.
        with replacing(path, partial=path.parent / PARTIAL / path.name) as partial:
            partial.parent.mkdir(exist_ok=True)
            save_tensors(tensors, partial, metadata)
    except SafetensorError as error:  # raised when the disk is full
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(path.parent / PARTIAL, ignore_errors=True)
    sync(path.parent)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, whoever wrote it; raises UsageError if it is missing or broken."""
    try:
        return load_file(path)
    except Exception as error:  # a parser may fail in any way on untrusted bytes
        raise UsageError(f"{path} cannot be read as safetensors: {short(str(error))}") from error


def check_finite(path: Path, tensors: Tensors) -> None:
    """Refuse the tensors of a file if a value is not finite."""
    if broken := [short(name) for name, value in tensors.items() if not value.isfinite().all()]:
        raise UsageError(f"{path}: values that are not finite in {count(len(broken), 'tensor')} ({some(broken)})")


def write_described(tensors: dict[str, Tensor], path: Path, about: Mapping[str, Any]) -> None:
    """Write tensors with JSON values about them and a checksum of both, as ``write_tensors``."""
    text = json.dumps(about)
    write_tensors(tensors, path, {"about": text, "checksum": fingerprint(tensors, text)})


def read_described(path: Path, origin: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the values and tensors of ``write_described``, without the values of the origin, which the file must have.

    Raises OSError or SafetensorError if the file cannot be read, ValueError if it is damaged or has another origin.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = metadata.get("about", "")
    if metadata.get("checksum") != fingerprint(tensors, about):  # safetensors verifies nothing
        raise ValueError("its checksum does not match its content")
    return without_origin(json.loads(about), origin), tensors


def without_origin(values: Mapping[str, Any], origin: Mapping[str, str]) -> dict[str, Any]:
    """Return the other values, if these have the origin; raises ValueError if they have another one."""
    for name, here in origin.items():
        if (there := values.get(name)) != here:
            raise ValueError(f"it was saved with {name}={there}, not {here}")
    return {name: value for name, value in values.items() if name not in origin}


def origin_of(attempt: Path) -> dict[str, str]:
    """Return what a file and the attempt that uses it must have in common: the run, the code, and torch."""
    return {"run": attempt.parent.parent.name, "torch": torch.__version__, "code": digest()}


def fingerprint(tensors: Tensors, about: str = "") -> str:
    """Return a hash of a text and of the tensors' names, types, shapes and values, to 16 hex digits."""
    whole = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():  # an empty one has no bytes to view
            whole.update(tensor.flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()[:16]
