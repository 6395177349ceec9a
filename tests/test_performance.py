"""What the page on performance shows: records, goals, pictures, and what it counts itself."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from proda_lib.batch import collate, collate_for
from proda_lib.datasets import world
from proda_lib.errors import DataError
from proda_lib.evaluation import cost, performance, protocols
from proda_lib.evaluation.scan import scan
from proda_lib.models.proda import ProDA
from proda_lib.plotting import performance as pictures
from proda_lib.training.recipe import make_recipe

MACHINE = {"cpu": "Processor", "threads": 2, "torch": "2", "system": "Linux", "device": "cpu", "date": "2025-01-01",
           "commit": "abc", "copy_gb_per_s": 10.0, "matmul_gflop_per_s": 100.0}  # fmt: skip


def row(name: str, ratio: float | None, ours: float = 1.0, note: str = "") -> dict:
    theirs = None if ratio is None else ratio * ours
    return {"name": name, "size": "", "unit": "s", "reference": theirs, "ours": ours, "ratio": ratio, "spread": None,
            "repeats": [1, 1], "note": note}  # fmt: skip


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(performance, "results_root", lambda: tmp_path)
    (tmp_path / "benchmarks").mkdir()
    return tmp_path / "benchmarks"


def write(folder, name: str = "cpu", **machine) -> None:
    rows = [row("train_step_sparse@d768", 3.5), row("train_step_dense@d768", 1.25), row("train_step_dense@d256", 1.5),
            row("matmul_fraction@d768", 0.7), row("cli_help", None, 0.5),
            {**row("train_step_bf16@d768", None, note="no bf16 here"), "ours": None}]  # fmt: skip
    point = {"name": "ours@d768", "flops": 4e9, "useful_flops": 2e9, "bytes": 1e9, "seconds": 0.1}
    curve = {"axis": "frames", "ours": 1.0, "fair": 2.0, "reference": 3.0, "unit": "s"}
    content = {"machine": {**MACHINE, **machine}, "rows": rows, "roofline": [point],
               "curves": [{**curve, "value": value} for value in (4, 8)]}  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_without_records_the_page_says_so(results):
    found = performance.records()
    assert found == [] and performance.state(found).count("No record") == 2
    said = performance.verdicts(found)
    assert said.count("not measured (no GPU)") == len(performance.GOALS["cuda"]) > 0
    assert said.count("not measured (no CPU)") == len(performance.GOALS["cpu"])
    assert performance.slower(found) == "Nothing is measured yet."
    for table in (performance.table(found), performance.bounds(found)):
        assert table.frame.empty and "yet" in table._repr_html_()
    for picture in (pictures.ratios, pictures.roofline, pictures.cost_curves):
        assert "yet" in picture(found).axes[0].texts[0].get_text()


def test_goals_are_compared_with_what_was_found(results):
    write(results)
    found = performance.records()
    said = performance.verdicts(found).splitlines()
    assert said[0] == "- cpu, `train_step_sparse@d768`: wanted ratio ≥ 3, found 3.5, reached."
    assert said[1].endswith("found 1.25, **missed**.")
    assert [line for line in said if "bf16" in line][0].endswith("found not measured (no bf16 here).")
    assert "- cpu, `cli_help`: wanted ours ≤ 1, found 0.5, reached." in said
    assert "- GPU, `scan@d768`: wanted ours ≤ 0.02, not measured (no GPU)." == said[-3]
    assert not [line for line in said if "no CPU" in line]
    assert "Processor, 2 threads" in performance.state(found) and "GPU is committed" in performance.state(found)
    lines = performance.table(found).frame
    assert lines.loc["train_step_dense@d768", "goal"] == "ratio ≥ 1.3" and lines.loc["cli_help", "ratio"] == "–"
    bounds = performance.bounds(found).frame.loc["ours@d768"]
    assert (bounds["useful"], bounds["products alone"], bounds["bytes alone"]) == ("50%", "40%", "100%")


def test_what_was_measured_at_another_commit_is_named(results):
    write(results)
    assert "but at commit" not in performance.state(performance.records())
    content = json.loads((results / "cpu.json").read_text())
    content["rows"][1]["commit"] = content["rows"][3]["commit"] = "later"
    content["curves"] = [{**point, "commit": "last"} for point in content["curves"]]
    (results / "cpu.json").write_text(json.dumps(content))
    (record,) = performance.records()
    assert record.later == {"later": ["train_step_dense@d768", "matmul_fraction@d768"], "last": ["curves"]}
    said = performance.state([record])
    assert "commit abc, but at commit later: 2 of 6 rows, but at commit last: curves." in said


def test_without_a_second_time_there_is_no_spread(results):
    write(results)
    (record,) = performance.records()
    for repeats, spread in (([1, 5], "–"), ([5], "2%"), ([3, 5], "2%")):
        record.rows["cli_help"] |= {"spread": 0.02, "repeats": repeats}
        assert performance.table([record]).frame.loc["cli_help", "spread"] == spread


def test_where_the_library_is_behind_is_said(results):
    write(results)
    (record,) = performance.records()
    assert performance.slower([record]) == "No measured ratio is below 1."  # shares of matrix products do not count
    record.rows["store_open"] = row("store_open", 0.25, note="reference: a small store")
    record.curves.append({"axis": "objects", "value": 9, "ours": 4.0, "fair": 3.0, "reference": 5.0})
    said = performance.slower([record]).splitlines()
    assert said[2:] == [
        "- cpu, `store_open`: 0.25 (reference: a small store).",
        "- cpu, cost curve of objects, at 9: 0.75 of the fair yardstick.",
    ]


def test_several_machines_stand_beside_each_other(results):
    write(results, "a_gpu", device="cuda", gpu="Some GPU")
    write(results)
    found = performance.records()
    assert [record.name for record in found] == ["cpu", "a_gpu"] and "No record" not in performance.state(found)
    assert "a_gpu, `train_step_sparse@d768`" in performance.verdicts(found)
    assert "(no GPU)" not in performance.verdicts(found)
    assert "a_gpu: cli_help" in performance.table(found).frame.index
    assert len(pictures.roofline(found).axes) == 2 and len(pictures.ratios(found).axes) == 4
    assert len(pictures.cost_curves(found).axes) == 12
    goals = [patch.get_width() for patch in pictures.ratios(found[:1]).axes[0].patches]
    assert goals == [3.5, 1.25, 1.5]


def test_an_axis_without_points_says_so(results):
    write(results)
    (record,) = performance.records()
    panels = dict(zip(pictures.AXES, pictures.cost_curves([record]).axes, strict=False))
    said = {axis: [text.get_text() for text in panel.texts] for axis, panel in panels.items()}
    assert said == {axis: [] if axis == "frames" else ["not measured"] for axis in pictures.AXES}
    assert panels["frames"].get_ylim()[0] > 0.5, "empty panels do not stretch the others"


def test_a_broken_record_is_named(results):
    (results / "odd.json").write_text('{"machine": {"device": "cpu"}, "rows": []}')
    with pytest.raises(DataError, match="odd.json"):
        performance.records()


def test_counts_of_a_padded_batch():
    graphs = world.make_videos(world.WorldConfig(), "test", 3)
    frame, batch = cost.occupancy(graphs, 10), collate(graphs)
    places = 3 * max(g.num_frames for g in graphs)
    assert frame.loc["nodes"].tolist()[:2] == [sum(g.present.sum() for g in graphs), 10 * places]
    assert frame.loc["whole frames"].tolist()[:2] == [batch.frame_mask.sum().item(), places]
    assert len(pictures.packed(graphs, 10).axes) == 3


def test_two_steps_with_all_actions_are_the_full_scan():
    graphs = world.make_videos(world.WorldConfig(), "test", 20)
    rng, actions = np.random.default_rng(0), len(world.VOCABULARY.actions)
    a_m, scanned = rng.normal(size=(2, 20, actions))
    truth = np.stack([g.multi_hot() for g in graphs])
    found = cost.two_step_accuracy(a_m + 9 * truth, scanned, graphs, (16, 1000))
    assert found.index.tolist() == [16, actions] and found["against the full scan"].iloc[-1] == 0
    assert found["mAP"].iloc[-1] == round(protocols.recognition(scanned, graphs), 1) < found["mAP"].iloc[0]


def test_recomputing_keeps_less_and_multiplies_more():
    graphs = world.make_videos(world.WorldConfig(), "test", 2)
    frame = cost.recompute_price(make_recipe("smoke", width=64), graphs)
    kept, made = frame.to_numpy().T
    assert kept[1] < 0.9 * kept[0] and 1.02 * made[0] < made[1] < 1.5 * made[0]


def test_a_scan_in_bf16_is_held_against_single_precision():
    recipe = make_recipe("smoke", width=64, batch_videos=2)
    torch.manual_seed(0)
    model = ProDA(recipe.model_config(world.VOCABULARY)).eval()
    graphs = world.make_videos(world.WorldConfig(), "test", 5)
    run = SimpleNamespace(model=lambda device: model, recipe=recipe)
    single = scan(model, collate_for(model, [g.sample_frames(recipe.frames) for g in graphs])).numpy()
    frame = cost.bf16_accuracy(run, graphs, single)
    assert frame.loc["single"].tolist()[:2] == [round(protocols.recognition(single, graphs), 3), 0]
    mean, sd = frame.loc["bf16"].tolist()[1:]
    assert 0 < mean < 0.2 * sd
