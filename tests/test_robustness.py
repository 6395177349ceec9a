"""Tables 6 and 7 against plain loops, and by hand where the answer is plain; what the page makes of records."""

import dataclasses

import numpy as np
import pytest

from proda_lib.datasets.world import WorldConfig, make_videos
from proda_lib.evaluation.charades import mean_average_precision
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.prompt_only import frequency_rule_scores
from proda_lib.evaluation.protocols import PaperProtocol, evaluation_rows
from proda_lib.evaluation.robustness import KINDS, robustness
from proda_lib.pages import robustness as page
from proda_lib.plotting.robustness import cells
from proda_lib.training.recipe import make_recipe
from proda_lib.training.runs import Run
from tests import reference

RECIPE = make_recipe("smoke")


@pytest.fixture(scope="module")
def graphs():
    return make_videos(WorldConfig(), "test", 24)


def random_rows(graphs, recipe=RECIPE, seed=0) -> PaperProtocol:
    video, sap, distractor = evaluation_rows(graphs, recipe)
    labels = np.stack([g.multi_hot() for g in graphs])
    rng = np.random.default_rng(seed)
    rows, C = sap.shape
    return PaperProtocol(video, sap, distractor, labels[video], rng.normal(size=(rows, C + 1)).round(1),
                         np.zeros((rows, C + 1)), rng.normal(size=(rows, C)), np.zeros((len(graphs), C)))  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"absent_row": True}, {"spec_length": 4}], ids=["paper", "absent row", "K=4"])
def test_cells_equal_their_twin(graphs, changes):
    rows = random_rows(graphs, dataclasses.replace(RECIPE, **changes))
    found = robustness(rows)
    for kind, distractor in (("distractor", True), ("non_distractor", False)):
        expected = reference.robustness(rows.a_s, rows.sap, rows.labels, rows.distractor == distractor)
        assert {int(L) for L in found[kind]} == {L for L, _ in expected}
        for L, line in found[kind].items():
            values = {i: value for (count, i), value in expected.items() if count == int(L)}
            assert {int(i) for i in line if i not in ("mean", "sd")} == set(values)
            for i, value in values.items():
                assert line[str(i)] == pytest.approx(value, abs=1e-9)
            assert line["mean"] == pytest.approx(sum(values.values()) / len(values), abs=1e-9)
            assert line["sd"] == pytest.approx(np.std(list(values.values())), abs=1e-9)


def test_all_labels_are_counted_and_none_is_left_out(graphs):
    found, counts = robustness(random_rows(graphs)), [len(g.labels) for g in graphs]
    assert found["videos"] == {str(L): counts.count(L) for L in sorted(set(counts))}
    for kind in KINDS:
        assert [*found[kind]] == [str(L) for L in sorted(set(counts))]
        for L, line in found[kind].items():  # i = 1..L, none of them 0: K is above every L here
            assert [*line] == [*(str(i + 1) for i in range(int(L))), "mean", "sd"]


def test_no_action_counts_for_nothing(graphs):
    rows = random_rows(graphs)
    found = robustness(rows)
    inside = rows.labels & rows.sap
    for L, line in found["distractor"].items():
        for i in set(line) - {"mean", "sd"}:
            chosen = rows.distractor & (rows.labels.sum(1) == int(L)) & (inside.sum(1) == int(i))
            truth = np.c_[inside[chosen], ~inside[chosen].any(1)]
            assert line[i] == 100 * mean_average_precision(rows.a_s[chosen], truth, "skip").map


def test_a_cell_is_the_mean_over_the_folds_that_have_it(graphs):
    parts = [random_rows(graphs[:10], seed=1), random_rows(graphs[10:], seed=2)]
    found, alone = robustness(*parts), [robustness(part) for part in parts]
    assert sum(found["videos"].values()) == len(graphs)
    for kind in KINDS:
        assert set(found[kind]) == set(alone[0][kind]) | set(alone[1][kind])
        for L, line in found[kind].items():
            cells = {i for i in line if i not in ("mean", "sd")}
            for i in cells:
                each = [fold[kind][L][i] for fold in alone if i in fold[kind].get(L, {})]
                assert line[i] == pytest.approx(np.mean(each), abs=1e-9)
            assert line["mean"] == pytest.approx(np.mean([line[i] for i in cells]), abs=1e-9)


def test_videos_without_labels_have_no_line(graphs):
    none = dataclasses.replace(graphs[0], labels=np.zeros(0, dtype=int), segment_labels=np.zeros(0, dtype=int),
                               segments=np.zeros((0, 2)), carriers=None)  # fmt: skip
    found = robustness(random_rows([none, *graphs[1:]]))
    assert all("0" not in lines for lines in found.values())
    assert sum(found["videos"].values()) == len(graphs) - 1


