import numpy as np
import torch

from proda_lib.batch import collate
from proda_lib.nn.readout import PRIOR, Readout, localization_score
from tests import reference
from tests.graphs import (
    check_gradients,
    dense_masks,
    double,
    make_graph,
    randn,
    random_rows,
    randomize,
    unpack,
    without_nodes,
)


def test_readout():
    graphs, batch, rows = random_rows((0, 1, 2, 1))
    module, nodes = randomize(Readout(8, 7)), randn(len(rows.node), 8)
    found, weights = module(nodes, rows, batch.frame_mask), reference.Weights.of(module)
    for g, (dense, mask) in enumerate(zip(unpack(nodes, rows, 5), dense_masks(rows, 5), strict=True)):
        T = graphs[rows.video[g]].num_frames
        expected = reference.readout(weights, dense[:T], mask[:T])
        np.testing.assert_allclose(found.logits[g].detach(), expected.logits, atol=1e-9)
        np.testing.assert_allclose(found.feature[g].detach(), expected.feature, atol=1e-9)
        np.testing.assert_allclose(found.s[g, :T].detach(), expected.s, atol=1e-9)
        assert not found.s[g, T:].any()  # frames that pad a shorter video


def test_every_frame_of_a_video_counts_also_without_nodes():
    """A frame in which nobody is there still has a score; frames that the video does not have weigh nothing."""
    graph, longer = without_nodes(make_graph(frames=3, slots=2, edges=2), 1), make_graph(1, frames=5)
    module, answers = randomize(Readout(8, 7)), []
    for graphs in ([graph], [graph, longer]):
        batch = double(collate(graphs))
        rows = batch.rows([0])
        answers.append(module(randn(len(rows.node), 8), rows, batch.frame_mask))
    alone, together = answers
    assert (alone.s > 0).all() and torch.equal(together.s[:, :3], alone.s) and not together.s[:, 3:].any()
    torch.testing.assert_close(together.logits, alone.logits, atol=1e-12, rtol=0)


def test_gradients():
    _, batch, rows = random_rows((0, 1, 2))
    module = randomize(Readout(4, 3))

    def answer(nodes):
        found = module(nodes, rows, batch.frame_mask)
        return found.logits, found.s

    assert check_gradients(module, answer, randn(len(rows.node), 4))


def test_localization_score():
    s = torch.tensor([[0.2, 0.4, 0.1], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.25, 1.0, 0.0625], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(localization_score(s), expected)


def test_every_class_starts_at_the_prior():
    classifier = Readout(8, 5).classifier
    assert torch.allclose(torch.sigmoid(classifier.bias), torch.full((5,), PRIOR))
