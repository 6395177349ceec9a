import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

from proda_lib.batch import SceneGraphBatch, collate
from proda_lib.errors import CheckpointError, RecipeError
from proda_lib.losses import disentanglement_loss, reconstruction_loss
from proda_lib.models.config import ModelConfig
from proda_lib.models.controls import EncoderOnly, NoPrompt, PromptOnly
from proda_lib.models.proda import ProDA, ProDAOutput
from proda_lib.training.recipe import RELEASED, make_recipe
from proda_lib.vocabulary import Vocabulary
from tests import reference
from tests.graphs import C, R, add_empty_slots, double, make_graph, make_graphs, randomize, unpack, unpack_edges

SLOTS = 5
CONFIG = ModelConfig(actions=C, objects=5, relations=R, frames=7, slots=SLOTS, width=8, heads=2, layers=2, depth=1,
                     candidates=3)  # fmt: skip
ROW_VIDEO = (0, 0, 1, 2)
SAP = torch.rand(4, C, generator=torch.Generator().manual_seed(5)) < 0.4
#: The part of the released settings that is the model's.
RELEASED_MODEL = {f.name: RELEASED[f.name] for f in dataclasses.fields(ModelConfig) if f.name in RELEASED}
VARIANTS = {
    "paper": {},
    "released": RELEASED_MODEL,
    "visual": {"visual": 3},
    "dual": {"branches": "dual"},
    "simple": {"prompt": "simple"},
    "dual simple": {"branches": "dual", "prompt": "simple"},
    "layer": {"norm": "layer"},
    "batch": {"norm": "batch"},
    "graph": {"norm": "graph"},
}
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)


def make(kind=ProDA, variant: str = "paper", **changes):
    """A model in double precision and evaluation mode with random weights, and the three videos."""
    config = dataclasses.replace(CONFIG, **{**VARIANTS[variant], **changes})
    return randomize(kind(config), scale=0.3), make_graphs(config.visual)


def answers(output: ProDAOutput) -> dict[str, torch.Tensor]:
    heads = {name: getattr(output, name) for name in ("a_s", "a_u", "a_t", "a_m")}
    return {f"{name}.{part}": getattr(head, part) for name, head in heads.items() for part in ("logits", "s")}


def same_answers(found: ProDAOutput, expected: ProDAOutput, tolerance: float = 1e-9) -> None:
    """Where one batch has more frames than the other, the frame scores there are zero."""
    for name, value in answers(expected).items():
        other = answers(found)[name]
        frames = min(value.shape[1], other.shape[1])
        torch.testing.assert_close(other[:, :frames], value[:, :frames], atol=tolerance, rtol=0)
        assert not other[:, frames:].any() and not value[:, frames:].any()


# --- the equations, end to end ------------------------------------------------------------------------------------


@EVERY_VARIANT
def test_proda_equals_its_reference(variant):
    model, graphs = make(variant=variant)
    weights = reference.Weights.of(model)
    output = model(double(collate(graphs)), SAP, ROW_VIDEO)
    nodes = {name: unpack(getattr(output, name), output.rows, SLOTS)
             for name in ("specified", "unspecified", "rebuilt", "delta")}  # fmt: skip
    w = unpack_edges(output.w.T, output.rows, 9)
    for row, video in enumerate(ROW_VIDEO):
        graph = add_empty_slots(graphs[video], SLOTS - graphs[video].num_slots)  # released counts absent slots
        T, present = graph.num_frames, graph.present
        expected = reference.proda(weights, model.config, graph, SAP[row].numpy())
        for name, value in nodes.items():
            np.testing.assert_allclose(value[row][:T][present], getattr(expected, name)[present], atol=1e-9)
        for name in ("a_s", "a_u", "a_t", "a_m"):
            found, wanted = getattr(output, name), getattr(expected, name)
            place = video if name == "a_m" else row  # a_m has one row per video
            np.testing.assert_allclose(found.logits[place].detach(), wanted.logits, atol=1e-9, err_msg=name)
            np.testing.assert_allclose(found.s[place, :T].detach(), wanted.s, atol=1e-9, err_msg=name)
        exists = graphs[video].edge_present
        found = w[row][:T, : exists.shape[1]]
        wanted = np.moveaxis(expected.w, 0, -1)[:, : exists.shape[1]]
        np.testing.assert_allclose(found[exists], wanted[exists], atol=1e-9)
        assert exists.sum() == (output.rows.edge_graph == row).sum()


