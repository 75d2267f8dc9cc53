"""Tensor files with the permissions of ordinary files."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions that the umask gives a new file.

    Raises:
        OSError, SafetensorError: the file could not be written; the caller removes what was written of it.
    """
    # safetensors 0.8 renames a temporary file that only its owner may read. Reading the umask would change it for all
    # threads, so an ordinary new file shows the permissions instead.
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata)
    path.chmod(mode)
