"""Timing side by side, peak memory, and what the machine itself can do."""

from __future__ import annotations

import ctypes
import functools
import gc
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from proda_lib.training.provenance import commit


@dataclass
class Sample:
    """Seconds of each repeat; bytes that a call needed at its peak, None where nobody asked or that is not known."""

    seconds: list[float] = field(default_factory=list)
    peak: int | None = None

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float | None:
        """Interquartile range over median; None for a single repeat, of which no spread is known."""
        if len(self.seconds) < 2:
            return None
        low, high = np.percentile(self.seconds, (25, 75))
        return float((high - low) / self.median)


def ratio_spread(*sides: Sample) -> float | None:
    """Of a ratio: the largest of its sides' spreads; None if that of one of them is not known."""
    spreads = [side.spread for side in sides]
    return None if None in spreads else max(spreads)


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """Wall-clock time of one call, with what it left running on the device."""
    _synchronise(device)
    start = time.perf_counter()
    call()
    _synchronise(device)
    return time.perf_counter() - start


def turns(one: float, repeats: int, fewest: int, budget: float) -> int:
    """How often a call of ``one`` seconds is timed: what fits into ``budget`` seconds, ``fewest`` to ``repeats`` times.

    A call that alone takes more than the budget is timed once, and so has no spread.
    """
    return 1 if one > budget else int(min(repeats, max(fewest, budget / one)))


def side_by_side(
    calls: dict[str, Callable[[], object]], repeats: int, fewest: int = 1, budget: float = math.inf,
    device: str = "cpu", clear: Callable[[], object] = lambda: None, peaks: Collection[str] = (), warm: bool = True,
) -> dict[str, Sample]:  # fmt: skip
    """Time the calls in turn, so that a machine that slows down slows all of them.

    Every call is made once before any is timed. Memory is measured then, of those in ``peaks``: they come first, as
    measuring gives freed memory back to the system, which makes the next call slower. ``warm=False`` makes only the
    calls in ``peaks`` before; the others find the memory that the last of these has fetched.

    Args:
        repeats, fewest, budget: of each call, see :func:`turns`.
        clear: runs before each call and is not timed.
    """
    samples = {name: Sample() for name in calls}
    for name in sorted(calls, key=lambda name: name not in peaks):
        clear()
        if name in peaks:
            samples[name].peak = peak_memory(calls[name], device)
        elif warm:
            calls[name]()
    for turn in range(repeats):
        for name, call in calls.items():
            sample = samples[name]
            if turn == 0 or turn < turns(sample.median, repeats, fewest, budget):
                clear()
                sample.seconds.append(seconds(call, device))
    return samples


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout


def peak_memory(call: Callable[[], object], device: str = "cpu") -> int | None:
    """Bytes that a call needs at its peak, beyond what was there before it; None where the system does not tell.

    CPU: the resident set's high-water mark, reset before the call (Linux). GPU: PyTorch's own count.
    """
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    _return_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to VmRSS
    except OSError:
        call()
        return None
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def _return_freed_memory() -> None:
    """Ask the C library to give freed memory back: else it counts as there before the call, and is used by it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # not glibc
        pass


@functools.cache
def matmul_rate(width: int, device: str = "cpu", dtype: torch.dtype = torch.float32, budget: float = 1.0) -> float:
    """FLOP/s of matrix products: the best over sizes of a model of this width, and over two large square ones.

    The square ones keep the rate that of the machine where a narrow model's own products are slow.
    """
    tokens = 4096 if device == "cpu" else 32768
    large = 2048 if device == "cpu" else 8192
    shapes = [(tokens, width, 4 * width), (tokens, 4 * width, width), (tokens, width, 3 * width),
              (large, large, large), (large // 2, large, large)]  # fmt: skip
    best = 0.0
    for n, i, o in shapes:
        a, b = (torch.randn(shape, device=device, dtype=dtype) for shape in ((n, i), (i, o)))
        best = max(best, 2 * n * i * o / _fastest(lambda a=a, b=b: a @ b, device, budget / len(shapes)))
    return best


def copy_rate(device: str = "cpu", budget: float = 0.5) -> float:
    """Bytes per second that are read and written by a copy that no cache holds."""
    source = torch.ones(2**26 if device == "cpu" else 2**28, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), device, budget)


def _fastest(call: Callable[[], object], device: str, budget: float) -> float:
    call()
    start, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - start < budget:
        times.append(seconds(call, device))
    return min(times)


def _cpu_information(name: str) -> str:
    """A field of the first processor of /proc/cpuinfo, "" where there is none."""
    try:
        found = re.search(rf"^{name}\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""


def has_bf16(device: str = "cpu") -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if device != "cpu":
        return torch.cuda.get_device_capability()[0] >= 8
    flags = f"{_cpu_information('flags')} {_cpu_information('Features')}".split()
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def describe(device: str = "cpu") -> dict[str, object]:
    """The machine that the numbers belong to."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    described = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "cpu": _cpu_information("model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "bf16": has_bf16(device),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device,
        "copy_gb_per_s": round(copy_rate(device) / 1e9, 1),
    }
    if device != "cpu":
        described.update(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda)
    return described
