"""The rows of the table: what is compared with what."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from benchmarks.flops import training_flops
from benchmarks.measure import Sample, fetch_memory, has_bf16, matmul_rate, ratio_spread, side_by_side
from benchmarks.reference_model import FairProDA, ReferenceProDA
from benchmarks.workload import (
    ACTIONS,
    BEST,
    FRAMES,
    SLOTS,
    SPECIFICATIONS,
    VIDEOS,
    TrainStep,
    Workload,
    compile_parts,
    config_of,
    scan_bf16,
    scan_fair,
    scan_library,
    scan_reference,
    scan_two_step,
)
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA

WIDTHS = (768, 256)
NO_BF16 = "the processor has no bf16 matrix products (avx512_bf16, amx_bf16)"
FOR_GPUS = "measured on GPUs only: for a processor, compiling takes minutes"
GIB, TERA = 2**30, 1e12
#: What a step of the yardstick holds, by width, and some more.
HEAP = {768: 7 * GIB, 256: 5 * GIB // 2}


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
        repeats, fewest: timings of each call, see :func:`benchmarks.measure.turns`. ``seconds``: of each, by width.
        questions: kind of model → how many of the 157 questions are really asked, by default all.
        share_dense: one timing of a dense yardstick serves sparse and dense videos.
        warm: every call is made once before it is timed; else the memory that the yardstick's steps need, the most of
            all, is fetched before (on a CPU), as fetching it would make whichever call comes first slower.
    """

    repeats: int
    fewest: int
    seconds: dict[int, float]
    questions: dict[str, int]
    share_dense: bool
    warm: bool


#: The straightforward scan does the same again for every question, the others share work: 40 fit into one chunk.
QUICK = Plan(2, 2, {768: 15.0, 256: 2.0}, {"reference": 2, "fair": 40, "ours": 40}, share_dense=True, warm=False)
FULL = Plan(5, 3, {768: 90.0, 256: 15.0}, {}, share_dense=False, warm=True)

#: Row → the two calls it compares, the reference first; matmul_fraction compares one call with the machine. "trimmed":
#: the fair yardstick on a batch padded to its largest video, as a careful dense collate would, not to M slots.
STEPS: dict[str, tuple[str, ...]] = {
    "train_step_sparse": ("reference_sparse", "ours_sparse"),
    "train_step_dense": ("reference_dense", "ours_dense"),
    "train_step_sparse_fair": ("fair_sparse", "ours_sparse"),
    "train_step_dense_fair": ("fair_dense", "ours_dense"),
    "train_step_sparse_trimmed": ("fair_trimmed", "ours_sparse"),
    "train_step_bf16": ("ours_sparse", "bf16_sparse"),
    "train_step_recompute": ("ours_sparse", "recompute_sparse"),
    "train_step_compiled": ("ours_sparse", "compiled_sparse"),
    "peak_memory": ("reference_sparse", "ours_sparse"),
    "peak_memory_fair": ("fair_sparse", "ours_sparse"),
    "peak_memory_recompute": ("ours_sparse", "recompute_sparse"),
    "matmul_fraction": ("ours_sparse",),
    "matmul_fraction_dense": ("ours_dense",),
    "matmul_fraction_bf16": ("bf16_sparse",),
}
SCANS: dict[str, tuple[str, str]] = {
    "scan": ("reference_sparse", "ours_sparse"),
    "scan_dense": ("reference_dense", "ours_dense"),
    "scan_fair": ("fair_sparse", "ours_sparse"),
    "scan_two_step": ("ours_sparse", "shortened_sparse"),
    "scan_bf16": ("ours_sparse", "bf16_sparse"),
}
NAMES = tuple(f"{name}@d{width}" for width in WIDTHS for name in (*STEPS, *SCANS))
#: With --quick: five rows at both widths, and the same against the fair yardstick where its step takes seconds.
COMPARED = ("train_step_sparse", "train_step_dense", "peak_memory", "matmul_fraction", "scan")
QUICK_NAMES = tuple(name for name in NAMES if name.split("@")[0] in COMPARED or name.endswith("_fair@d256"))


def ratio_row(
    name: str, size: str, reference: Sample, ours: Sample, scales: tuple[float, float] = (1.0, 1.0), note: str = ""
) -> Row:
    """Seconds of both sides, each times its scale."""
    theirs, mine = reference.median * scales[0], ours.median * scales[1]
    repeats = (len(reference.seconds), len(ours.seconds))
    return Row(name, size, "s", theirs, mine, theirs / mine, ratio_spread(reference, ours), repeats, note)


def step_calls(width: int, plan: Plan, wanted: Collection[str]) -> dict[str, str]:
    """Call → the call that is timed for it, for the training steps that the wanted rows of a width compare."""
    shared = {"reference_dense": "reference_sparse", "fair_dense": "fair_sparse"} if plan.share_dense else {}
    needed = {call for name in STEPS if f"{name}@d{width}" in wanted for call in STEPS[name]}
    return {call: shared.get(call, call) for call in needed}


def scan_calls(width: int, plan: Plan, wanted: Collection[str]) -> dict[str, int]:
    """Call → questions, for the scans that the wanted rows of a width compare."""
    needed = {call for name in SCANS if f"{name}@d{width}" in wanted for call in SCANS[name]}
    return {call: plan.questions.get(call.split("_")[0], ACTIONS) for call in sorted(needed)}


def impossible(device: str) -> dict[str, str]:
    """Kinds of calls that are not made on this machine, and why."""
    found = {} if has_bf16(device) else {"bf16": NO_BF16}
    return found | ({"compiled": FOR_GPUS} if device == "cpu" else {})


