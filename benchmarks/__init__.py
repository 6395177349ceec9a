"""Yardsticks and timings: ``python -m benchmarks``. Nothing in proda_lib imports this package."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read by PyTorch's profiler, which else says that it starts and stops
