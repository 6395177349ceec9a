"""What the explorer shows is what the model computes: as data, and as widgets. Its page: test_explorer_page.py."""

import dataclasses
import re
from html import unescape
from pathlib import Path

import nbformat
import numpy as np
import pytest

from proda_lib.errors import ProdaError, RecipeError
from proda_lib.evaluation.explain import look
from proda_lib.evaluation.report import about
from proda_lib.explorer import precompute as pre
from proda_lib.explorer.app import explore
from proda_lib.explorer.page import Explorer, explorer, finding
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.specification import specification_length
from proda_lib.training.recipe import make_recipe
from proda_lib.training.runs import Run
from tests.explorer_cases import (
    OFFERED,
    VOCABULARY,
    C,
    data_of,
    make_data,
    make_graphs,
    make_model,
    make_small_data,
    make_small_graph,
)

NOTEBOOK = Path(__file__).parents[1] / "book/figures/explorer.ipynb"


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def graphs():
    return make_graphs()


@pytest.fixture(scope="module")
def data():
    return make_data()


def sap_of(entry: dict, places: list[int], filled: bool) -> np.ndarray:
    """The SAP of a choice, from the names that the page shows."""
    names = [entry["actions"][place] for place in places]
    names += entry["distractors"][: 16 - len(places)] if filled else []
    readable = [name.replace("_", " ") for name in VOCABULARY.actions]
    sap = np.zeros(C, dtype=bool)
    sap[[readable.index(name) for name in names]] = True
    assert sap.sum() == (16 if filled else len(places))
    return sap


# --- data -------------------------------------------------------------------------------------------------------------


def test_offer_has_labels_and_absent_actions(graphs):
    for graph in graphs:
        for count in (2, 4, 6):
            offered = pre.offered_actions(graph, count)
            inside = np.isin(offered, graph.labels)
            assert len(offered) == len(np.unique(offered)) == count
            assert inside.sum() == min(len(graph.labels), count - 1) and not inside.all()
            np.testing.assert_array_equal(offered, pre.offered_actions(graph, count))
            fill = pre.distractors(graph, offered, 16)
            assert len(fill) == 16 and not np.isin(fill, [*offered, *graph.labels]).any()


@pytest.mark.parametrize(("places", "filled"), [([0], False), ([1, 3], False), ([0, 1, 2, 3], True), ([], True)])
def test_data_is_what_the_model_answers(model, graphs, data, places, filled):
    number = sum(2**place for place in places) + filled * 2**OFFERED
    for graph, entry in zip(graphs, data["videos"], strict=True):
        graph = graph.sample_frames(16)
        given = entry["answers"][str(number)]
        (answer,) = look(model, graph, sap_of(entry, places, filled)[None])
        offered = pre.offered_actions(graph, OFFERED)
        np.testing.assert_allclose(given["a_s"], [*answer.a_s[offered], answer.a_s[-1]], atol=6e-4)
        np.testing.assert_allclose(given["a_t"], answer.a_t[offered], atol=6e-4)
        np.testing.assert_allclose(given["s"], answer.s, rtol=6e-4)
        np.testing.assert_allclose(
            given["w_max"] * pre.unpack(given["w"]), answer.w[-1].ravel(), atol=2.1e-3 * np.nanmax(answer.w[-1])
        )
        np.testing.assert_allclose(pre.unpack(given["node"]), answer.node_score.ravel(), atol=2.1e-3)


def test_every_choice_but_the_empty_one_has_an_answer(data):
    for entry in data["videos"]:
        assert sorted(map(int, entry["answers"])) == list(range(1, 2 * 2**OFFERED))


def test_few_actions_fill_up_to_the_k_of_training():
    """Of 9 actions 3 are labels and 3 absent ones on offer: the 3 that are left fill up to K = 4, not to 3."""
    graph, data = make_small_graph().sample_frames(16), make_small_data()
    offered = pre.offered_actions(graph)
    fill = pre.distractors(graph, offered, data["K"])
    assert data["K"] == specification_length(9) == 4 and len(offered) == 6 and len(fill) == 3
    saps = pre.choices(9, offered, fill, data["K"])
    for number, (alone, filled) in enumerate(zip(*np.split(saps, 2), strict=True)):
        chosen = number.bit_count()
        assert alone.sum() == chosen and (filled >= alone).all()
        assert filled.sum() == max(chosen, min(4, chosen + 3))
        np.testing.assert_array_equal(np.flatnonzero(filled & ~alone), np.sort(fill[: filled.sum() - chosen]))
    given = data["videos"][0]["answers"]
    asked = [1, 2**6 + 1, 2**6 + 7]
    for number, answer in zip(asked, look(make_model(9), graph, saps[asked]), strict=True):
        np.testing.assert_allclose(given[str(number)]["a_s"], answer.a_s[[*offered, -1]], atol=6e-4)


def test_another_layer_and_impossible_settings(model, graphs):
    first = pre.precompute(model, graphs[:1], offered=2, layer=0)
    last = pre.precompute(model, graphs[:1], offered=2)
    assert (first["layer"], last["layer"], last["layers"]) == (1, 2, 2)
    assert first["videos"][0]["answers"]["1"]["w"] != last["videos"][0]["answers"]["1"]["w"]
    for wrong in ({"offered": 9}, {"layer": 2}):
        with pytest.raises(RecipeError, match="found"):
            pre.precompute(model, graphs[:1], **wrong)


