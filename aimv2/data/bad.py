"""Samples that cannot be used."""

from typing import Literal, get_args

Reason = Literal[
    "missing image",
    "undecodable image",
    "image over the pixel limit",
    "missing caption",
    "empty caption",
    "broken json",
    "unsafe member",
]
REASONS: tuple[Reason, ...] = get_args(Reason)


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
