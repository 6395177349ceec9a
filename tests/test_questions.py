"""The third stage, on questions from the model's own a_m: what is frozen, what the questions see, what it learns."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from proda_lib.datasets.registry import load_splits
from proda_lib.errors import RecipeError
from proda_lib.evaluation.protocols import paper_protocol
from proda_lib.specification import specification_length
from proda_lib.training import data, runs
from proda_lib.training.questions import own_questions
from proda_lib.training.recipe import make_recipe

TINY = {"train_videos": 12, "test_videos": 4, "batch_videos": 4, "posttrain_epochs": 4, "questions": "a_m"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The same recipe without and with its third stage: the first two are the same, bit for bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRODA_RUNS", str(tmp_path_factory.mktemp("runs")))
        recipe = make_recipe("smoke", **TINY)
        return runs.get(dataclasses.replace(recipe, questions="labels")), runs.get(recipe)


@pytest.fixture(scope="module")
def graphs():
    return load_splits("world", 12, 4)[0].train


def test_encoder_and_a_m_head_stay_as_they_were(trained):
    before, after = (load_file(run.folder / "fold0/model/model.safetensors") for run in trained)
    moved = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    parts = {name.split(".")[0] for name in after}
    assert {"prompts", "vgpnn", "readout_s"} <= moved == parts - {"encoder", "readout_m"}
    assert trained[0].metrics["a_m"] == trained[1].metrics["a_m"]
    assert trained[0].metrics["label_free"]["self"] != trained[1].metrics["label_free"]["self"]


def test_the_first_two_stages_are_those_of_the_other_recipe(trained):
    before, after = ([{k: v for k, v in row.items() if k != "seconds"} for row in run.curves] for run in trained)
    assert [row["stage"] for row in after] == ["pretrain"] + ["posttrain"] * 4 + ["self"] * 4
    assert after[:5] == before


def test_the_loss_falls(trained):
    rows = [row for row in trained[1].curves if row["stage"] == "self"]
    losses = [sum(row[name] for name in ("a_s", "a_u", "a_t", "dis", "rec")) for row in rows]
    assert losses[-1] < losses[0]


def test_questions_are_nested_best_of_a_m_and_do_not_depend_on_labels(trained, graphs):
    run = trained[1]
    model, recipe = run.model(), run.recipe
    found = own_questions(model, graphs, recipe)
    others = [dataclasses.replace(g, labels=np.array([i]), segments=g.segments[:0], segment_labels=g.segment_labels[:0],
                                  carriers=None) for i, g in enumerate(graphs)]  # fmt: skip
    np.testing.assert_array_equal(own_questions(model, others, recipe), found)
    assert any((g.multi_hot() != other.multi_hot()).any() for g, other in zip(graphs, others, strict=True))
    a_m = paper_protocol(model, graphs, recipe).a_m
    assert found.shape[1:] == (5, a_m.shape[1]) and specification_length(a_m.shape[1], recipe.spec_length) == 16
    for saps, scores in zip(found, a_m, strict=True):
        for sap, k in zip(saps, (1, 2, 4, 8, 16), strict=True):
            assert sorted(np.flatnonzero(sap)) == sorted(np.argsort(-scores)[:k])


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_asks_every_question_of_every_video_once(graphs, epoch):
    recipe = make_recipe("smoke", **TINY)
    C = len(graphs[0].vocabulary.actions)
    rng = np.random.default_rng(1)
    questions = [rng.random((count, C)) < 0.1 for count in range(1, len(graphs) + 1)]
    loader, _ = data.epoch_loader(graphs, recipe, epoch, questions=questions)
    rows = [(r.batch.videos[v], sap.tobytes()) for r in loader
            for v, sap in zip(r.row_video, r.sap.numpy(), strict=True)]  # fmt: skip
    asked = [(g.video, sap.tobytes()) for g, saps in zip(graphs, questions, strict=True) for sap in saps]
    assert sorted(rows) == sorted(asked)


@pytest.mark.parametrize("model", ["prompt_only", "no_prompt", "logistic"])
def test_a_model_without_questions_is_refused(model):
    with pytest.raises(RecipeError, match=f"questions: found 'a_m' with model '{model}', expected model 'proda'"):
        make_recipe("smoke", model=model, questions="a_m")
