"""Weights and gradients between the library's names and the yardsticks'."""

from __future__ import annotations

import torch
from torch import Tensor

#: Layers that read a concatenation here, and the library's layers for its parts, in order.
PARTS = {"link.0": ("link_receiver", "link_edge", "link_sender"), "message.0": ("message_receiver", "message_edge")}
#: Ends of parameter names, here and in the library.
NAMES = {"link.2.": "link_out.", "message.2.": "message_out.", "attention.in_proj_": "qkv.",
         "attention.out_proj.": "out."}  # fmt: skip


def from_library(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters (or gradients) by the library's names → by the yardstick's names, parts joined."""
    first = {parts[0]: (whole, parts) for whole, parts in PARTS.items()}
    rest = {part for parts in PARTS.values() for part in parts[1:]}
    found = {}
    for name, value in tensors.items():
        front, layer, end = (["", *name.rsplit(".", 2)])[-3:]
        if layer in rest:
            continue
        if layer in first:
            whole, parts = first[layer]
            if end == "weight":
                value = torch.cat([tensors[f"{front}.{part}.weight"] for part in parts], 1)
            found[f"{front}.{whole}.{end}"] = value
            continue
        for here, there in NAMES.items():
            if f"{layer}.{end}".startswith(there):
                name = f"{front}.{here}{end}"
        found[name] = value
    return found


def to_library(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other way round: whole matrices are cut into the library's parts."""
    found = {}
    for name, value in tensors.items():
        whole = next((whole for whole in PARTS if f".{whole}." in name), None)
        if whole is not None:
            pieces = value.chunk(len(PARTS[whole]), 1) if name.endswith("weight") else [value]
            parts = zip(PARTS[whole], pieces, strict=False)
            found.update({name.replace(whole, part): piece for part, piece in parts})
            continue
        for here, there in NAMES.items():
            name = name.replace(f".{here}", f".{there}")
        found[name] = value
    return found
