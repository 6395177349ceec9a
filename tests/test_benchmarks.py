"""The yardsticks of ``benchmarks/`` give the library's numbers: forward, losses, gradients and training."""

import copy
import dataclasses
import functools
import json
import platform
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as command
from benchmarks import cases, measure
from benchmarks.cases import ratio_row
from benchmarks.dense import DenseBatch
from benchmarks.flops import Counts, forward_flops, training_flops
from benchmarks.measure import Sample, peak_memory, python, seconds, side_by_side, turns
from benchmarks.reference_model import FairProDA, ReferenceProDA, losses
from benchmarks.weights import from_library, to_library
from benchmarks.workload import (
    BEST,
    TrainStep,
    Workload,
    compile_parts,
    config_of,
    make_video,
    scan_bf16,
    scan_fair,
    scan_library,
    scan_reference,
    scan_two_step,
    trim,
)
from proda_lib.batch import collate
from proda_lib.models.proda import ProDA
from proda_lib.training.data import Rows
from proda_lib.training.loop import make_optimizer
from proda_lib.training.recipe import Recipe
from proda_lib.training.stages import pretrain_losses
from tests.graphs import add_empty_slots, double, make_graph, make_graphs, randomize
from tests.test_models import CONFIG, RELEASED_MODEL, ROW_VIDEO, SAP

SLOTS = 6
VARIANTS = {"paper": {}, "dual": {"branches": "dual"}, "simple": {"prompt": "simple"}, "visual": {"visual": 3},
            "dual simple": {"branches": "dual", "prompt": "simple"}}  # fmt: skip
KINDS = pytest.mark.parametrize("kind", [ReferenceProDA, FairProDA])
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)
RECIPE = Recipe(margin_dis=0.0, margin_rec=0.0)  # so that both terms have a gradient


def make(variant: str):
    """A library model with random weights, and videos that differ in frames, slots and edges, one of them twice."""
    config = dataclasses.replace(CONFIG, slots=SLOTS, dropout=0.0, **VARIANTS[variant])
    graphs = make_graphs(config.visual)
    graphs[0] = add_empty_slots(graphs[0], 2)
    assert graphs[0].edges.min(0).any(), "an edge that is not of the person's star"
    return randomize(ProDA(config), scale=0.3), graphs


def heads(output, per_video: bool) -> dict[str, torch.Tensor]:
    """Logits and frame scores of all heads; a_m once per row."""
    found = {}
    for name in ("a_s", "a_u", "a_t", "a_m"):
        for part in ("logits", "s"):
            value = getattr(getattr(output, name), part)
            found[f"{name}.{part}"] = value[list(ROW_VIDEO)] if name == "a_m" and per_video else value
    return found


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@KINDS
@EVERY_VARIANT
@pytest.mark.parametrize("gradients", [True, False])  # without them, nn.MultiheadAttention takes another path
def test_forward_in_single_precision(kind, variant, gradients):
    model, graphs = make(variant)
    model = model.float()
    with torch.set_grad_enabled(gradients):
        expected = heads(model(collate(graphs), SAP, ROW_VIDEO), per_video=True)
        twin = kind.from_library(model)
        found = heads(twin(DenseBatch.of(graphs, SLOTS), SAP, ROW_VIDEO), per_video=kind is FairProDA)
        same(found, expected, 1e-5)
        asked = twin.ask(DenseBatch.of(graphs, SLOTS), SAP, ROW_VIDEO)
        same({"logits": asked.logits, "s": asked.s}, {n: expected[f"a_s.{n}"] for n in ("logits", "s")}, 1e-5)


