"""Traffic of operators, roofline, cost curves, other timings, and the file that all of them go to."""

import dataclasses
import json
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as command
from benchmarks import cases, curves, others, store
from benchmarks.cases import Row
from benchmarks.flops import training_flops
from benchmarks.reference_model import FairProDA, ReferenceProDA
from benchmarks.store import STORE
from benchmarks.traffic import traffic
from benchmarks.workload import LABELS, TrainStep, Workload, config_of, make_video
from proda_lib.evaluation.performance import Record
from proda_lib.models.proda import ProDA
from proda_lib.training.recipe import make_recipe

NARROW = dataclasses.replace(config_of(16), layers=1, depth=1, frames=32)
SIDES = {"ours", "fair", "reference"}


def test_traffic_of_a_product_and_a_sum():
    a, b = torch.ones(64, 32), torch.ones(32, 16)
    seen = traffic(lambda: a @ b)
    assert seen.flops == 2 * 64 * 32 * 16 and seen.bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert seen.intensity == seen.flops / seen.bytes
    seen = traffic(lambda: a + a)
    assert seen.flops == 0 and seen.bytes == 3 * a.nbytes


def test_traffic_of_a_backward_pass():
    """d loss / d w reads x and the gradient; x needs none."""
    x, w = torch.ones(8, 4), torch.ones(4, 2, requires_grad=True)
    y = x @ w
    seen = traffic(lambda: y.backward(torch.ones(8, 2)))
    assert seen.flops == 2 * 4 * 8 * 2


@pytest.mark.parametrize("call, expected", [
    (lambda x: x.t().view(-1).detach(), 0),
    (lambda x: x.add_(1), 2 * 4096),
    (lambda x: x.zero_(), 4096),
    (lambda x: x.copy_(torch.ones(())), 2 * 4 + 4096),  # a scalar is written, read, and repeated
    (lambda x: torch.empty_like(x), 0),
    (lambda x: torch.zeros_like(x), 4096),
    (lambda x: x[:1].expand(32, 32) + 1, 128 + 4096),
    (lambda x: x.index_select(0, torch.tensor([3])), 128 + 8 + 128),
], ids=["views", "in place", "zero", "copy", "empty", "zeros", "repeated", "picked"])  # fmt: skip
def test_traffic_counts_what_is_touched(call, expected):
    x = torch.ones(32, 32).t()
    assert traffic(lambda: call(x)).bytes == expected


def test_traffic_of_training_steps():
    """The same products as PyTorch's counter; little more than the useful ones in the library, far more when dense."""
    torch.manual_seed(0)
    model, work = ProDA(NARROW), Workload.make("sparse", videos=1, specifications=2)
    useful, found = training_flops(NARROW, work.graphs, 2), []
    for each in (model, FairProDA.from_library(model), ReferenceProDA.from_library(model)):
        step = TrainStep(each)
        step(work)
        found.append(traffic(lambda step=step: step(work)))
        with FlopCounterMode(display=False) as counter:
            step(work)
        assert found[-1].flops == counter.get_total_flops()
    ours, fair, reference = found
    assert useful < ours.flops < 1.2 * useful and 2 * ours.flops < fair.flops < reference.flops
    assert ours.bytes < fair.bytes < reference.bytes


def test_one_thing_of_the_workload_changes_at_a_time():
    for frames in (4, 8, 32):
        video = make_video(1, "sparse", frames=frames)
        assert video.num_frames == frames and video.present[:, 1:].sum() == 2 * frames
    assert make_video(1, 3).present.sum(1).tolist() == [4] * 16
    assert curves.workload("slots", 15).dense.mask.shape == (4, 16, 15)
    assert curves.workload("slots", 15).rows.batch.node_counts == curves.workload("slots", 5).rows.batch.node_counts
    asked = curves.workload("labels", 2)
    assert asked.rows.sap.shape == (4 * 5, 157) and {len(graph.labels) for graph in asked.graphs} == {2}
    assert all(row.any() for row in asked.rows.sap) and max(curves.AXES["labels"]) == LABELS
    assert len(curves.workload("videos", 2).graphs) == 2
    with pytest.raises(ValueError, match="1 to 9"):
        make_video(0, 10)


