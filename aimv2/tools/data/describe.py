"""``python -m aimv2 data describe``: write the description of data from what is seen in them, and index them."""

import glob
import itertools
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError, short
from aimv2.base.files import write_text
from aimv2.config.arguments import HELP
from aimv2.config.data_config import CHECKED, is_described
from aimv2.config.options import read_options, usage
from aimv2.datasets.description import SUFFIXES
from aimv2.datasets.folder import tables
from aimv2.datasets.folder.index import EXTENSIONS
from aimv2.datasets.parquet_records import has_images
from aimv2.datasets.shards.index import IMAGES
from aimv2.datasets.shards.scan import split
from aimv2.tools.data.index import index_command

FIRST = 20  # samples that are looked at
MANY = 2000  # files of a folder that are looked at
LISTED = 8  # fields in a comment
DENSE = (
    "re_caption",
    "recaption",
    "dense",
    "synthetic",
    "detailed",
    "description",
    "long",
)  # parts of names, best first
SHORT = ("caption", "text", "txt", "title", "alt", "label", "name")
NOT_WORDS = (
    "url",
    "key",
    "sha256",
    "md5",
    "hash",
    "uid",
    "id",
    "path",
    "file",
    "status",
    "error",
    "exif",
    "split",
    "licen",
)
SPLITS = ("train", "training")

MAX_TEXT = 2**20  # bytes of a file with a text

Texts = dict[str, list[str]]  # values of the first samples by field


class Seen(NamedTuple):
    """What is seen in data.

    Attributes:
        place: keys of the description that say where they are; paths are absolute.
        texts: fields with texts.
        comments: on what was guessed.
    """

    place: dict[str, Any]
    texts: Texts
    comments: list[str]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DescribeOptions:
    """The options of ``data describe``."""

    to: str | None = Field(
        default=None, examples=["FILE.yaml"], description="the description to write; default: NAME.yaml, here"
    )
    index: bool = Field(default=True, description="false: do not index the data")


USAGE = usage(
    "python -m aimv2 data describe PATH [key=value ...]",
    "Write the description of a folder, a table, shards, Parquet files or a dataset from what is seen in them, and"
    " index them. Look at the description: what was guessed has a comment.",
    DescribeOptions,
)


def describe_command(arguments: Sequence[str]) -> int:
    """Write a description, print it, and index the data.

    Raises:
        UsageError: nothing is known at the path, the description exists, or the data cannot be indexed.
    """
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    path, options = Path(arguments[0]).expanduser().absolute(), read_options(DescribeOptions, arguments[1:])
    target = Path(options.to or f"{path.name.partition('.')[0] or 'data'}.yaml")
    if not is_described(str(target)):
        raise UsageError(f"to={str(target)!r} must end in {' or '.join(SUFFIXES)}")
    if target.exists():
        raise UsageError(f"{target} exists; choose another name with to=, or delete it")
    text = described(see(path), target)
    write_text(target, text)
    print(text, end="")
    print(f"wrote {target}")
    return index_command([str(target)]) if options.index else 0


def see(path: Path) -> Seen:
    """Return what is seen at a path.

    Raises:
        UsageError: nothing that is known.
    """
    if path.is_dir():
        for look in (_dataset, _parquet_folder, _shard_folder, _folder):
            if found := look(path):
                return found
        raise UsageError(
            f"{path} has no images ({', '.join(EXTENSIONS)}), no .tar or .parquet files, and is no saved dataset"
        )
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    if path.suffix == ".tar":
        return _shards([path], str(path))
    if path.suffix == ".parquet" and has_images(pq.read_schema(path)):
        return _parquet([path], str(path))
    if path.suffix in tables.SUFFIXES:
        return _table(path)
    raise UsageError(f"{path} is no folder, .tar file or table ({', '.join(tables.SUFFIXES)})")


def described(seen: Seen, target: Path) -> str:
    """Return a description whose paths are relative to the folder of ``target``.

    Raises:
        UsageError: no field has texts.
    """
    base = target.absolute().parent
    place = {key: _relative(value, base) for key, value in seen.place.items()}
    roles = captions(seen.texts)
    if not roles:
        raise UsageError(
            "no field with texts is seen: a caption is a column, or a file beside the image, such as a.txt"
        )
    lines = [f"# {comment}" for comment in seen.comments]
    lines.append(yaml.safe_dump(place, sort_keys=False, allow_unicode=True, width=1000).rstrip())
    for role, field in roles.items():
        example = " ".join(seen.texts[field][0].split())
        lines.append(f"{role}: {yaml.safe_dump(field, width=1000).splitlines()[0]}  # such as {short(example)}")
    others = [field for field in seen.texts if field not in roles.values()]
    if others:
        shown = ", ".join(others[:LISTED]) + (", …" if len(others) > LISTED else "")
        lines.append(f"# Other fields with texts: {shown}")
    lines.append("# Held out is a fifth, at most 20,000 pairs, by the hash of the key; held_out: changes that.")
    lines.append('licence: ""  # of images and captions, a line for reports')
    return "\n".join(lines) + "\n"


