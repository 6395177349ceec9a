"""Localisation in a run's record, 25 points of every video among it, and what the page makes of records."""

import dataclasses

import numpy as np
import pytest

from proda_lib.evaluation import charades
from proda_lib.evaluation.localization import THRESHOLDS, FrameScores, hit_rates
from proda_lib.evaluation.localization_map import at_every_point, between_frames, point_map, point_scores, point_times
from proda_lib.evaluation.localization_record import (
    hit_summary,
    map_summary,
    not_measurable,
    of_any_question,
    of_any_video,
    variation,
)
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
    of_place = {name: np.tile(s.mean((0, 1)), (len(graphs), C, 1)) for name, s in frames.items()}
    for key, scores in (("s", frames), ("any_video", of_place)):
        expected = [point_map(graphs, point_scores(graphs, video[f"{name}/a_s"], s)) for name, s in scores.items()]
        assert found["map"]["partition"][key] == pytest.approx(np.mean(expected))
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


def test_controls_know_less_than_s():
    """Without the question all rows of a video find the same frames; without the video all rows of a fold do."""
    scores = random_scores()
    question, video = of_any_question(scores), of_any_video(scores)
    assert any(len(entry.actions) > 1 for entry in scores)
    everything = np.mean([row for entry in scores for row in entry.s], axis=0)
    for own, one, other in zip(scores, question, video, strict=True):
        for row in range(len(own.actions)):
            np.testing.assert_allclose(one.s[row], sum(own.s) / len(own.s), rtol=1e-6)
            np.testing.assert_allclose(other.s[row], everything, rtol=1e-6)
    found = hit_summary([scores])
    assert found["any_question"]["0.5"]["0.2"] == hit_rates(question).model[1, 0]
    assert found["any_video"]["0.5"]["0.2"] == hit_rates(video).model[1, 0]
    of_folds = hit_summary([scores[:3], scores[3:]])["any_video"]  # each fold's model has its own mean
    both = hit_rates([*of_any_video(scores[:3]), *of_any_video(scores[3:])])
    assert of_folds["0.7"]["0.5"] == both.model[2, 1]


def test_variation_is_split_into_place_video_and_question():
    graph, rng = make_graph(0), np.random.default_rng(0)
    one, two = np.zeros(1, int), np.zeros(2, int)

    def scores(*s) -> list[FrameScores]:
        return [FrameScores(graph, two if len(rows) > 1 else one, np.array(rows), np.zeros(len(rows))) for rows in s]

    # about their means: rows (1, −1), (1, −1) of one video, twice (−1, 1) of another; the third has one question
    found = variation([scores([[2.0, 0.0], [1.0, -1.0]], [[0.0, 2.0], [0.0, 2.0]], [[9.0, 0.0]])])
    assert found == pytest.approx({"place": 0, "video": 100, "question": 0})
    assert variation([scores([[2.0, 0.0], [1.0, 1.0]])]) == pytest.approx({"place": 50, "video": -50, "question": 100})
    same = [[0.0, 1.0, 2.0]] * 2
    assert variation([scores(same, same), scores(same)]) == pytest.approx({"place": 100, "video": 0, "question": 0})
    assert variation([scores([[1.0, 1.0], [3.0, 3.0]], [[0.0, 5.0]])]) == {"place": 0, "video": 0, "question": 0}
    noise = variation([scores(*rng.random((2000, 2, 4)))])  # it depends on the question alone
    assert noise == pytest.approx({"place": 0, "video": 0, "question": 100}, abs=3)


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
    assert points["a_s · s of any class, partition"].values == (found["map"]["partition"]["any_class"],)
    assert not any("scan" in line for line in points.index)
    ours = np.array([[found["distractor"]["hit"][a][b] for b in page.NAMES] for a in page.NAMES])
    every = np.array([found["distractor"]["hit"]["every_frame"][t] for t in page.NAMES])
    sentence = f"Table 8, hit rate: in {(ours > every).sum()} of 9 cells the frame scores are above marking every frame"
    assert sentence in str(page.findings(runs))
    less = page.margins_table(runs).frame.loc["Table 9, θ = 0.5"]
    assert less["control", "any video"].values == (found["non_distractor"]["any_video"]["0.5"]["mean"],)
    shares = found["distractor"]["variation"]
    assert f"to {shares['question']:.1f} % of the question" in str(page.findings(runs))
