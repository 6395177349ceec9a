"""What the processes of a run (one per device) tell each other: sums with gradient, and results in order.

With one process, nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T, R = TypeVar("T"), TypeVar("R")


def processes() -> int:
    """How many processes work on this run together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if processes() > 1 else 0


class _AllSum(torch.autograd.Function):
    """PyTorch's own all-reduce with gradient, ``torch.distributed.nn.functional.all_reduce``, is deprecated."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return _all_reduce(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _all_reduce(gradient)


def _all_reduce(x: Tensor) -> Tensor:
    summed = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed)
    return summed


def all_sum(x: Tensor) -> Tensor:
    """Σ of ``x`` over the processes; its gradient is the sum of theirs."""
    return x if processes() == 1 else _AllSum.apply(x)


def all_count(count: int, like: Tensor) -> int | Tensor:
    """Σ of a count over the processes, at least 1; a tensor on the device of ``like``, so that nobody waits for it."""
    return max(count, 1) if processes() == 1 else all_sum(like.new_full((), count)).clamp(min=1)


def any_process(flag: bool) -> bool:
    """Whether the flag is up in any process."""
    if processes() == 1:
        return flag
    flags: list = [None] * processes()
    dist.all_gather_object(flags, flag)
    return any(flags)


def first_decides(flag: bool) -> bool:
    """The flag of the first process, for all: two processes may look at a file at different moments."""
    return any_process(rank() == 0 and flag)


def barrier() -> None:
    """Wait until every process is here."""
    any_process(False)


def each_its_part(items: Sequence[T], function: Callable[[Sequence[T]], R]) -> list[R]:
    """``function`` of neighbouring items, a part per process; every process gets all results, in order.

    Every item belongs to exactly one part, so that nothing is counted twice; parts without items are left out.
    """
    N = processes()
    if N == 1:
        return [function(items)]
    start, stop = (len(items) * part // N for part in (rank(), rank() + 1))
    found: list = [None] * N
    dist.all_gather_object(found, [function(items[start:stop])] if stop > start else [])
    return [result for part in found for result in part]
