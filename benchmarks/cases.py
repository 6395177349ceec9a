"""The rows of the table: what is compared with what."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from benchmarks.flops import training_flops
from benchmarks.measure import Sample, has_bf16, matmul_rate, side_by_side
from benchmarks.reference_model import FairProDA, ReferenceProDA
from benchmarks.workload import (
    ACTIONS,
    FRAMES,
    SLOTS,
    SPECIFICATIONS,
    VIDEOS,
    TrainStep,
    Workload,
    config_of,
    scan_fair,
    scan_library,
    scan_reference,
)
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA

WIDTHS = (768, 256)
GIB, TERA = 2**30, 1e12


@dataclass(frozen=True)
class Row:
    """One line: ``ratio`` = reference / ours (for matmul_fraction ours / reference), larger is better."""

    name: str
    size: str
    unit: str
    reference: float | None = None
    ours: float | None = None
    ratio: float | None = None
    spread: float | None = None
    repeats: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        repeats: at most. ``step_seconds``, ``scan_seconds``: by width, shared by the calls that are compared.
        reference_questions, dense_questions, fair_questions: how many of the 157 questions are really asked.
        share_dense: one timing of a dense yardstick serves sparse and dense videos.
    """

    repeats: int
    step_seconds: dict[int, float]
    scan_seconds: dict[int, float]
    reference_questions: int
    dense_questions: int
    fair_questions: int
    share_dense: bool


QUICK = Plan(3, {768: 60.0, 256: 8.0}, {768: 8.0, 256: 3.0}, 4, 16, 16, share_dense=True)
FULL = Plan(5, {768: 480.0, 256: 90.0}, {768: 240.0, 256: 60.0}, ACTIONS, ACTIONS, ACTIONS, share_dense=False)

#: Row → the two calls it compares, the yardstick first (train_step_bf16: the library in single precision);
#: matmul_fraction compares one call with the machine.
STEPS: dict[str, tuple[str, ...]] = {
    "train_step_sparse": ("reference_sparse", "ours_sparse"),
    "train_step_dense": ("reference_dense", "ours_dense"),
    "train_step_sparse_fair": ("fair_sparse", "ours_sparse"),
    "train_step_dense_fair": ("fair_dense", "ours_dense"),
    "train_step_bf16": ("ours_sparse", "bf16_sparse"),
    "peak_memory": ("reference_sparse", "ours_sparse"),
    "peak_memory_fair": ("fair_sparse", "ours_sparse"),
    "matmul_fraction": ("ours_sparse",),
    "matmul_fraction_dense": ("ours_dense",),
    "matmul_fraction_bf16": ("bf16_sparse",),
}
SCANS: dict[str, tuple[str, str]] = {
    "scan": ("reference_sparse", "ours_sparse"),
    "scan_dense": ("reference_dense", "ours_dense"),
    "scan_fair": ("fair_sparse", "ours_fair"),
}
NAMES = tuple(f"{name}@d{width}" for width in WIDTHS for name in (*STEPS, *SCANS))
#: With --quick: all but the fair yardstick's steps at D = 768, which alone take half a minute.
QUICK_NAMES = tuple(name for name in NAMES if not name.endswith("_fair@d768") or name.startswith("scan"))


def ratio_row(name: str, size: str, reference: Sample, ours: Sample, scales: tuple[float, float], note: str) -> Row:
    """Seconds of both sides, each times its scale. The spread is the larger of the two sides'."""
    theirs, mine = reference.median * scales[0], ours.median * scales[1]
    spreads = [s for s in (reference.spread, ours.spread) if s is not None]
    repeats = (len(reference.seconds), len(ours.seconds))
    return Row(name, size, "s", theirs, mine, theirs / mine, max(spreads, default=None), repeats, note)


def step_rows(width: int, plan: Plan, device: str, wanted: Collection[str]) -> list[Row]:
    """Training steps of one width: time, peak memory, and share of the machine's matrix-product rate."""
    wanted = [name for name in STEPS if f"{name}@d{width}" in wanted]
    bf16 = has_bf16(device)
    needed = {call for name in wanted for call in STEPS[name] if bf16 or call != "bf16_sparse"}
    missing = "the processor has no bf16 matrix products (avx512_bf16, amx_bf16)"
    size = f"{VIDEOS} videos x {SPECIFICATIONS} specifications, N={FRAMES}, M={SLOTS}, D={width}"
    shared = {"reference_dense": "reference_sparse", "fair_dense": "fair_sparse"} if plan.share_dense else {}
    samples, work = {}, {density: Workload.make(density, device) for density in ("sparse", "dense")}
    if needed:
        calls, clear = make_steps(config_of(width), device, work, {shared.get(call, call) for call in needed})
        samples = side_by_side(calls, plan.repeats, plan.step_seconds[width], device, clear)
        samples |= {call: samples[other] for call, other in shared.items() if other in samples}
    rows = []
    for name in wanted:
        compared, full = STEPS[name], f"{name}@d{width}"
        if not set(compared) <= set(samples):
            rows.append(Row(full, size, "s", note=missing))
        elif name.startswith("matmul_fraction"):
            density, precision = compared[0].split("_")[1], torch.bfloat16 if "bf16" in name else torch.float32
            rows.append(fraction_row(full, size, samples[compared[0]], work[density], width, device, precision))
        elif name.startswith("peak_memory"):
            peaks = [samples[call].peak for call in compared]
            if None in peaks:
                rows.append(Row(full, size, "GiB", note="the system does not tell the peak of resident memory"))
                continue
            theirs, ours = (peak / GIB for peak in peaks)
            rows.append(
                Row(full, size, "GiB", theirs, ours, theirs / ours, note="beyond parameters and optimiser, sparse")
            )
        else:
            note = "the dense yardstick's time is that of its sparse row" if compared[0] in shared else ""
            rows.append(ratio_row(full, size, *(samples[call] for call in compared), (1.0, 1.0), note))
    return rows


