"""Roofline and cost curves: what a training step moves, and how its time grows with the size of its batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from benchmarks.cases import Row, make_steps
from benchmarks.flops import training_flops
from benchmarks.measure import side_by_side
from benchmarks.traffic import traffic
from benchmarks.workload import SPECIFICATIONS, Workload, config_of
from proda_lib.models.config import ModelConfig

KINDS = ("ours", "fair", "reference")
#: What is varied, each alone, the rest as in the sparse workload. "objects": so many in every frame, of nine slots;
#: "slots": person, and objects that may be absent; "labels": L of each video, and all 2L + 1 specifications they give.
AXES: dict[str, tuple[int, ...]] = {
    "frames": (4, 8, 16, 32),
    "objects": (1, 2, 3, 5, 7, 9),
    "slots": (5, 7, 10, 15),
    "labels": (1, 2, 4, 7),
    "videos": (1, 2, 4, 8),
}
#: Row of the table → the roofline's points that take their seconds from it: model → column.
TIMED = {
    "train_step_sparse": {"ours": "ours", "reference": "reference"},
    "train_step_sparse_fair": {"fair": "reference"},
}


def workload(axis: str, value: int, device: str = "cpu") -> Workload:
    """The sparse workload with one thing changed."""
    if axis == "objects":
        return Workload.make(value, device)
    changed = {"labels": value, "specifications": 2 * value + 1} if axis == "labels" else {axis: value}
    return Workload.make("sparse", device, **changed)


def curves(
    config: ModelConfig, device: str = "cpu", axes: dict[str, Sequence[int]] = AXES, repeats: int = 3,
    budget: float = 6.0, tell: Callable[[str], object] = lambda text: None,
) -> list[dict[str, object]]:  # fmt: skip
    """Seconds of a training step of the library and of both yardsticks, a row for each point of each axis.

    One model serves all points, so ``config.frames`` must be the most frames of all.

    Args:
        repeats, budget: at most so many timings of each call, in about so many seconds; one at least.
        tell: is told which point is measured.
    """
    points = {f"{axis}-{value}": (axis, value) for axis, values in axes.items() for value in values}
    work = {name: workload(*point, device) for name, point in points.items()}
    calls, clear = make_steps(config, device, work, {f"{kind}_{name}" for kind in KINDS for name in points})
    rows = []
    for name, (axis, value) in points.items():
        tell(f"{axis} = {value}")
        own = {kind: calls[f"{kind}_{name}"] for kind in KINDS}
        samples = side_by_side(own, repeats, 1, budget, device, clear)
        rows.append({"axis": axis, "value": value, **{k: s.median for k, s in samples.items()}, "unit": "s"})
    return rows


def rooflines(width: int, rows: Sequence[Row], device: str = "cpu", config: ModelConfig | None = None) -> list[dict]:
    """FLOPs and bytes of a sparse training step of each model, with its seconds from the table's rows.

    ``flops`` are those of the products that are made, needed or not; ``useful_flops`` those of what exists, each once.
    A model whose row was not measured has no point.
    """
    config = config or config_of(width)
    measured = {row.name: row for row in rows if row.ours is not None}
    seconds = {
        kind: getattr(measured[f"{name}@d{width}"], side)
        for name, kinds in TIMED.items() if f"{name}@d{width}" in measured for kind, side in kinds.items()
    }  # fmt: skip
    if not seconds:
        return []
    work = Workload.make("sparse", device)
    calls, clear = make_steps(config, device, {"sparse": work}, {f"{kind}_sparse" for kind in seconds})
    useful, found = training_flops(config, work.graphs, SPECIFICATIONS), []
    for kind in (kind for kind in KINDS if kind in seconds):
        clear()
        seen = traffic(calls[f"{kind}_sparse"])
        found.append({"name": f"{kind}@d{width}", "flops": seen.flops, "useful_flops": useful, "bytes": seen.bytes,
                      "seconds": seconds[kind]})  # fmt: skip
    return found


def timed_again(point: dict, rows: Sequence[dict]) -> dict:
    """A point of a roofline with the seconds, and the commit, of the row that it takes them from, if that is there."""
    kind, _, width = point["name"].partition("@")
    rows = {row["name"]: row for row in rows}
    for name, kinds in TIMED.items():
        if kind in kinds and (row := rows.get(f"{name}@{width}")):
            return {**point, "seconds": row[kinds[kind]], "commit": row["commit"]}
    return point


def curve_config(width: int = 256) -> ModelConfig:
    """The model of :data:`AXES`: that of the table, with room for the most frames."""
    return dataclasses.replace(config_of(width), frames=max(AXES["frames"]))
