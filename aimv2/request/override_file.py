"""``config=FILE.yaml``: overrides from a file, as if they were typed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aimv2.base.errors import UsageError, given_twice
from aimv2.config.program import flattened

KEY = "config="
PLAIN = re.compile(r"[A-Za-z0-9_./%@?|-]+")  # needs no quotes in the grammar; with 1e-3, which YAML reads as text


def with_file(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with those of its ``config=FILE`` in its place; what is typed counts.

    Keys of the file are nested or paths: ``optimizer: {peak_lr: 1e-3}`` or ``optimizer.peak_lr: 1e-3``.

    Raises:
        UsageError: the file cannot be read or has no keys, or ``config=`` is given twice.
    """
    files = [word.removeprefix(KEY) for word in words if word.startswith(KEY)]
    if len(files) > 1:
        raise given_twice("config")
    typed = {word.partition("=")[0] for word in words}
    return [
        one
        for word in words
        for one in (_words(Path(word.removeprefix(KEY)), typed) if word.startswith(KEY) else [word])
    ]


def _words(path: Path, typed: set[str]) -> Iterator[str]:
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"config={path} cannot be read: {error}".replace("\n", " ")) from error
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"config={path} has no keys with values, such as optimizer.peak_lr: 1e-3")
    yield from (f"{key}={_value(value)}" for key, value in flattened(values).items() if key not in typed)


def _value(value: Any) -> str:
    """Return a value in the grammar of overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if PLAIN.fullmatch(text):
        return text
    # Of the grammar: backslashes are doubled where a quote or the end follows, and quotes are escaped.
    escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"