def training_pair(kind, variant: str):
    """Library and yardstick in training mode and double precision, each with a function from no argument to losses."""
    model, graphs = make(variant)
    model = model.train()
    twin = kind.from_library(model)
    rows = Rows(double(collate(graphs)), SAP, ROW_VIDEO)
    dense = DenseBatch.of(graphs, SLOTS).to(torch.float64)

    def ours() -> dict[str, torch.Tensor]:
        return pretrain_losses(model, rows, 0.0, recipe=RECIPE, inner=model)

    def theirs() -> dict[str, torch.Tensor]:
        return losses(twin(dense, SAP, ROW_VIDEO), dense, SAP, ROW_VIDEO, RECIPE.margin_dis, RECIPE.margin_rec)

    return model, twin, ours, theirs, rows, dense


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@KINDS
@EVERY_VARIANT
def test_losses_and_gradients(kind, variant):
    model, twin, ours, theirs, *_ = training_pair(kind, variant)
    expected, found = ours(), theirs()
    same(found, expected, 1e-9)
    assert all(value > 1e-3 for value in expected.values())
    sum(expected.values()).backward()
    sum(found.values()).backward()
    expected = gradients(model)
    trained = [name for name, _ in model.named_parameters() if not name.startswith("readout_m")]
    assert sorted(expected) == sorted(trained)
    same(to_library(gradients(twin)), expected, 1e-9)
    same(to_library(twin.state_dict()), model.state_dict(), 1e-9)  # running means among them


@KINDS
@EVERY_VARIANT
def test_twenty_training_steps(kind, variant):
    model, twin, ours, theirs, rows, dense = training_pair(kind, variant)
    curves = []
    for module, terms in ((model, ours), (twin, theirs)):
        optimizer, curve = make_optimizer([module], 1e-3, 1e-3), []
        for _ in range(20):
            optimizer.zero_grad()
            loss = torch.stack(list(terms().values())).sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimizer.step()
            curve.append(loss.detach())
        curves.append(torch.stack(curve))
    same({"loss": curves[1]}, {"loss": curves[0]}, 1e-9)
    assert curves[0][-1] < curves[0][0] - 0.1
    model.eval(), twin.eval()
    expected = heads(model(rows.batch, SAP, ROW_VIDEO), per_video=True)
    same(heads(twin(dense, SAP, ROW_VIDEO), per_video=kind is FairProDA), expected, 1e-9)


@KINDS
def test_padding_and_videos_without_nodes_or_edges(kind):
    """More slots than any video has, a video without edges, one in which nothing is ever present."""
    model, graphs = make("paper")
    graphs += [make_graph(4, edges=0), make_graph(5, absent=(0, 1, 2, 3))]
    sap, row_video = torch.cat([SAP, SAP[:2]]), (*ROW_VIDEO, 3, 4)
    expected = model(double(collate(graphs)), sap, row_video)
    found = kind.from_library(model)(DenseBatch.of(graphs, 9).to(torch.float64), sap, row_video)
    for name in ("a_s", "a_u", "a_t"):
        for part in ("logits", "s"):
            torch.testing.assert_close(
                getattr(getattr(found, name), part), getattr(getattr(expected, name), part), atol=1e-9, rtol=0
            )


def test_names_go_to_the_yardstick_and_back():
    model, _ = make("dual")
    state = model.state_dict()
    there = from_library(state)
    assert set(there) == set(ReferenceProDA(model.config).state_dict()) != set(state)
    back = to_library(there)
    assert list(sorted(back)) == list(sorted(state)) and all(torch.equal(back[name], state[name]) for name in state)


def test_the_yardstick_refuses_what_it_does_not_know():
    model = ProDA(dataclasses.replace(CONFIG, **RELEASED_MODEL))
    with pytest.raises(ValueError, match="norm, wiring, fusion_mlp"):
        ReferenceProDA.from_library(model)


# --- what is timed, and what is counted ---------------------------------------------------------------------------


def test_the_workload_has_the_sparsity_it_claims():
    sparse = [make_video(seed, "sparse") for seed in range(4)]
    for video in sparse:
        assert video.num_slots == 10 and video.num_frames == 16 and video.num_edges == 18
        assert video.present[:, 0].all() and video.present[:, 1:].sum() == 2 * 16
        assert video.present.any(0).sum() == 5 and len(set(video.classes.tolist())) == 10
        np.testing.assert_array_equal(video.relations[:, :9], video.relations[:, 9:])  # a pair shares its relations
    assert make_video(0, "dense").present.all()
    work = Workload.make("sparse")
    assert work.rows.sap.shape == (16, 157) and work.rows.row_video == (0,) * 4 + (1,) * 4 + (2,) * 4 + (3,) * 4
    assert not torch.equal(work.rows.sap[0], work.rows.sap[1])


