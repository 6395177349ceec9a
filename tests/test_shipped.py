"""Weights as a folder that stands alone: what is written, what is refused, and the ones that come with the library."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from make_shipped import main, make_shipped, model_card

from proda_lib.datasets.world import VOCABULARY, WorldConfig, make_video
from proda_lib.errors import CheckpointError, DataError, RecipeError
from proda_lib.models import shipped
from proda_lib.models.proda import ProDA
from proda_lib.predict import Predictor
from proda_lib.training import runs
from proda_lib.training.recipe import make_recipe
from tests.predict_cases import make_model


def test_load_refuses_broken_folders(tmp_path):
    make_model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="vocabulary.json"):
        Predictor.load(tmp_path)
    shipped.write_vocabulary(dataclasses.replace(VOCABULARY, actions=VOCABULARY.actions[:-1]), tmp_path)
    with pytest.raises(CheckpointError, match="actions"):
        Predictor.load(tmp_path)
    for text in ("[]", '{"name": "x"}', '{"name": 1, "objects": [1], "relations": [], "actions": []}', "{"):
        (tmp_path / "vocabulary.json").write_text(text)
        with pytest.raises(CheckpointError, match="vocabulary.json"):
            Predictor.load(tmp_path)
    shipped.write_vocabulary(VOCABULARY, tmp_path)
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(CheckpointError, match="record.json"):
        Predictor.load(tmp_path)


RECORD = {"name": "world-proda-x", "recipe": vars(make_recipe("smoke")), "metrics": {}, "data": "world-1",
          "videos": [{"train": 2, "test": 1}]}  # fmt: skip


@pytest.mark.parametrize("place", [("name",), ("recipe",), ("metrics",), ("data",), ("videos",), ("videos", 0),
                                   ("videos", 0, "train"), ("recipe", "seed"), ("recipe", "dataset"),
                                   ("recipe", "absent_row"), ("recipe", "profile")])  # fmt: skip
def test_a_damaged_record_is_named(tmp_path, place):
    make_model().save_pretrained(tmp_path)
    shipped.write_vocabulary(VOCABULARY, tmp_path)
    (tmp_path / "record.json").write_text(json.dumps(RECORD))
    assert "world-proda-x" in Predictor.load(tmp_path).about[0]
    for odd in (None, 1.5, "\ud800", [[]], {}):
        record = json.loads(json.dumps(RECORD))
        parent = record
        for key in place[:-1]:
            parent = parent[key]
        if isinstance(odd, type(parent[place[-1]])) and odd != "\ud800" and place != ("videos",):
            continue
        parent[place[-1]] = odd
        (tmp_path / "record.json").write_text(json.dumps(record))
        with pytest.raises(CheckpointError, match="record.json"):
            Predictor.load(tmp_path)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = make_model()
    shipped.write_vocabulary(VOCABULARY, tmp_path)
    name, weight = sorted(model.named_parameters())[3]
    for odd in (float("nan"), float("inf")):
        with torch.no_grad():
            weight.view(-1)[0] = odd
        model.save_pretrained(tmp_path)
        with pytest.raises(CheckpointError, match=f"model.safetensors: {name}: found NaN"):
            Predictor.load(tmp_path)


def test_an_answer_that_is_no_number_is_not_written(tmp_path):
    model = make_model()
    for weight in model.parameters():
        weight.data.fill_(3e38)
    answer = Predictor(model, VOCABULARY)(graph=make_video(WorldConfig(), 1), actions="raise_cup")
    with pytest.raises(DataError, match="parsed.json: found .* expected an answer in finite numbers"):
        answer.save_report(tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRODA_RUNS", str(tmp_path_factory.mktemp("runs")))
        recipe = make_recipe("smoke", train_videos=8, test_videos=8)
        yield runs.get(recipe), runs.get(dataclasses.replace(recipe, model="prompt_only"))


def test_shipping_a_run(run, tmp_path):
    trained, control = run
    folder = make_shipped(trained, tmp_path / "model", control)
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "vocabulary.json", "record.json", "README.md"}  # fmt: skip
    predictor = Predictor.load(folder)
    assert predictor.vocabulary == VOCABULARY and trained.name in predictor.about[0]
    assert any("simulator" in line for line in predictor.about)
    for name, tensor in trained.model().state_dict().items():
        torch.testing.assert_close(predictor.model.state_dict()[name], tensor, rtol=0, atol=0)
    card = (folder / "README.md").read_text()
    numbers = [trained.metrics["paper"]["both"]["a_t"], control.metrics["rule"]["both"]["a_t"],
               control.metrics["trained"]["both"]["a_t"]]  # fmt: skip
    assert "| a_t, both kinds | " + " | ".join(f"{n:.1f}" for n in numbers) + " |" in card
    assert f"{trained.metrics['a_m']['map']:.1f}" in card and "license: mit" in card and "proda train" in card
    assert "/tmp" not in card and str(tmp_path) not in (folder / "record.json").read_text()


def test_shipping_refuses_what_does_not_belong_together(run, tmp_path):
    trained, control = run
    with pytest.raises(RecipeError, match="expected 'proda'"):
        make_shipped(control, tmp_path, control)
    with pytest.raises(RecipeError, match="expected prompt_only"):
        make_shipped(trained, tmp_path, trained)
    other = {**control.record, "recipe": {**control.record["recipe"], "test_videos": 9}}
    with pytest.raises(RecipeError, match="test_videos: found 9, expected 8"):
        make_shipped(trained, tmp_path, runs.Run(other, None))
    assert not list(tmp_path.iterdir())


def test_the_command(run, tmp_path, monkeypatch, capsys):
    trained, control = run
    monkeypatch.setenv("PRODA_RUNS", str(trained.folder.parent))
    words = ["make_shipped.py", trained.name, "--control", control.name, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0 and (tmp_path / "model.safetensors").is_file()
    monkeypatch.setattr(sys, "argv", [*words[:3], trained.name, *words[4:]])
    assert main() == 2 and "expected prompt_only" in capsys.readouterr().err


def test_the_committed_card_is_of_the_committed_records():
    record = runs.Run(json.loads((shipped.WEIGHTS / "record.json").read_text()), None)
    control = runs.committed(dataclasses.replace(record.recipe, model="prompt_only"))
    card = (shipped.WEIGHTS / "README.md").read_text()
    assert card == model_card(record, control, ProDA.from_pretrained(shipped.WEIGHTS))


def test_shipped_model(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "none")
    with pytest.raises(CheckpointError, match="shipped weights"):
        shipped.shipped_model()


def test_the_shipped_model_answers():
    predictor = Predictor.load()
    found = [predictor(graph=(g := make_video(WorldConfig(), i, "test")), actions=[VOCABULARY.actions[g.labels[0]]])
             for i in range(20)]  # fmt: skip
    present = [answer.scores["a_s"].iloc[0] for answer in found]
    absent = []
    for answer in found:
        others = [name for c, name in enumerate(VOCABULARY.actions) if c not in answer.graph.labels][:16]
        absent.append(predictor(graph=answer.graph, actions=others).scores.loc[others, "a_s"].mean())
    assert np.mean(present) > np.mean(absent) + 0.2
