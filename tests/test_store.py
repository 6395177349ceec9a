"""The packed store: what goes in comes out, whatever stops the writer; damage is named."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from proda_lib.batch import collate
from proda_lib.datasets import store as module
from proda_lib.datasets.store import GraphStore, StoreWriter
from proda_lib.errors import DataError
from proda_lib.graph import SceneGraph
from tests.graphs import VOCABULARY, make_graph

ARRAYS = [f.name for f in dataclasses.fields(SceneGraph) if f.name not in ("video", "vocabulary", "duration", "scene")]


def write_store(folder, graphs, vocabulary=VOCABULARY, about: dict | None = None) -> GraphStore:
    """A packed store with these graphs; those that it has already are left as they are."""
    with StoreWriter(folder, vocabulary, about) as writer:
        for graph in graphs:
            if graph.video not in writer.videos:
                writer.add(graph)
    return GraphStore(folder)


def graphs(count: int, visual: int = 6, first: int = 0) -> list[SceneGraph]:
    rng = np.random.default_rng(first)
    sizes = rng.integers(1, 6, size=(count, 2))
    return [make_graph(first + i, frames=int(t), slots=1 + int(m), edges=int(t), visual=visual, segments=int(m) - 1)
            for i, (t, m) in enumerate(sizes)]  # fmt: skip


def assert_same(expected: SceneGraph, found: SceneGraph) -> None:
    assert (found.video, found.duration, found.scene) == (expected.video, expected.duration, expected.scene)
    for name in ARRAYS:
        left, right = getattr(expected, name), getattr(found, name)
        assert (left is None) == (right is None), name
        if left is not None:
            # What is stored of features are the nodes that exist; the others are zeros.
            left = left * expected.present[..., None] if name == "features" else left
            np.testing.assert_array_equal(left, np.asarray(right), err_msg=name)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_VIDEOS", 3)


@pytest.mark.parametrize("visual", [0, 6])
def test_what_goes_in_comes_out(tmp_path, small_shards, visual):
    made = graphs(8, visual)
    store = write_store(tmp_path, made, VOCABULARY, {"encoder": "none"})
    assert len(store) == 8 and store.videos == [g.video for g in made] and store.about == {"encoder": "none"}
    assert len(list(tmp_path.glob("*.arrow"))) == 3
    for expected, found in zip(made, store, strict=True):
        assert_same(expected, found)
    assert_same(made[-1], store[-1])
    with pytest.raises(IndexError):
        store[8]
    store.verify()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), frames=st.integers(1, 7), slots=st.integers(2, 6), visual=st.sampled_from([0, 1, 5]))
def test_any_graph_comes_out(tmp_path_factory, seed, frames, slots, visual):
    graph = make_graph(seed, frames, slots, edges=min(frames, slots), visual=visual, segments=seed % 3)
    (found,) = write_store(tmp_path_factory.mktemp("store"), [graph], VOCABULARY)
    assert_same(graph, found)


def test_only_nodes_are_stored_only_features_of_frames_are_optional(tmp_path):
    graph = dataclasses.replace(make_graph(0, frames=5, slots=4, visual=6), frame_features=None)
    (found,) = write_store(tmp_path, [graph], VOCABULARY)
    assert found.frame_features is None
    np.testing.assert_array_equal(found.features.packed, graph.features[graph.present])


def test_taken_frames_are_arrays_and_batches_are_equal(tmp_path, small_shards):
    made = [dataclasses.replace(g, features=g.features * g.present[..., None]) for g in graphs(7)]
    store = write_store(tmp_path, made, VOCABULARY)
    for frames in ([0], [0, 0], slice(None), slice(0, None, 2)):
        for expected, found in zip(made, store, strict=True):
            taken = found.take_frames(frames)
            assert isinstance(taken.features, np.ndarray) and isinstance(taken.frame_features, np.ndarray)
            assert_same(expected.take_frames(frames), taken)
    mine, theirs = collate(list(store)), collate(made)
    for field in dataclasses.fields(theirs):
        left, right = getattr(mine, field.name), getattr(theirs, field.name)
        if hasattr(right, "numpy"):
            np.testing.assert_array_equal(left.numpy(), right.numpy(), err_msg=field.name)


def test_features_that_are_not_finite_are_refused_when_frames_are_taken(tmp_path):
    made = make_graph(0, visual=4)
    (found,) = write_store(tmp_path, [made], VOCABULARY)
    path = tmp_path / "00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-4:] = np.array([np.nan], np.float32).tobytes()
    path.write_bytes(data)
    with pytest.raises(DataError, match="finite"):
        GraphStore(tmp_path)[0].take_frames(slice(None))


def test_half_precision_is_kept_and_mixtures_are_refused(tmp_path):
    half = [dataclasses.replace(g, features=g.features.astype(np.float16)) for g in graphs(2)]
    with StoreWriter(tmp_path, VOCABULARY) as writer:
        writer.add(half[0])
        with pytest.raises(DataError, match="float16 x 6"):
            writer.add(graphs(1, first=5)[0])
    assert GraphStore(tmp_path)[0].features.dtype == np.float16


def test_appending_is_the_same_as_writing_at_once(tmp_path, small_shards):
    made = graphs(9)
    write_store(tmp_path / "parts", made[:3], VOCABULARY, {"a": 1})
    write_store(tmp_path / "parts", made, VOCABULARY, {"a": 1})
    write_store(tmp_path / "whole", made, VOCABULARY, {"a": 1})
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_an_error_costs_the_open_shard_alone_and_the_rerun_ends_identical(tmp_path, small_shards):
    made = graphs(8)
    with pytest.raises(RuntimeError), StoreWriter(tmp_path / "broken", VOCABULARY) as writer:
        for graph in made[:5]:
            writer.add(graph)
        raise RuntimeError("stopped")
    assert GraphStore(tmp_path / "broken").videos == [g.video for g in made[:3]]
    (tmp_path / "broken" / "00001.arrow").write_bytes(b"half a shard")
    for name in ("00001.safetensors.partial123", "about.json.partial123"):
        (tmp_path / "broken" / name).write_bytes(b"half a file")
    write_store(tmp_path / "broken", made, VOCABULARY)
    write_store(tmp_path / "whole", made, VOCABULARY)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_files_that_are_not_the_stores_stay(tmp_path):
    mine = {"000001.png", "1.txt", "00000.arrow.bak", "2024 notes.txt", "about.json.partial", "00001.png"}
    for name in mine:
        (tmp_path / name).write_text("mine")
    for _ in range(2):
        write_store(tmp_path, graphs(2), VOCABULARY)
        assert mine <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("kind", ["f8", ">f4"])
def test_features_that_could_not_be_read_are_not_written(tmp_path, kind):
    graph = make_graph(0, visual=4)
    with StoreWriter(tmp_path, VOCABULARY) as writer:
        with pytest.raises(DataError, match=f"features of frames: found {np.dtype(kind)}, expected float16 or float32"):
            writer.add(dataclasses.replace(graph, frame_features=graph.frame_features.astype(kind)))
        writer.add(graph)  # what was refused left nothing behind
    assert_same(graph, GraphStore(tmp_path)[0])


def test_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inside", "/proc/nothing"):
        with pytest.raises(DataError, match=f"{folder}: store: .*expected a folder"):
            write_store(folder, graphs(1), VOCABULARY)


@pytest.mark.parametrize(("vocabulary", "about", "where"), [
    (dataclasses.replace(VOCABULARY, name="other"), {"a": 1}, "vocabulary"), (VOCABULARY, {"a": 2}, "about"),
])  # fmt: skip
def test_another_vocabulary_or_other_features_are_not_appended(tmp_path, vocabulary, about, where):
    write_store(tmp_path, graphs(2), VOCABULARY, {"a": 1})
    before = content(tmp_path)
    with pytest.raises(DataError, match=where):
        StoreWriter(tmp_path, vocabulary, about)
    assert content(tmp_path) == before
    write_store(tmp_path, graphs(3), VOCABULARY, {"a": 1})  # the lock is free again


def test_the_same_video_twice_is_refused(tmp_path):
    with StoreWriter(tmp_path, VOCABULARY) as writer:
        writer.add(graphs(1)[0])
        with pytest.raises(DataError, match="video-0"):
            writer.add(graphs(1)[0])


def test_one_writer_at_a_time(tmp_path):
    with StoreWriter(tmp_path, VOCABULARY) as writer:
        writer.add(graphs(1)[0])
        with pytest.raises(DataError, match="another process"):
            StoreWriter(tmp_path, VOCABULARY)
        code = ("import sys; from tests.graphs import VOCABULARY; from proda_lib.datasets.store import StoreWriter; "
                "StoreWriter(sys.argv[1], VOCABULARY)")  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode and "another process" in done.stderr
    assert len(GraphStore(tmp_path)) == 1


def test_workers_read_it(tmp_path, small_shards):
    made = graphs(7)
    store = write_store(tmp_path, made, VOCABULARY)
    loader = DataLoader(store, batch_size=None, num_workers=2)
    for expected, found in zip(made, loader, strict=True):
        assert_same(expected, found)


def test_a_reader_keeps_few_shards_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_VIDEOS", 1)
    monkeypatch.setattr(module, "OPEN_SHARDS", 2)
    made = graphs(6)
    store = write_store(tmp_path, made, VOCABULARY)
    for index in (0, 5, 2, 0, 4, 1):
        assert_same(made[index], store[index])
        assert len(store._batches) <= 2 and len(store._read) <= 2
    kept = store[0].features
    assert_same(made[5], store[5])
    monkeypatch.setattr(module, "MAPPED_SHARDS", 3)
    for index in (*range(6), 3, 0):
        assert_same(made[index], store[index])
        assert len(store._maps) <= 3
    np.testing.assert_array_equal(np.asarray(kept), made[0].features * made[0].present[..., None])


@pytest.mark.parametrize("name", ["00000.arrow", "00000.safetensors", "about.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damage_is_named(tmp_path, name, damage):
    write_store(tmp_path, graphs(4), VOCABULARY)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    if (name, damage) == ("about.json", "flipped"):
        manifest = path.read_text(errors="replace")
        assert "\ufffd" in manifest  # no longer UTF-8
    with pytest.raises(DataError, match=name):
        GraphStore(tmp_path).verify()


@pytest.mark.parametrize("parts", [False, True])
def test_data_check_compares_every_byte_of_a_store(proda, tmp_path, small_shards, parts):
    for part in ("train", "test") if parts else ("",):
        write_store(tmp_path / part, graphs(8))
    code, out, _ = proda("data", "check", tmp_path)
    assert code == 0 and out == f"{tmp_path}: no faults\n"
    broken = [tmp_path / ("test" if parts else "") / name for name in ("00000.safetensors", "00002.safetensors")]
    for path in broken:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1  # the last bit of the last feature: still a number
        path.write_bytes(data)
    code, out, _ = proda("data", "check", tmp_path)
    lines = out.splitlines()
    assert code == 1 and len(lines) == 3 and lines[-1].endswith("2 faults")
    for path, line in zip(broken, lines, strict=False):
        assert line.startswith(f"fault: {path}: checksum: found sha256 ")


def test_data_check_of_a_folder_without_a_store(proda, tmp_path):
    code, _, err = proda("data", "check", tmp_path)
    assert code == 2 and "about.json" in err and "cad120" in err


def test_a_list_that_does_not_fit_the_rows_is_refused(tmp_path):
    write_store(tmp_path, graphs(4), VOCABULARY)
    manifest = json.loads((tmp_path / "about.json").read_text())
    for key, value in (("videos", 5), ("nodes", 10**9), ("name", "../00000"), ("sha256", {})):
        changed = json.loads(json.dumps(manifest))
        changed["shards"][0][key] = value
        (tmp_path / "about.json").write_text(json.dumps(changed))
        with pytest.raises(DataError):
            list(GraphStore(tmp_path))