def possible(calls: dict, device: str) -> dict:
    """Those of the calls that are made on this machine."""
    return {call: value for call, value in calls.items() if call.split("_")[0] not in impossible(device)}


def why_not(compared: Collection[str], device: str) -> str:
    """Why one of the compared calls was not made, "" if all were."""
    return "; ".join(why for kind, why in impossible(device).items() if kind in {c.split("_")[0] for c in compared})


def step_rows(width: int, plan: Plan, device: str, wanted: Collection[str]) -> list[Row]:
    """Training steps of one width: time, peak memory, and share of the machine's matrix-product rate."""
    timed = possible(step_calls(width, plan, wanted), device)
    work = {density: Workload.make(density, device) for density in ("sparse", "dense")}
    work["trimmed"] = work["sparse"].trimmed()
    samples: dict[str, Sample] = {}
    if timed:
        calls, clear = make_steps(config_of(width), device, work, set(timed.values()))
        peaks = {call for name in STEPS if name.startswith("peak_memory") and f"{name}@d{width}" in wanted
                 for call in STEPS[name]}  # fmt: skip
        warm = plan.warm or device != "cpu"
        if not warm:
            fetch_memory(HEAP[width])
        samples = side_by_side(calls, plan.repeats, plan.fewest, plan.seconds[width], device, clear, peaks, warm)
    return [step_row(name, width, timed, samples, work, device) for name in STEPS if f"{name}@d{width}" in wanted]


def step_row(
    name: str, width: int, timed: dict[str, str], samples: dict[str, Sample], work: dict[str, Workload], device: str
) -> Row:
    """The row ``name`` of :data:`STEPS` from what was measured; ``timed``: see :func:`step_calls`."""
    size = f"{VIDEOS} videos x {SPECIFICATIONS} specifications, N={FRAMES}, M={SLOTS}, D={width}"
    compared, full = STEPS[name], f"{name}@d{width}"
    if why := why_not(compared, device):
        return Row(full, size, "s", note=why)
    if name.startswith("matmul_fraction"):
        density, precision = compared[0].split("_")[1], torch.bfloat16 if "bf16" in name else torch.float32
        return fraction_row(full, size, samples[compared[0]], work[density], width, device, precision)
    reference, ours = (samples[timed[call]] for call in compared)
    notes = ["reference: the library without it"] if compared[0].startswith("ours") else []
    if name.startswith("peak_memory"):
        notes = ["beyond parameters and optimiser, sparse", *notes]
        ratio = reference.peak / ours.peak
        return Row(full, size, "GiB", reference.peak / GIB, ours.peak / GIB, ratio, note="; ".join(notes))
    if compared[0].endswith("trimmed"):
        notes.append("reference: fair, padded to the largest video of the batch")
    if timed[compared[0]] != compared[0]:
        notes.append("the dense yardstick's time is that of its sparse row")
    return ratio_row(full, size, reference, ours, (1.0, 1.0), "; ".join(notes))


def make_steps(
    config: ModelConfig, device: str, work: dict[str, Workload], needed: Collection[str]
) -> tuple[dict[str, Callable[[], None]], Callable[[], None]]:
    """Training steps by name, model_work as in "ours_sparse", and a function that lets go of gradients.

    The two yardsticks share parameters and optimiser, which would not fit a laptop three times; so do the library, the
    library with ``recompute``, and the library compiled.
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
    for kind in ("recompute", "compiled"):
        if any(call.startswith(kind) for call in needed):
            other = ProDA(dataclasses.replace(config, recompute=kind == "recompute")).to(device)
            other.load_state_dict(model.state_dict(keep_vars=True), assign=True)
            steps[kind] = TrainStep(other, steps["ours"].optimizer)
    if "compiled" in steps:
        compile_parts(steps["compiled"].model)
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
    asked = possible(scan_calls(width, plan, wanted), device)
    if not asked:
        return []
    torch.manual_seed(0)
    model = ProDA(config_of(width)).to(device).eval()
    scans = {"ours": scan_library, "shortened": scan_two_step, "bf16": scan_bf16, "reference": scan_reference,
             "fair": scan_fair}  # fmt: skip
    yardsticks = {"reference": ReferenceProDA, "fair": FairProDA}
    kinds = {call.split("_")[0] for call in asked}
    models = {kind: yardsticks[kind].from_library(model) if kind in yardsticks else model for kind in kinds}
    work = {density: Workload.make(density, device, 1, 1) for density in ("sparse", "dense")}
    calls = {}
    for call, questions in asked.items():
        kind, density = call.split("_")
        calls[call] = functools.partial(scans[kind], models[kind], work[density], range(questions))
    samples = side_by_side(calls, plan.repeats, plan.fewest, plan.seconds[width], device)
    return [scan_row(name, width, asked, samples, device) for name in SCANS if f"{name}@d{width}" in wanted]


def scan_row(name: str, width: int, asked: dict[str, int], samples: dict[str, Sample], device: str) -> Row:
    """The row ``name`` of :data:`SCANS` from what was measured; ``asked``: see :func:`scan_calls`."""
    size = f"{ACTIONS} questions, 1 video, N={FRAMES}, M={SLOTS}, D={width}"
    compared, full = SCANS[name], f"{name}@d{width}"
    if why := why_not(compared, device):
        return Row(full, size, "s", note=why)
    theirs, ours = (asked[call] for call in compared)
    scales, notes = (ACTIONS / theirs, ACTIONS / ours), []
    if compared[0].startswith("ours"):
        notes.append("reference: the full scan" + (f"; ours: {BEST} questions" if "two_step" in name else ""))
    if scales != (1.0, 1.0):
        notes.append(f"scaled from {theirs} and {ours} of {ACTIONS} questions")
    return ratio_row(full, size, *(samples[call] for call in compared), scales, "; ".join(notes))
