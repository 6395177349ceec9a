"""The audit: controls that see labels alone, their record on Charades, and the pages that show them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from proda_lib.datasets.charades import read_rows
from proda_lib.datasets.world import VOCABULARY, WorldConfig, make_videos
from proda_lib.errors import DataError
from proda_lib.evaluation import audit, prompt_only, protocols, report
from proda_lib.evaluation.grid import Recorded
from proda_lib.evaluation.papers import paper_table
from proda_lib.losses import classification_loss
from proda_lib.models.controls import PromptOnly
from proda_lib.pages import audit as page
from proda_lib.pages import checklist
from proda_lib.plotting import audit as draw
from proda_lib.plotting.robustness import cells
from proda_lib.specification import branch_targets, video_rng
from proda_lib.training.data import draw_specifications
from proda_lib.training.recipe import make_recipe
from proda_lib.training.runs import Run
from tests import reference

ROOT = Path(__file__).parents[1]
RECIPE = make_recipe("smoke", model="prompt_only")
C = len(VOCABULARY.actions)
#: Measured independently on the real labels: (control, rows, answer) → mAP in percent, and how closely it must be met.
EXPECTED = {
    ("rule", "non_distractor", "a_s"): (100.0, 1.5),
    ("rule", "non_distractor", "a_t"): (61.3, 1.5),
    ("rule", "distractor", "a_s_actions"): (28.1, 1.5),
    ("rule", "distractor", "a_t"): (19.1, 1.5),
    ("rule", "both", "a_t"): (45.8, 1.5),
    ("trained", "non_distractor", "a_s_actions"): (97.9, 2.0),
    ("trained", "non_distractor", "a_t"): (73.6, 2.0),
    ("trained", "distractor", "a_s_actions"): (62.8, 2.0),
    ("trained", "distractor", "a_t"): (40.0, 2.0),
    ("trained", "both", "a_s_actions"): (85.4, 2.0),
    ("trained", "both", "a_t"): (57.7, 2.0),
    ("frequency", "both", "a_t"): (6.6, 0.3),
}


@pytest.fixture(scope="module")
def graphs():
    return make_videos(WorldConfig(), "train", 12), make_videos(WorldConfig(), "test", 6)


@pytest.fixture(scope="module")
def model(graphs):
    return prompt_only.train_prompt_only(graphs[0], RECIPE, epochs=2)


def bare(graphs):
    return [prompt_only.LabelledVideo(g.video, g.vocabulary, g.labels) for g in graphs]


# --- controls -----------------------------------------------------------------------------------------------------


def test_rule_and_network_are_their_equations(graphs, model):
    train, test = graphs
    rule = prompt_only.frequency_rule_scores(train, test, RECIPE)
    network = prompt_only.ask_prompt_only(prompt_only.network_answers(model), test, RECIPE)
    lists, weights = [g.labels.tolist() for g in train], reference.Weights.of(model)
    for row in range(0, len(rule.sap), 7):
        asked = np.flatnonzero(rule.sap[row]).tolist()
        np.testing.assert_allclose(rule.a_t[row], reference.prompt_only_rule(lists, asked, C), atol=1e-12)
        np.testing.assert_allclose(rule.a_s[row], [*rule.a_t[row], 0.0])
        a_s, a_t = reference.prompt_only_network(weights, asked, C)
        np.testing.assert_allclose(network.a_s[row], a_s, atol=1e-5)
        np.testing.assert_allclose(network.a_t[row], a_t, atol=1e-5)


def test_labels_alone_give_the_scores_of_the_graphs(graphs):
    train, test = graphs
    for scores in (prompt_only.frequency_rule_scores, prompt_only.trained_prompt_only_scores):
        options = {} if scores is prompt_only.frequency_rule_scores else {"epochs": 1}
        of_graphs = scores(train, test, RECIPE, **options)
        of_labels = scores(bare(train), bare(test), RECIPE, **options)
        for name in ("video", "sap", "labels", "a_s", "a_u", "a_t"):
            np.testing.assert_array_equal(getattr(of_graphs, name), getattr(of_labels, name))


def test_training_is_the_plain_loop_bit_for_bit(graphs, model):
    """The loop as it is read: labels stacked and repeated for every row, in every epoch."""
    train = graphs[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RECIPE.seed)
        plain = PromptOnly(C)
        optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=RECIPE.weight_decay)
        for epoch in range(2):
            drawn = [draw_specifications(g, RECIPE, video_rng(RECIPE.seed, epoch, g.video)) for g in train]
            sap = torch.from_numpy(np.concatenate(drawn))
            hot = np.stack([g.multi_hot() for g in train])
            labels = torch.from_numpy(np.repeat(hot, [len(d) for d in drawn], axis=0))
            for rows in torch.randperm(len(sap)).split(256):
                a_s, a_u, a_t = plain(sap[rows])
                loss = classification_loss(a_s, branch_targets(labels[rows], sap[rows]).float())
                loss = loss + classification_loss(a_t, labels[rows].float())
                loss = loss + classification_loss(a_u, branch_targets(labels[rows], ~sap[rows]).float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


def test_few_videos_get_more_epochs(graphs, monkeypatch):
    drawn, real = [], prompt_only._training_rows
    monkeypatch.setattr(prompt_only, "_training_rows", lambda *args: drawn.append(args[2]) or real(*args))
    prompt_only.train_prompt_only(graphs[0][:2], RECIPE)
    assert drawn == [0, *range(prompt_only.LEAST_STEPS)]  # these rows make one step an epoch
    drawn.clear()
    monkeypatch.setattr(prompt_only, "BATCH_ROWS", 1)
    monkeypatch.setattr(prompt_only, "LEAST_STEPS", 5)
    prompt_only.train_prompt_only(graphs[0][:2], RECIPE)
    assert drawn == [0, *range(prompt_only.EPOCHS)]


def test_training_leaves_the_global_random_numbers_alone(graphs):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    prompt_only.train_prompt_only(graphs[0][:2], RECIPE, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_without_labels_in_the_question_a_control_is_class_frequency(graphs, model):
    train, test = graphs
    expected = protocols.recognition(prompt_only.class_frequency(train, test), test)
    for answers in (prompt_only.rule_answers(train), prompt_only.network_answers(model)):
        found = audit.label_free_maps(answers, train, test, RECIPE)
        assert set(found) == {"partition", "self", "scan", "none"}
        for protocol, maps in found.items():
            assert set(maps) == ({"a_s"} if protocol == "scan" else {"a_s", "a_t"})
            for value in maps.values():
                assert value == pytest.approx(expected, abs=1e-9)


def test_with_labels_in_the_question_a_control_is_above_class_frequency(graphs):
    train, test = graphs
    controls = {"frequency": prompt_only.frequency_answers(train), "rule": prompt_only.rule_answers(train)}
    rows = {name: prompt_only.ask_prompt_only(answers, test, RECIPE).summary()["both"]["a_t"]
            for name, answers in controls.items()}  # fmt: skip
    assert rows["rule"] > rows["frequency"] + 10


def test_label_free_questions_are_the_same_for_all_videos(graphs):
    """What ``label_free_maps`` relies on when it asks once."""
    train, test = graphs
    a_m = torch.from_numpy(prompt_only.class_frequency(train, test))
    for question in (
        protocols.partition_questions(C, 16, 0),
        protocols.self_questions(16),
        protocols.none_questions(C),
    ):
        video, saps = question(a_m)
        once = question(a_m[:1])[1]
        for v in range(len(test)):
            np.testing.assert_array_equal(saps[video == v], once)


# --- Charades ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def charades(shared_data):
    return audit.read_labels(shared_data / "charades")


def test_label_counts_of_charades(charades):
    assert {part: counts["rows"] for part, counts in charades.counts.items()} == {"train": 7985, "test": 1863}
    assert {part: counts["without labels"] for part, counts in charades.counts.items()} == {"train": 174, "test": 49}
    for part, videos in (("train", charades.train), ("test", charades.test)):
        assert len(videos) == charades.counts[part]["used"]
        assert {len(v.labels) for v in videos} == set(range(1, 17))


def test_rule_and_frequency_meet_the_known_values_and_the_record(charades):
    recorded = audit.recorded()["metrics"][0]
    for name, answers in (("rule", prompt_only.rule_answers(charades.train)),
                          ("frequency", prompt_only.frequency_answers(charades.train))):  # fmt: skip
        found = prompt_only.ask_prompt_only(answers, charades.test, audit.audit_recipe(0)).summary()
        for (control, rows, answer), (value, tolerance) in EXPECTED.items():
            if control == name:
                assert found[rows][answer] == pytest.approx(value, abs=tolerance)
        for rows, answers_of_rows in found.items():
            for answer, value in recorded[name][rows].items():
                assert answers_of_rows[answer] == pytest.approx(value, abs=1e-9)
    per_video = protocols.recognition(prompt_only.class_frequency(charades.train, charades.test), charades.test)
    assert per_video == pytest.approx(6.0, abs=0.15)
    assert per_video == pytest.approx(recorded["frequency"]["map"], abs=1e-9)


def test_record_holds_no_annotation(shared_data, charades):
    text = audit.record_path().read_text()
    for name in ("Charades_v1_train.csv", "Charades_v1_test.csv"):
        ids = {row.id for row in read_rows(shared_data / "charades" / name, 157, columns=("id", "actions", "length"))}
        assert not ids & set(re.findall(r"\w+", text))
    assert audit.recorded()["data"]["checksums"] == charades.checksums


@pytest.mark.parametrize("place", EXPECTED, ids="/".join)
def test_record_meets_the_known_values(place):
    control, rows, answer = place
    value, tolerance = EXPECTED[place]
    found = [metrics[control][rows][answer] for metrics in audit.recorded()["metrics"]]
    assert len(found) >= 3
    assert np.mean(found) == pytest.approx(value, abs=tolerance)


def test_damaged_record_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "record_path", lambda: tmp_path / "audit.json")
    with pytest.raises(DataError, match="FileNotFoundError.*charades_audit.py"):
        audit.recorded()
    (tmp_path / "audit.json").write_text(json.dumps({"metrics": [{"rule": {}}]}))
    with pytest.raises(DataError, match="KeyError"):
        audit.recorded()


def test_missing_csv_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_DATA", str(tmp_path))
    with pytest.raises(DataError, match="Charades_v1_train.csv"):
        audit.read_labels()


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def controls(graphs):
    """The page's data with the real record of Charades and small runs of the world."""
    train, test = graphs
    scores = {"rule": prompt_only.frequency_rule_scores(train, test, RECIPE).summary(), "frequency": {"map": 5.0},
              "trained": prompt_only.trained_prompt_only_scores(train, test, RECIPE, epochs=1).summary()}  # fmt: skip
    record = audit.recorded()
    world = {"recipe": vars(RECIPE), "metrics": scores, "data": "world-1", "videos": [{"train": 12, "test": 6}]}
    charades = [Run({"metrics": metrics}, None) for metrics in record["metrics"]]
    return page.Controls(charades, record, Recorded({"prompt_only": [Run(world, None)]}),
                         Recorded({}, source="Nothing of CAD-120 was run."))  # fmt: skip