def test_curves_have_a_row_for_each_point():
    axes, told = {"frames": (4, 8), "videos": (1,)}, []
    rows = curves.curves(NARROW, axes=axes, repeats=1, tell=told.append)
    assert [(row["axis"], row["value"]) for row in rows] == [(a, v) for a, values in axes.items() for v in values]
    assert all(set(row) == {"axis", "value", "unit"} | SIDES and min(row[k] for k in SIDES) > 0 for row in rows)
    assert told[1] == "frames = 8" and curves.curve_config().frames == 32 and curves.curve_config().width == 256


def test_a_roofline_takes_its_seconds_from_the_table():
    rows = [Row("train_step_sparse@d256", "", "s", 6.0, 2.0), Row("train_step_sparse_fair@d768", "", "s", 3.0, 2.0)]
    points = curves.rooflines(256, rows, config=NARROW)
    assert [(p["name"], p["seconds"]) for p in points] == [("ours@d256", 2.0), ("reference@d256", 6.0)]
    ours, reference = points
    assert ours["useful_flops"] == reference["useful_flops"] < ours["flops"] < reference["flops"]
    assert curves.rooflines(512, rows, config=NARROW) == []


def test_loading_is_held_against_a_step():
    row = others.loading_row(2, recipe=make_recipe("smoke"), batches=2)
    assert row.ratio == pytest.approx(row.reference / row.ours) and row.ours > 0 and "batches/s" in row.note
    assert row.repeats == (2, 2) and row.spread is not None


def test_loading_has_the_sizes_of_the_profile(monkeypatch):
    asked = []
    small = make_recipe("smoke", batch_videos=3, specs_per_video=2, width=24)
    monkeypatch.setattr(others, "make_recipe", lambda profile: asked.append(profile) or small)
    row = others.loading_row(1, batches=1)
    assert asked == ["reference"] and row.size == "3 videos x 2 specifications, D=24"


def test_training_in_full_is_timed_from_end_to_end():
    row = others.training_row("cpu", make_recipe("smoke", train_videos=12))
    assert row.name == "two_stage_training" and row.ours > 0
    assert row.size == "12 videos, 1 + 1 epochs, N=16, D=16, 32-true"


def test_the_world_is_timed():
    assert others.world_row(True, 1, 3).ours > 0


def test_the_whole_file(monkeypatch, tmp_path):
    """One width, a narrow model, one timing of each: every part of the file, and the page can read it."""
    for module in (cases, curves):
        monkeypatch.setattr(module, "config_of", lambda width: dataclasses.replace(NARROW, frames=16))
    for module in (cases, command):
        monkeypatch.setattr(module, "matmul_rate", lambda *arguments: 1e12)
    monkeypatch.setattr(command, "WIDTHS", (256,))
    plan = cases.Plan(1, 1, {256: 60.0}, {"reference": 1, "fair": 1, "ours": 1}, share_dense=False, warm=True)
    monkeypatch.setattr(command, "FULL", plan)
    monkeypatch.setattr(command, "curves", lambda *given, tell: curves.curves(*given, {"videos": (1,)}, 1))
    small = {
        "world_generation": lambda repeats, device: others.world_row(False, repeats, 2),
        "data_loading": lambda repeats, device: others.loading_row(1, recipe=make_recipe("smoke"), batches=1),
    }
    for name in others.OTHERS:
        monkeypatch.setitem(others.OTHERS, name, small.get(name, lambda repeats, device, n=name: Row(n, "", "s")))
    monkeypatch.setattr(others, "store_rows", lambda repeats: [Row(name, "", "s") for name in STORE])
    path = tmp_path / "new" / "machine.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--json", str(path)])
    command.main()
    written = json.loads(path.read_text())
    assert set(written) == {"machine", "rows", "roofline", "curves"}
    assert {"name", "size", "reference", "ours", "ratio", "unit", "spread"} <= set(written["rows"][0])
    last = [*others.OTHERS, *STORE]
    assert [row["name"] for row in written["rows"]][-len(last) :] == last
    assert {p["name"] for p in written["roofline"]} == {f"{side}@d256" for side in SIDES}
    assert [row["axis"] for row in written["curves"]] == ["videos"]
    record = Record.read(path)
    assert record.name == "machine" and record.rows["data_loading"]["ratio"] > 0 and record.later == {}
    for row in written["rows"]:  # each side was timed once
        if "@" in row["name"]:
            assert row["spread"] is None and set(row["repeats"]) <= {1}
    peaks = {row["name"]: row["ratio"] for row in written["rows"] if row["name"].startswith("peak_memory")}
    assert set(peaks) == {f"peak_memory{kind}@d256" for kind in ("", "_fair", "_recompute")}
    assert "full scan" in record.rows["scan_two_step@d256"]["note"]
    assert "without it" in record.rows["train_step_recompute@d256"]["note"]


