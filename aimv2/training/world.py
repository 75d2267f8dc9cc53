"""The ranks of a run and their collectives."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aimv2.base.errors import RunFailedError
from aimv2.data.batches.batch import Tally

T = TypeVar("T")
R = TypeVar("R")


class _Form(NamedTuple):
    """What a rank has to know of a tensor to receive it."""

    shape: torch.Size
    dtype: torch.dtype
    device: str


@dataclass(frozen=True)
class World:
    """The ranks of a run and their collectives, which all ranks must call in the same order.

    Attributes:
        saving: the group whose collectives the thread that writes checkpoints calls; None in one process.
    """

    size: int = 1
    host: dist.ProcessGroup | None = None  # the group for values on the CPU, if it is not the default one
    rank: int = 0  # of this process
    saving: dist.ProcessGroup | None = None

    def any(self, here: bool) -> bool:
        """True if it is true on any rank."""
        if self.size == 1:
            return here
        flag = torch.tensor(int(here))
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.host)
        return bool(flag)

    def sum(self, tally: Tally) -> Tally:
        """Return the counts of all ranks together."""
        if self.size == 1:
            return tally
        count_X = torch.from_numpy(tally.counts)
        dist.all_reduce(count_X, group=self.host)
        return Tally.of(count_X.numpy(), tally.num_sources)

    def gather(self, found: Sequence[T]) -> list[T]:
        """Return what all ranks have found, in the order of the ranks."""
        if self.size == 1:
            return list(found)
        parts: list[Sequence[T]] = [()] * self.size
        dist.all_gather_object(parts, found, group=self.host)
        return [each for part in parts for each in part]

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over the ranks, without gradients."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total, group=self._group(total.device.type))
        return total / self.size

    def concatenate(self, vector_BS: Tensor) -> Tensor:
        """Return the vectors of all ranks, in their order, without gradients; each rank has equally many."""
        if self.size == 1:
            return vector_BS
        parts = [torch.empty_like(vector_BS) for _ in range(self.size)]
        dist.all_gather(parts, vector_BS.contiguous())
        return torch.cat(parts)

    def equalise(self, module: nn.Module) -> None:
        """Copy rank 0's weights to the other ranks, in place."""
        if self.size > 1:
            for value in module.state_dict().values():
                dist.broadcast(value, src=0, group=self._group(value.device.type))

    def divided(self, items: Sequence[T], compute: Callable[[T], R]) -> Iterator[R]:
        """Compute each item on one of the ranks, and yield the results of all items, in order.

        The ranks take turns, so that the cost of items may rise or fall along the sequence. A rank has at most two
        results at a time: its own of this turn, and that of another rank. A result is bitwise that of one process, on
        equal hardware.
        """
        for start in range(0, len(items), self.size):
            turn = items[start : start + self.size]
            own = compute(turn[self.rank]) if self.rank < len(turn) else None
            for rank in range(len(turn)):
                yield self.of(rank, own)

    def of(self, rank: int, value: Any) -> Any:
        """Return the value of one of the ranks; those of the others are ignored."""
        if self.size == 1:
            return value
        here = self.rank == rank
        if is_tensor := here and isinstance(value, Tensor):
            value = value.detach().contiguous()
        sent = [(_Form(value.shape, value.dtype, value.device.type) if is_tensor else value) if here else None]
        dist.broadcast_object_list(sent, src=rank, group=self.host)
        form = sent[0]
        if not isinstance(form, _Form):
            return form
        tensor = value if here else torch.empty(form.shape, dtype=form.dtype, device=form.device)
        dist.broadcast(tensor, src=rank, group=self._group(form.device))
        return tensor

    def _group(self, device: str) -> dist.ProcessGroup | None:
        return self.host if device == "cpu" else None


def is_of_all_ranks(error: BaseException) -> bool:
    """True if every rank raises this error, because all read the same values."""
    return isinstance(error, RunFailedError) and error.cause == "not finite"


ALONE = World()