def test_a_line_of_one_cell_has_no_deviation(graphs):
    single = [dataclasses.replace(g, labels=g.labels[:1]) for g in graphs]
    found = robustness(random_rows(single))
    for kind in KINDS:
        line = found[kind]["1"]
        assert [*found[kind]] == ["1"] and line == {"1": line["1"], "mean": line["1"], "sd": 0.0}


def test_the_rule_is_perfect_without_distractors(graphs):
    found = robustness(frequency_rule_scores(graphs, graphs, RECIPE))
    values = [value for line in found["non_distractor"].values() for key, value in line.items() if key != "sd"]
    assert values == pytest.approx([100] * len(values))
    assert min(line["mean"] for line in found["distractor"].values()) < 90


# --- the page -------------------------------------------------------------------------------------------------------


def fake_runs(graphs) -> dict[str, list[Run]]:
    def run(seed, **metrics):
        record = {"recipe": {**dataclasses.asdict(RECIPE), "seed": seed}, "metrics": metrics, "data": "0",
                  "videos": [{"train": 1, "test": len(graphs)}]}  # fmt: skip
        return Run(record, None)

    made = [robustness(random_rows(graphs, seed=seed)) for seed in range(4)]
    return {"DPM": [run(s, robustness={"paper": made[s]}) for s in (0, 1)],
            "prompt_only": [run(s, robustness={"rule": made[2], "trained": made[3]}) for s in (0, 1)]}  # fmt: skip


def test_page_shows_what_the_records_hold(graphs):
    found = fake_runs(graphs)
    runs = [run.metrics["robustness"]["paper"] for run in found["DPM"]]
    frame = page.table(found, "distractor").frame
    assert [*frame.index] == sorted({L for run in runs for L in run["distractor"]}, key=int)
    assert [*page.table({"DPM": [], "prompt_only": []}, "distractor").frame.index] == [str(L) for L in range(1, 17)]
    L = [*runs[0]["distractor"]][1]
    assert frame.loc[L, ("ours", "mean")].values == tuple(run["distractor"][L]["mean"] for run in runs)
    assert frame.loc[L, ("ours", page.OVER_I)].values == tuple(run["distractor"][L]["sd"] for run in runs)
    assert frame.loc[L, ("test", "videos")].values == (runs[0]["videos"][L],)
    assert frame.loc[L, ("paper", "mean")] == paper_table("table07")[L, "a_s"]
    assert str(frame.loc["5", ("paper", page.OVER_I)]) == "4.8"
    grid = page.grid(found, "ours", "distractor")
    assert np.isnan(grid[0, 1]) and np.isfinite(grid[int(L) - 1, : int(L)]).all()
    assert grid[int(L) - 1, 0] == pytest.approx(np.mean([run["distractor"][L]["1"] for run in runs]))
    away = page.differences(found)["distractor-injected", "ours − prompt-only, trained"]
    control = found["prompt_only"][0].metrics["robustness"]["trained"]["distractor"][L]["1"]
    assert away[int(L) - 1, 0] == pytest.approx(grid[int(L) - 1, 0] - control)


def test_findings_count_the_cells(graphs):
    found = fake_runs(graphs)
    ours, control = (page.grid(found, group, "distractor") for group in ("ours", "prompt-only, trained"))
    above = int(np.nansum(ours > control))
    sentence = f"Table 7 (distractor-injected): ProDA is above the prompt-only, trained control in {above} of "
    assert sentence in str(page.findings(found))


def test_records_without_the_measure_say_so(graphs):
    found = fake_runs(graphs)
    found = {name: [Run({**run.record, "metrics": {}}, None) for run in runs] for name, runs in found.items()}
    frame = page.table(found, "non_distractor").frame
    assert {str(cell) for cell in frame["ours", "mean"]} == {"–"}
    assert "scored before" in str(page.findings(found))
    cells(page.differences(found), difference=True).canvas.draw()


def test_figure_has_a_panel_for_each_grid_on_one_scale(graphs):
    found = fake_runs(graphs)
    figure = cells(page.grids(found))
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert len(panels) == 6 and all(ax.images[0].get_clim() == (0, 100) for ax in panels)
    ours = next(ax for ax in panels if ax.get_title(loc="left") == "distractor-injected: ours")
    np.testing.assert_array_equal(ours.images[0].get_array().filled(np.nan), page.grid(found, "ours", "distractor"))
    low, high = cells(page.differences(found), difference=True).axes[0].images[0].get_clim()
    assert low == -high < 0
    figure.canvas.draw()
