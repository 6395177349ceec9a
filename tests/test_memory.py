import platform
import subprocess
import sys
import textwrap

import pytest

from proda_lib.memory import keep_freed_memory

SCRIPT = textwrap.dedent("""
    import resource, torch
    from proda_lib.memory import keep_freed_memory

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            [torch.zeros(20, 2**18).add_(1) for _ in range(8)]  # 160 MiB, written and freed
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    {call}
    for _ in range(3):
        faults()
    print(faults())
""")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_not_fetched_again():
    found = []
    for call in ("", "assert keep_freed_memory()"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(call=call)], capture_output=True, text=True, check=True
        )
        found.append(int(done.stdout))
    assert found[1] < found[0] / 4


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