def captions(texts: Texts) -> dict[str, str]:
    """Return the fields of short and of dense captions, by their names and the lengths of their texts."""
    candidates = {
        field: sum(map(len, values)) / len(values)
        for field, values in texts.items()
        if values and not any(part in NOT_WORDS for part in _parts(field))
    }
    dense = next((field for name in DENSE for field in candidates if name in field.rpartition(".")[2]), None)
    others = sorted((field for field in candidates if field != dense), key=lambda field: "json." in field)
    whole = (field for field in others if _parts(field)[0] in SHORT and "json." not in field)
    named = next(whole, None) or next((field for name in SHORT for field in others if name in _parts(field)), None)
    alike = next((field for name in SHORT for field in others if name in field.rpartition(".")[2]), None)
    first = named or alike or next(iter(others), None)
    if first is None:
        return {} if dense is None else {"short": dense}
    if dense is None or candidates[dense] <= candidates[first]:
        return {"short": first}
    return {"short": first, "dense": dense}


def _parts(field: str) -> list[str]:
    """Return the words of a field's name: those of ``json.alt_text`` are alt, text and alt_text."""
    name = field.rpartition(".")[2].lower()
    return [name, *name.replace("-", "_").split("_")]


def _relative(value: Any, base: Path) -> Any:
    return os.path.relpath(value, base) if isinstance(value, str) and os.path.isabs(value) else value


def _dataset(path: Path) -> Seen | None:
    splits = path / "dataset_dict.json"
    if splits.is_file():
        names = json.loads(splits.read_text())["splits"]
        chosen = next((name for name in SPLITS if name in names), names[0])
        found = _dataset(path / chosen)
        comment = f"The split {chosen} of {', '.join(names)}."
        return found and found._replace(comments=[comment])
    if not (path / "state.json").is_file() or not (files := sorted(path.glob("*.arrow"))):
        return None
    with pa.memory_map(str(files[0])) as mapped:
        rows = next(iter(pa.ipc.open_stream(mapped)), None)
    return Seen({"dataset": str(path)}, _texts_of(rows) if rows is not None else {}, [])


def _parquet_folder(path: Path) -> Seen | None:
    files = [file for file in sorted(path.rglob("*.parquet"))[:MANY] if has_images(pq.read_schema(file))]
    if not files:
        return None
    folders = {file.parent for file in files}
    folder = str(files[0].parent if len(folders) == 1 else path / "**")
    names = {file.name.partition("-")[0] for file in files}
    chosen = next((name for name in SPLITS if name in names), None) if len(names) > 1 else None
    comments = [] if chosen is None else [f"The files {chosen}-* of {', '.join(sorted(names))}."]
    own = [file for file in files if chosen is None or file.name.startswith(f"{chosen}-")]
    found = _parquet(own, f"{folder}/{chosen + '-' if chosen else ''}*.parquet")
    return found._replace(comments=comments)


def _parquet(files: Sequence[Path], pattern: str) -> Seen:
    rows = next(pq.ParquetFile(files[0]).iter_batches(FIRST), None)
    return Seen({"parquet": pattern}, {} if rows is None else _texts_of(rows), [])


def _shard_folder(path: Path) -> Seen | None:
    files = sorted(path.glob("*.tar")) or sorted(path.glob("*/*.tar"))
    if not files:
        return None
    return _shards(files, str(path / ("*.tar" if files[0].parent == path else "*/*.tar")))


def _shards(files: Sequence[Path], pattern: str) -> Seen:
    texts, images = Texts(), dict[str, None]()
    try:
        with tarfile.open(files[0]) as tar:
            for member in itertools.islice(tar, MANY):
                key, extension = split(member.name) or ("", "")
                if extension in IMAGES:
                    images[extension] = None
                elif key and member.isfile() and member.size < MAX_TEXT and len(texts.get(extension, ())) < FIRST:
                    content = tar.extractfile(member)
                    _add_file(texts, extension, b"" if content is None else content.read())
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"{files[0]} cannot be read as a tar archive") from error
    comments = [f"Samples have {', '.join(images)}; image: names one of them."] if len(images) > 1 else []
    return Seen({"shards": pattern}, texts, comments)


