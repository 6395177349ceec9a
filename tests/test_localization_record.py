"""Localisation in a run's record, 25 points of every video among it, and what the page makes of records."""

import dataclasses

import numpy as np
import pytest

from proda_lib.evaluation import charades
from proda_lib.evaluation.localization import THRESHOLDS, hit_rates
from proda_lib.evaluation.localization_map import at_every_point, between_frames, point_map, point_scores, point_times
from proda_lib.evaluation.localization_record import hit_summary, map_summary, not_measurable
from proda_lib.evaluation.papers import paper_table
from proda_lib.pages import localization as page
from proda_lib.training.recipe import make_recipe
from proda_lib.training.runs import Run
from tests import reference
from tests.graphs import C, make_graph, make_graphs
from tests.test_localization import FRAMES, random_scores

RECIPE = make_recipe("smoke")


# --- 25 points ------------------------------------------------------------------------------------------------------


def test_point_scores_equal_their_twin():
    graphs = [*make_graphs(), make_graph(7, frames=2)]  # fewer frames than N: some are sampled again
    rng = np.random.default_rng(0)
    a_s, s = rng.normal(size=(4, C)).astype(np.float32), rng.random((4, C, FRAMES)).astype(np.float32)
    found = point_scores(graphs, a_s, s)
    scaled = point_scores(graphs, a_s, s, scaled=True)
    for v, graph in enumerate(graphs):
        times = graph.sample_frames(FRAMES).times
        for c in range(C):
            for point in range(25):
                expected = reference.score_at(graph, times, a_s[v, c], s[v, c], point)
                assert found[v, point, c] == pytest.approx(expected, abs=1e-6)
                output = s[v, c] ** 2 / max(s[v, c] ** 2)
                assert scaled[v, point, c] == pytest.approx(
                    reference.score_at(graph, times, a_s[v, c], output, point), abs=1e-6)  # fmt: skip


def test_between_frames_by_hand():
    weights = between_frames(np.array([1.0, 3.0, 3.0]), np.array([0.0, 1.0, 1.5, 3.0, 9.0]))
    np.testing.assert_allclose(weights, [[1, 0, 0], [1, 0, 0], [0.75, 0.125, 0.125], [0, 0.5, 0.5], [0, 0.5, 0.5]])


def test_point_map_is_the_official_one(tmp_path):
    """The same segments as graphs and as a csv give the same mAP."""
    graphs = [make_graph(seed, segments=3) for seed in range(5)]
    graphs.append(dataclasses.replace(graphs[0], segment_labels=np.zeros(0, dtype=int), segments=np.zeros((0, 2)),
                                      labels=None, carriers=None))  # fmt: skip
    lines = ["id,actions,length"]
    for k, graph in enumerate(graphs):
        segments = zip(graph.segment_labels, graph.segments, strict=True)
        actions = ";".join(f"c{label:03d} {start!r} {end!r}" for label, (start, end) in
                           ((label, segment.tolist()) for label, segment in segments))  # fmt: skip
        lines.append(f"V{k:04d},{actions},{graph.duration!r}")
    path = tmp_path / "points.csv"
    path.write_text("\n".join(lines) + "\n")
    scores = np.random.default_rng(1).random((len(graphs), 25, charades.NUM_CLASSES)).round(1)
    official = charades.localization_map(scores, path, empty="skip")
    assert point_map(graphs, scores[..., :C]) == pytest.approx(100 * official.map, abs=1e-9)


def test_perfect_and_blind_scores():
    graphs = [make_graph(seed, segments=3) for seed in range(6)]
    truth = np.stack([graph.active(point_times(graph)) for graph in graphs])
    assert point_map(graphs, truth.astype(float)) == 100
    blind = point_map(graphs, at_every_point(np.ones((6, C))))
    assert 0 < blind < point_map(graphs, at_every_point(truth.any(1).astype(float))) < 100


# --- what a record holds, and what the page shows -------------------------------------------------------------------


