"""Settings of the models."""

from __future__ import annotations

from dataclasses import dataclass

from proda_lib.errors import RecipeError


@dataclass(frozen=True)
class ModelConfig:
    """Size and options of ProDA (and of its controls, which share them).

    Attributes:
        actions, objects, relations: C, object classes, R. ``visual``: width of the visual features, 0 for none.
        frames, slots: N and M. M matters only where the released code counts absent slots.
        width, heads, layers, depth: D, attention heads, VGPNN layers, transformer depth in each. ``candidates``: T.
        prompt: "dpm" (eq. 1–2) or "simple". ``branches``: "single", one prompt module for SAP and UAP, or "dual".
        norm: "vgnorm" (paper), "vgnorm_released", "layer", "batch" or "graph".
        wiring: video encoder "figure5" (paper) or "released". ``fusion_mlp``, ``message_norm``, ``graph_supervision``:
            off in the paper, on in the released code.
        feature_scale: what the gain of the LayerNorm that ends F_o starts from. The paper is silent; 1 is the usual.
            F_o is also the target of the reconstruction, and at 1 its variance lies far above the margin m2: the
            encoder then first learns features that do not depend on the video, and with short training stays there.
            Below √m2 it starts inside the margin.
        recompute: in training, do not keep what is inside the link transformers but compute it again in the backward
            pass (activation checkpointing): less memory, more time, the same results.
    """

    actions: int
    objects: int
    relations: int
    visual: int = 0
    frames: int = 16
    slots: int = 10
    width: int = 768
    heads: int = 12
    layers: int = 3
    depth: int = 2
    candidates: int = 10
    dropout: float = 0.1
    prompt: str = "dpm"
    branches: str = "single"
    norm: str = "vgnorm"
    wiring: str = "figure5"
    fusion_mlp: bool = False
    message_norm: bool = False
    graph_supervision: bool = False
    feature_scale: float = 1.0
    recompute: bool = False

    def __post_init__(self) -> None:
        allowed = {
            "prompt": ("dpm", "simple"),
            "branches": ("single", "dual"),
            "norm": ("vgnorm", "vgnorm_released", "layer", "batch", "graph"),
            "wiring": ("figure5", "released"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise RecipeError(f"ModelConfig.{name}: found {getattr(self, name)!r}, expected one of {values}")
        sizes = ("actions", "objects", "relations", "frames", "slots", "width", "heads", "layers", "depth",
                 "candidates")  # fmt: skip
        for name in sizes:
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise RecipeError(f"ModelConfig.{name}: found {getattr(self, name)!r}, expected at least 1")
        if not 0 < self.feature_scale <= 1e6:  # far more than any use of it, and a number in single precision
            raise RecipeError(f"ModelConfig.feature_scale: found {self.feature_scale}, expected a number in (0, 1e6]")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"ModelConfig.dropout: found {self.dropout}, expected 0 <= dropout < 1")
        if self.width % self.heads:
            raise RecipeError(f"ModelConfig.width: found {self.width}, expected a multiple of heads = {self.heads}")
