"""What a number came from: versions, commit and hardware of a record, and kernels that give the same bits again."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch

import proda_lib
from proda_lib.paths import project_root


@contextlib.contextmanager
def reproducible(device: str) -> Iterator[None]:
    """Deterministic kernels, so that the same command gives the same weights bit for bit on the same machine.

    Those of cuBLAS need a setting of the environment, which is made when the library is imported.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    kernels = contextlib.nullcontext()
    if device.startswith("cuda"):  # the fused attention kernels have no deterministic backward with a mask
        kernels = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    try:
        with kernels:
            yield
    finally:
        torch.use_deterministic_algorithms(before)


def versions() -> dict[str, str]:
    """Versions that results depend on."""
    return {"proda_lib": proda_lib.__version__, "python": platform.python_version(), "torch": torch.__version__,
            **{name: version(name) for name in ("numpy", "scikit-learn", "lightning-fabric")}}  # fmt: skip


def commit() -> str | None:
    """Commit of the checkout, with "+changes" if files differ from it; None outside of a checkout of the project."""
    if not shutil.which("git") or not (project_root() / "proda_lib").is_dir():
        return None
    ask = [["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"]]
    found = [subprocess.run(a, cwd=project_root(), capture_output=True, text=True, check=False) for a in ask]
    if found[0].returncode:
        return None
    return found[0].stdout.strip() + ("+changes" if found[1].stdout.strip() else "")


def hardware(device: str) -> dict[str, str | int]:
    """What the run was made on, without names of machines."""
    cpu = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    found: dict[str, str | int] = {"device": device, "cpu": cpu, "cores": os.cpu_count() or 0}
    found["threads"] = torch.get_num_threads()
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found
