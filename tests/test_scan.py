import dataclasses

import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.evaluation.scan import (
    MEMORY,
    MEMORY_OF_BOTH,
    ask_in_chunks,
    budget,
    rows_of_both,
    rows_within,
    scan,
    scan_frames,
    two_step,
    two_step_scores,
)
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from tests.graphs import C, R, double, make_full, make_graphs, randomize

CONFIG = ModelConfig(actions=C, objects=5, relations=R, frames=7, slots=5, width=8, heads=2, layers=2, depth=1,
                     candidates=3)  # fmt: skip


@pytest.fixture
def asked():
    return randomize(ProDA(CONFIG), scale=0.3), double(collate(make_graphs()))


@pytest.mark.parametrize("memory", [1, 20_000, MEMORY])
def test_scan_is_one_question_at_a_time(asked, memory):
    model, batch = asked
    found, s = scan_frames(model, batch, memory=memory)
    assert found.shape == (3, C) and s.shape == (3, C, batch.frame_mask.shape[1])
    torch.testing.assert_close(scan(model, batch, memory=memory), found, atol=0, rtol=0)
    for video in range(3):
        for action in range(C):
            sap = torch.zeros(1, C, dtype=torch.bool)
            sap[0, action] = True
            alone = model(batch, sap, [video]).a_s
            torch.testing.assert_close(found[video, action], alone.logits[0, action], atol=1e-9, rtol=0)
            torch.testing.assert_close(s[video, action], alone.s[0], atol=1e-9, rtol=0)


def test_scan_of_some_actions(asked):
    model, batch = asked
    torch.testing.assert_close(scan(model, batch, [4, 1]), scan(model, batch)[:, [4, 1]], atol=1e-12, rtol=0)


def test_chunks_follow_the_memory(asked, monkeypatch):
    model, batch = asked
    one = 4 * CONFIG.width * (12 * max(batch.track_counts) * 5 + 8 * max(batch.node_counts) + 1)
    assert rows_within(one, CONFIG, batch) == 1 == rows_within(1, CONFIG, batch)
    assert rows_within(3 * one, CONFIG, batch) == 3
    sizes = []
    real = model.ask
    monkeypatch.setattr(model, "ask", lambda b, e, sap, rows: (sizes.append(len(sap)), real(b, e, sap, rows))[1])
    ask_in_chunks(model, batch, model.encode(batch), np.eye(C, dtype=bool), [0] * C, memory=3 * one)
    assert sizes == [3, 3, 1]


def test_every_video_may_have_its_own_actions(asked):
    model, batch = asked
    own = np.array([[4, 1], [0, 2], [6, 4]])
    expected = scan(model, batch).gather(1, torch.from_numpy(own))
    torch.testing.assert_close(scan(model, batch, own), expected, atol=1e-12, rtol=0)


def test_two_branches_take_twice_the_memory(asked):
    _, batch = asked
    one = 2**40 // rows_within(2**40, CONFIG, batch)
    assert rows_within(10 * one, CONFIG, batch, branches=2) == 5


def test_questions_at_a_time_at_the_sizes_of_committed_runs_and_of_the_paper():
    """256 rows up to width 128, as in the committed runs; at the paper's size fewer, within the budget."""
    slots, frames = 11, 16
    star = np.array([[0, k] for k in range(1, slots)] + [[k, 0] for k in range(1, slots)]).T
    batch = collate([make_full(frames, slots, star)])
    sizes = {width: rows_of_both(dataclasses.replace(CONFIG, width=width, heads=8), batch, 256) for width in (128, 768)}
    assert sizes[128] == 256 and 32 <= sizes[768] < 100
    assert 2 * sizes[768] * 4 * 768 * (12 * 20 * frames + 8 * slots * frames) <= MEMORY_OF_BOTH


def test_a_gpu_gives_a_quarter_of_what_it_has_free(monkeypatch):
    for name, value in (("mem_get_info", (40, 100)), ("memory_reserved", 30), ("memory_allocated", 10)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert budget(torch.device("cuda", 0)) == budget(torch.device("cuda", 0), 2) == (40 + 30 - 10) // 4
    assert (budget(torch.device("cpu")), budget(torch.device("cpu"), 2)) == (MEMORY, MEMORY_OF_BOTH)


# --- in two steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [3, 4, C])
def test_two_step_asks_for_the_best_of_a_m_only(asked, best, monkeypatch):
    model, batch = asked
    full, encoded = scan(model, batch), model.encode(batch)
    expected = model.unprompted(batch, encoded).logits
    passes, sizes, (encode, ask) = [], [], (model.encode, model.ask)
    monkeypatch.setattr(model, "encode", lambda b: (passes.append(b), encode(b))[1])
    monkeypatch.setattr(model, "ask", lambda b, e, sap, rows: (sizes.append(len(sap)), ask(b, e, sap, rows))[1])
    a_m, a_s = two_step(model, batch, best)
    assert len(passes) == 1 and sum(sizes) == best * len(batch)
    torch.testing.assert_close(a_m, expected, atol=0, rtol=0)
    chosen = torch.zeros_like(a_m, dtype=torch.bool).scatter(1, expected.topk(best).indices, True)
    assert len({tuple(row.tolist()) for row in chosen}) > 1 or best == C, "the same actions for all: says nothing"
    torch.testing.assert_close(a_s[chosen], full[chosen], atol=1e-12, rtol=0)
    assert torch.isneginf(a_s[~chosen]).all()
    # The ranking is that of the full scan of which only the chosen ones are read.
    masked = two_step_scores(a_m.numpy(), full.masked_fill(~chosen, torch.nan).numpy(), best)
    np.testing.assert_allclose(two_step_scores(a_m.numpy(), a_s.numpy(), best), masked, atol=1e-12)


def test_scores_of_two_steps_rank_the_asked_first_and_the_others_by_a_m():
    a_m = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 4.0, 6.0]])
    scanned = np.array([[-1.0, np.nan, 7.0, np.nan], [np.nan, 0.5, np.nan, -2.0]])
    found = two_step_scores(a_m, scanned, best=2)
    assert found[0, [0, 2]].tolist() == [-1.0, 7.0] and found[1, [1, 3]].tolist() == [0.5, -2.0]
    rest = [found[0, 1], found[0, 3], found[1, 0], found[1, 2]]
    assert max(rest) < -2.0 and rest[0] > rest[1] and rest[3] > rest[0] > rest[2]
    np.testing.assert_array_equal(two_step_scores(a_m, np.nan_to_num(scanned), best=4), np.nan_to_num(scanned))
