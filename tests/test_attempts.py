"""Other ways to ask the same weights: iterated self-consistency, and averages with a_m."""

import copy

import numpy as np
import pytest
import torch

from proda_lib.datasets import world
from proda_lib.evaluation import attempts
from proda_lib.evaluation.protocols import LabelFree, ask, batches, self_questions
from proda_lib.models.proda import ProDA
from proda_lib.training.recipe import make_recipe

K = 6


@pytest.fixture(scope="module")
def asked():
    torch.manual_seed(0)
    graphs = world.make_videos(world.WorldConfig(), "test", 5)
    model = ProDA(make_recipe("smoke", frames=6).model_config(graphs[0].vocabulary)).eval()
    with torch.no_grad():  # untrained heads answer nearly the same about all actions
        model.readout_s.classifier.weight.mul_(20)
        model.readout_m.classifier.weight.mul_(20)
    return model, graphs


def test_one_round_is_the_protocol_self(asked, monkeypatch):
    monkeypatch.setattr(attempts, "ROUNDS", 1)
    model, graphs = asked
    once = attempts.iterated_self(model, graphs, K, 6)
    np.testing.assert_allclose(once, ask(model, graphs, self_questions(K), 6).a_s, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_iteration_ends_where_asking_again_changes_nothing(asked):
    model, graphs = copy.deepcopy(asked[0]), asked[1]
    model.readout_s.classifier.bias.add_(30)  # what is asked for is mostly kept, else SAPs go round in circles
    last = attempts.iterated_self(model, graphs, K, 6)
    sap, first = np.isfinite(last), ask(model, graphs, self_questions(K), 6)
    assert (sap.sum(1) == K).all()
    assert (sap != np.isfinite(first.a_s)).any(), "no SAP moved: the test says nothing"
    again = ask(model, graphs, lambda a_m: (np.arange(len(graphs)), sap), 6).a_s
    np.testing.assert_allclose(again, last, rtol=1e-4, atol=1e-5)
    a_m = next(model.unprompted(batch, model.encode(batch)).logits for _, batch in batches(model, graphs, 6, "cpu"))
    best = np.argsort(-np.where(sap, again, a_m), axis=1)[:, :K]
    assert [set(row) for row in best] == [set(np.flatnonzero(row)) for row in sap]


def test_iteration_that_does_not_end_is_stopped(asked, monkeypatch):
    model, graphs = asked
    rounds, real = [], model.ask
    monkeypatch.setattr(model, "ask", lambda *given: rounds.append(given) or real(*given))
    attempts.iterated_self(model, graphs, K, 6)
    assert len(rounds) == attempts.ROUNDS


def test_averages_are_of_probabilities_and_leave_the_others_out():
    rng = np.random.default_rng(0)
    a_m, a_s = rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    a_s[0, 0] = -np.inf  # not asked
    answer = LabelFree(a_s, None, np.zeros((2, 3, 4), dtype=np.float32))
    found = attempts.averaged({"partition/1": answer, "self": answer, "scan": answer}, a_m)
    expected = (1 / (1 + np.exp(-a_s)) + 1 / (1 + np.exp(-a_m))) / 2
    assert set(found) == {"partition_with_a_m/1/a_s", "scan_with_a_m/a_s"}
    np.testing.assert_allclose(found["scan_with_a_m/a_s"], expected, rtol=1e-6)
