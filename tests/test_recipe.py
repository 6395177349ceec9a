"""Every difference between the text and the released code is a setting of its own, and records keep their recipes."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from proda_lib.datasets.registry import Split, load_splits
from proda_lib.errors import DataError, RecipeError
from proda_lib.evaluation import grid, tables
from proda_lib.evaluation.protocols import evaluation_rows
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.pages import paper_and_code
from proda_lib.specification import branch_targets
from proda_lib.training import data, outcome, runs, stages
from proda_lib.training.loop import make_optimizer
from proda_lib.training.outcome import fit_and_score, make_fabric
from proda_lib.training.recipe import RELEASED, Recipe, command, make_recipe, parse_settings, read_recipe
from proda_lib.training.stages import balance, margins, pretrain_losses, train
from tests.graphs import make_graph

ROOT = Path(__file__).parents[1]
RECIPE = make_recipe("smoke")


@pytest.fixture(scope="module")
def graphs():
    return load_splits("world", 12, 1)[0].train


def test_the_page_on_reruns_shows_the_sizes_of_the_recipes():
    """book/how_to_rerun.md: a row a setting; CAD-120's numbers of videos are those of its records."""
    page = (ROOT / "book/how_to_rerun.md").read_text().partition(":name: tab-sizes")[2].partition("```")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "| `" in line][1:]
    recipes = [make_recipe("reference"), make_recipe("reference", dataset="cad120"), make_recipe("paper")]
    videos = runs.committed(tables.cad120("reference", (0,))["proda"][0]).record["videos"]
    assert len(rows) == 15
    for _, name, *shown, text in rows:
        name = name.strip("`")
        expected = [f"{value:,}" for value in (getattr(recipe, name) for recipe in recipes)]
        if part := {"train_videos": "train", "test_videos": "test"}.get(name):
            expected[1] = " or ".join(f"{count} a fold" for count in sorted({fold[part] for fold in videos}))
        assert shown == expected, name
        assert text == "–" or text == f"{shown[-1]} (appendix D.2)", name


def test_each_default_is_the_papers_and_the_preset_sets_them_all():
    released = make_recipe("paper", preset="released")
    assert all(getattr(Recipe(), name) != value == getattr(released, name) for name, value in RELEASED.items())
    assert dataclasses.replace(Recipe(), **RELEASED) == released
    assert make_recipe("quick", preset="released", wiring="figure5", warmup=0.3).wiring == "figure5"
    assert parse_settings(["preset=released", "redraw=False"]) == {"preset": "released", "redraw": False}
    with pytest.raises(RecipeError, match="preset: found 'relased', expected one of"):
        make_recipe("quick", preset="relased")


@pytest.mark.parametrize(("setting", "message"), [
    ("widht=3", "setting 'widht=3': found 'widht', expected .* nearest: 'width'"),
    ("profile=smoke", "setting 'profile=smoke': found 'profile', expected it as an option, --profile smoke"),
    ("width", "found 'width', expected NAME=VALUE with a int"),
    ("width=wide", "found 'width=wide', expected NAME=VALUE with a int"),
    ("redraw=yes", "found 'redraw=yes', expected NAME=VALUE with a bool"),
])  # fmt: skip
def test_settings_that_are_no_settings(setting, message):
    with pytest.raises(RecipeError, match=message):
        parse_settings([setting])


@pytest.mark.parametrize(("changes", "message"), [
    ({"norm": "foo"}, r"norm: found 'foo', expected one of \('vgnorm', "),
    ({"width": 15}, "width: found 15, expected a multiple of heads = "),
    ({"heads": 0}, "heads: found 0, expected at least 1"),
    ({"frames": 0}, "frames: found 0, expected at least 1"),
])  # fmt: skip
def test_settings_of_the_model_are_checked_before_there_is_any_data(changes, message):
    with pytest.raises(RecipeError, match=message):
        make_recipe("smoke", **changes)


