"""``python -m aimv2 data describe``: write the description of data from what is seen in them, and index them."""

import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from aimv2.base.errors import RunFailedError, UsageError, short
from aimv2.base.files import to_yaml, write_text
from aimv2.config.arguments import HELP, read_options
from aimv2.config.data_config import is_described
from aimv2.datasets.description import SUFFIXES
from aimv2.datasets.files import IMAGES, is_within
from aimv2.datasets.folder_layout import SUFFIXES as TABLES
from aimv2.datasets.folder_layout import has_bytes, read_rows
from aimv2.datasets.remote import expand
from aimv2.datasets.table_layouts import NAMES, classes_of, dataset_files, first_batch, is_image, schema_of
from aimv2.datasets.tar_shards import split
from aimv2.tools.data.command import DescribeOptions, usage_of
from aimv2.tools.data.index import index_command

FIRST = 20  # texts of each field that are looked at
ROWS = 2000  # rows, and images of a folder, that are looked at
MEMBERS = 20_000  # members of a shard that are looked at
MAX_TEXT = 2**20  # bytes of a file with a text
MIN_SHARE = 0.5  # of a table's images that must be in a folder
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval")
SIGNS = "*?[]{}"  # with a meaning in patterns
ENDS = tuple(f".{extension}" for extension in IMAGES)
LISTED = 8  # fields in a comment
# Words of names of fields, best first.
DENSE = ("recaption", "dense", "synthetic", "detailed", "description", "long")
SHORT = ("caption", "captions", "text", "txt", "title", "alt", "sentence", "prompt", "label", "folder")
NEVER = {"url", "key", "sha256", "md5", "hash", "uid", "id", "path", "file", "filename", "status", "error", "exif"}
NEVER |= {"split", "licence", "license", "author", "source", "date"}
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

Texts = dict[str, list[str]]  # values of the first samples by field


class Seen(NamedTuple):
    """What is seen in data."""

    place: dict[str, Any]  # keys of the description that say where they are; paths are absolute
    texts: Texts
    comments: list[str]  # on what was guessed


def describe_command(arguments: Sequence[str]) -> int:
    """Write a description, print it, and index the data. A description that cannot be indexed is not kept."""
    if not arguments or HELP & set(arguments):
        print(usage_of("describe"), end="")
        return 0 if arguments else 2
    if "://" in arguments[0]:
        raise UsageError(
            f"{arguments[0]}: describe reads files of this host; for others write shards: URL (docs/large-data.md)"
        )
    path, options = Path(arguments[0]).expanduser().absolute(), read_options(DescribeOptions, arguments[1:])
    target = Path(options.to or f"{path.name.partition('.')[0] or 'data'}.yaml")
    if not is_described(str(target)):
        raise UsageError(f"to={str(target)!r} must end in {' or '.join(SUFFIXES)}")
    if target.exists():
        raise UsageError(f"{target} exists; choose another name with to=, or delete it")
    text = described(see(path), target)
    write_text(target, text)
    print(text, end="", flush=True)
    if options.index:
        try:
            index_command([str(target)])
        except (UsageError, RunFailedError):
            target.unlink()
            raise
    print(f"wrote {target}")
    return 0


def see(path: Path) -> Seen:
    """Return what is seen at a path; a UsageError if that is nothing known, or not clear."""
    if set(str(path)) & set(SIGNS):
        raise UsageError(f"{path} has one of {' '.join(SIGNS)} in its name, which are signs of patterns; rename it")
    if path.is_dir():
        for look in (_dataset, _shard_folder, _parquet_folder, _folder):
            if seen := look(path):
                return seen
        raise UsageError(
            f"{path} has no images ({', '.join(IMAGES)}), no .tar files, no Parquet files with images, and is no"
            " saved dataset"
        )
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    if path.suffix == ".tar":
        return _shards([path], str(path))
    if path.suffix == ".parquet" and _image_column(path):
        return _table_of_images(path, {"parquet": str(path)})
    if path.suffix in TABLES:
        folders = [
            path.parent,
            *sorted(each for each in path.parent.iterdir() if each.is_dir() and each.name[0] != "."),
        ]
        if seen := _named_by(path, folders):
            return seen
        raise UsageError(f"{path} has no column with paths of images that exist, or with their bytes")
    raise UsageError(f"{path} is no folder, .tar file or table ({', '.join(TABLES)})")


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


def _pattern(files: Sequence[Path], key: str) -> str | list[str]:
    """Return a pattern of exactly these files, or a list of them."""
    if len(files) == 1:
        return str(files[0])
    parent, suffix = files[0].parent, files[0].suffix
    start = os.path.commonprefix([file.name for file in files]).rstrip("0123456789")  # noqa: RUF071 – of characters
    for pattern in (f"{parent}/*{suffix}", f"{parent}/{start}*{suffix}"):
        if expand([pattern], key) == sorted(map(str, files)):
            return pattern
    return list(map(str, files))


