import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.evaluation.scan import MEMORY, ask_in_chunks, rows_within, scan, scan_frames, two_step
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from tests.graphs import C, R, double, make_graphs, randomize

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


def test_two_step_asks_for_the_best_of_a_m_only():
    a_m = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 4.0, 6.0]])
    scanned = np.array([[-1.0, np.nan, 7.0, np.nan], [np.nan, 0.5, np.nan, -2.0]])
    found = two_step(a_m, scanned, best=2)
    assert found[0, [0, 2]].tolist() == [-1.0, 7.0] and found[1, [1, 3]].tolist() == [0.5, -2.0]
    rest = [found[0, 1], found[0, 3], found[1, 0], found[1, 2]]
    assert max(rest) < -2.0 and rest[0] > rest[1] and rest[3] > rest[0] > rest[2]
    np.testing.assert_array_equal(two_step(a_m, np.nan_to_num(scanned), best=4), np.nan_to_num(scanned))
