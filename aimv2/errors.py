"""Errors that the user can fix, each stated in one sentence."""

import difflib
from collections.abc import Iterable
from typing import Literal

Cause = Literal["out of memory", "not finite", "node", "time", "data", "bug", "lease lost"]


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


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UsageError:
    """Return the error for a name that is not allowed, with the closest allowed name as a suggestion."""
    names = sorted(allowed)
    return UsageError(f"unknown {kind} {name!r}.{did_you_mean(name, names)} Allowed: {', '.join(names)}.")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return the closest allowed name as a question with a leading space, or nothing if none is close."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def given_twice(key: str) -> UsageError:
    """Return the error for a key that a command line sets twice."""
    return UsageError(f"{key}= is given twice; once is allowed")
