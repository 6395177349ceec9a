"""ProDA, reproduced and audited: scene graphs in, prompted and disentangled action representations out."""

import os

# cuBLAS reads it once, at its first product: set later, deterministic training would refuse to start.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

__version__ = "0.1.0"
