"""Errors, each stated in one sentence: of a request, of a run, and of a sample of its data."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Literal, get_args

Cause = Literal["out of memory", "no space", "not finite", "node", "time", "data", "bug", "lease lost"]
Reason = Literal[
    "missing image",
    "undecodable image",
    "image over the pixel limit",
    "missing caption",
    "empty caption",
    "caption over the limit",
    "broken json",
    "unsafe member",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
MAX_SHOWN = 3  # elements of a list in an error

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 100
short = _repr.repr  # an untrusted value, escaped and shortened to fit a sentence


class UsageError(ValueError):
    """A request that cannot be carried out; the message says what is wrong, where, and what is allowed.

    Command lines print it without a traceback and exit with status 2.
    """


class RunFailedError(RuntimeError):
    """A run started and cannot continue, for a reason in the run itself; ``cause`` groups failures."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause

    def __reduce__(self) -> tuple[type["RunFailedError"], tuple[Cause, str]]:
        return type(self), (self.cause, str(self))  # processes of a pool pass errors on by pickle


class BadSampleError(ValueError):
    """A sample without a usable image or caption; training replaces it and counts it by its reason.

    A broken shard or mount is no bad sample but a ``RunFailedError`` with cause ``data``.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["BadSampleError"], tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UsageError:
    """Return the error for a name that is not allowed, with the closest allowed name as a suggestion."""
    names = sorted(set(allowed))
    return UsageError(f"unknown {kind} {name!r}.{did_you_mean(name, names)} Allowed: {', '.join(names) or 'none'}.")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return the closest allowed name as a question with a leading space, or nothing if none is close."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def given_twice(key: str) -> UsageError:
    """Return the error for a key that a command line sets twice."""
    return UsageError(f"{key}= is given twice; once is allowed")


def some(texts: Sequence[str]) -> str:
    """Join the first few elements of a list."""
    return ", ".join(texts[:MAX_SHOWN]) + (", …" if len(texts) > MAX_SHOWN else "")


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 tensor``, ``2 tensors``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# By the name that is imported; pyproject.toml has the same (tests/test_pyproject.py).
EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(("matplotlib", "seaborn", "statsmodels", "patsy"), "report"),
    **dict.fromkeys(
        (
            *("torch", "safetensors", "tokenizers", "ftfy", "fvcore", "sklearn", "PIL", "tensorboard"),
            *("webdataset", "braceexpand", "fsspec", "aiohttp", "imagehash", "optuna", "polars"),
        ),
        "train",
    ),
}


def missing(error: ModuleNotFoundError, command: str) -> UsageError:
    """Return the sentence for a package that a command needs and that is not installed."""
    name = str(error.name).partition(".")[0]
    if name not in EXTRAS:
        raise error
    return UsageError(f"{command} needs {name}; run: pip install 'aimv2-ablations[{EXTRAS[name]}]'")


def require(name: str, command: str) -> None:
    """Refuse a command before it starts what needs a package."""
    if find_spec(name) is None:
        raise missing(ModuleNotFoundError(name=name), command)


def escape(text: str) -> str:
    """Escape text from captions, descriptions and errors, so that it becomes no markup and breaks no table."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text).replace("\n", " ")