def test_tables_show_the_record_and_the_paper(controls):
    frame = page.asked_table(controls).frame
    assert str(frame.loc[page.UNKNOWN, ("paper", "ProDA")]) == "71.10"
    assert str(frame.loc["a_t, both kinds", ("paper", "ProDA")]) == "–"
    for name in ("rule", "trained"):
        expected = [metrics[name]["both"]["a_t"] for metrics in controls.record["metrics"]]
        assert list(frame.loc["a_t, both kinds", ("Charades", name)].values) == expected
    assert not any(line.startswith("a_u") for line in frame.index)
    assert "Nothing of CAD-120 was run." in page.asked_table(controls).note
    free = page.free_table(controls).frame
    assert str(free.loc["no question", ("paper", "ProDA, a_m")]) == "59.04"
    for line in free.index[1:]:
        for name in ("rule", "trained"):
            assert free.loc[line, ("Charades", name)].mean == pytest.approx(
                controls.record["metrics"][0]["frequency"]["map"]
            )


def test_figures_draw_what_the_record_holds(controls):
    figure = draw.controls_by_rows(page.asked_frame(controls), list(controls.found), page.quoted_lines())
    drawn = np.concatenate([line.get_xdata() for line in figure.axes[0].lines])
    assert np.isclose(drawn, controls.record["metrics"][0]["trained"]["both"]["a_t"]).any()
    assert np.isclose(drawn, 71.10).any()
    assert [t.get_text() for t in figure.axes[2].texts] == ["no records"]
    grids = page.grids(controls)
    for grid in grids.values():
        assert np.isnan(grid[np.triu_indices(16, 1)]).all() and np.isfinite(grid[np.tril_indices(16)]).all()
    assert len(cells(grids).axes) == 5
    lines = page.label_counts(controls)
    assert lines["Table 6, non-distractor"]["rule"] == pytest.approx(np.full(16, 100.0))
    assert len(draw.by_label_count(lines).axes[0].lines) == 3


