"""Which fields are captions, by their names and texts, and descriptions in YAML with comments."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from aimv2.base.errors import UsageError, short
from aimv2.base.files import to_yaml

LISTED = 8  # fields in a comment
# Words of names, best first.
DENSE = ("recaption", "dense", "synthetic", "detailed", "description", "long")
SHORT = ("caption", "captions", "text", "txt", "title", "alt", "sentence", "prompt", "label", "folder")
NEVER = {"url", "key", "sha256", "md5", "hash", "uid", "id", "path", "file", "filename", "status", "error", "exif"}
NEVER |= {"split", "licence", "license", "author", "source", "date"}
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

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


def captions(texts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the fields of short and of dense captions, by their names and texts."""
    fields = [field for field in texts if texts[field] and field and not set(words_of(field)) & NEVER]
    dense = _named(fields, DENSE)
    others = [field for field in fields if field != dense]
    first = _named(others, SHORT)
    if first is None and dense is None:
        sentences = [field for field in others if _is_sentence(texts[field])]
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


def _is_sentence(values: Sequence[str]) -> bool:
    return sum(len(value.split()) > 1 for value in values) > len(values) / 2


def _length(values: Sequence[str]) -> float:
    return sum(map(len, values)) / len(values)


def described(seen: Seen, target: Path) -> str:
    """Return a description whose paths are relative to the folder of ``target``.

    Raises:
        UsageError: no field has texts.
    """
    base = Path(os.path.realpath(target.absolute().parent))
    roles = captions(seen.texts)
    if not roles:
        fields = ", ".join(list(seen.texts)[:LISTED])
        others = f"; there are {fields}, which do not look like captions" if fields else ""
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
    if rest := [field for field in seen.texts if field not in roles.values()]:
        shown = ", ".join(rest[:LISTED]) + (", …" if len(rest) > LISTED else "")
        lines.append(f"# Other fields with texts: {_plain(shown)}")
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
    found = os.path.relpath(value, base)
    folder = os.path.dirname(value)
    return found if os.path.realpath(base / os.path.dirname(found)) == os.path.realpath(folder) else value
