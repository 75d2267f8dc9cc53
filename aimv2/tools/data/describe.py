"""``python -m aimv2 data describe``: describe data by their layout and first texts, and index them."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError, short
from aimv2.base.files import to_yaml, write_text
from aimv2.config.arguments import read_options
from aimv2.config.data_config import DESCRIPTIONS, is_described
from aimv2.datasets.description import IMAGES, INDEX_SUFFIX, Location
from aimv2.datasets.folder_layout import SUFFIXES as TABLES
from aimv2.datasets.folder_layout import has_bytes, list_folder, read_rows
from aimv2.datasets.records import Records
from aimv2.datasets.remote import expand
from aimv2.datasets.table_layouts import NAMES, classes_of, dataset_files, is_image, rows_of, schema_of
from aimv2.memory.machine import num_cores
from aimv2.tools.data.command import DescribeOptions
from aimv2.tools.data.index import index_command, prepare_with_progress

FIRST = 20  # texts of each field that are looked at
ROWS = 2000  # rows of a table that are looked at
SAMPLES = 60  # at equal distances
MIN_SHARE = 0.5  # of a table's images that must be in a folder
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval")
SIGNS = "*?[]{}"  # with a meaning in patterns
ENDS = tuple(f".{extension}" for extension in IMAGES)
LISTED = 8  # fields in a comment
# Words of names of fields, best first.
DENSE = ("recaption", "dense", "synthetic", "detailed", "description", "long")
SHORT = ("caption", "captions", "text", "txt", "title", "alt", "sentence", "prompt", "label")
NEVER = {"url", "key", "sha256", "md5", "hash", "uid", "id", "path", "file", "filename", "status", "error", "exif"}
NEVER |= {"split", "licence", "license", "author", "source", "date"}
NUMBER = re.compile(r"[-+]?\d*\.?\d*(e[-+]?\d+)?|nan", re.IGNORECASE)
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

Place = dict[str, Any]  # keys of the description that say where the data are; paths are absolute
Found = tuple[Place, list[str]]  # and comments on what was guessed


def describe_command(arguments: Sequence[str]) -> int:
    """Write a description, print it, and index the data. A description that cannot be indexed is not kept."""
    if "://" in arguments[0]:
        raise UsageError(
            f"{arguments[0]}: describe reads files of this host; for others write shards: URL (docs/large-data.md)"
        )
    path, options = Path(arguments[0]).expanduser().absolute(), read_options(DescribeOptions, arguments[1:])
    target = Path(options.to or f"{path.name.partition('.')[0] or 'data'}.yaml")
    if not is_described(str(target)):
        raise UsageError(f"to={str(target)!r} must end in {' or '.join(DESCRIPTIONS)}")
    if target.exists():
        raise UsageError(f"{target} exists; choose another name with to=, or delete it")
    place, comments = find_place(path)
    index = target.absolute().with_name(f"{target.stem}{INDEX_SUFFIX}")
    is_new = not index.exists()
    try:
        text = described(place, first_texts(place, index), comments, target)
        write_text(target, text)
        print(text, end="", flush=True)
        index_command([str(target)])
    except (UsageError, RunFailedError):
        target.unlink(missing_ok=True)
        if is_new:
            shutil.rmtree(index, ignore_errors=True)
        raise
    print(f"wrote {target}")
    return 0


def find_place(path: Path) -> Found:
    """Return where the samples at a path are; a UsageError if that is no known layout, or not clear."""
    if set(str(path)) & set(SIGNS):
        raise UsageError(f"{path} has one of {' '.join(SIGNS)} in its name, which are signs of patterns; rename it")
    if path.is_dir():
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return _with_image(dataset_files(path)[0], {"dataset": str(path)}), []
        if shards := _files(path, ".tar"):
            chosen, comments = _of_training(shards, path)
            return {"shards": _patterns(chosen, "shards")}, comments
        if tables := list(filter(_image_column, _files(path, ".parquet"))):
            chosen, comments = _of_training(tables, path)
            return _with_image(chosen[0], {"parquet": _patterns(chosen, "parquet")}), comments
        return _folder(path)
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    if path.suffix == ".tar":
        return {"shards": str(path)}, []
    if path.suffix == ".parquet" and _image_column(path):
        return _with_image(path, {"parquet": str(path)}), []
    if path.suffix not in TABLES:
        raise UsageError(f"{path} is no folder, .tar file or table ({', '.join(TABLES)})")
    folders = [path.parent, *sorted(each for each in path.parent.iterdir() if each.is_dir() and each.name[0] != ".")]
    if place := _named_by(path, folders):
        return place, []
    raise UsageError(f"{path} has no column with paths of images that exist, or with their bytes")


def _files(path: Path, suffix: str) -> list[Path]:
    """Return the files in a folder and its subfolders, without hidden ones."""
    names = sorted(file.relative_to(path) for file in path.rglob(f"*{suffix}") if file.is_file())
    return [path / name for name in names if not any(part.startswith(".") for part in name.parts)]


def _image_column(file: Path) -> str | None:
    """Return the column of a table with the bytes of images; None if there is none."""
    columns = [field.name for field in schema_of(file) if is_image(field.type) and has_bytes(field.type)]
    return next((name for name in NAMES if name in columns), next(iter(columns), None))


def _with_image(file: Path, place: Place) -> Place:
    image = _image_column(file)
    return place if image is None or image in NAMES else {**place, "image": image}


def _of_training(files: Sequence[Path], root: Path, *, by_folders: bool = False) -> tuple[list[Path], list[str]]:
    """Return the files of the training split, by the words of their paths, and a comment if there are other splits.

    One such word is no split: it may be a class, such as that of trains. Names of images say nothing (``by_folders``).
    """
    splits: dict[str, list[Path]] = {}
    for file in files:
        names = file.relative_to(root).with_suffix("").parts
        words = re.findall(r"[^\W_]+", " ".join(names[:-1] if by_folders else names).lower())
        splits.setdefault(next((word for word in words if word in SPLITS), ""), []).append(file)
    if len(splits.keys() - {""}) < 2:
        return list(files), []
    chosen = next((name for name in SPLITS[:2] if name in splits), None)
    if chosen is None:
        raise UsageError(f"{root} has the splits {', '.join(filter(None, splits))}; name one of its folders or files")
    others = ", ".join(name or "others" for name in splits if name != chosen)
    return splits[chosen], [f"The split {chosen}; left out: {others}."]


def _patterns(files: Sequence[Path], key: str) -> str | list[str]:
    """Return a pattern of exactly these files, or a list of them."""
    if len(files) == 1:
        return str(files[0])
    parent, suffix = files[0].parent, files[0].suffix
    start = os.path.commonprefix([file.name for file in files]).rstrip("0123456789")  # noqa: RUF071 – of characters
    for pattern in (f"{parent}/*{suffix}", f"{parent}/{start}*{suffix}"):
        if expand([pattern], key) == sorted(map(str, files)):
            return pattern
    return list(map(str, files))


def _folder(path: Path) -> Found:
    listing = list_folder(os.path.realpath(path))
    if not listing.images:
        raise UsageError(
            f"{path} has no images ({', '.join(IMAGES)}), no .tar files, no Parquet files with images, and is no"
            " saved dataset"
        )
    images = [path / name for name in sorted(listing.images)]
    chosen, comments = _of_training(images, path, by_folders=True)
    root = path if len(chosen) == len(images) else Path(os.path.commonpath([image.parent for image in chosen]))
    if not any(listing.beside.values()) and (place := _named_in_a_table(root, path)):
        return place, comments
    return {"folder": str(root)}, comments


def _named_in_a_table(folder: Path, given: Path) -> Place | None:
    """Return the place of the table in or beside a folder that names its images; None if there is none."""
    parents = dict.fromkeys([folder, given, *([given.parent] if given == folder else [])])
    places = dict[Path, Place]()
    for table in (each for parent in parents for each in sorted(parent.iterdir()) if each.suffix in TABLES):
        with contextlib.suppress(UsageError):  # it is no table
            if (place := _named_by(table, [folder])) is not None:
                places[table] = place
    named = {table: place for table, place in places.items() if table.stem == folder.name}
    if len(places) > 1 and len(named) != 1:
        names = ", ".join(map(str, places))
        raise UsageError(f"several tables name images of {folder}: {names}; describe one of them")
    return next(iter((named or places).values()), None)


def _named_by(table: Path, folders: Sequence[Path]) -> Place | None:
    """Return the place of a table whose column has paths of images in one of the folders, or absolute ones."""
    rows = next(read_rows(table), [])
    for name in dict.fromkeys(name for row in rows[:ROWS] for name in row):
        paths = [path for row in rows if isinstance(path := row.get(name), str) and path.lower().endswith(ENDS)]
        if len(paths) <= len(rows) / 2:
            continue
        if os.path.isabs(paths[0]):
            folders = [Path(os.path.commonpath({os.path.dirname(path) for path in paths}))]
        some = paths[:: max(1, len(paths) // ROWS)][:ROWS]
        shares = {folder: sum((folder / path).is_file() for path in some) / len(some) for folder in folders}
        most = max(shares.values())
        if most < MIN_SHARE:
            continue
        best = [folder for folder, share in shares.items() if share == most]
        best = [folder for folder in best if folder.name == table.stem] or best
        if len(best) > 1:
            names = ", ".join(map(str, best))
            raise UsageError(f"the images of {table} are in several folders: {names}; write the description yourself")
        return {"folder": str(best[0]), "table": str(table)} | ({} if name == "image" else {"image": name})
    return None


def first_texts(place: Place, index: Path) -> dict[str, list[str]]:
    """Return texts of some samples by field, of several shards or tables those of the first one.

    A folder is indexed for that, a shard is too, elsewhere. The names of folders are only a field where there is no
    other one.
    """
    texts = dict[str, list[str]]()
    if isinstance(shards := place.get("shards"), str | list):
        first = expand([shards] if isinstance(shards, str) else shards, "shards")[:1]
        with TemporaryDirectory(dir=index.parent) as folder:
            _add_samples(texts, Location(shards=tuple(first), index=str(Path(folder) / "first.index")), first[0])
    elif "folder" in place and "table" not in place:
        _add_samples(texts, Location(**place, index=str(index)), place["folder"])
        if not texts:
            images = list_folder(os.path.realpath(place["folder"])).images
            classes = sorted({os.path.basename(os.path.dirname(name)) for name in images} - {""})
            texts |= {"folder": classes} if len(classes) > 1 else {}
    else:
        for row in _first_rows(place):
            for name, value in row.items():
                _add(texts, name, value)
    return texts


def _add_samples(texts: dict[str, list[str]], location: Location, title: str) -> None:
    """Index data, and add texts of samples at equal distances."""
    prepare_with_progress(title, location, num_cores())
    records = Records(location)
    rows = sorted({number * len(records) // SAMPLES for number in range(SAMPLES)})
    for name in records.fields():
        if name not in ("folder", *IMAGES):
            for row in rows:
                _add(texts, name, _value(records, row, name))


def _first_rows(place: Place) -> list[dict[str, Any]]:
    """Return the first rows of a table, without images; every class of a column is in one of them."""
    if "table" in place:
        image = place.get("image", "image")
        return [{**row, image: None} for row in next(read_rows(Path(place["table"])), [])[:ROWS]]
    if "dataset" in place:
        file = dataset_files(Path(place["dataset"]))[0]
    else:
        patterns = place["parquet"]
        file = Path(expand([patterns] if isinstance(patterns, str) else patterns, "parquet")[0])
    classes = classes_of(file)
    rows = [{**row, **dict.fromkeys(classes)} for row in islice(chain.from_iterable(rows_of(file)), ROWS)]
    return rows + [{name: each} for name, names in classes.items() for each in names]


def _value(records: Records, row: int, name: str) -> Any:
    """Return the value of a field, or those of a JSON object by their keys."""
    try:
        value = records.field(row, name)
        return json.loads(value) if name.endswith("json") and isinstance(value, str) else value
    except (BadSampleError, ValueError):
        return None


def _add(texts: dict[str, list[str]], name: str, value: Any) -> None:
    """Add a value that is a text, but no address or number, or a list of texts; of an object, the values."""
    if isinstance(value, dict):
        for key, each in value.items():
            _add(texts, f"{name}.{key}", None if isinstance(each, dict) else each)
    value = value[0] if isinstance(value, list) and value else value
    if isinstance(value, str) and value.strip() and "://" not in value and not NUMBER.fullmatch(value.strip()):
        values = texts.setdefault(name, [])
        if len(values) < FIRST:
            values.append(value)


def captions(texts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the fields of short and of dense captions, by their names and texts."""
    fields = [field for field in texts if texts[field] and field and not set(words_of(field)) & NEVER]
    dense = _named(fields, DENSE)
    others = [field for field in fields if field != dense]
    first = _named(others, SHORT)
    if first is None and dense is None:
        sentences = [
            field for field in others if sum(" " in text.strip() for text in texts[field]) > len(texts[field]) / 2
        ]
        first = max(sentences, key=lambda field: _length(texts[field]), default="folder" if "folder" in texts else None)
    if first is None:
        return {} if dense is None else {"short": dense}
    if dense is None or _length(texts[dense]) <= _length(texts[first]):
        return {"short": first}
    return {"short": first, "dense": dense}