def _folder(path: Path) -> Seen | None:
    """Return what is seen in a folder of images: files beside them, a table that names them, or folders by class."""
    found = list(itertools.islice(_images(path), MANY))
    if not found:
        return None
    for table in (each for where in (path, path.parent) for each in sorted(where.iterdir())):
        if table.suffix in tables.SUFFIXES and table.is_file() and (seen := _named_by(table, [path])):
            return seen
    texts = Texts()
    for image in found[:FIRST]:
        for beside in sorted(image.parent.glob(f"{glob.escape(image.stem)}.*")):
            if beside.suffix.lower().lstrip(".") not in EXTENSIONS and beside.stat().st_size < MAX_TEXT:
                _add_file(texts, beside.name.removeprefix(f"{image.stem}."), beside.read_bytes())
    place: dict[str, Any] = {"folder": str(path)}
    comments = []
    root = path.resolve()
    if any(not image.resolve().is_relative_to(root) for image in found):
        place["follow_links"] = True
        comments.append("Links lead out of the folder, and are followed.")
    classes = sorted({image.parent.name for image in found if image.parent != path})
    if not texts and len(classes) > 1:
        texts["folder"] = classes
        comments.append(f"Captions are the names of folders, such as {', '.join(classes[:3])}.")
    return Seen(place, texts, comments)


def _images(path: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(folder).resolve() in map(Path.resolve, Path(folder).parents):  # a link that leads back
            folders.clear()
            continue
        for name in sorted(names):
            if name.lower().endswith(tuple(f".{extension}" for extension in EXTENSIONS)) and name[0] != ".":
                yield Path(folder, name)


def _table(path: Path) -> Seen:
    folders = [path.parent, *sorted(each for each in path.parent.iterdir() if each.is_dir())]
    found = _named_by(path, folders)
    if found is None:
        raise UsageError(f"{path} has no column with paths of images that exist, or with their bytes")
    return found


def _named_by(table: Path, folders: Sequence[Path]) -> Seen | None:
    """Return what is seen in a table whose column has paths of images in one of the folders, or absolute ones."""
    batch = next(tables.read_batches(table), None)
    if batch is None:
        return None
    rows = tables.rows(batch)[:MANY]
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    for name, values in columns.items():
        paths = [value for value in values if isinstance(value, str) and value.lower().endswith(EXTENSIONS)]
        if len(paths) <= len(values) / 2:
            continue
        folder = _common(paths) if os.path.isabs(paths[0]) else None
        folder = folder or next(
            (each for each in folders if any((each / one).is_file() for one in paths[:FIRST])), None
        )
        if folder is not None:
            place: dict[str, Any] = {"folder": str(folder), "table": str(table)}
            texts: Texts = {}
            for other, found in columns.items():
                for value in found[:FIRST]:
                    _add(texts, other, value if other != name else None)
            return Seen(place | ({} if name == "image" else {"image": name}), texts, [])
    return None


def _common(paths: Sequence[str]) -> Path | None:
    folder = Path(os.path.commonpath([os.path.dirname(path) for path in paths if os.path.isabs(path)]))
    return folder if any(os.path.isfile(path) for path in paths[:FIRST]) else None


def _texts_of(rows: pa.RecordBatch) -> Texts:
    texts: Texts = {}
    for name in rows.schema.names:
        kind = rows.schema.field(name).type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_list(kind):
            for value in rows.column(name)[:FIRST].to_pylist():
                _add(texts, name, value)
    return texts


def _add_file(texts: Texts, name: str, content: bytes) -> None:
    """Add the text of a member, or those of a JSON object, by its keys."""
    try:
        value = json.loads(content) if name.rpartition(".")[2] == "json" else content.decode()
    except ValueError:
        return
    for key, own in value.items() if isinstance(value, dict) else [("", value)]:
        _add(texts, f"{name}.{key}" if key else name, own)


def _add(texts: Texts, name: str, value: Any) -> None:
    """Add a value if it is a text that is no place of an image, or a list of texts."""
    value = value[0] if isinstance(value, list) and value else value
    if isinstance(value, str) and value.strip() and "://" not in value:
        texts.setdefault(name, []).append(value)