@pytest.mark.parametrize(("name", "values"), [
    ("seed", (-1, 2**32, 1.5)),
    *((name, (0.0, -1e-4)) for name in ("pretrain_lr", "posttrain_lr", "clip", "feature_scale", "train_share")),
    *((name, (-1e-4,)) for name in ("weight_decay", "warmup", "margin_dis", "margin_rec", "scene_bias", "dropout")),
    ("scene_bias", (1.1,)), ("dropout", (1.0,)), ("train_share", (1.1,)),
])  # fmt: skip
def test_numbers_that_a_setting_cannot_be(name, values):
    for value in (*values, float("nan"), float("inf"), 10**400, "1"):
        with pytest.raises(RecipeError, match=rf"^Recipe\.{name}: found {re.escape(repr(value)[:80])}, expected a "):
            make_recipe("smoke", **{name: value})
    for name, value in {"seed": 2**32 - 1, "clip": 1, "warmup": 0, "margin_dis": 0.0, "dropout": 0.0}.items():
        assert getattr(make_recipe("smoke", **{name: value}), name) == value


def test_the_command_is_the_shorter_one():
    released = make_recipe("reference", preset="released", dataset="world", seed=3)
    assert command(released) == "proda train --dataset world --profile reference --seed 3 --set preset=released"
    single = dataclasses.replace(released, wiring="figure5")
    assert command(single).endswith("--set preset=released --set wiring=figure5")
    assert command(make_recipe("quick", wiring="released")).endswith("--profile quick --set wiring=released")


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_record_from_before_the_settings_is_read():
    old = {name: value for name, value in dataclasses.asdict(RECIPE).items()
           if name not in RELEASED or name in ("norm", "warmup", "head_m")}  # fmt: skip
    assert read_recipe({**old, "preset": "paper"}) == RECIPE
    released = make_recipe("smoke", preset="released")
    assert read_recipe(dataclasses.asdict(released)) == released


@pytest.mark.parametrize("change, word", [
    ({"colour": 1}, "colour"), ({"preset": "released"}, "released"), ({"long_videos": "cut"}, "cut"),
    ({"preset": []}, "preset"),
])  # fmt: skip
def test_a_record_with_what_does_not_exist_is_refused_by_name(tmp_path, monkeypatch, change, word):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path))
    folder = tmp_path / runs.run_name(RECIPE)
    folder.mkdir()
    recipe = {**dataclasses.asdict(RECIPE), **change}
    (folder / "record.json").write_text(json.dumps({"name": folder.name, "recipe": recipe, "metrics": {}}))
    with pytest.raises(DataError, match=rf"record\.json: record: found .*{word}"):
        runs.find(RECIPE)


# --- each setting alone -----------------------------------------------------------------------------------------------


def test_absent_row_asks_one_question_more_in_training_and_evaluation(graphs):
    changed = dataclasses.replace(RECIPE, absent_row=True)
    for recipe, more in ((RECIPE, 1), (changed, 2)):
        video, sap, _ = evaluation_rows(graphs, recipe)
        counts = [2 * len(g.labels) + more for g in graphs]
        assert np.bincount(video).tolist() == counts
        loader, _ = data.epoch_loader(graphs, recipe, 0)
        assert sum(len(rows.sap) for rows in loader) == sum(counts)


@pytest.mark.parametrize("redraw", [True, False])
def test_redraw(graphs, redraw):
    recipe = dataclasses.replace(RECIPE, redraw=redraw)
    first, second = (data.EpochRows(graphs, recipe, epoch) for epoch in (0, 1))
    same = [np.array_equal(a[1], b[1]) for a, b in zip(first, second, strict=True)]
    assert not any(same) if redraw else all(same)
    frames = [np.array_equal(a[0].times, b[0].times) for a, b in zip(first, second, strict=True)]
    assert not all(frames), "frames are drawn afresh either way"


def test_the_window(graphs):
    recipe = dataclasses.replace(RECIPE, window=True, frames=4)
    assert data.evaluation_videos(graphs, RECIPE) == graphs
    for graph, seen in zip(graphs, data.evaluation_videos(graphs, recipe), strict=True):
        first = (graph.num_frames - 8) // 2
        np.testing.assert_array_equal(seen.times, graph.times[first : first + 8 : 2])
    starts = []
    for epoch in range(30):
        for (video, _), (seen, _) in zip((rows := data.EpochRows(graphs, recipe, epoch)).items, rows, strict=True):
            place = np.searchsorted(graphs[video].times, seen.times)
            assert np.diff(place).tolist() == [2, 2, 2]
            starts.append((place[0], place[0] + 8 - graphs[video].num_frames))
    assert min(start for start, _ in starts) == 0 and max(end for _, end in starts) == 0, "from one end to the other"