def words_of(field: str) -> list[str]:
    """Return the words of a field's name in lower case, and all together: alt, text and alttext of ``json.altText``."""
    name = field.rpartition(".")[2]
    words = [word.lower() for word in WORDS.findall(name)] or [name.lower()]
    return [*words, "".join(words)]


def _named(fields: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the field with the best name; one that is no key of JSON, which often has a copy."""
    by_name = [field for name in names for field in fields if name in words_of(field)]
    return next((field for field in by_name if "json." not in field), next(iter(by_name), None))


def _length(values: Sequence[str]) -> float:
    return sum(map(len, values)) / len(values)


def described(place: Place, texts: Mapping[str, Sequence[str]], comments: Sequence[str], target: Path) -> str:
    """Return a description whose paths are relative to the folder of ``target``; a UsageError without captions."""
    roles = captions(texts)
    fields = [field for field in texts if field not in roles.values()]
    listed = ", ".join(fields[:LISTED]) + (", …" if len(fields) > LISTED else "")
    if not roles:
        others = f"; there are {listed}, which do not look like captions" if fields else ""
        raise UsageError(
            "no captions are seen: they are in files beside the images, such as a.txt, or in a column of a table, which"
            f" is described by its own path{others}"
        )
    base = Path(os.path.realpath(target.absolute().parent))
    values = {key: _relative(value, base) for key, value in place.items()} | roles | {"licence": ""}
    guessed = [f"{role}: {field}, such as {short(' '.join(texts[field][0].split()))}" for role, field in roles.items()]
    if fields:
        guessed.append(f"Other fields with texts: {listed}")
    guessed.append("licence: of images and captions, a line for reports.")
    guessed.append("Held out is a fifth, at most 20,000 pairs, by the hash of the key; held_out: changes that.")
    # Line breaks and other signs would end a comment.
    lines = ("".join(sign if sign.isprintable() else "?" for sign in text) for text in (*comments, *guessed))
    return "".join(f"# {line}\n" for line in lines) + to_yaml(values, width=10**6)


def _relative(value: Any, base: Path) -> Any:
    """Return paths relative to a real path, unless links make other ones of them."""
    if isinstance(value, list):
        return [_relative(each, base) for each in value]
    if not os.path.isabs(value):
        return value
    path, folder = os.path.relpath(value, base), os.path.dirname(value)
    return path if os.path.realpath(base / os.path.dirname(path)) == os.path.realpath(folder) else value
