"""Pictures and descriptions as a user has them."""

import io
from pathlib import Path

import yaml
from PIL import Image

from aimv2.data.files.description import SourceDescription, read_source


def picture(number: int, kind: str = "JPEG") -> bytes:
    """Return a small image file; each number has another colour."""
    stream = io.BytesIO()
    Image.new("RGB", (12, 8), (number % 256, number // 256 % 256, 100)).save(stream, kind)
    return stream.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    """Write a file, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def source(where: Path, **values: object) -> SourceDescription:
    """Write the description ``source.yaml`` into a folder and read it."""
    return read_source(write(where / "source.yaml", yaml.safe_dump({"short": "txt"} | values)))
