"""Yardsticks and timings: ``python -m benchmarks``. Nothing in proda_lib imports this package."""