def test_a_short_video_has_its_second_frames_repeated(graphs):
    short = graphs[0].take_frames(np.arange(5))
    seen = data.EpochRows([short], dataclasses.replace(RECIPE, window=True, frames=4), 0)[0][0]
    np.testing.assert_array_equal(seen.times, short.times[[0, 2, 2, 4]])


def test_long_videos(graphs):
    recipe = dataclasses.replace(RECIPE, spec_length=5)
    assert data.trainable(graphs, recipe) == graphs
    kept = data.trainable(graphs, dataclasses.replace(recipe, long_videos="drop"))
    assert {g.video for g in kept} == {g.video for g in graphs if len(g.labels) <= 5} and 0 < len(kept) < len(graphs)
    with pytest.raises(RecipeError, match="long_videos: found 'drop' and no video with at most 5 labels"):
        data.trainable([g for g in graphs if g not in kept], dataclasses.replace(recipe, long_videos="drop"))


def test_falling_margins():
    falling = dataclasses.replace(RECIPE, falling_margins=True, margin_dis=0.5)
    assert margins(falling, 0.0) == (0.7, 0.7) and margins(falling, 1.0) == pytest.approx((0.2, 0.2))
    assert margins(falling, 0.5) == pytest.approx((0.45, 0.45))
    own = dataclasses.replace(RECIPE, margin_dis=0.1, margin_rec=0.3)
    assert margins(own, 0.0) == margins(own, 1.0) == (0.1, 0.3)


def model_and_terms(graphs, **changes) -> tuple[ProDA, dict[str, torch.Tensor]]:
    recipe = dataclasses.replace(RECIPE, dropout=0.0, margin_dis=0.0, margin_rec=0.0, **changes)
    torch.manual_seed(0)
    model = ProDA(recipe.model_config(graphs[0].vocabulary)).train()
    rows = next(iter(data.epoch_loader(graphs, recipe, 0)[0]))
    return model, pretrain_losses(model, rows, 0.0, recipe=recipe, inner=model)


def terms(graphs, **changes) -> dict[str, torch.Tensor]:
    return model_and_terms(graphs, **changes)[1]


@pytest.mark.parametrize("term", ["rec", "dis", "a_s"])
def test_detach_target_changes_the_gradient_of_the_reconstruction_and_no_number(graphs, term):
    sides = []
    for detach_target in (False, True):
        model, found = model_and_terms(graphs, detach_target=detach_target)
        gradients = torch.autograd.grad(found[term], list(model.encoder.parameters()), allow_unused=True)
        sides.append((found[term].item(), torch.cat([g.flatten() for g in gradients if g is not None])))
    (moving, pulled), (held, left) = sides
    assert moving == held > 0 and len(pulled) == len(left)
    assert torch.equal(pulled, left) == (term != "rec") and left.abs().sum() > 0


@pytest.mark.parametrize("name, value, moved", [
    ("batch_loss", True, {"dis", "rec"}), ("falling_margins", True, {"dis", "rec"}), ("balance_u", True, {"a_u"}),
])  # fmt: skip
def test_a_setting_of_the_loss_moves_its_own_terms_only(graphs, name, value, moved):
    before, after = terms(graphs), terms(graphs, **{name: value})
    assert before.keys() == after.keys()
    assert {term for term in before if before[term] != after[term]} == moved


