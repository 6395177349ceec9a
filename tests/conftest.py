import os
import sys
from pathlib import Path

import pytest
import torch

from proda_lib import cli

# The tests are small and run side by side: more threads than cores make them many times slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets, ``$PRODA_SHARED_DATA``; tests that need it are skipped where that is not set."""
    if not (given := os.environ.get("PRODA_SHARED_DATA")):
        pytest.skip("PRODA_SHARED_DATA is not set: no real data")
    assert Path(given).is_dir(), f"PRODA_SHARED_DATA: found no folder {given}"
    return Path(given)


@pytest.fixture
def proda(monkeypatch, capsys):
    """Runs the command; returns exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["proda", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return (caught.value.code or 0, *capsys.readouterr())

    return run
