"""Checkpoints that resume to bit-identical weights: one safetensors file with tensors and a JSON state.

Fabric's own checkpoints are pickles, which run code when they are opened; these are not.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from proda_lib.errors import CheckpointError
from proda_lib.files import write_atomically


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer/{index}/{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def save_checkpoint(
    path: Path, state: dict, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor] | None
) -> None:
    """Write everything that the rest of the run depends on.

    Args:
        path: file to write; it is replaced only when the new one is complete.
        state: JSON state: recipe hash, stage, epoch, step, curves and so on.
        best: weights of the best epoch so far, if any.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors.update(_optimizer_tensors(optimizer))
    tensors.update({f"best/{name}": value for name, value in (best or {}).items()})
    tensors["rng/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    data = save(tensors, {"state": json.dumps(state)})
    write_atomically(path, lambda partial: partial.write_bytes(data))


def read_checkpoint(path: Path, recipe_hash: str) -> tuple[dict, dict[str, Tensor]]:
    """State and tensors of a checkpoint.

    Raises:
        CheckpointError: the file is damaged, or belongs to another recipe.
    """
    try:
        with safe_open(path, "pt") as file:
            state = dict(json.loads(file.metadata()["state"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}; expected a checkpoint; delete it to start again") from error
    if state.get("recipe") != recipe_hash:
        raise CheckpointError(f"{path}: recipe: found {state.get('recipe')!r}, expected {recipe_hash!r}")
    kinds = {"epoch": int, "step": int, "curves": list, "best_score": float, "sums": dict, "looked": list,
             "trace": dict, "seconds": float}  # fmt: skip
    wrong = [name for name, kind in kinds.items() if type(state.get(name)) is not kind]
    if "looked" not in wrong and [type(part) for part in state["looked"]] != [int, dict]:
        wrong.append("looked")
    if wrong or min(state["epoch"], state["step"]) < 0 or state["best_score"] != state["best_score"]:
        found = f"no {', '.join(wrong)}" if wrong else "a number that cannot be"
        raise CheckpointError(f"{path}: state: found {found}; expected a checkpoint; delete it to start again")
    return state, tensors


def restore(tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor] | None:
    """Put model, optimizer and random number generators back; returns the best weights so far.

    Raises:
        CheckpointError: the tensors are not those of this model and optimizer.
    """

    def under(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    best = under("best/")
    try:
        if best:
            model.load_state_dict(best)  # they will be needed at the end: better refused now
        model.load_state_dict(under("model/"))
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in under("optimizer/").items():
            index, key = name.split("/")
            states.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
        _check_states(optimizer)
        torch.set_rng_state(tensors["rng/cpu"])
        if torch.cuda.is_available() and "rng/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng/cuda"])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        found = " ".join(str(error).splitlines()[:3])
        raise CheckpointError(f"checkpoint: {found}; expected tensors of this run; delete it to start again") from error
    return best or None


def _check_states(optimizer: torch.optim.Optimizer) -> None:
    """AdamW's state of a parameter: a step and two averages of its shape. PyTorch takes any."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if state := optimizer.state.get(parameter):
                shapes = {name: tuple(value.shape) for name, value in state.items()}
                if shapes != {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}:
                    raise ValueError(f"optimizer: found {shapes}, expected those of {tuple(parameter.shape)}")
