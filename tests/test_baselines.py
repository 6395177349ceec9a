import dataclasses

import numpy as np
import pytest
import torch

from proda_lib.batch import SceneGraphBatch, collate
from proda_lib.errors import CheckpointError, GraphError
from proda_lib.graph import SceneGraph
from proda_lib.losses import classification_loss
from proda_lib.models.baselines import (
    GPNN,
    BaselineOutput,
    FrameGCN,
    RelationLSTM,
    TokenTransformer,
    relation_counts,
)
from proda_lib.models.config import ModelConfig
from proda_lib.nn.readout import PRIOR
from tests import reference
from tests.graphs import (
    C,
    R,
    add_empty_slots,
    check_gradients,
    double,
    make_full,
    make_graph,
    make_graphs,
    randomize,
    without_nodes,
)

CONFIG = ModelConfig(actions=C, objects=5, relations=R, frames=7, slots=5, width=8, heads=2, layers=2, depth=1)
TWINS = {
    TokenTransformer: reference.token_transformer,
    FrameGCN: reference.frame_gcn,
    GPNN: reference.gpnn,
    RelationLSTM: reference.relation_lstm,
}
EVERY_BASELINE = pytest.mark.parametrize("kind", TWINS)
ON_TOKENS = pytest.mark.parametrize("kind", [TokenTransformer, FrameGCN, GPNN])
VARIANTS = pytest.mark.parametrize("changes", [{}, {"visual": 3}, {"layers": 1}, {"layers": 3, "depth": 2}], ids=str)


def make(kind, **changes):
    """A model in double precision and evaluation mode with random weights, and the three videos."""
    config = dataclasses.replace(CONFIG, **changes)
    return randomize(kind(config), scale=0.3), make_graphs(config.visual)


def logits(model, graphs: list[SceneGraph]) -> torch.Tensor:
    return model(double(collate(graphs))).logits.detach()