def test_what_is_asked_for():
    assert command.choose("curves", quick=False) == {"curves"} and command.choose("curves", quick=True) == set()
    assert command.choose("cli_help", quick=False) == {"cli_help"}
    assert command.choose("*", quick=True) == set(cases.QUICK_NAMES)
    assert "train_step_sparse_fair@d768" in command.choose("roofline", quick=False)
    assert command.choose("two_stage*", quick=False) == set()
    assert command.choose("two_stage*", quick=False, device="cuda") == {"two_stage_training"}


def test_rows_that_were_not_asked_for_stay_in_the_file():
    machine = {"cpu": "x", "cores": 2, "threads": 2, "python": "3", "torch": "2", "device": "cpu", "commit": "aaa",
               "copy_gb_per_s": 1.0}  # fmt: skip
    old = {"machine": machine, "rows": [{"name": "a", "ours": 1}, {"name": "b", "ours": 2}],
           "roofline": [{"name": f"{kind}@d256", "seconds": 1} for kind in ("ours", "fair")],
           "curves": [{"value": 2}]}  # fmt: skip
    today = {**machine, "commit": "bbb", "copy_gb_per_s": 2.0}
    new = {"machine": today, "rows": [{"name": "b", "ours": 3}], "roofline": [{"seconds": 4}], "curves": []}
    found = command.merged(old, new)
    assert found["rows"] == [{"name": "a", "ours": 1}, {"name": "b", "ours": 3, "commit": "bbb"}]
    assert found["roofline"] == [{"seconds": 4, "commit": "bbb"}]
    assert (found["machine"], found["curves"]) == ({**machine, "copy_gb_per_s": 2.0}, [{"value": 2}])
    assert command.merged(old, {**new, "roofline": []})["machine"] == machine, "no point has new seconds"
    for other in ({"torch": "3"}, {"gpu": "another"}):
        with pytest.raises(SystemExit, match=f"another machine .{next(iter(other))} differ"):
            command.merged(old, {**new, "machine": {**machine, **other}})
    rows = [{"name": "train_step_sparse_fair@d256", "reference": 5, "ours": 6}]
    found = command.merged(old, {**new, "rows": rows, "roofline": []})
    assert found["roofline"] == [old["roofline"][0], {"name": "fair@d256", "seconds": 5, "commit": "bbb"}]
    assert found["machine"]["copy_gb_per_s"] == 2


def test_the_store_is_measured_at_any_size():
    rows = {row.name: row for row in store.store_rows(1, videos=20)}
    assert tuple(rows) == STORE and all(row.ours > 0 for row in rows.values())
    assert rows["store_read_features"].reference > 0 and rows["store_memory"].reference > 0
