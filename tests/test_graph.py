import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from proda_lib.errors import DataError, GraphError, ProdaError
from proda_lib.graph import SceneGraph, load_graphs, save_graphs
from proda_lib.vocabulary import Vocabulary
from tests.graphs import VOCABULARY, make_graph, make_graphs


def small_graph(**changes) -> SceneGraph:
    """Three slots over two frames; slot 2 is away in frame 1. Two segments of 10 seconds."""
    fields = {
        "video": "v",
        "vocabulary": VOCABULARY,
        "classes": np.array([0, 1, 2]),
        "boxes": np.array([[[0.1, 0.1, 0.5, 0.5]] * 3, [[0.1, 0.1, 0.5, 0.5]] * 2 + [[0.0] * 4]]),
        "present": np.array([[True, True, True], [True, True, False]]),
        "edges": np.array([[0, 2], [1, 1]]),
        "relations": np.array([[[1, 0, 0], [0, 1, 1]], [[1, 0, 0], [0, 0, 0]]], dtype=bool),
        "times": np.array([2.0, 6.0]),
        "duration": 10.0,
        "segment_labels": np.array([3, 1]),
        "segments": np.array([[0.0, 5.0], [5.0, 10.0]]),
        "scene": 1,
        "features": np.ones((2, 3, 4), dtype=np.float32),
        "frame_features": np.ones((2, 4), dtype=np.float32),
        "carriers": np.zeros((2, 2, 2), dtype=bool),
    }
    return SceneGraph(**{**fields, **changes})


def put(array: np.ndarray, place, value) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


GOOD = small_graph()


def test_sizes_labels_and_edges():
    assert (GOOD.num_frames, GOOD.num_slots, GOOD.num_edges) == (2, 3, 2)
    assert GOOD.labels.tolist() == [1, 3]
    assert GOOD.multi_hot().nonzero()[0].tolist() == [1, 3] and GOOD.multi_hot().shape == (7,)
    assert GOOD.edge_present.tolist() == [[True, True], [True, False]]  # an edge needs both its ends