@pytest.mark.parametrize("variant", ["dual", "dual simple"])
def test_two_prompt_modules_are_each_run_on_their_own_branch(variant):
    """The same as both modules on all rows, of which each row keeps one; and half of the work."""
    model, graphs = make(variant=variant)
    batch, rows, both = double(collate(graphs)), list(ROW_VIDEO), torch.cat([SAP, ~SAP])
    found = model(batch, SAP, rows)

    class OnAll(torch.nn.Module):
        def candidates(self, specifications):
            return [module.candidates(specifications) for module in model.prompts]

        def forward(self, nodes, given, rows):
            s, u = (module(nodes, each, rows) for module, each in zip(model.prompts, given, strict=True))
            return torch.where(rows.graph[:, None] < len(SAP), s, u)

    old = copy.copy(model)
    old._modules = {**model._modules, "prompts": torch.nn.ModuleList([OnAll()])}
    expected = old.parse(found.encoded, batch.rows(rows), both, ("s", "u"))
    torch.testing.assert_close(torch.cat([found.specified, found.unspecified]), expected.nodes, atol=1e-6, rtol=0)
    assert not torch.allclose(found.specified, found.unspecified)

    sizes = []
    for module in model.prompts:
        module.register_forward_hook(lambda module, inputs, output: sizes.append((module, len(output))))
    model(batch, SAP, rows)
    places = 1 + model.config.layers
    for module in model.prompts:
        assert [size for other, size in sizes if other is module] == places * [len(found.rows.node)]


def test_videos_that_are_already_encoded_are_not_encoded_again(monkeypatch):
    model, graphs = make()
    batch = double(collate(graphs))
    expected, encoded = model(batch, SAP, ROW_VIDEO), model.encode(batch)
    monkeypatch.setattr(model, "encode", lambda batch: pytest.fail("encoded again"))
    found = model(batch, SAP, ROW_VIDEO, encoded)
    same_answers(found, expected, tolerance=0)
    assert found.encoded is encoded


@pytest.mark.parametrize("variant", ["paper", "released", "visual"])
@pytest.mark.parametrize("kind, twin", [(NoPrompt, reference.no_prompt), (EncoderOnly, reference.encoder_only)])
def test_controls_equal_their_reference(kind, twin, variant):
    model, graphs = make(kind, variant)
    output = model(double(collate(graphs)))
    assert output.logits.shape == (3, C)
    for video, graph in enumerate(graphs):
        graph = add_empty_slots(graph, SLOTS - graph.num_slots)
        expected = twin(reference.Weights.of(model), model.config, graph)
        np.testing.assert_allclose(output.logits[video].detach(), expected.logits, atol=1e-9)
        np.testing.assert_allclose(output.s[video, : graph.num_frames].detach(), expected.s, atol=1e-9)


def test_prompt_only_sees_the_specification_alone():
    model = PromptOnly(C, hidden=16)
    expected = reference.mlp(reference.Weights.of(model.mlp), SAP.numpy().astype(float))
    a_s, a_u, a_t = model(SAP)
    assert a_s.shape == a_u.shape == (4, C + 1) and a_t.shape == (4, C)
    np.testing.assert_allclose(torch.cat([a_s, a_t], -1).detach(), expected, atol=1e-5)
    expected = reference.mlp(reference.Weights.of(model.rest), SAP.numpy().astype(float))
    np.testing.assert_allclose(a_u.detach(), expected, atol=1e-5)