def test_packing_keeps_numbers_and_absence():
    values = np.array([[0, 1, np.nan], [0.5, 0.123, 0.999]])
    np.testing.assert_allclose(pre.unpack(pre.pack(values)), values.ravel(), atol=0.5 / 254 + 1e-12)


def test_finding_counts_choices(data):
    videos = [{"actions": ["a", "b"], "present": [True, False], "answers": {
        "1": {"a_s": [0.9, 0.0, 0.0]}, "3": {"a_s": [0.4, 0.5, 0.0]}, "6": {"a_s": [0.9, 0.1, 0.0]}}}]  # fmt: skip
    text = finding({"videos": videos})
    assert "50 % of the present and 100 % of the absent" in text and "– and 0 % in those filled up" in text
    assert "%" in finding(data)


def test_explorer_of_a_run(model, graphs, tmp_path):
    model.save_pretrained(tmp_path / "fold0/model")
    recipe = make_recipe("smoke", spec_length=8)
    record = {"name": "world-proda-abc", "recipe": dataclasses.asdict(recipe), "videos": [{"train": 24, "test": 12}],
              "data": "world-1"}  # fmt: skip
    page = explorer(Run(record, tmp_path), graphs[:1], offered=2)
    (entry,) = page.data["videos"]
    assert len(entry["distractors"]) == 8 and len(entry["answers"]) == 7
    told = " ".join(page.data["about"])
    assert "world-proda-abc" in told and "SSG-World" in told and "extrapolation" in told
    met = dataclasses.replace(recipe, absent_singles=True)
    assert "extrapolation" not in " ".join(about(Run(record | {"recipe": dataclasses.asdict(met)}, tmp_path)))
    other = Run(record | {"recipe": dataclasses.asdict(dataclasses.replace(recipe, model="encoder_only"))}, tmp_path)
    with pytest.raises(ProdaError):
        explorer(other, graphs[:1])


# --- widgets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(model, graphs):
    return explore(model, graphs)


def view(app) -> dict:
    return data_of(unescape(re.search(r"srcdoc='(.*?)'", app.view.value, re.S)[1]))


def check(app, model, graph, sap) -> None:
    (answer,) = look(model, graph.sample_frames(16), sap[None])
    (given,) = view(app)["videos"][0]["answers"].values()
    offered = [*app._offered, -1]
    np.testing.assert_allclose(given["a_s"], answer.a_s[offered], atol=6e-4)
    np.testing.assert_allclose(given["s"], answer.s, rtol=6e-4)
    np.testing.assert_allclose(
        given["w_max"] * pre.unpack(given["w"]), answer.w[-1].ravel(), atol=2.1e-3 * np.nanmax(answer.w[-1])
    )


def test_widgets_compute_at_each_click(app, model, graphs):
    check(app, model, graphs[0], np.isin(np.arange(C), graphs[0].labels[:1]))
    app.video.value = 2
    app.actions[1].value = True
    check(app, model, graphs[2], np.isin(np.arange(C), app._offered[:2]))
    another = app.another.options[-1][1]
    app.another.value = another
    assert app.another.value is None and len(app.actions) == 7 and app.chosen[-1] == another
    check(app, model, graphs[2], np.isin(np.arange(C), [*app._offered[:2], another]))
    app.fill.value = True
    fill = pre.distractors(graphs[2].sample_frames(16), app._offered, 16)
    check(app, model, graphs[2], np.isin(np.arange(C), [*app.chosen, *fill[:13]]))
    app.fill.value = False
    for box in app.actions:
        box.value = False
    assert view(app)["videos"][0]["answers"] == {}


def test_widgets_fill_up_from_few_actions():
    model, graph = make_model(9), make_small_graph()
    app = explore(model, [graph])
    app.fill.value = True
    fill = pre.distractors(graph.sample_frames(16), app._offered, 4)
    check(app, model, graph, np.isin(np.arange(9), [0, *fill[:3]]))
    app.actions[1].value = True
    check(app, model, graph, np.isin(np.arange(9), [0, 1, *fill[:2]]))
    while len(app.another.options) > 1:  # until all are on offer, so that none is left to fill up with
        app.another.value = app.another.options[-1][1]
    check(app, model, graph, np.isin(np.arange(9), app.chosen))
    places = [place for place, box in enumerate(app.actions) if box.value]
    assert list(view(app)["videos"][0]["answers"]) == [str(sum(2**place for place in places))]
    assert not app.explorer.choice["distractors"]


def test_widgets_refuse_another_vocabulary(model, graphs):
    with pytest.raises(RecipeError, match="at least one"):
        explore(model, [])
    small = ProDA(ModelConfig(C - 1, 36, 26, width=16, heads=1, layers=1, depth=1, candidates=3))
    with pytest.raises(RecipeError, match=f"found {C} actions, expected the model's {C - 1}"):
        explore(small, graphs)


def test_code_that_the_page_tells_to_run(data, model, graphs, tmp_path, monkeypatch):
    text = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "markdown")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(tmp_path)

    class Run:
        recipe = type("Recipe", (), {"spec_length": 16})

        def model(self, device):
            return model

    names = {"page": Explorer(data), "run": Run(), "test": graphs, "device": "cpu"}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2 and (tmp_path / "explorer.html").exists() and "explore" in names
