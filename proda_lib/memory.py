"""Memory that a training step frees is kept for the next step."""

from __future__ import annotations

import ctypes


def keep_freed_memory() -> bool:
    """Ask the C library not to give freed memory back to the system.

    Activations are tens of megabytes each: by default every one is fetched from the system anew, page by page, and at
    the paper's width that costs a fifth of a step on a CPU. PyTorch has an allocator that keeps memory on GPUs only.
    Blocks above 32 MiB still come from the system: that is the most that glibc allows.

    Returns:
        Whether it was done; false where the C library is not glibc.
    """
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # names of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wanted = ((mmap_threshold, 32 << 20), (trim_threshold, -1), (top_pad, 64 << 20))  # -1: nothing is trimmed
    return all([mallopt(name, value) == 1 for name, value in wanted])