def test_labels_may_be_given():
    assert small_graph(labels=np.array([1, 2, 3])).multi_hot().nonzero()[0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_of_odd_sizes_are_valid(seed):
    frames, slots = 1 + seed % 4, 2 + seed % 5
    graph = make_graph(seed, frames, slots, edges=seed % 7, segments=seed % 3, visual=seed % 2)
    assert (graph.num_frames, graph.num_slots, graph.num_edges) == (frames, slots, min(seed % 7, slots * (slots - 1)))


@pytest.mark.parametrize(
    "field, shape",
    [
        ("classes", (4,)), ("boxes", (2, 3, 5)), ("edges", (3, 2)), ("relations", (2, 2, 4)), ("times", (3,)),
        ("segments", (2, 3)), ("features", (2, 4, 4)), ("frame_features", (3, 4)), ("carriers", (2, 2, 3)),
    ],
)  # fmt: skip
def test_a_wrong_shape_names_the_field(field, shape):
    with pytest.raises(GraphError) as caught:
        small_graph(**{field: np.zeros(shape, dtype=getattr(GOOD, field).dtype)})
    assert (caught.value.source, caught.value.where) == ("v", field)
    assert caught.value.found == f"shape {shape}"


@pytest.mark.parametrize("field, value, found, expected", [
    ("edges", np.array([], int), "shape (0,)", "2-d"),
    ("present", np.ones(3, bool), "shape (3,)", "2-d"),
    ("classes", [0, 1, 2], "type list", "a NumPy array"),
    ("labels", np.array([[1]]), "shape (1, 1)", "1-d"),
    ("labels", [[1]], "type list", "a NumPy array"),
    ("segment_labels", np.array([[3], [1]]), "shape (2, 1)", "1-d"),
    ("segment_labels", np.array(3), "shape ()", "1-d"),
    ("boxes", None, "type NoneType", "a NumPy array"),
    ("features", torch.ones(2, 3, 4), "type Tensor", "a NumPy array"),
    ("features", np.ones(4, np.float32), "shape (4,)", "3-d"),
    ("frame_features", np.ones(4, np.float32), "shape (4,)", "2-d"),
])  # fmt: skip
def test_what_is_no_array_or_has_other_axes_names_the_field(field, value, found, expected):
    with pytest.raises(GraphError) as caught:
        small_graph(**{field: value})
    error = caught.value
    assert (error.source, error.where, error.found, error.expected) == ("v", field, found, expected)


@pytest.mark.parametrize("where, found, changes", [
    ("classes[1]", "5", {"classes": put(GOOD.classes, 1, 5)}),
    ("classes[1]", "-1", {"classes": put(GOOD.classes, 1, -1)}),
    ("segment_labels[1]", "7", {"segment_labels": np.array([3, 7])}),
    ("segment_labels[0]", "-1", {"segment_labels": np.array([-1, 3])}),
    ("labels[1]", "7", {"labels": np.array([1, 7])}),
    ("labels[2]", "2", {"labels": np.array([1, 3, 2])}),
    ("labels[1]", "1", {"labels": np.array([1, 1, 3])}),
    ("scene", "2", {"scene": 2}),
    ("scene", "-2", {"scene": -2}),
    ("boxes[0, 1, 3]", "1.5", {"boxes": put(GOOD.boxes, (0, 1, 3), 1.5)}),
    ("boxes[0, 1, 0]", "-0.5", {"boxes": put(GOOD.boxes, (0, 1, 0), -0.5)}),
    ("boxes[0, 1, 2]", "nan", {"boxes": put(GOOD.boxes, (0, 1, 2), np.nan)}),
    ("boxes[1, 0]", "[0.6 0.1 0.5 0.5]", {"boxes": put(GOOD.boxes, (1, 0, 0), 0.6)}),
    ("boxes[1, 0]", "[0.1 0.1 0.5 0.1]", {"boxes": put(GOOD.boxes, (1, 0, 3), 0.1)}),
    ("boxes[1, 2]", "[0.  0.  0.  0.4]", {"boxes": put(GOOD.boxes, (1, 2, 3), 0.4)}),
    ("edges[1, 0]", "3", {"edges": put(GOOD.edges, (1, 0), 3)}),
    ("edges[0, 1]", "-1", {"edges": put(GOOD.edges, (0, 1), -1)}),
    ("relations[1, 1]", "[False  True False]", {"relations": put(GOOD.relations, (1, 1, 1), True)}),
    ("carriers[1, 1]", "[ True False]", {"carriers": put(GOOD.carriers, (1, 1, 0), True)}),
    ("duration", "nan", {"duration": float("nan")}),
    ("duration", "0.0", {"duration": 0.0}),
    ("times[1]", "11.0", {"times": np.array([2.0, 11.0])}),
    ("times[0]", "-1.0", {"times": np.array([-1.0, 6.0])}),
    ("times[1]", "nan", {"times": np.array([2.0, np.nan])}),
    ("times[1]", "1.0", {"times": np.array([2.0, 1.0])}),
    ("segments[1]", "[ 5. 12.]", {"segments": put(GOOD.segments, (1, 1), 12)}),
    ("segments[1]", "[5. 5.]", {"segments": put(GOOD.segments, (1, 1), 5)}),
    ("segments[0]", "[-1.  5.]", {"segments": put(GOOD.segments, (0, 0), -1)}),
    ("segments[0]", "[nan  5.]", {"segments": put(GOOD.segments, (0, 0), np.nan)}),
    ("features[0, 1, 2]", "inf", {"features": put(GOOD.features, (0, 1, 2), np.inf)}),
    ("frame_features[1, 3]", "nan", {"frame_features": put(GOOD.frame_features, (1, 3), np.nan)}),
])  # fmt: skip
def test_an_impossible_value_names_field_place_and_value(where, found, changes):
    with pytest.raises(GraphError) as caught:
        small_graph(**changes)
    error = caught.value
    assert (error.source, error.where, error.found) == ("v", where, found)
    assert str(error) == f"v: {where}: found {found}, expected {error.expected}"
    assert isinstance(error, ProdaError)


@pytest.mark.parametrize("edges", [[[0, 2], [0, 1]], [[0, 0], [1, 1]]], ids=["loop", "repeated"])
def test_an_edge_joins_two_slots_once(edges):
    with pytest.raises(GraphError, match="^v: edges"):
        small_graph(edges=np.array(edges))


def test_a_graph_needs_a_frame():
    with pytest.raises(GraphError, match="^v: present: found no frames"):
        dataclasses.replace(GOOD, **{n: getattr(GOOD, n)[:0] for n in ("boxes", "present", "relations", "times")},
                            features=None, frame_features=None, carriers=None)  # fmt: skip


@pytest.mark.parametrize("field, dtype", [
    ("present", int), ("classes", float), ("edges", float), ("relations", float), ("segment_labels", float),
])  # fmt: skip
def test_a_wrong_type_names_the_field(field, dtype):
    with pytest.raises(GraphError, match=f"^v: {field}"):
        small_graph(**{field: getattr(GOOD, field).astype(dtype)})


def test_a_scene_needs_a_name():
    nameless = dataclasses.replace(VOCABULARY, scenes=())
    assert small_graph(vocabulary=nameless, scene=-1).scene == -1
    with pytest.raises(GraphError, match="^v: scene"):
        small_graph(vocabulary=nameless, scene=0)


def test_both_directions_and_object_object_edges_are_valid():
    graph = small_graph(edges=np.array([[0, 1], [1, 0]]))
    assert graph.edge_present.all()


def test_take_frames_follows_every_array():
    graph = make_graph(frames=5, visual=3)
    taken = graph.take_frames(np.array([1, 1, 4]))
    for name in ("boxes", "present", "relations", "times", "features", "frame_features", "carriers"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(graph, name)[[1, 1, 4]])
    assert taken.duration == graph.duration and (taken.segments == graph.segments).all()


def frames_of(graph: SceneGraph, count: int, rng=None) -> np.ndarray:
    """Which frames were sampled, read off the times 0, 1, 2, ..."""
    numbered = dataclasses.replace(graph, times=np.arange(graph.num_frames, dtype=float), duration=100.0)
    return numbered.sample_frames(count, rng).times.astype(int)


def test_evaluation_frames_are_spread_evenly():
    assert frames_of(make_graph(frames=8), 4).tolist() == [1, 3, 5, 7]
    for T in range(1, 41):
        frames = frames_of(make_graph(frames=T, slots=2), 7)
        gaps = np.diff(frames)
        assert gaps.max() - gaps.min() <= 1, f"{T} frames: {frames}"
        assert abs(frames[0] - (T - 1 - frames[-1])) <= 1, f"{T} frames: {frames}"


def test_few_frames_are_repeated_evenly_in_order():
    assert frames_of(make_graph(frames=3), 7).tolist() == [0, 0, 1, 1, 1, 2, 2]
    for T in range(1, 16):
        for rng in (None, np.random.default_rng(0)):
            frames = frames_of(make_graph(frames=T, slots=2), 16, rng)
            assert (np.diff(frames) >= 0).all()
            repeats = np.bincount(frames, minlength=T)
            assert repeats.min() >= 1 and repeats.max() - repeats.min() <= 1


def test_training_frames_are_random_distinct_and_in_order():
    graph, rng, seen = make_graph(frames=9), np.random.default_rng(0), np.zeros(9, dtype=int)
    for _ in range(200):
        frames = frames_of(graph, 3, rng)
        assert (np.diff(frames) > 0).all()
        seen[frames] += 1
    assert seen.min() > 40  # 66.7 expected of each
    once, again = (frames_of(graph, 3, np.random.default_rng(5)) for _ in range(2))
    assert once.tolist() == again.tolist()


def test_active_includes_both_ends_and_joins_overlaps():
    graph = small_graph(segment_labels=np.array([3, 1, 3]), segments=np.array([[0.0, 5.0], [5.0, 10.0], [4.0, 8.0]]),
                        carriers=None)  # fmt: skip
    active = graph.active(np.array([0.0, 5.0, 8.0, 8.5]))
    assert [row.nonzero()[0].tolist() for row in active] == [[3], [1, 3], [1, 3], [1]]
    np.testing.assert_array_equal(graph.active(), graph.active(graph.times))


def test_active_without_segments():
    graph = make_graph(segments=0)
    assert graph.active().shape == (5, 7) and not graph.active().any() and len(graph.labels) == 0


def same(a: SceneGraph, b: SceneGraph) -> None:
    for f in dataclasses.fields(SceneGraph):
        left, right = getattr(a, f.name), getattr(b, f.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, f.name
            np.testing.assert_array_equal(left, right, err_msg=f.name)
        else:
            assert left == right, f.name


@pytest.mark.parametrize("visual", [0, 3])
def test_save_and_load(tmp_path, visual):
    graph = make_graph(visual=visual)
    graph.save(tmp_path / "graph.safetensors")
    same(SceneGraph.load(tmp_path / "graph.safetensors"), graph)
    assert [p.name for p in tmp_path.iterdir()] == ["graph.safetensors"]


def test_save_and_load_many_with_two_vocabularies(tmp_path):
    other = dataclasses.replace(VOCABULARY, name="other", scenes=())
    graphs = [*make_graphs(), make_graph(segments=0, edges=0), dataclasses.replace(GOOD, vocabulary=other, scene=-1)]
    save_graphs(tmp_path / "g", graphs)
    for loaded, graph in zip(load_graphs(tmp_path / "g"), graphs, strict=True):
        same(loaded, graph)
    assert isinstance(load_graphs(tmp_path / "g")[-1].vocabulary, Vocabulary)
    with pytest.raises(DataError, match="5 graphs"):
        SceneGraph.load(tmp_path / "g")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    GOOD.save(tmp_path / "g")

    def fail(number):
        raise OSError("disk full")

    monkeypatch.setattr("proda_lib.files.os.fsync", fail)
    with pytest.raises(DataError, match="disk full"):
        make_graph().save(tmp_path / "g")
    same(SceneGraph.load(tmp_path / "g"), GOOD)
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def damage(path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "missing":
        path.unlink()
    elif how == "no metadata":
        save_file(load_file(path), path)
    elif how == "array missing":
        arrays = load_file(path)
        arrays.pop("0/boxes")
        save_file(arrays, path, metadata_of(path))
    elif how == "unknown array":
        save_file({**load_file(path), "0/colour": np.zeros(1)}, path, metadata_of(path))


def metadata_of(path) -> dict:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return file.metadata()


@pytest.mark.parametrize("how", ["cut", "empty", "missing", "no metadata", "array missing", "unknown array"])
def test_a_damaged_file_is_named(tmp_path, how):
    path = tmp_path / "graphs.safetensors"
    GOOD.save(path)
    damage(path, how)
    with pytest.raises(DataError, match="graphs.safetensors"):
        load_graphs(path)


def test_loading_validates_again(tmp_path):
    path = tmp_path / "graphs.safetensors"
    GOOD.save(path)
    arrays, metadata = load_file(path), metadata_of(path)
    save_file({**arrays, "0/classes": arrays["0/classes"] + 90}, path, metadata)
    with pytest.raises(GraphError, match=r"classes\[0\]: found 90"):
        load_graphs(path)