def test_shapes_and_no_action():
    model, graphs = make()
    output = model(double(collate(graphs)), SAP, ROW_VIDEO)
    assert output.a_s.logits.shape == output.a_u.logits.shape == (4, C + 1)
    assert output.a_t.logits.shape == (4, C) and output.a_m.logits.shape == (3, C)
    torch.testing.assert_close(output.original, output.encoded.nodes[output.rows.node])


# --- padding and order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@EVERY_VARIANT
def test_empty_slots_change_nothing(variant, precision):
    model, graphs = make(variant=variant, slots=9)
    model = model.to(precision)
    padded = [add_empty_slots(graph, extra) for graph, extra in zip(graphs, (1, 4, 2), strict=True)]
    outputs = []
    for batch in (collate(graphs), collate(padded)):
        outputs.append(model(double(batch) if precision == torch.float64 else batch, SAP, ROW_VIDEO))
    same_answers(outputs[1], outputs[0], 1e-6 if precision == torch.float32 else 1e-9)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@EVERY_VARIANT
def test_longer_videos_in_the_batch_change_nothing(variant, precision):
    model, graphs = make(variant=variant)
    model = model.to(precision)
    longer = make_graph(9, frames=7, slots=5, edges=12, visual=model.config.visual)
    together = collate([*graphs, longer])
    together = together if precision == torch.float32 else double(together)
    output = model(together, torch.cat([SAP, SAP[:1]]), (*ROW_VIDEO, 3))
    for video, graph in enumerate(graphs):
        rows = [row for row, of in enumerate(ROW_VIDEO) if of == video]
        alone = collate([graph])
        alone = model(alone if precision == torch.float32 else double(alone), SAP[rows], [0] * len(rows))
        tolerance = 1e-6 if precision == torch.float32 else 1e-9
        for name, expected in answers(alone).items():
            found = answers(output)[name][[video] if name.startswith("a_m") else rows]
            torch.testing.assert_close(found[:, : expected.shape[1]], expected, atol=tolerance, rtol=0)
            assert not found[:, expected.shape[1] :].any()


def test_empty_slots_and_longer_videos_change_no_loss_and_no_gradient():
    model, graphs = make()
    longer = make_graph(9, frames=7, slots=5)
    results = []
    for videos in (graphs, [*(add_empty_slots(g, 3) for g in graphs), longer]):
        model.zero_grad()
        output = model(double(collate(videos)), SAP, ROW_VIDEO)
        dis = disentanglement_loss(output.unspecified, output.specified, output.rows, 0.0)
        rec = reconstruction_loss(output.original, output.rebuilt, output.rows, 0.0)
        (dis + rec + output.a_t.logits.square().sum()).backward()
        results.append([dis, rec, *(p.grad for p in model.parameters() if p.grad is not None)])
    for plain, padded in zip(*results, strict=True):
        torch.testing.assert_close(padded, plain, atol=1e-9, rtol=1e-9)


