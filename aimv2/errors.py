"""Errors that are a user's to mend, said in one sentence."""

import difflib
from collections.abc import Iterable
from typing import Literal

Cause = Literal["out of memory", "not finite", "node", "time", "data", "bug", "lease lost"]


class UsageError(ValueError):
    """What was asked for cannot be done; the message says what, where, and what is allowed.

    Command lines print it without a traceback and exit with status 2.
    """


class RunFailedError(RuntimeError):
    """A run started and cannot go on, for a reason in the run itself (a loss that is not finite, say).

    Attributes:
        cause: a short name to group failures by, such as ``not finite``.
    """

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UsageError:
    """The error for a name that is not among the allowed ones, with the nearest as a suggestion."""
    names = sorted(allowed)
    return UsageError(f"unknown {kind} {name!r}.{did_you_mean(name, names)} Allowed: {', '.join(names)}.")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The nearest of the allowed names as a question, with a space before it; nothing if none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def given_twice(key: str) -> UsageError:
    """The error for a key that a command line has twice: nobody can know which of its values is meant."""
    return UsageError(f"{key}= is given twice; once is allowed")