def test_sentences_follow_the_numbers(controls):
    text = page.asked_findings(controls)
    trained = report.spread(controls.charades, "trained/non_distractor/a_t")
    side = "above" if trained.mean > 71.10 else "below"
    assert f"{trained} on non-distractor ({side})" in text
    ahead = page.label_counts(controls)["Table 7, distractor-injected"]
    count = int((ahead["paper"] > ahead["trained"]).sum())
    assert f"Table 7, distractor-injected: the paper's a_s is above the prompt alone, trained, for {count} of 16" in (
        page.label_count_findings(controls)
    )
    assert "59.04" in page.prompt_free_findings() and "58.01" in page.prompt_free_findings()
    assert str(controls.record["data"]["videos"]["test"]["used"]) in page.provenance(controls)


def run(seed: int, a_t: float, select: str = "validation") -> Run:
    recipe = make_recipe("reference", dataset="cad120", seed=seed, select=select)
    metrics = {"paper": {"both": {"a_t": a_t}}, "a_m": {"map": a_t / 2}}
    record = {"recipe": vars(recipe), "metrics": metrics, "data": "d", "videos": [{"train": 3, "test": 2}]}
    return Run(record, None)


def test_selection_is_paired_by_seed_or_not_run():
    nothing = Recorded({"validation": [], "test": []})
    assert set(map(str, checklist.selection_table(nothing).frame["test − validation"])) == {"not run"}
    assert "no seed in common" in checklist.selection_findings(nothing)
    rows = {"validation": [run(0, 50.0), run(1, 60.0)], "test": [run(1, 63.0, "test"), run(0, 51.0, "test")]}
    table = checklist.selection_table(Recorded(rows))
    assert table.frame.loc["a_t, paper's protocol, both kinds", "test − validation"].values == (1.0, 3.0)
    assert table.frame.loc["a_m", "test − validation"].values == (0.5, 1.5)
    recipe = rows["test"][0].recipe
    assert f"{recipe.pretrain_epochs} + {recipe.posttrain_epochs} epochs" in table.note
    assert "+2.0 ± 1.4 points" in checklist.selection_findings(Recorded(rows))


def test_seed_table_needs_two_seeds():
    frame = checklist.seed_table({"CAD-120: ProDA": [run(0, 50.0), run(1, 54.0)]}).frame
    line = frame.loc["CAD-120: ProDA: a_t, paper's protocol, both kinds"]
    assert (line["seeds"], line["mean ± sd"].values, str(line["lowest"]), str(line["highest"])) == (
        2, (50.0, 54.0), "50.0", "54.0")  # fmt: skip
    assert "No records" in checklist.seed_table({}).note
    found = checklist.seed_rows((0, 1, 2))
    assert len(found["Charades: prompt_only"]) == len(audit.recorded()["seeds"])
    assert {"SSG-World: ProDA", "CAD-120: ProDA", "CAD-120: ProDA, without relations"} <= set(found)


def test_note_quotes_the_papers_numbers():
    quoted = paper_table("table03")
    numbers = re.findall(r"\d+\.\d\d", (ROOT / "book/audit/note_to_authors.md").read_text())
    assert sorted(numbers) == sorted(str(quoted["DPM", name]) for name in ("a_t", "a_m"))
