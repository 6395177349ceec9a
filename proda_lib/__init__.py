"""ProDA, reproduced and audited: scene graphs in, prompted and disentangled action representations out."""

__version__ = "0.1.0"