@EVERY_VARIANT
def test_order_changes_nothing(variant):
    """Neither that of the videos in the batch, nor that of the rows."""
    model, graphs = make(variant=variant)
    expected = model(double(collate(graphs)), SAP, ROW_VIDEO)
    order, rows = [2, 0, 1], [3, 1, 0, 2]
    batch = double(collate([graphs[i] for i in order]))
    output = model(batch, SAP[rows], [order.index(ROW_VIDEO[r]) for r in rows])
    for name, value in answers(output).items():
        wanted = answers(expected)[name][order if name.startswith("a_m") else rows]
        torch.testing.assert_close(value, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_videos_without_edges_or_without_nodes(variant):
    model, graphs = make(variant=variant)
    lonely, empty = make_graph(4, edges=0), make_graph(5, absent=(0, 1, 2, 3))
    assert not empty.present.any()
    batch = double(collate([lonely, empty, *graphs]))
    output = model(batch, SAP, (0, 1, 2, 4))
    assert all(value.isfinite().all() for value in answers(output).values())
    (output.a_t.logits.sum() + output.a_m.logits.sum()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    alone = model(double(collate([lonely])), SAP[:1], (0,))  # no edge in the whole batch
    torch.testing.assert_close(alone.a_t.logits[0], output.a_t.logits[0], atol=1e-9, rtol=0)


# --- what may depend on what --------------------------------------------------------------------------------------


@EVERY_VARIANT
def test_ask_is_forward_without_the_other_branch(variant):
    model, graphs = make(variant=variant)
    batch = double(collate(graphs))
    asked, output = model.ask(batch, model.encode(batch), SAP, ROW_VIDEO), model(batch, SAP, ROW_VIDEO)
    for part in ("logits", "s", "feature"):
        torch.testing.assert_close(getattr(asked, part), getattr(output.a_s, part), atol=1e-9, rtol=0)


def without_relations(batch: SceneGraphBatch) -> SceneGraphBatch:
    return dataclasses.replace(batch, relations=torch.zeros_like(batch.relations))


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_a_m_depends_neither_on_relations_nor_on_the_prompt(variant):
    model, graphs = make(variant=variant)
    batch = double(collate(graphs))
    expected = model(batch, SAP, ROW_VIDEO)
    for other in (model(without_relations(batch), SAP, ROW_VIDEO), model(batch, ~SAP, ROW_VIDEO)):
        assert torch.equal(other.a_m.logits, expected.a_m.logits) and torch.equal(other.a_m.s, expected.a_m.s)
        for name in ("a_s", "a_u", "a_t"):
            assert not torch.allclose(getattr(other, name).logits, getattr(expected, name).logits)


def test_encoder_only_trains_what_its_answer_depends_on_and_nothing_else():
    """Of several processes, each waits for the gradient of every parameter that trains."""
    model = EncoderOnly(CONFIG)
    model(collate(make_graphs())).logits.sum().backward()
    used = {id(p) for part in model.used() for p in part.parameters()}
    assert used == {id(p) for p in model.parameters() if p.grad is not None}
    idle = {name for name, p in model.named_parameters() if id(p) not in used}
    assert {name.rpartition(".")[0] for name in idle} == {"encoder.edge.0", "encoder.edge.2", "encoder.relation"}
    kept = {name for name in NoPrompt(CONFIG).state_dict() if name.startswith("encoder.")}
    assert {name for name in model.state_dict() if name.startswith("encoder.")} == kept, "saved weights still fit"


def test_no_prompt_sees_relations_and_encoder_only_does_not():
    for kind, sees in ((NoPrompt, True), (EncoderOnly, False)):
        model, graphs = make(kind)
        batch = double(collate(graphs))
        assert torch.equal(model(batch).logits, model(without_relations(batch)).logits) != sees


@pytest.mark.parametrize("branches, modules", [("single", 1), ("dual", 2)])
def test_the_complement_swaps_the_branches_only_with_one_prompt_module(branches, modules):
    """One VGPNN and, in "single", one prompt module: with equal branch FFNs, F_u of a SAP is F_s of its UAP."""
    model, graphs = make(variant="paper", branches=branches)
    assert len(model.prompts) == modules
    model.branch_ffn["u"].load_state_dict(model.branch_ffn["s"].state_dict())
    batch = double(collate(graphs))
    swapped = torch.allclose(model(batch, SAP, ROW_VIDEO).unspecified, model(batch, ~SAP, ROW_VIDEO).specified)
    assert swapped == (branches == "single")


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_every_parameter_is_trained(variant):
    model, graphs = make(variant=variant)
    model.train()
    output = model(double(collate(graphs)), SAP, ROW_VIDEO)
    encoded = output.encoded
    terms = [head.logits for head in (output.a_s, output.a_u, output.a_t, output.a_m)] + [output.rebuilt]
    if model.config.graph_supervision:
        terms += [model.object_head(encoded.adapted), model.relation_head(encoded.links)]
    sum(term.square().sum() for term in terms).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@EVERY_VARIANT
def test_mixed_precision_runs(variant):
    """``precision="bf16-mixed"`` of a recipe."""
    model, graphs = make(variant=variant)
    model = model.float().train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(collate(graphs), SAP, ROW_VIDEO)
    sum(value.float().sum() for value in answers(output).values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# --- settings and saving ------------------------------------------------------------------------------------------


def test_the_presets_of_a_recipe_reach_its_model():
    vocabulary = Vocabulary("toy", ("person",), ("near",), ("open",))
    config = ModelConfig(actions=1, objects=1, relations=1)
    assert make_recipe("paper").model_config(vocabulary) == config
    paper = {"frames": 16, "slots": 10, "width": 768, "heads": 12, "layers": 3, "depth": 2, "candidates": 10,
             "dropout": 0.1, "prompt": "dpm", "branches": "single", "norm": "vgnorm", "wiring": "figure5",
             "fusion_mlp": False, "message_norm": False, "graph_supervision": False}  # fmt: skip
    assert {name: getattr(config, name) for name in paper} == paper
    changed = {"norm": "vgnorm_released", "wiring": "released", "fusion_mlp": True, "message_norm": True,
               "graph_supervision": True}  # fmt: skip
    assert changed == RELEASED_MODEL
    released = make_recipe("paper", preset="released")
    assert released.model_config(vocabulary) == dataclasses.replace(config, **changed)
    assert dataclasses.replace(released, norm="layer").model_config(vocabulary).norm == "layer"
    for name, value in changed.items():  # each alone too
        single = make_recipe("paper", **{name: value})
        assert single.model_config(vocabulary) == dataclasses.replace(config, **{name: value})


@pytest.mark.parametrize("name, value", [
    ("prompt", "dynamic"), ("branches", "two"), ("norm", "vg"), ("wiring", "figure6"), ("actions", 0), ("frames", 0),
    ("layers", 0), ("width", 10), ("candidates", 0),
])  # fmt: skip
def test_config_errors_name_the_setting(name, value):
    with pytest.raises(RecipeError, match=rf"ModelConfig\.{name}: found '?{value}'?, expected"):
        ModelConfig(**{"actions": C, "objects": 5, "relations": R, name: value})


@pytest.mark.parametrize("kind", [ProDA, NoPrompt, EncoderOnly])
@pytest.mark.parametrize("variant", ["paper", "released", "dual"])
def test_save_and_load(tmp_path, kind, variant):
    model, graphs = make(kind, variant)
    model = model.float()
    model.save_pretrained(tmp_path / "new" / "folder")
    loaded = kind.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.config == model.config and not loaded.training
    questions = (SAP, ROW_VIDEO) if kind is ProDA else ()
    found, expected = (m(collate(graphs), *questions) for m in (loaded, model))
    assert torch.equal(*(o.a_t.logits if kind is ProDA else o.logits for o in (found, expected)))
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["config.json", "model.safetensors"]


@pytest.fixture
def saved(tmp_path):
    make()[0].float().save_pretrained(tmp_path)
    return tmp_path


def test_another_model_class_is_refused(saved):
    with pytest.raises(CheckpointError, match="config.json: model: found 'ProDA', expected 'NoPrompt'"):
        NoPrompt.from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_and_cut_files_are_named(saved, name):
    path = saved / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=name):
        ProDA.from_pretrained(saved)
    path.unlink()
    with pytest.raises(CheckpointError, match=name):
        ProDA.from_pretrained(saved)


@pytest.mark.parametrize("change, word", [
    ({"norm": "vgnom"}, "vgnom"), ({"colour": 1}, "colour"), ({"width": 9}, "width"), ({"width": "8"}, "width"),
    ({"dropout": 2.0}, "dropout"),
    ({"feature_scale": 1e308}, "feature_scale"),
])  # fmt: skip
def test_a_bad_setting_is_named(saved, change, word):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=rf"config\.json.*{word}"):
        ProDA.from_pretrained(saved)


def test_a_config_that_is_no_table_is_refused(saved):
    (saved / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="config.json"):
        ProDA.from_pretrained(saved)


def test_weights_of_another_size_are_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "width": 16}))
    with pytest.raises(CheckpointError, match="(?s)model.safetensors.*size mismatch") as caught:
        ProDA.from_pretrained(saved)
    assert len(str(caught.value)) < 1000  # not one line for each of several hundred tensors