def _walk(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it, and the names of files, sorted, without hidden ones."""
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _files(path: Path, suffix: str) -> list[Path]:
    return sorted(folder / name for folder, names in _walk(path) for name in names if name.endswith(suffix))


def _dataset(path: Path) -> Seen | None:
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return _table_of_images(dataset_files(path)[0], {"dataset": str(path)})
    return None


def _parquet_folder(path: Path) -> Seen | None:
    files = [file for file in _files(path, ".parquet") if _image_column(file)]
    if not files:
        return None
    files, comments = _of_training(files, path)
    seen = _table_of_images(files[0], {"parquet": _pattern(files, "parquet")})
    return seen._replace(comments=comments)


def _image_column(file: Path) -> str | None:
    """Return the column of a table with the bytes of images; None if there is none."""
    columns = [field.name for field in schema_of(file) if is_image(field.type) and has_bytes(field.type)]
    return next((name for name in NAMES if name in columns), next(iter(columns), None))


def _table_of_images(file: Path, place: dict[str, Any]) -> Seen:
    image, classes = _image_column(file), classes_of(file)
    rows = first_batch(file)
    texts = _texts({**row, **dict.fromkeys(classes)} for row in rows) | classes
    default = NAMES if "parquet" in place else ("image",)
    return Seen(place if image in (None, *default) else {**place, "image": image}, texts, [])


def _shard_folder(path: Path) -> Seen | None:
    if not (files := _files(path, ".tar")):
        return None
    files, comments = _of_training(files, path)
    seen = _shards(files, _pattern(files, "shards"))
    return seen._replace(comments=[*comments, *seen.comments])


def _shards(files: Sequence[Path], pattern: str | list[str]) -> Seen:
    texts, has_image = Texts(), False
    try:
        with tarfile.open(files[0]) as tar:
            for number, member in enumerate(tar):
                enough = has_image and texts and all(len(values) >= FIRST for values in texts.values())
                if number >= MEMBERS or (enough and number >= ROWS):
                    break
                key, extension = split(member.name) or ("", "")
                has_image = has_image or extension in IMAGES
                if (
                    key
                    and extension not in IMAGES
                    and member.isfile()
                    and member.size < MAX_TEXT
                    and len(texts.get(extension, ())) < FIRST
                ):
                    content = tar.extractfile(member)
                    _add(texts, _fields_of(extension, b"" if content is None else content.read()))
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"{files[0]} cannot be read as a tar archive") from error
    return Seen({"shards": pattern}, texts, [])


def _folder(path: Path) -> Seen | None:
    """Return what is seen in a folder of images: files beside them, a table that names them, or folders by class."""
    images, classes = _images(path)
    if not images:
        return None
    chosen, comments = _of_training(images, path, by_folders=True)
    root = path
    if len(chosen) < len(images):
        root = Path(os.path.commonpath([image.parent for image in chosen]))
        classes = [name for name in classes if (root / name).is_dir()]
    if links := sum(not is_within(os.path.realpath(path), str(image)) for image in chosen):
        comments.append(f"{links:,} links lead out of the folder, and are left out; copy what they lead to: cp -rL.")
    texts = _beside(chosen)
    if not texts and (table := _only_table(root, path)):
        return table._replace(comments=[*comments, *table.comments])
    if not texts and len(classes) > 1:
        texts["folder"] = classes
        comments.append(f"Captions are the names of folders, such as {', '.join(classes[:3])}.")
    return Seen({"folder": str(root)}, texts, comments)


def _images(path: Path) -> tuple[list[Path], list[str]]:
    """Return the first images of a folder, and the names of all folders with images."""
    images, classes = list[Path](), dict[str, None]()
    for folder, names in _walk(path):
        own = [folder / name for name in names if name.lower().endswith(ENDS)]
        if own and folder != path:
            classes[folder.name] = None
        images += own[: max(ROWS - len(images), 1)]
    return images, list(classes)


def _beside(images: Sequence[Path]) -> Texts:
    """Return the texts in files beside the first images."""
    texts = Texts()
    names = {folder: sorted(os.listdir(folder)) for folder in {image.parent for image in images[:FIRST]}}
    for image in images[:FIRST]:
        for name in names[image.parent]:
            file = image.parent / name
            if name.startswith(f"{image.stem}.") and not name.lower().endswith(ENDS) and file.stat().st_size < MAX_TEXT:
                _add(texts, _fields_of(name.removeprefix(f"{image.stem}."), file.read_bytes()))
    return texts


def _only_table(folder: Path, given: Path) -> Seen | None:
    """Return what is seen in the table that names the images of a folder; None if there is none."""
    places = dict.fromkeys([folder, given, *([given.parent] if given == folder else [])])
    tables = dict[Path, Seen]()
    for table in (each for place in places for each in sorted(place.iterdir()) if each.suffix in TABLES):
        try:
            if seen := _named_by(table, [folder]):
                tables[table] = seen
        except UsageError:
            continue  # it is no table
    named = {table: seen for table, seen in tables.items() if table.stem == folder.name}
    if len(tables) > 1 and len(named) != 1:
        names = ", ".join(map(str, tables))
        raise UsageError(f"several tables name images of {folder}: {names}; describe one of them")
    return next(iter((named or tables).values()), None)


def _named_by(table: Path, folders: Sequence[Path]) -> Seen | None:
    """Return what is seen in a table whose column has paths of images in one of the folders, or absolute ones."""
    rows = next(read_rows(table), [])
    for name in dict.fromkeys(name for row in rows[:ROWS] for name in row):
        paths = [path for row in rows if isinstance(path := row.get(name), str) and path.lower().endswith(ENDS)]
        if len(paths) <= len(rows) / 2:
            continue
        if os.path.isabs(paths[0]):
            folders = [Path(os.path.commonpath({os.path.dirname(path) for path in paths}))]
        folder, share = _folder_of(table, paths, folders)
        if share < MIN_SHARE:
            continue
        texts = _texts({**row, name: None} for row in rows[:ROWS])
        place = {"folder": str(folder), "table": str(table)} | ({} if name == "image" else {"image": name})
        return Seen(place, texts, [f"{share:.0%} of the first rows of {table.name} have an image in {folder.name}."])
    return None


def _folder_of(table: Path, paths: Sequence[str], folders: Sequence[Path]) -> tuple[Path, float]:
    """Return the folder that has most of some images, and its share of them."""
    some = paths[:: max(1, len(paths) // ROWS)][:ROWS]
    shares = {folder: sum((folder / path).is_file() for path in some) / len(some) for folder in folders}
    most = max(shares.values())
    best = [folder for folder, share in shares.items() if share == most]
    best = [folder for folder in best if folder.name == table.stem] or best
    if len(best) > 1 and most >= MIN_SHARE:
        raise UsageError(
            f"the images of {table} are in several folders: {', '.join(map(str, best))}; write the description yourself"
        )
    return best[0], most


def _texts(rows: Iterable[Mapping[str, Any]]) -> Texts:
    texts = Texts()
    for row in rows:
        _add(texts, row)
    return texts


def _fields_of(name: str, content: bytes) -> dict[str, Any]:
    """Return the text of a file, or the values of a JSON object by their keys."""
    try:
        value = json.loads(content) if name.rpartition(".")[2] == "json" else content.decode()
    except ValueError:
        return {}
    return {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}


def _add(texts: Texts, row: Mapping[str, Any]) -> None:
    """Add the values that are texts, but no addresses or numbers, or lists of texts."""
    for name, each in row.items():
        value = each[0] if isinstance(each, list) and each else each
        if isinstance(value, str) and value.strip() and "://" not in value and not _is_number(value):
            values = texts.setdefault(name, [])
            if len(values) < FIRST:
                values.append(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
        first = max(sentences, key=lambda field: _length(texts[field]), default=None)
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


def described(seen: Seen, target: Path) -> str:
    """Return a description whose paths are relative to the folder of ``target``; a UsageError without captions."""
    base = Path(os.path.realpath(target.absolute().parent))
    roles = captions(seen.texts)
    fields = [field for field in seen.texts if field not in roles.values()]
    listed = ", ".join(fields[:LISTED]) + (", …" if len(fields) > LISTED else "")
    if not roles:
        others = f"; there are {listed}, which do not look like captions" if fields else ""
        raise UsageError(
            f"no captions are seen: they are a column, or in files beside the images, such as a.txt{others}"
        )
    values = {key: _relative(value, base) for key, value in seen.place.items()} | roles | {"licence": ""}
    comments = {role: f"such as {short(' '.join(seen.texts[field][0].split()))}" for role, field in roles.items()}
    comments["licence"] = "of images and captions, a line for reports"
    lines = [f"# {_plain(comment)}" for comment in seen.comments]
    for key, value in values.items():
        line = to_yaml({key: value}, width=10**6).rstrip("\n")
        lines.append(f"{line}  # {_plain(comments[key])}" if key in comments else line)
    if fields:
        lines.append(f"# Other fields with texts: {_plain(listed)}")
    lines.append("# Held out is a fifth, at most 20,000 pairs, by the hash of the key; held_out: changes that.")
    text = "\n".join(lines) + "\n"
    assert yaml.safe_load(text) == values, "names from data are escaped"
    return text


def _plain(text: str) -> str:
    """Return a text without line breaks and other signs that end a comment."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _relative(value: Any, base: Path) -> Any:
    """Return paths relative to a real path, unless links make other ones of them."""
    if isinstance(value, list):
        return [_relative(each, base) for each in value]
    if not isinstance(value, str) or not os.path.isabs(value):
        return value
    path, folder = os.path.relpath(value, base), os.path.dirname(value)
    return path if os.path.realpath(base / os.path.dirname(path)) == os.path.realpath(folder) else value