def test_why_localisation_is_left_out():
    graphs = [make_graph(seed) for seed in (1, 2)]
    assert not_measurable(graphs) == {}
    untimed = [dataclasses.replace(g, segment_labels=np.zeros(0, dtype=int), segments=np.zeros((0, 2)), carriers=None)
               for g in graphs]  # fmt: skip
    assert not_measurable(untimed) == {"videos": 2, "videos with a segment": 0}
    assert not_measurable([untimed[0], graphs[1]]) == {}
    whole = [dataclasses.replace(g, segments=np.array([[0.0, g.duration]] * len(g.segments))) for g in graphs]
    assert not_measurable(whole) == {"videos": 2, "videos as long as each of their segments": 2}
    run = Run({"metrics": {"localization": {"left_out": not_measurable(untimed)}}}, None)
    assert page.left_out([run]) == "Left out: 2 videos, 0 videos with a segment."


def summary(seed: int = 0) -> dict:
    entries, rng = random_scores(), np.random.default_rng(seed)
    graphs = [entry.graph for entry in entries]
    frames = {name: rng.random((len(graphs), C, FRAMES)).astype(np.float32) for name in ("partition/0", "partition/1")}
    video = {f"{name}/a_s": rng.normal(size=(len(graphs), C)) for name in frames}
    frequency = {"frequency": np.ones((len(graphs), C))}
    found = {kind: hit_summary([rows]) for kind, rows in (("distractor", entries), ("non_distractor", entries[:6]))}
    found["map"] = map_summary(graphs, video | frequency, frames)
    expected = [point_map(graphs, point_scores(graphs, video[f"{name}/a_s"], s)) for name, s in frames.items()]
    assert found["map"]["partition"]["s"] == pytest.approx(np.mean(expected))
    return found


def test_summary_has_every_cell_and_the_margins():
    rates, found = hit_rates(random_scores()), hit_summary([random_scores()])
    names = [f"{value:g}" for value in THRESHOLDS]
    for i, theta in enumerate(names):
        assert [found["hit"][theta][t] for t in names] == rates.model[i].tolist()
        assert found["hit"][theta]["mean"] == pytest.approx(rates.model[i].mean())
    assert [found["hit"]["mean"][t] for t in names] == pytest.approx(rates.model.mean(0))
    assert [found["hit"]["every_frame"][t] for t in names] == rates.every_frame.tolist()
    assert found["rows"] == {"all": rates.rows, "classes": rates.classes, "unseen": rates.unseen}


def test_page_shows_what_the_records_hold():
    found = summary()
    record = {"recipe": dataclasses.asdict(RECIPE), "data": "0", "videos": [{"train": 1, "test": 12}],
              "metrics": {"localization": found}}  # fmt: skip
    runs = {"DPM": [Run(record, None)], "prompt_only": [Run(record, None)]}
    frame = page.hit_table(runs, "distractor").frame
    assert frame.loc["0.5", ("ours", "t = 0.2")].values == (found["distractor"]["hit"]["0.5"]["0.2"],)
    assert frame.loc["0.7", (page.CONTROL, "t = 0.5")].values == (found["distractor"]["hit"]["every_frame"]["0.5"],)
    assert frame.loc["0.2", ("paper", "t = 0.7")].values == paper_table("table08")["0.2", "0.7"].values
    assert frame.loc["0.2", ("paper", "mean")].mean == pytest.approx((77.97 + 43.68 + 26.08) / 3)
    notes = [page.hit_table(runs, "distractor", measure).note for measure in ("hit", "ranked")]
    assert ["paper's averages are recomputed from its cells" in note for note in notes] == [True, False]
    points = page.point_table(runs).frame["mAP"]
    assert points["a_s · s, partition"].values == (found["map"]["partition"]["s"],)
    assert points["class frequency at every point"].values == (found["map"]["frequency"]["without_s"],)
    assert not any("scan" in line for line in points.index)
    ours = np.array([[found["distractor"]["hit"][a][b] for b in page.NAMES] for a in page.NAMES])
    every = np.array([found["distractor"]["hit"]["every_frame"][t] for t in page.NAMES])
    sentence = f"Table 8, hit rate: in {(ours > every).sum()} of 9 cells the frame scores are above marking every frame"
    assert sentence in str(page.findings(runs))
    assert "Table 9, θ = 0.5" in page.margins(runs).index