@KINDS
def test_a_benchmark_step_lowers_the_loss_as_the_librarys_does(kind):
    """The steps that are timed, both sides, on the workload that is timed (a narrow model, no dropout)."""
    torch.manual_seed(0)
    config = dataclasses.replace(config_of(16), heads=2, layers=1, depth=1, dropout=0.0)
    model = ProDA(config).double()
    work = Workload.make("sparse", videos=2, specifications=2)
    batch = dataclasses.replace(work.rows, batch=double(work.rows.batch))
    work = dataclasses.replace(work, rows=batch, dense=work.dense.to(torch.float64))
    steps = [TrainStep(kind.from_library(model)), TrainStep(model)]
    curves = [[], []]
    for step, curve in zip(steps, curves, strict=True):
        for _ in range(5):
            curve.append(sum(step.losses(work).values()).item())
            step(work)
    np.testing.assert_allclose(curves[0], curves[1], atol=1e-9)
    assert curves[0][-1] < curves[0][0]


@KINDS
def test_a_trimmed_batch_has_the_same_losses(kind):
    torch.manual_seed(0)
    model = ProDA(dataclasses.replace(config_of(16), heads=2, layers=1, depth=1, dropout=0.0)).double()
    work = Workload.make("sparse", videos=2, specifications=2).trimmed()
    assert work.dense.mask.shape == (2, 16, 5) and work.dense.edges.shape == (2, 2, 8)
    rows = dataclasses.replace(work.rows, batch=double(work.rows.batch))
    work = dataclasses.replace(work, rows=rows, dense=work.dense.to(torch.float64))
    yardstick = TrainStep(kind.from_library(model))
    same(yardstick.losses(work), TrainStep(model).losses(work), 1e-9)


def test_all_scans_give_the_same_answers():
    torch.manual_seed(0)
    config = dataclasses.replace(config_of(16), heads=2, layers=1, depth=1)
    model = ProDA(config).double().eval()
    work = Workload.make("sparse", videos=1, specifications=1)
    work = dataclasses.replace(work, rows=dataclasses.replace(work.rows, batch=double(work.rows.batch)),
                               dense=work.dense.to(torch.float64))  # fmt: skip
    actions = [3, 0, 156, *range(20, 37)]
    expected = scan_library(model, work, actions)
    assert expected.shape == (20,)
    for kind, run in ((ReferenceProDA, scan_reference), (FairProDA, scan_fair)):
        found = run(kind.from_library(model), work, actions)
        torch.testing.assert_close(found[torch.arange(20), actions], expected, atol=1e-9, rtol=0)
    expected, found = (run(model, work, range(157)) for run in (scan_library, scan_two_step))
    asked = found.isfinite()
    assert asked.sum() == BEST
    torch.testing.assert_close(found[asked], expected[asked], atol=1e-9, rtol=0)


def test_a_scan_in_bf16_is_nearly_the_scan():
    torch.manual_seed(0)
    model, work = ProDA(config_of(64)).eval(), Workload.make("sparse", videos=1, specifications=1)
    expected, found = scan_library(model, work, range(157)), scan_bf16(model, work, range(157))
    error = (found.float() - expected).abs().max() / expected.std()
    assert 1e-4 < error < 0.1, "rounded, and no more than that"


def test_what_a_processor_without_bf16_was_not_asked_for_is_said(monkeypatch):
    monkeypatch.setattr(cases, "has_bf16", lambda device: False)
    plan = dataclasses.replace(cases.QUICK, repeats=1, fewest=1, questions={"ours": 2})
    (row,) = cases.scan_rows(256, plan, "cpu", {"scan_bf16@d256"})
    assert row.ours is None and row.note == cases.NO_BF16