def test_balance_is_the_ratio_of_the_last_layers_gradients(graphs):
    """∂L/∂W of the mean cross-entropy by hand: (σ(logits) − labels)ᵀ · input / number of logits."""
    recipe = dataclasses.replace(RECIPE, dropout=0.0)
    torch.manual_seed(0)
    model = ProDA(recipe.model_config(graphs[0].vocabulary)).train()
    rows = next(iter(data.epoch_loader(graphs, recipe, 0)[0]))
    out, norms, targets = model(rows.batch, rows.sap, rows.row_video), [], []
    for answer, asked in ((out.a_s, rows.sap), (out.a_u, ~rows.sap)):
        targets.append(branch_targets(rows.labels, asked).float())
        norms.append(((answer.logits.sigmoid() - targets[-1]).T @ answer.feature / targets[-1].numel()).norm().item())
    assert 1.1 < norms[0] / norms[1] < 10, "not 1, so that the inverted ratio is another; not limited"
    assert balance(out, *targets, model).item() == pytest.approx(norms[0] / norms[1], rel=1e-4)
    assert balance(out, torch.full_like(targets[0], 0.5), out.a_u.logits.sigmoid().detach(), model) == 10


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_a_step_in_mixed_precision(graphs, preset):
    """Through Fabric, which in this precision refuses gradients that it was not asked for."""
    recipe = make_recipe("smoke", preset, precision="bf16-mixed", balance_u=True)
    model = ProDA(recipe.model_config(graphs[0].vocabulary))
    fabric = make_fabric(recipe)
    trained = [module for name, module in model.named_children() if name != "readout_m"]
    wrapped, optimizer = fabric.setup(model, make_optimizer(trained, 1e-3, 0.0))
    rows = next(iter(data.epoch_loader(data.trainable(graphs, recipe), recipe, 0)[0]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = pretrain_losses(wrapped, rows, 0.0, recipe=recipe, inner=model)
    assert torch.stack(list(found.values())).isfinite().all()
    fabric.backward(torch.stack(list(found.values())).sum())
    optimizer.step()
    after = model.state_dict()
    assert after["readout_u.classifier.weight"].isfinite().all()
    for name in ("encoder", "vgpnn", "readout_s.classifier", "readout_u.classifier"):
        assert any(not torch.equal(before[key], after[key]) for key in after if key.startswith(name)), name


@pytest.mark.parametrize("head_m", ["keep", "reinit"])
def test_reinit_trains_another_head_in_the_second_stage(graphs, tmp_path, monkeypatch, head_m):
    """Stage 1 does not train the head, so what the second stage starts from tells the two settings apart."""
    heads = {}

    def noted(stage, model, **given):
        heads[stage.name] = model.readout_m, model.readout_m.classifier.weight.clone(), list(stage.trained)
        return []

    monkeypatch.setattr(stages, "run_stage", noted)
    recipe = dataclasses.replace(RECIPE, head_m=head_m)
    train(recipe, "", graphs, graphs, 0, 0, tmp_path, make_fabric(recipe))
    (old, before, _), (new, after, trained) = heads["pretrain"], heads["posttrain"]
    assert (new is old) == torch.equal(before, after) == (head_m == "keep")
    assert any(module is new for module in trained) and (new is old or not any(m is old for m in trained))


class Given(Exception):
    """What training was given: its videos, and those that pick the epoch."""


def given(split, tmp_path, monkeypatch, **changes) -> list[list[str]]:
    def train(recipe, recipe_hash, kept, judged_on, *rest, **more):
        raise Given(kept, judged_on)

    monkeypatch.setattr(outcome, "train", train)
    with pytest.raises(Given) as caught:
        fit_and_score(dataclasses.replace(RECIPE, **changes), "", split, tmp_path, "cpu")
    return [[graph.video for graph in part] for part in caught.value.args]


def test_which_videos_train_and_which_pick_the_epoch(tmp_path, monkeypatch):
    split = Split([make_graph(i) for i in range(30)], [make_graph(i) for i in range(30, 38)])
    train, test = ([graph.video for graph in part] for part in (split.train, split.test))
    for select in ("validation", "test"):
        kept, judged = given(split, tmp_path, monkeypatch, select=select)
        if select == "validation":
            assert len(judged) == 3 and not set(kept) & set(judged) and sorted(kept + judged) == sorted(train)
        else:
            assert (kept, judged) == (train, test)
        for share, count in ((0.01, 1), (0.3, round(0.3 * len(kept)))):
            fewer, same = given(split, tmp_path, monkeypatch, select=select, train_share=share)
            assert same == judged and set(fewer) <= set(kept) and len(fewer) == count


@pytest.mark.parametrize("changes", [{"norm": "vgnorm_released"}, {"batch_loss": True}])
def test_where_absent_slots_count_the_model_knows_the_largest_graph(graphs, tmp_path, changes):
    def doubled(graph):
        arrays = {name: np.concatenate([getattr(graph, name)] * 2, axis) for name, axis in
                  (("classes", 0), ("boxes", 1), ("present", 1))}  # fmt: skip
        return dataclasses.replace(graph, **arrays)

    split = Split([doubled(g) for g in graphs[:6]], [doubled(g) for g in graphs[6:]])
    slots = max(g.num_slots for g in split.train + split.test)
    recipe = dataclasses.replace(RECIPE, **changes)
    found, _, _ = fit_and_score(recipe, "", split, tmp_path, "cpu", make_fabric(recipe))
    assert slots > ModelConfig.slots == ProDA(RECIPE.model_config(graphs[0].vocabulary)).config.slots
    assert ProDA.from_pretrained(tmp_path / "model").config.slots == slots
    assert np.isfinite(found.rows["paper"].a_t).all()


def test_graph_supervision_adds_a_term(graphs):
    assert terms(graphs, graph_supervision=True).keys() - terms(graphs).keys() == {"graph"}


# --- the rows of the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["quick", "reference"])
def test_a_row_changes_one_thing(profile):
    rows = tables.differences(profile, (0,))
    base = rows["paper"][0]
    assert base == make_recipe(profile)
    proda = {name: recipes[0] for name, recipes in rows.items() if recipes[0].model == "proda" and name != "paper"}
    for name, recipe in proda.items():
        changed = {f.name for f in dataclasses.fields(Recipe) if getattr(recipe, f.name) != getattr(base, f.name)}
        assert changed - {"scan"} == {name} | ({"batch_videos"} if name == "specs_per_video" else set())
        assert not recipe.scan
        assert recipe.batch_videos * recipe.specs_per_video == base.batch_videos * base.specs_per_video
    left_out = {"long_videos"} | ({"redraw"} if profile == "reference" else set())
    assert set(proda) == set(RELEASED) - left_out | {"specs_per_video", "posttrain_heads"}


def test_the_page_shows_each_change_against_the_paper_or_that_it_was_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path))
    rows = tables.differences("smoke", (0, 1))
    for name, seed, level in (("paper", 0, 10.0), ("paper", 1, 20.0), ("wiring", 0, 13.0), ("wiring", 1, 24.0),
                              ("absent_row", 0, 50.0), ("prompt_only, absent_row", 0, 40.0)):  # fmt: skip
        recipe = rows[name][seed]
        both = {"both": {"a_t": level, "a_s": level + 1}}
        metrics = {"paper": both, "trained": both, "a_m": {"map": level / 2}}
        folder = tmp_path / runs.run_name(recipe)
        folder.mkdir()
        record = {"name": folder.name, "recipe": dataclasses.asdict(recipe), "metrics": metrics, "curves": [],
                  "data": "world-1", "videos": [{"train": 1, "test": 1}]}  # fmt: skip
        (folder / "record.json").write_text(json.dumps(record))
    frame = paper_and_code.differences_table(grid.read(rows)).frame.map(str)
    change = "change against paper"
    assert frame.loc["wiring = released", ("mAP", "a_t, both")] == "18.5 ± 7.8"
    assert frame.loc["wiring = released", (change, "a_t, both")] == "+3.5 ± 0.7"
    assert frame.loc["wiring = released", (change, "a_m")] == "+1.8 ± 0.4"
    assert frame.loc["absent_row = True", (change, "a_t, both")] == "–", "other questions"
    assert frame.loc["absent_row = True", (change, "a_m")] == "+20.0"
    assert set(frame.loc["head_m = reinit"]) == {"not run"}
    assert frame.loc["control: prompt-only, trained, absent_row = True", ("mAP", "a_s, both")] == "41.0"
    assert frame.loc["specs_per_video = 1, batch_videos = 32", ("mAP", "a_m")] == "not run"
    assert frame.loc["paper", (change, "a_m")] == "–"
