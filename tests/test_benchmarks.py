"""The yardsticks of ``benchmarks/`` give the library's numbers: forward, losses, gradients and training."""

import dataclasses

import pytest
import torch

from benchmarks.dense import DenseBatch
from benchmarks.reference_model import FairProDA, ReferenceProDA, losses
from benchmarks.weights import from_library, to_library
from proda_lib.batch import collate
from proda_lib.models.config import RELEASED
from proda_lib.models.proda import ProDA
from proda_lib.training.data import Rows
from proda_lib.training.loop import make_optimizer
from proda_lib.training.recipe import Recipe
from proda_lib.training.stages import pretrain_losses
from tests.graphs import add_empty_slots, double, make_graph, make_graphs, randomize
from tests.test_models import CONFIG, ROW_VIDEO, SAP

SLOTS = 6
VARIANTS = {"paper": {}, "dual": {"branches": "dual"}, "simple": {"prompt": "simple"}, "visual": {"visual": 3},
            "dual simple": {"branches": "dual", "prompt": "simple"}}  # fmt: skip
KINDS = pytest.mark.parametrize("kind", [ReferenceProDA, FairProDA])
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)
RECIPE = Recipe(margin_dis=0.0, margin_rec=0.0)  # so that both terms have a gradient


def make(variant: str):
    """A library model with random weights, and videos that differ in frames, slots and edges, one of them twice."""
    config = dataclasses.replace(CONFIG, slots=SLOTS, dropout=0.0, **VARIANTS[variant])
    graphs = make_graphs(config.visual)
    graphs[0] = add_empty_slots(graphs[0], 2)
    assert graphs[0].edges.min(0).any(), "an edge that is not of the person's star"
    return randomize(ProDA(config), scale=0.3), graphs


def heads(output, per_video: bool) -> dict[str, torch.Tensor]:
    """Logits and frame scores of all heads; a_m once per row."""
    found = {}
    for name in ("a_s", "a_u", "a_t", "a_m"):
        for part in ("logits", "s"):
            value = getattr(getattr(output, name), part)
            found[f"{name}.{part}"] = value[list(ROW_VIDEO)] if name == "a_m" and per_video else value
    return found


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@KINDS
@EVERY_VARIANT
@pytest.mark.parametrize("gradients", [True, False])  # without them, nn.MultiheadAttention takes another path
def test_forward_in_single_precision(kind, variant, gradients):
    model, graphs = make(variant)
    model = model.float()
    with torch.set_grad_enabled(gradients):
        expected = heads(model(collate(graphs), SAP, ROW_VIDEO), per_video=True)
        twin = kind.from_library(model)
        found = heads(twin(DenseBatch.of(graphs, SLOTS), SAP, ROW_VIDEO), per_video=kind is FairProDA)
        same(found, expected, 1e-5)
        asked = twin.ask(DenseBatch.of(graphs, SLOTS), SAP, ROW_VIDEO)
        same({"logits": asked.logits, "s": asked.s}, {n: expected[f"a_s.{n}"] for n in ("logits", "s")}, 1e-5)


def training_pair(kind, variant: str):
    """Library and yardstick in training mode and double precision, each with a function from no argument to losses."""
    model, graphs = make(variant)
    model = model.train()
    twin = kind.from_library(model)
    rows = Rows(double(collate(graphs)), SAP, ROW_VIDEO)
    dense = DenseBatch.of(graphs, SLOTS).to(torch.float64)

    def ours() -> dict[str, torch.Tensor]:
        return pretrain_losses(model, rows, 0.0, recipe=RECIPE, inner=model)

    def theirs() -> dict[str, torch.Tensor]:
        return losses(twin(dense, SAP, ROW_VIDEO), dense, SAP, ROW_VIDEO, RECIPE.margin_dis, RECIPE.margin_rec)

    return model, twin, ours, theirs, rows, dense


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@KINDS
@EVERY_VARIANT
def test_losses_and_gradients(kind, variant):
    model, twin, ours, theirs, *_ = training_pair(kind, variant)
    expected, found = ours(), theirs()
    same(found, expected, 1e-9)
    assert all(value > 1e-3 for value in expected.values())
    sum(expected.values()).backward()
    sum(found.values()).backward()
    expected = gradients(model)
    trained = [name for name, _ in model.named_parameters() if not name.startswith("readout_m")]
    assert sorted(expected) == sorted(trained)
    same(to_library(gradients(twin)), expected, 1e-9)
    same(to_library(twin.state_dict()), model.state_dict(), 1e-9)  # running means among them


@KINDS
@EVERY_VARIANT
def test_twenty_training_steps(kind, variant):
    model, twin, ours, theirs, rows, dense = training_pair(kind, variant)
    curves = []
    for module, terms in ((model, ours), (twin, theirs)):
        optimizer, curve = make_optimizer([module], 1e-3, 1e-3), []
        for _ in range(20):
            optimizer.zero_grad()
            loss = torch.stack(list(terms().values())).sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimizer.step()
            curve.append(loss.detach())
        curves.append(torch.stack(curve))
    same({"loss": curves[1]}, {"loss": curves[0]}, 1e-9)
    assert curves[0][-1] < curves[0][0] - 0.1
    model.eval(), twin.eval()
    expected = heads(model(rows.batch, SAP, ROW_VIDEO), per_video=True)
    same(heads(twin(dense, SAP, ROW_VIDEO), per_video=kind is FairProDA), expected, 1e-9)


@KINDS
def test_padding_and_videos_without_nodes_or_edges(kind):
    """More slots than any video has, a video without edges, one in which nothing is ever present."""
    model, graphs = make("paper")
    graphs += [make_graph(4, edges=0), make_graph(5, absent=(0, 1, 2, 3))]
    sap, row_video = torch.cat([SAP, SAP[:2]]), (*ROW_VIDEO, 3, 4)
    expected = model(double(collate(graphs)), sap, row_video)
    found = kind.from_library(model)(DenseBatch.of(graphs, 9).to(torch.float64), sap, row_video)
    for name in ("a_s", "a_u", "a_t"):
        for part in ("logits", "s"):
            torch.testing.assert_close(
                getattr(getattr(found, name), part), getattr(getattr(expected, name), part), atol=1e-9, rtol=0
            )


def test_names_go_to_the_yardstick_and_back():
    model, _ = make("dual")
    state = model.state_dict()
    there = from_library(state)
    assert set(there) == set(ReferenceProDA(model.config).state_dict()) != set(state)
    back = to_library(there)
    assert list(sorted(back)) == list(sorted(state)) and all(torch.equal(back[name], state[name]) for name in state)


def test_the_yardstick_refuses_what_it_does_not_know():
    model = ProDA(dataclasses.replace(CONFIG, **RELEASED))
    with pytest.raises(ValueError, match="norm, wiring, fusion_mlp"):
        ReferenceProDA.from_library(model)