@pytest.mark.parametrize("visual", [0, 24])
@pytest.mark.parametrize("prompt", ["dpm", "simple"])
def test_counted_operations_are_those_of_the_fair_yardstick(prompt, visual):
    """In a dense case, with layers on concatenations counted as written.

    What is left is a_m (counted by hand here), and that the yardstick projects the specification again in each of the
    four places where a prompt is added, not once.
    """
    config = dataclasses.replace(config_of(64, visual), prompt=prompt)
    work = Workload.make("dense", visual=visual)
    model = FairProDA(config).eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(work.dense, work.rows.sap, work.rows.row_video)
    with FlopCounterMode(display=False) as alone, torch.no_grad():
        model.readout_m(torch.zeros(4, 16, 10, 64), work.dense)
    counts = Counts.of(work.graphs)
    counted = sum(forward_flops(config, counts, 4, split=False).values())
    executed = counter.get_total_flops() - alone.get_total_flops()
    assert executed == pytest.approx(counted, rel=0.02)
    split = sum(forward_flops(config, counts, 4).values())
    assert 0.85 * counted < split < counted


def test_absent_nodes_are_not_counted():
    config = config_of(64)
    sparse, dense = (make_video(0, density) for density in ("sparse", "dense"))
    small = trim(sparse)
    assert training_flops(config, [small], 4) == training_flops(config, [sparse], 4)
    assert training_flops(config, [sparse, small], 4) == 2 * training_flops(config, [small], 4)
    assert training_flops(config, [sparse], 4) < 0.35 * training_flops(config, [dense], 4)


# --- measuring ----------------------------------------------------------------------------------------------------


def test_calls_take_turns_and_keep_to_their_budget(monkeypatch):
    made, clock = [], {"slow": 5.0, "fast": 0.5}
    monkeypatch.setattr(measure, "seconds", lambda call, device: clock[call()])
    calls = {name: lambda name=name: made.append(name) or name for name in clock}
    samples = side_by_side(calls, repeats=4, fewest=2, budget=6.0, clear=lambda: made.append("clear"))
    assert made == ["clear", "slow", "clear", "fast"] * 3 + ["clear", "fast"] * 2  # the first of each is not timed
    assert {name: sample.seconds for name, sample in samples.items()} == {"slow": [5.0] * 2, "fast": [0.5] * 4}
    samples = side_by_side(calls, repeats=4, fewest=2, budget=4.0)  # one slow call alone takes more
    assert [len(sample.seconds) for sample in samples.values()] == [1, 4] and samples["slow"].spread is None


def test_seconds_are_those_of_the_call():
    assert 0.05 <= seconds(lambda: time.sleep(0.05)) < 5


def test_first_calls_are_not_timed_and_memory_is_measured_in_the_first_that_is(monkeypatch):
    """Of the sides in ``peaks``, once each; the clock runs within, so it does not see what measuring takes."""
    made, cleared, timed, measured = [], [], [], []
    calls = {name: functools.partial(made.append, name) for name in "abc"}

    def watch(places: list[int], result: float):
        return lambda call, device: (places.append(len(made)), call(), result)[2]

    monkeypatch.setattr(measure, "seconds", watch(timed, 1.0))
    monkeypatch.setattr(measure, "peak_memory", watch(measured, 5))
    samples = side_by_side(calls, repeats=2, clear=lambda: cleared.append(len(made)), peaks={"b", "c"})
    assert made == [*"abc"] * 3 and cleared == list(range(9))
    assert measured == [4, 5] and timed == [3, 4, 5, 6, 7, 8]
    assert [(samples[name].peak, samples[name].seconds) for name in "abc"] == [(p, [1.0, 1.0]) for p in (None, 5, 5)]
    made.clear()
    timed.clear()
    side_by_side(calls, repeats=1, warm=False)
    assert made == [*"abc"] and timed == [0, 1, 2]


@pytest.mark.parametrize("one, expected", [(1.0, 5), (3.0, 3), (7.0, 2), (10.0, 2), (10.1, 1)])
def test_how_often_a_call_is_timed(one, expected):
    assert turns(one, repeats=5, fewest=2, budget=10.0) == expected


def test_spread_and_ratio():
    ours, reference = Sample([2.0, 1.0, 4.0, 3.0]), Sample([10.0, 10.0])
    assert ours.median == 2.5 and ours.spread == pytest.approx(0.6) and reference.spread == 0
    row = ratio_row("name", "size", reference, ours, (2.0, 1.0), "")
    assert (row.reference, row.ours, row.ratio, row.spread, row.repeats) == (20, 2.5, 8, 0.6, (2, 4))
    for pair in ((Sample([10.0]), ours), (ours, Sample([10.0]))):
        assert ratio_row("name", "size", *pair).spread is None  # not that of the other side


