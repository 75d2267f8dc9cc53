"""What is seen at a path: where samples are, and texts of the first ones."""

import json
import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.base.errors import UsageError
from aimv2.datasets.folder import tables
from aimv2.datasets.folder.index import EXTENSIONS
from aimv2.datasets.parquet_records import NAMES, class_names, is_image
from aimv2.datasets.shards.patterns import expand
from aimv2.datasets.shards.scan import split
from aimv2.tools.data.wording import Seen, Texts

FIRST = 20  # texts of each field that are looked at
ROWS = 2000  # rows, and images of a folder, that are looked at
MEMBERS = 20_000  # members of a shard that are looked at
MAX_TEXT = 2**20  # bytes of a file with a text
MIN_SHARE = 0.5  # of a table's images that must be in a folder
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval")
SIGNS = "*?[]{}"  # with a meaning in patterns


def see(path: Path) -> Seen:
    """Return what is seen at a path.

    Raises:
        UsageError: nothing that is known, or several things of which none is meant more than the others.
    """
    if set(str(path)) & set(SIGNS):
        raise UsageError(f"{path} has one of {' '.join(SIGNS)} in its name, which are signs of patterns; rename it")
    if path.is_dir():
        for look in (_dataset, _shard_folder, _parquet_folder, _folder):
            if found := look(path):
                return found
        raise UsageError(
            f"{path} has no images ({', '.join(EXTENSIONS)}), no .tar files, no Parquet files with images, and is no"
            " saved dataset"
        )
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    if path.suffix == ".tar":
        return _shards([path], str(path))
    if path.suffix == ".parquet" and (image := _image_column(path)):
        return _parquet([path], str(path), image)
    if path.suffix in tables.SUFFIXES:
        return _table(path)
    raise UsageError(f"{path} is no folder, .tar file or table ({', '.join(tables.SUFFIXES)})")


def _of_training(files: Sequence[Path], root: Path, *, by_folders: bool = False) -> tuple[list[Path], list[str]]:
    """Return the files of the training split, by the words of their paths, and a comment if there are other splits.

    One such word is no split: it may be a class, such as that of trains.

    Args:
        by_folders: the names of files say nothing, as those of images.

    Raises:
        UsageError: there are several splits, and none is for training.
    """
    splits: dict[str, list[Path]] = {}
    for file in files:
        parts = file.relative_to(root).parts
        names = parts[:-1] if by_folders else (*parts[:-1], Path(parts[-1]).stem)
        words = [word for part in names for word in _words(part)]
        splits.setdefault(next((word for word in words if word in SPLITS), ""), []).append(file)
    if len(splits.keys() - {""}) < 2:
        return list(files), []
    chosen = next((name for name in SPLITS[:2] if name in splits), None)
    if chosen is None:
        raise UsageError(f"{root} has the splits {', '.join(filter(None, splits))}; name one of its folders or files")
    others = ", ".join(name or "others" for name in splits if name != chosen)
    return splits[chosen], [f"The split {chosen}; left out: {others}."]


def _words(name: str) -> list[str]:
    return "".join(sign if sign.isalnum() else " " for sign in name.lower()).split()


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


def _visible(path: Path, suffix: str) -> list[Path]:
    """Return the files with a suffix in a folder and those below it, sorted, without hidden ones."""
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if name.endswith(suffix) and not name.startswith(".")]
    return sorted(found)


def _dataset(path: Path) -> Seen | None:
    splits = path / "dataset_dict.json"
    if splits.is_file():
        names = _json(splits).get("splits") or []
        chosen = next((name for name in (*SPLITS[:2], *names) if name in names), None)
        found = None if chosen is None else _dataset(path / chosen)
        return found and found._replace(comments=[f"The split {chosen} of {', '.join(names)}.", *found.comments])
    if not (path / "state.json").is_file():
        return None
    files = [path / str(each.get("filename")) for each in _json(path / "state.json").get("_data_files") or []]
    if not files or not files[0].is_file():
        return None
    features = _json(path / "dataset_info.json").get("features") or {}
    try:
        with pa.memory_map(str(files[0])) as mapped:
            batches = pa.ipc.open_stream(mapped)
            schema, rows = batches.schema, next(iter(batches), None)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{files[0]} cannot be read: {error}") from error
    names = {name: each["names"] for name, each in features.items() if isinstance(each, dict) and "names" in each}
    image = next((name for name in schema.names if is_image(schema.field(name).type)), "image")
    place = {"dataset": str(path)} | ({} if image == "image" else {"image": image})
    return Seen(place, _texts_of(rows, names), [])


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _parquet_folder(path: Path) -> Seen | None:
    images = {file: image for file in _visible(path, ".parquet") if (image := _image_column(file))}
    if not images:
        return None
    files, comments = _of_training(list(images), path)
    columns = {images[file] for file in files}
    if len(columns) > 1:
        raise UsageError(
            f"{path} has images in the columns {', '.join(sorted(columns))} of different files; name one file"
        )
    if len(folders := sorted({str(file.parent.relative_to(path)) for file in files})) > 1:
        comments.append(f"Files of several folders: {', '.join(folders)}.")
    found = _parquet(files, _pattern(files, "parquet"), images[files[0]])
    return found._replace(comments=comments)


