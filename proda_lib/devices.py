"""Devices by name, looked for before anything is loaded for them."""

from __future__ import annotations

import torch

from proda_lib.errors import DataError
from proda_lib.names import brief


def checked_device(device: torch.device | str, what: str) -> torch.device:
    """The device, which is there; ``what`` is to run on it. Nothing is put on it, so that asking costs no memory.

    Raises:
        DataError: this machine has no such device.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if found is None or (found.index or 0) >= count.get(found.type, 0):
        there = ", ".join(f"{number} x {kind}" for kind, number in count.items())
        raise DataError(what, "device", brief(device), f"a device of this machine: it has {there}")
    return found