def test_peak_memory_is_what_a_call_holds_at_once():
    def hold(megabytes: int) -> None:
        for _ in range(3):
            torch.ones(megabytes * 2**18)  # float32; freed before the next

    kept = torch.ones(2**20, requires_grad=True)
    assert [peak_memory(functools.partial(hold, m)) / 2**20 for m in (64, 192, 8)] == [64, 192, 8]
    assert peak_memory(lambda: [hold(8), torch.ones(2**18), hold(16)]) / 2**20 == 17
    backward = peak_memory(lambda: (2 * kept).sum().backward())  # the product is freed before its gradient is made
    assert 0 <= backward - kept.nbytes < 1000 and kept.grad is not None
    assert peak_memory(lambda: setattr(kept, "grad", None)) == 0, "what was there before is not counted"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only of glibc can be asked that it keeps freed memory")
def test_fetched_memory_is_there_for_the_first_call():
    script = """
        import resource, torch
        from benchmarks.measure import fetch_memory
        from proda_lib.memory import keep_freed_memory

        assert keep_freed_memory()
        fetch_memory(FETCHED)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        [torch.ones(10, 2**18) for _ in range(30)]  # 300 MiB at once
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    without, fetched = (int(python(textwrap.dedent(script).replace("FETCHED", n))) for n in ("0", "400 * 2**20"))
    assert without > 300 * 200 and fetched < without / 10  # pages of 4 KiB, 256 of a MiB


def test_the_command_writes_every_row(monkeypatch, tmp_path, capsys):
    """All rows of a width, with a narrow model in its place."""
    narrow = dataclasses.replace(config_of(16), layers=1, depth=1)
    monkeypatch.setattr(cases, "config_of", lambda width: narrow)
    monkeypatch.setitem(cases.HEAP, 256, 2**26)  # a narrow model needs no gigabytes
    for module in (cases, command):
        monkeypatch.setattr(module, "matmul_rate", lambda *arguments: 1e12)
    monkeypatch.setattr(command, "QUICK", dataclasses.replace(cases.QUICK, repeats=2, seconds={256: 600.0}))
    monkeypatch.setattr(
        sys, "argv", ["benchmarks", "--quick", "--only", "*@d256", "--json", str(tmp_path / "found.json")]
    )
    command.main()
    written = json.loads((tmp_path / "found.json").read_text())
    assert [row["name"] for row in written["rows"]] == [name for name in cases.QUICK_NAMES if name.endswith("@d256")]
    assert written["roofline"] == written["curves"] == []  # only without --quick
    assert written["machine"]["matmul_gflop_per_s"] == 1000 and written["machine"]["date"]
    printed = capsys.readouterr().out
    for row in written["rows"]:
        assert row["name"] in printed
        assert set(row["repeats"]) <= {2}
        if row["name"].startswith("matmul_fraction"):
            assert row["reference"] == 1 and row["ratio"] == pytest.approx(row["ours"])
        else:
            assert row["ratio"] == pytest.approx(row["reference"] / row["ours"])
            assert min(row["reference"], row["ours"]) > 0
    assert written["machine"]["torch"] == torch.__version__ and str(Path.home()) not in json.dumps(written)


def test_quick_has_both_yardsticks():
    quick = command.choose("*", quick=True)
    compared = ("train_step_sparse", "train_step_dense", "peak_memory", "scan", "matmul_fraction")
    assert {f"{name}@d{width}" for name in compared for width in cases.WIDTHS} <= quick
    assert {"train_step_sparse_fair@d256", "train_step_dense_fair@d256", "scan_fair@d256"} <= quick
    assert not [name for name in quick if "trimmed" in name], "it would take more than three minutes"
    said = command.left_out()
    assert "train_step_sparse_fair@d768, " in said and "train_step_recompute, " in said and "scan@" not in said


@pytest.fixture
def recorded() -> dict[str, dict]:
    """Rows of the committed record."""
    path = Path(__file__).parents[1] / "results/benchmarks/cpu.json"
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def planned(plan: cases.Plan, wanted: set[str], rows: dict[str, dict]) -> dict[str, float]:
    """Call → seconds under a plan, calls that are not timed included, if one takes what the rows of a record say."""
    costs = {}
    for width in cases.WIDTHS:
        steps = dict.fromkeys(cases.step_calls(width, plan, wanted).values(), 1.0)
        scans = {call: n / cases.ACTIONS for call, n in cases.scan_calls(width, plan, wanted).items()}
        for group, shares in ((cases.STEPS, steps), (cases.SCANS, scans)):
            for name, compared in group.items():
                row = rows.get(f"{name}@d{width}")
                if len(compared) == 1 or name.startswith("peak_memory") or not row or row["ours"] is None:
                    continue
                for call, side in zip(compared, ("reference", "ours"), strict=True):
                    if call in shares:
                        one = row[side] * shares[call]
                        warm = plan.warm or group is cases.SCANS
                        times = warm + turns(one, plan.repeats, plan.fewest, plan.seconds[width])
                        costs[f"{name.split('_')[0]} {call}@d{width}"] = one * times
    return costs


def test_quick_fits_into_three_minutes_on_the_recorded_machine(recorded):
    """By the seconds of the committed record, its calls leave a minute to start, build models and fetch memory."""
    wanted = command.choose("*", quick=True)
    costs = planned(cases.QUICK, wanted, recorded)
    made = sum(len(set(cases.step_calls(width, cases.QUICK, wanted).values()))
               + len(cases.scan_calls(width, cases.QUICK, wanted)) for width in cases.WIDTHS)  # fmt: skip
    assert len(costs) == made > 8
    assert sum(costs.values()) < 120, costs


def test_the_full_plan_times_every_step_three_times(recorded):
    plan = cases.FULL
    for name, row in recorded.items():
        if name.startswith("train_step") and row["ours"] is not None:  # None: only a GPU measures it
            budget = plan.seconds[int(name.split("@d")[1])]
            for side in ("reference", "ours"):
                assert turns(row[side], plan.repeats, plan.fewest, budget) >= 3, name


NARROW = dataclasses.replace(config_of(16), heads=2, layers=1, depth=1)


def test_recomputing_steps_share_parameters_and_optimiser():
    work = {"sparse": Workload.make("sparse", videos=1, specifications=1)}
    calls, _ = cases.make_steps(NARROW, "cpu", work, {"ours_sparse", "recompute_sparse"})
    ours, again = (calls[name].func for name in ("ours_sparse", "recompute_sparse"))
    assert again.model.config.recompute and not ours.model.config.recompute and again.optimizer is ours.optimizer
    assert all(a is b for a, b in zip(ours.model.parameters(), again.model.parameters(), strict=True))


def test_compiled_parts_give_the_same_losses_and_are_captured_once_for_batches_of_any_size():
    """Graphs run as they were captured: what a compiler makes of them is its own affair."""
    torch.manual_seed(0)
    ours, counter = TrainStep(ProDA(NARROW)), torch._dynamo.testing.CompileCounter()
    compiled = copy.deepcopy(ours)
    compile_parts(compiled.model, counter)
    captured = []
    for density in ("sparse", "dense", 3, 5):
        work, found = Workload.make(density, videos=3 if density == "sparse" else 2, specifications=2), []
        for step in (ours, compiled):
            torch.manual_seed(0)  # of dropout
            found.append(step.losses(work))
        torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-6)
        captured.append(counter.frame_count)
    assert captured[0] > 0 and captured[-1] == captured[1], "a new size is no new graph"


def test_compiled_steps_are_for_gpus():
    (row,) = cases.step_rows(256, cases.QUICK, "cpu", {"train_step_compiled@d256"})
    assert row.ours is None and row.note == cases.FOR_GPUS


def test_only_names_rows_that_exist(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "train_step"])
    with pytest.raises(SystemExit):
        command.main()
    assert "train_step_sparse@d768" in capsys.readouterr().err
