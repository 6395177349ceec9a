"""What a call computes and moves: FLOPs of its matrix products, and bytes that its operators read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
#: Operators that take their tensor argument for its shape only.
SHAPE_ONLY = ("empty", "new_", "zeros", "ones", "full", "rand")
#: Operators that write nothing: the memory is only reserved.
RESERVE = ("empty", "new_empty")
#: Operators that read of their source no more than they give back.
PICK = (aten.index_select, aten.gather, aten.embedding, aten.index)


class Traffic(TorchDispatchMode):
    """Count while active: ``with Traffic() as seen: call()``.

    Every operator reads its tensor arguments and writes its results from and to memory, as if there were no caches;
    views are free. So ``bytes`` is what operators ask for, which a cache may serve, and the arithmetic intensity
    FLOPs / bytes is that of the operators as they are called, one after the other.

    Attributes:
        flops: of matrix products and attention; 2 n i o for (n, i) · (i, o). ``bytes``: read and written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.bytes = 0, 0

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.flops += products(func, args, kwargs, out)
        self.bytes += moved(func, args, kwargs, out)
        return out


def traffic(call: Callable[[], object]) -> Traffic:
    """What a call computes and moves, its backward pass included if it makes one."""
    with Traffic() as seen:
        call()
    return seen


def products(func, args: tuple, kwargs: dict, out) -> int:
    """FLOPs of one operator, 0 unless it multiplies matrices."""
    packet = func.overloadpacket
    if packet is aten._scaled_dot_product_flash_attention_for_cpu:
        return sdpa_flop_count(*(x.shape for x in args[:3]))
    if packet is aten._scaled_dot_product_flash_attention_for_cpu_backward:
        return sdpa_backward_flop_count(*(x.shape for x in args[:4]))
    count = flop_registry.get(packet)
    return count(*args, **kwargs, out_val=out) if count else 0


def moved(func, args: tuple, kwargs: dict, out) -> int:
    """Bytes that one operator reads and writes."""
    given, results = list(tensors((args, kwargs))), list(tensors(out))
    changed = written(func, args, kwargs)
    storages = {x.untyped_storage()._cdata for x in given}
    fresh = [x for x in results if x.untyped_storage()._cdata not in storages]
    if not changed and not fresh:
        return 0  # a view, or nothing to do with tensors
    name = func.overloadpacket.__name__.removeprefix("_")
    writes = 0 if name.startswith(RESERVE) else sum(map(size, [*changed, *fresh]))
    if name.startswith(SHAPE_ONLY):
        return writes
    overwritten = {id(x) for x in changed} if name in ("copy_", "fill_", "zero_") else set()
    reads = [size(x) for x in given if id(x) not in overwritten]
    if func.overloadpacket in PICK:
        reads[0] = min(reads[0], writes)
    return writes + sum(reads)


def tensors(tree) -> Iterator[Tensor]:
    """The tensors in nested arguments."""
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def written(func, args: tuple, kwargs: dict) -> list[Tensor]:
    """The arguments that an operator changes in place."""
    found = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        found += tensors(args[place] if place < len(args) else kwargs.get(argument.name))
    return found


def size(x: Tensor) -> int:
    """Bytes of a tensor; what is only repeated (stride 0) counts once."""
    count = 1
    for length, stride in zip(x.shape, x.stride(), strict=True):
        count *= length if stride or not length else 1
    return count * x.element_size()
