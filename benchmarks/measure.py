"""Timing side by side, peak memory, and what the machine itself can do."""

from __future__ import annotations

import functools
import gc
import itertools
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
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
    """Seconds of each repeat; bytes that a call held at its peak, None where nobody asked."""

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

    Every call is made once before any is timed, unless ``warm`` is false. Memory is measured, of those in ``peaks``, in
    the first call that is timed.

    Args:
        repeats, fewest, budget: of each call, see :func:`turns`.
        clear: runs before each call and is not timed.
    """
    samples = {name: Sample() for name in calls}
    if warm:
        for call in calls.values():
            clear()
            call()
    for turn in range(repeats):
        for name, call in calls.items():
            sample = samples[name]
            if turn and turn >= turns(sample.median, repeats, fewest, budget):
                continue
            timed = functools.partial(_time, sample, call, device)
            clear()
            if turn == 0 and name in peaks:
                sample.peak = peak_memory(timed, device)
            else:
                timed()
    return samples


def _time(sample: Sample, call: Callable[[], object], device: str) -> None:
    sample.seconds.append(seconds(call, device))


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout


def peak_memory(call: Callable[[], object], device: str = "cpu") -> int:
    """Bytes of tensors that a call holds at its peak, beyond what was there before it: PyTorch's own count.

    On a CPU it is kept by the profiler, which notes every block that is fetched and freed; on a GPU by the allocator.
    """
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        seen.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    return max(itertools.accumulate((event["args"]["Bytes"] for event in changes), initial=0))


def fetch_memory(amount: int) -> None:
    """Fetch so many bytes from the system and free them, so that the first call pays no more for memory than the next.

    That needs a C library that keeps what is freed, see :func:`~proda_lib.memory.keep_freed_memory`.
    """
    block = 2**24  # of larger ones than 32 MiB nothing is kept
    blocks = [torch.zeros(block, dtype=torch.uint8) for _ in range(amount // block)]
    del blocks


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