def _image_column(file: Path) -> str | None:
    """Return the column of a Parquet file with the bytes of images; None if there is none."""
    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    kinds = {name: schema.field(name).type for name in schema.names}
    found = [name for name, kind in kinds.items() if is_image(kind) and not pa.types.is_null(kind)]
    return next((name for name in NAMES if name in found), next(iter(found), None))


def _parquet(files: Sequence[Path], pattern: str | list[str], image: str) -> Seen:
    opened = pq.ParquetFile(files[0])
    names = [name for name in opened.schema_arrow.names if not is_image(opened.schema_arrow.field(name).type)]
    rows = next(opened.iter_batches(ROWS, columns=names), None)
    place = {"parquet": pattern} | ({} if image in NAMES else {"image": image})
    return Seen(place, _texts_of(rows, class_names(opened.schema_arrow)), [])


def _shard_folder(path: Path) -> Seen | None:
    if not (found := _visible(path, ".tar")):
        return None
    files, comments = _of_training(found, path)
    seen = _shards(files, _pattern(files, "shards"))
    return seen._replace(comments=[*comments, *seen.comments])


def _shards(files: Sequence[Path], pattern: str | list[str]) -> Seen:
    texts, images, keys = Texts(), Counter[str](), Counter[str]()
    enough = False
    try:
        with tarfile.open(files[0]) as tar:
            for number, member in enumerate(tar):
                if number >= MEMBERS or (enough and number >= ROWS):
                    break
                key, extension = split(member.name) or ("", "")
                if extension in EXTENSIONS:
                    images[extension] += 1
                    keys[key] += 1
                elif key and member.isfile() and member.size < MAX_TEXT and len(texts.get(extension, ())) < FIRST:
                    content = tar.extractfile(member)
                    _add_file(texts, extension, b"" if content is None else content.read())
                enough = bool(images) and bool(texts) and all(len(values) >= FIRST for values in texts.values())
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"{files[0]} cannot be read as a tar archive") from error
    comments = []
    if several := sum(count > 1 for count in keys.values()):
        read = next(each for each in EXTENSIONS if images[each])
        comments.append(f"{several:,} of the first samples have several images ({', '.join(images)}); {read} is read.")
    return Seen({"shards": pattern}, texts, comments)


def _folder(path: Path) -> Seen | None:
    """Return what is seen in a folder of images: files beside them, a table that names them, or folders by class."""
    found, classes, links = _images(path)
    if not found:
        return None
    chosen, comments = _of_training(found, path, by_folders=True)
    root = path
    if len(chosen) < len(found):
        root = Path(os.path.commonpath([image.parent for image in chosen]))
        found, classes = chosen, [name for name in classes if (root / name).is_dir()]
    texts = _beside(found)
    place: dict[str, Any] = {"folder": str(root)}
    if links > len(found) / 2:
        place["follow_links"] = True
        comments.append("Links lead out of the folder, and are followed.")
    elif links:
        comments.append(f"{links:,} links lead out of the folder, and are left out; follow_links: true reads them.")
    if not texts and (table := _only_table(root, path)):
        return table._replace(comments=[*comments, *table.comments])
    if not texts and len(classes) > 1:
        texts["folder"] = classes
        comments.append(f"Captions are the names of folders, such as {', '.join(classes[:3])}.")
    return Seen(place, texts, comments)


def _images(path: Path) -> tuple[list[Path], list[str], int]:
    """Return the first images of a folder, the names of all folders with images, and how many links lead out."""
    root, found, classes, links = os.path.realpath(path), list[Path](), dict[str, None](), 0
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        own = [name for name in sorted(names) if name.lower().endswith(ENDS) and not name.startswith(".")]
        if own and Path(folder) != path:
            classes[Path(folder).name] = None
        for name in own[: max(ROWS - len(found), 1)]:
            found.append(Path(folder, name))
            links += not os.path.realpath(found[-1]).startswith(f"{root}/")
    return found, list(classes), links


ENDS = tuple(f".{extension}" for extension in EXTENSIONS)


def _beside(images: Sequence[Path]) -> Texts:
    """Return the texts in files beside the first images."""
    texts = Texts()
    names = {folder: sorted(os.listdir(folder)) for folder in {image.parent for image in images[:FIRST]}}
    for image in images[:FIRST]:
        for name in names[image.parent]:
            file = image.parent / name
            if name.startswith(f"{image.stem}.") and not name.lower().endswith(ENDS) and file.stat().st_size < MAX_TEXT:
                _add_file(texts, name.removeprefix(f"{image.stem}."), file.read_bytes())
    return texts


