"""Files of tensors, with the permissions of any other file."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions that the umask leaves a new file.

    Raises:
        OSError, SafetensorError: it could not be written; what is there of it is the caller's to remove.
    """
    # safetensors 0.8 renames a temporary file, which its owner alone may read. To ask for the umask is to change it for
    # all threads; an ordinary new file shows what it leaves.
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata)
    path.chmod(mode)
