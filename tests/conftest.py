import os
from pathlib import Path

import pytest
import torch

# The tests are small and run side by side: more threads than cores make them many times slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("PRODA_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("real data not there: set PRODA_SHARED_DATA")
    return folder