def _only_table(folder: Path, given: Path) -> Seen | None:
    """Return what is seen in the table that names the images of a folder; None if there is none.

    Raises:
        UsageError: several tables do.
    """
    places = dict.fromkeys([folder, given, *([given.parent] if given == folder else [])])
    found = []
    for table in (each for place in places for each in sorted(place.iterdir()) if each.suffix in tables.SUFFIXES):
        try:
            seen = _named_by(table, [folder])
        except UsageError:
            continue  # it is no table
        if seen:
            found.append((table, seen))
    if len(found) > 1:
        found = [each for each in found if each[0].stem == folder.name] or found
    if len(found) > 1:
        names = ", ".join(str(table) for table, _ in found)
        raise UsageError(f"several tables name images of {folder}: {names}; describe one of them")
    return found[0][1] if found else None


def _table(path: Path) -> Seen:
    """Return what is seen in a table: the folder of its images is the one that has most of them."""
    folders = [path.parent, *sorted(each for each in path.parent.iterdir() if each.is_dir() and each.name[0] != ".")]
    found = _named_by(path, folders)
    if found is None:
        raise UsageError(f"{path} has no column with paths of images that exist, or with their bytes")
    return found


def _named_by(table: Path, folders: Sequence[Path]) -> Seen | None:
    """Return what is seen in a table whose column has paths of images in one of the folders, or absolute ones.

    Raises:
        UsageError: the table cannot be read, or its images are in several folders.
    """
    first = next(tables.read_batches(table), None)
    rows = [] if first is None else tables.rows(first)
    for name in dict.fromkeys(name for row in rows[:ROWS] for name in row):
        values = [row.get(name) for row in rows]
        paths = [value for value in values if isinstance(value, str) and value.lower().endswith(ENDS)]
        if len(paths) <= len(values) / 2:
            continue
        found = _folder_of(table, paths, [_common(table, name)] if os.path.isabs(paths[0]) else folders)
        if found is None:
            continue
        folder, share = found
        texts = Texts()
        for row in rows[:ROWS]:
            for other, value in row.items():
                _add(texts, other, None if other == name else value)
        place = {"folder": str(folder), "table": str(table)} | ({} if name == "image" else {"image": name})
        return Seen(place, texts, [f"{share:.0%} of the first rows of {table.name} have an image in {folder.name}."])
    return None


def _common(table: Path, name: str) -> Path:
    """Return the folder that contains the folders of all absolute paths in a column."""
    columns = (tables.column(batch, name) or [] for batch in tables.read_batches(table))
    paths = (value for values in columns for value in values if isinstance(value, str) and os.path.isabs(value))
    return Path(os.path.commonpath({os.path.dirname(path) for path in paths}))


def _folder_of(table: Path, paths: Sequence[str], folders: Sequence[Path]) -> tuple[Path, float] | None:
    """Return the folder that has most of some images, and its share of them; None if no folder has half of them.

    Raises:
        UsageError: several folders have as many.
    """
    some = paths[:: max(1, len(paths) // ROWS)][:ROWS]
    shares = {folder: sum((folder / path).is_file() for path in some) / len(some) for folder in folders}
    most = max(shares.values())
    if most < MIN_SHARE:
        return None
    best = [folder for folder, share in shares.items() if share == most]
    best = best if len(best) == 1 else [folder for folder in best if folder.name == table.stem] or best
    if len(best) > 1:
        raise UsageError(
            f"the images of {table} are in several folders: {', '.join(map(str, best))}; write the description yourself"
        )
    return best[0], most


def _texts_of(rows: pa.RecordBatch | None, classes: dict[str, list[str]]) -> Texts:
    texts = Texts()
    if rows is None:
        return texts
    for name in rows.schema.names:
        kind = rows.schema.field(name).type
        if name in classes:
            texts[name] = list(map(str, classes[name]))
        elif (_is_list(kind) or not pa.types.is_nested(kind)) and not is_image(kind):
            for value in rows.column(name).to_pylist():
                _add(texts, name, value)
    return texts


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _add_file(texts: Texts, name: str, content: bytes) -> None:
    """Add the text of a member, or those of a JSON object, by its keys."""
    try:
        value = json.loads(content) if name.rpartition(".")[2] == "json" else content.decode()
    except ValueError:
        return
    for key, own in value.items() if isinstance(value, dict) else [("", value)]:
        _add(texts, f"{name}.{key}" if key else name, own)


def _add(texts: Texts, name: str, value: Any) -> None:
    """Add a value if it is a text that is no address or number, or a list of texts."""
    value = value[0] if isinstance(value, list) and value else value
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