def same(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


# --- the equations ------------------------------------------------------------------------------------------------


@VARIANTS
@EVERY_BASELINE
def test_it_equals_its_reference(kind, changes):
    """Also where a frame holds nobody, or nobody is there at all, or nothing is related."""
    model, graphs = make(kind, **changes)
    visual = model.config.visual
    graphs += [without_nodes(graphs[0], 1), make_graph(4, edges=0, visual=visual),
               make_graph(5, absent=(0, 1, 2, 3), visual=visual)]  # fmt: skip
    weights, output = reference.Weights.of(model), model(double(collate(graphs)))
    assert isinstance(output, BaselineOutput)
    assert output.logits.shape == (6, C) and output.feature.shape == (6, 8)
    for found, graph in zip(output.logits.detach(), graphs, strict=True):
        np.testing.assert_allclose(found, TWINS[kind](weights, model.config, graph), atol=1e-9)


def test_counts_of_one_frame():
    """A person holds and touches one of two cups (edges both ways), and a book is above the other cup (one way)."""
    edges = np.array([[0, 1, 3], [1, 0, 2]])
    graph = make_full(1, 4, edges)
    relations = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], dtype=bool)
    graph = dataclasses.replace(graph, classes=np.array([0, 1, 1, 2]), relations=relations)
    found = relation_counts(collate([graph, make_full(3, 2)]), objects=5)
    assert found.shape == (2, 3, 5 * (R + 1)) and not found[0, 1:].any()
    expected = [[2, 2, 0, 1], [2, 2, 1, 2], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found[0, 0].view(5, R + 1).tolist() == expected


# --- padding and order --------------------------------------------------------------------------------------------


@EVERY_BASELINE
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_absent_nodes_and_longer_videos_change_nothing(kind, precision):
    model, graphs = make(kind)
    model = model.to(precision)
    longer = make_graph(9, frames=7, slots=5, edges=12)
    padded = [add_empty_slots(graph, extra) for graph, extra in zip(graphs, (1, 4, 2), strict=True)]

    def answer(graphs: list[SceneGraph]) -> torch.Tensor:
        batch = collate(graphs)
        return model(double(batch) if precision == torch.float64 else batch).logits

    alone = torch.cat([answer([graph]) for graph in graphs])
    tolerance = 1e-5 if precision == torch.float32 else 1e-9
    same(answer(graphs), alone, tolerance)
    same(answer([*padded, longer])[:3], alone, tolerance)


@EVERY_BASELINE
def test_absent_nodes_and_longer_videos_change_no_gradient(kind):
    model, graphs = make(kind)
    results = []
    for videos in (graphs, [*(add_empty_slots(g, 3) for g in graphs), make_graph(9, frames=7)]):
        model.zero_grad()
        model(double(collate(videos))).logits[:3].square().sum().backward()
        results.append([p.grad for p in model.parameters()])
    for plain, padded in zip(*results, strict=True):
        same(padded, plain)


def shuffled(graph: SceneGraph, seed: int = 0) -> SceneGraph:
    """The same video with its slots and its edges in another order."""
    rng = np.random.default_rng(seed)
    slots, edges = np.roll(rng.permutation(graph.num_slots), 1), rng.permutation(graph.num_edges)
    return dataclasses.replace(
        graph, classes=graph.classes[slots], boxes=graph.boxes[:, slots], present=graph.present[:, slots],
        edges=np.argsort(slots)[graph.edges][:, edges], relations=graph.relations[:, edges],
        carriers=graph.carriers[:, edges], features=None if graph.features is None else graph.features[:, slots],
    )  # fmt: skip


@EVERY_BASELINE
def test_order_of_nodes_edges_and_videos_changes_nothing(kind):
    model, graphs = make(kind, visual=3)
    mixed = [shuffled(graph, seed) for seed, graph in enumerate(graphs)]
    assert not np.array_equal(mixed[0].edges, graphs[0].edges)
    same(logits(model, mixed[::-1]), logits(model, graphs).flip(0))


# --- what the answer depends on -----------------------------------------------------------------------------------


def reaches(model, batch: SceneGraphBatch, name: str) -> bool:
    """Whether other values of a field give every video another answer (or else: give all the same one)."""
    value = getattr(batch, name)
    other = 1 - value if name in ("relations", "boxes") else value + 1 if name.endswith("features") else value.flip(0)
    found, expected = model(dataclasses.replace(batch, **{name: other})).logits, model(batch).logits
    assert torch.equal(found, expected) or ((found - expected).abs().amax(1) > 1e-6).all()
    return not torch.equal(found, expected)


@EVERY_BASELINE
def test_what_reaches_the_answer(kind):
    """The LSTM counts classes and relations; the others see all that ProDA sees."""
    model, graphs = make(kind, visual=3)
    batch = double(collate(graphs))
    for name in ("boxes", "features", "frame_features"):
        assert reaches(model, batch, name) == (kind is not RelationLSTM), name
    for name in ("classes", "relations", "node_frame"):
        assert reaches(model, batch, name), name


def test_the_lstm_sees_order():
    model, graphs = make(RelationLSTM)
    expected = logits(model, graphs)
    turned = ("present", "boxes", "relations", "carriers")
    backwards = [dataclasses.replace(g, **{name: getattr(g, name)[::-1] for name in turned}) for g in graphs]
    assert ((logits(model, backwards) - expected).abs().amax(1) > 1e-6).all()


def test_frames_meet_only_in_the_mean():
    """FrameGCN and GPNN answer with the mean of one-frame videos, weighted by their nodes; a transformer does not."""
    graph = make_full(3, 2, ((0, 1), (1, 0)))
    for kind, meets in ((FrameGCN, False), (GPNN, False), (TokenTransformer, True)):
        model, _ = make(kind)
        with torch.no_grad():
            model.tokens.stem.position.zero_()
        frames = [graph.take_frames(np.array([i])) for i in range(3)]
        frames = [dataclasses.replace(f, boxes=f.boxes * (1 - 0.2 * i)) for i, f in enumerate(frames)]
        video = dataclasses.replace(graph, boxes=np.concatenate([f.boxes for f in frames]))
        assert torch.allclose(logits(model, [video])[0], logits(model, frames).mean(0), atol=1e-9) != meets


# --- training, saving, errors -------------------------------------------------------------------------------------


@EVERY_BASELINE
def test_every_parameter_is_trained(kind):
    for visual in (0, 3):
        model, graphs = make(kind, visual=visual)
        model.train()
        model(double(collate(graphs))).logits.square().sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@EVERY_BASELINE
def test_gradients(kind):
    model, graphs = make(kind, width=4, layers=1)
    batch = double(collate(graphs[:2]))

    def answer(relations: torch.Tensor) -> torch.Tensor:
        return model(dataclasses.replace(batch, relations=relations)).logits

    assert check_gradients(model, answer, batch.relations)


@EVERY_BASELINE
def test_a_batch_without_edges_or_without_nodes_trains(kind):
    """Every parameter gets a gradient, as processes that share a batch need, and none is NaN."""
    model, _ = make(kind)
    for graph in (make_graph(4, edges=0), make_graph(5, absent=(0, 1, 2, 3))):
        model.zero_grad()
        model.train()(double(collate([graph]))).logits.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@EVERY_BASELINE
def test_it_learns_four_videos_by_heart(kind):
    torch.manual_seed(0)
    model = kind(dataclasses.replace(CONFIG, width=16, layers=1, dropout=0.0)).train()
    batch = collate([make_graph(seed, frames=5, slots=4, edges=8) for seed in range(4)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(50):
        loss = classification_loss(model(batch).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@EVERY_BASELINE
def test_every_class_starts_at_the_prior(kind):
    bias = kind(CONFIG).classifier.linear.bias
    torch.testing.assert_close(torch.sigmoid(bias), torch.full((C,), PRIOR))


@EVERY_BASELINE
def test_dropout_only_in_training(kind):
    model, graphs = make(kind, dropout=0.5)
    batch = double(collate(graphs))
    assert torch.equal(model(batch).logits, model(batch).logits)
    model.train()
    assert not torch.equal(model(batch).logits, model(batch).logits)


@EVERY_BASELINE
def test_mixed_precision_runs(kind):
    model, graphs = make(kind)
    model = model.float().train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(collate(graphs))
    output.logits.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@EVERY_BASELINE
def test_save_and_load(tmp_path, kind):
    model, graphs = make(kind)
    model = model.float()
    model.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert loaded.config == model.config and not loaded.training
    assert torch.equal(loaded(collate(graphs)).logits, model(collate(graphs)).logits)
    other = next(k for k in TWINS if k is not kind)
    with pytest.raises(CheckpointError, match=f"found '{kind.__name__}', expected '{other.__name__}'"):
        other.from_pretrained(tmp_path)


@ON_TOKENS
def test_input_that_the_model_was_not_made_for_is_refused(kind):
    model, graphs = make(kind)
    with pytest.raises(GraphError, match="frames: found 9, expected at most 7"):
        model(double(collate([make_graph(frames=9)])))
    with pytest.raises(GraphError, match="features: found width 3, expected width 0"):
        model(double(collate(make_graphs(visual=3))))