def make_steps(
    config: ModelConfig, device: str, work: dict[str, Workload], needed: Collection[str]
) -> tuple[dict[str, Callable[[], None]], Callable[[], None]]:
    """Warm training steps by name, model_work as in "ours_sparse", and a function that lets go of gradients.

    The two yardsticks share parameters and optimiser, which would not fit a laptop three times.
    """
    torch.manual_seed(0)
    model = ProDA(config).to(device)
    steps = {"ours": TrainStep(model)}
    if any(call.startswith(("reference", "fair")) for call in needed):
        reference = ReferenceProDA.from_library(model)
        with torch.device("meta"):
            fair = FairProDA(model.config)
        fair.load_state_dict(reference.state_dict(keep_vars=True), assign=True)
        steps["reference"] = TrainStep(reference)
        steps["fair"] = TrainStep(fair, steps["reference"].optimizer)
    steps["bf16"] = functools.partial(steps["ours"], bf16=True)
    small = Workload.make("sparse", device, videos=1, specifications=1)
    for kind in sorted({call.split("_")[0] for call in needed}):
        steps[kind](small)  # optimiser state, and the library's first calls
    calls = {call: functools.partial(steps[call.split("_")[0]], work[call.split("_")[1]]) for call in sorted(needed)}

    def clear() -> None:
        for step in steps.values():
            if isinstance(step, TrainStep):
                step.clear()

    return calls, clear


def fraction_row(
    name: str, size: str, sample: Sample, work: Workload, width: int, device: str, dtype: torch.dtype
) -> Row:
    """Useful FLOP/s of our step as a share of the machine's own matrix products."""
    ours = training_flops(config_of(width), work.graphs, SPECIFICATIONS) / sample.median / TERA
    rate = matmul_rate(width, device, dtype) / TERA
    return Row(name, size, "TFLOP/s", rate, ours, ours / rate, sample.spread, (len(sample.seconds),))


def scan_rows(width: int, plan: Plan, device: str, wanted: Collection[str]) -> list[Row]:
    """All 157 actions of one video asked alone, a_s only: SAP branch, evaluation mode, no gradients."""
    wanted = [name for name in SCANS if f"{name}@d{width}" in wanted]
    if not wanted:
        return []
    torch.manual_seed(0)
    model = ProDA(config_of(width)).to(device).eval()
    runs = {  # kind → scan and model
        "ours": (scan_library, model),
        "reference": (scan_reference, ReferenceProDA.from_library(model)),
        "fair": (scan_fair, FairProDA.from_library(model)),
    }
    counts = {"ours_sparse": ACTIONS, "ours_dense": plan.dense_questions, "ours_fair": plan.fair_questions,
              "fair_sparse": plan.fair_questions}  # fmt: skip
    work = {density: Workload.make(density, device, 1, 1) for density in ("sparse", "dense")}
    calls, asked = {}, {}
    for call in sorted({call for name in wanted for call in SCANS[name]}):
        kind, density = call.split("_")
        run, asking = runs[kind]
        videos = work["dense" if density == "dense" else "sparse"]
        asked[call] = counts.get(call, plan.reference_questions)
        calls[call] = functools.partial(run, asking, videos, range(asked[call]))
        run(asking, videos, range(1))  # warm
    samples = side_by_side(calls, plan.repeats, plan.scan_seconds[width], device)
    rows = []
    for name in wanted:
        theirs, ours = (asked[call] for call in SCANS[name])
        scales = (ACTIONS / theirs, ACTIONS / ours)
        note = "" if scales == (1.0, 1.0) else f"scaled from {theirs} and {ours} of {ACTIONS} questions"
        size = f"{ACTIONS} questions, 1 video, N={FRAMES}, M={SLOTS}, D={width}"
        rows.append(ratio_row(f"{name}@d{width}", size, *(samples[c] for c in SCANS[name]), scales, note))
    return rows
