import copy
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from proda_lib.datasets.action_genome import read_action_genome
from proda_lib.datasets.own import NAMED, check_own, named_vocabulary, read_own, write_own
from proda_lib.datasets.world import WorldConfig, make_video
from proda_lib.errors import DataError, ProdaError
from proda_lib.paths import project_root
from stress.fuzz import time_limit
from tests.graphs import make_graph

GOOD = {
    "video": "kitchen", "duration": 4.0, "vocabulary": "world", "size": [640, 480],
    "frames": [
        {"time": 0.5,
         "nodes": [{"id": "mug", "class": "cup/glass/bottle", "box": [352, 240, 384, 264]},
                   {"id": "anna", "class": "person", "box": [192, 48, 384, 480]}],
         "relations": [{"from": "anna", "to": "mug", "names": ["looking_at"]},
                       {"from": "mug", "to": "anna", "names": ["in_front_of"]}]},
        {"time": 1.5, "nodes": [{"id": "anna", "class": "person", "box": [160, 48, 384, 480]},
                                {"id": 7, "class": "table", "box": [0, 240, 640, 480]}],
         "relations": [{"from": 7, "to": "anna", "names": []}]},
        {"time": 2.5, "nodes": [{"id": "mug", "class": "cup/glass/bottle", "box": [352, 240, 384, 264]}]},
    ],
    "segments": [{"action": "raise_cup", "start": 0.0, "end": 2.0}], "scene": "Kitchen",
}  # fmt: skip


def write(folder, data) -> str:
    path = folder / "graph.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return path


def test_reads_what_is_written_down(tmp_path):
    graph = read_own(write(tmp_path, GOOD))
    names = graph.vocabulary
    assert [names.objects[c] for c in graph.classes] == ["person", "cup/glass/bottle", "table"]  # the person first
    np.testing.assert_array_equal(graph.present, [[1, 1, 0], [1, 0, 1], [0, 1, 0]])
    np.testing.assert_allclose(graph.boxes[0], [[0.3, 0.1, 0.6, 1.0], [0.55, 0.5, 0.6, 0.55], [0, 0, 0, 0]])
    np.testing.assert_array_equal(graph.edges, [[0, 1, 0, 2], [1, 0, 2, 0]])
    held = {(t, e, names.relations[r]) for t, e, r in np.argwhere(graph.relations).tolist()}
    assert held == {(0, e, name) for e in (0, 1) for name in ("looking_at", "in_front_of")}
    np.testing.assert_array_equal(graph.edge_present, [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
    assert [names.actions[a] for a in graph.labels] == ["raise_cup"] and names.scenes[graph.scene] == "Kitchen"
    np.testing.assert_array_equal(graph.segments, [[0.0, 2.0]])


def test_fractions_and_own_vocabulary(tmp_path):
    data = {"video": "v", "duration": 1, "vocabulary": {"objects": ["cat"]},
            "frames": [{"time": 0, "nodes": [{"id": 1, "class": "cat", "box": [0, 0, 0.5, 1]}]}]}  # fmt: skip
    graph = read_own(write(tmp_path, data))
    assert graph.num_edges == 0 and graph.relations.shape == (1, 0, 0) and len(graph.labels) == 0
    np.testing.assert_array_equal(graph.boxes, [[[0, 0, 0.5, 1]]])


def assert_same(a, b) -> None:
    assert (a.video, a.vocabulary, a.duration, a.scene) == (b.video, b.vocabulary, b.duration, b.scene)
    for name in ("classes", "boxes", "present", "edges", "relations", "times", "segment_labels", "segments", "labels"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("index", range(4))
def test_round_trip(tmp_path, index):
    graph = make_video(WorldConfig(), index)
    write_own(graph, tmp_path / "a.json")
    again = read_own(tmp_path / "a.json")
    assert_same(graph, again)
    write_own(again, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["vocabulary"] == "world"


def test_round_trip_of_an_own_vocabulary_and_of_an_object_that_is_never_there(tmp_path):
    graph = make_graph(absent=(2,), edges=0)
    write_own(graph, tmp_path / "a.json")
    assert_same(graph, read_own(tmp_path / "a.json"))


def test_write_refuses_what_the_format_cannot_hold(tmp_path):
    with pytest.raises(DataError, match="both directions with the same relations"):
        write_own(make_graph(edges=5), tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_real_graphs_round_trip(tmp_path, shared_data):
    mini, charades = shared_data / "action_genome_mini", shared_data / "charades"
    if not (mini.is_dir() and charades.is_dir()):
        pytest.skip("action_genome_mini or charades is not in the shared data")
    csvs = [charades / f"Charades_v1_{split}.csv" for split in ("train", "test")]
    rates = shared_data / "action_genome/star_video_fps"
    graphs = read_action_genome(mini / "annotations", csvs, charades / "Charades_v1_classes.txt", rates)
    assert graphs
    for graph in graphs:
        write_own(graph, tmp_path / "a.json")
        again = read_own(tmp_path / "a.json")
        order = np.lexsort((graph.edges[0] > graph.edges[1], graph.edges.max(0), graph.edges.min(0)))
        np.testing.assert_array_equal(again.edges, graph.edges[:, order])
        np.testing.assert_array_equal(again.relations, graph.relations[:, order])
        np.testing.assert_array_equal(again.boxes, graph.boxes)


def changed(place: list, value) -> dict:
    data = copy.deepcopy(GOOD)
    parent = data
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    return data


@pytest.mark.parametrize(
    ("place", "value", "where", "found", "expected"),
    [
        (["duration"], "long", "duration", "'long'", "positive number of seconds"),
        (["duration"], True, "duration", "True", "positive number of seconds"),
        (["duration"], 10**400, "duration", "1000", "at most 10000000"),
        (["vocabulary"], "wrold", "vocabulary", "'wrold'", "'world'"),
        (["vocabulary"], {"objects": []}, "vocabulary.objects", "[]", "the person first"),
        (["vocabulary"], {"relations": []}, "vocabulary", "no 'objects'", "'objects'"),
        (["colour"], 1, "file", "unknown key 'colour'", "'duration'"),
        (["frames"], [], "frames", "[]", "at least one frame"),
        (["frames", 1], {}, "frames[1]", "no 'time', 'nodes'", "'time'"),
        (["frames", 1, "time"], 0.1, "frames[1].time", "0.1", "at least 0.5"),
        (["frames", 2, "time"], 4.5, "frames[2].time", "4.5", "at most the duration, 4 s"),
        (["frames", 0, "nodes", 1, "box"], [1, 2, 3], "frames[0].nodes[1].box", "[1, 2, 3]", "[x1, y1, x2, y2]"),
        (["frames", 0, "nodes", 1, "box"], [9, 2, 3, 4], "frames[0].nodes[1].box", "[9, 2, 3, 4]", "x1 < x2"),
        (["frames", 0, "nodes", 1, "box"], [1, 2, 641, 4], "frames[0].nodes[1].box", "641", "0..640 and 0..480"),
        (["frames", 0, "nodes", 0, "box", 2], -1, "frames[0].nodes[0].box[2]", "-1", "0 to 1000000"),
        (["frames", 0, "nodes", 0, "class"], "cup", "frames[0].nodes[0].class", "'cup'", "'cup/glass/bottle'"),
        (["frames", 2, "nodes", 0, "class"], "dish", "frames[2].nodes[0].class", "'dish'", "'cup/glass/bottle', as"),
        (["frames", 2, "nodes"], [GOOD["frames"][2]["nodes"][0]] * 2, "frames[2].nodes[1].id", "'mug' again", "once"),
        (["frames", 0, "relations", 0, "to"], "cat", "frames[0].relations[0].to", "'cat'", "a node of the same frame"),
        (["frames", 0, "relations", 0, "to"], "anna", "frames[0].relations[0]", "itself", "two different"),
        (["frames", 0, "relations", 0, "names"], ["grip"], "frames[0].relations[0].names[0]", "'grip'", "relations of"),
        (["segments", 0, "end"], 5, "segments[0]", "0 to 5 s", "end <= 4 s"),
        (["segments", 0, "action"], "raise_mug", "segments[0].action", "'raise_mug'", "'raise_cup'"),
        (["labels"], ["raise_mug"], "labels[0]", "'raise_mug'", "'raise_cup'"),
        (["scene"], "kitchen", "scene", "'kitchen'", "'Kitchen'"),
        (["slots"], [{"id": "anna", "class": "person"}], "frames[0].nodes[0].id", "'mug'", "listed in 'slots'"),
    ],
)  # fmt: skip
def test_faults_name_file_place_found_and_expected(tmp_path, place, value, where, found, expected):
    path = write(tmp_path, changed(place, value))
    errors = check_own(path).errors
    with pytest.raises(DataError) as caught:
        read_own(path)
    for error in (errors[0], caught.value):
        assert (error.source, error.where) == (str(path), where)
        assert found in error.found and expected in error.expected


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"{", "Expecting"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"duration": NaN}', "NaN"),
        (b'{"a": 1, "b": 2, "a": 1}', "'a' twice"),
        (b"[" * 100_000, "nested too deeply"),
        (json.dumps({**GOOD, "video": 0}).encode().replace(b"0", b"[" * 900 + b"]" * 900, 1), "too deeply|the name of"),
        (b'{"video": "\\ud800"}', "not UTF-8"),
        (b"1" * 5000, "expected JSON"),
        (b"null", "no 'video'"),
    ],
)
def test_what_is_no_such_json(tmp_path, data, found):
    with pytest.raises(DataError, match=found):
        read_own(write(tmp_path, data))


def test_all_faults_at_once(tmp_path):
    data = changed(["segments", 0, "end"], 5)
    data["frames"][0]["nodes"][0]["class"] = "cup"
    data["scene"] = "moon"
    found = [error.where for error in check_own(write(tmp_path, data)).errors]
    assert found == ["frames[0].nodes[0].class", "segments[0]", "scene"]  # no fault that only follows from another
    assert check_own(write(tmp_path, GOOD)).errors == []
    assert check_own(tmp_path / "nowhere.json").errors[0].expected == "a JSON file that can be read"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["anna", "mug", "person", "world", 1e308, 10**400, -0.0, 1e-320, 7]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["video", "duration", "time", "nodes", "id", "box", "from", "names", "objects"]) | st.text(),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def places(value, path=()):
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def only_library_errors(path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        graph = read_own(path)
    except ProdaError as error:
        assert isinstance(error, DataError) and error.source == str(path)
        str(error).encode()
        assert check_own(path).errors
    else:
        assert graph.duration > 0 and math.isfinite(graph.duration) and not check_own(path).errors


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from([p for p in places(GOOD) if p]), value=JSON, delete=st.booleans())
def test_fuzz_one_place(tmp_path_factory, place, value, delete):
    data = changed(list(place), value)
    if delete:
        parent = data
        for key in place[:-1]:
            parent = parent[key]
        del parent[place[-1]]
    only_library_errors(tmp_path_factory.getbasetemp() / "fuzz.json", json.dumps(data).encode("utf-8", "surrogatepass"))


@settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode("utf-8", "surrogatepass")))
def test_fuzz_anything(tmp_path_factory, data):
    only_library_errors(tmp_path_factory.getbasetemp() / "fuzz.json", data)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 2000), byte=st.integers(0, 255))
def test_fuzz_one_byte(tmp_path_factory, at, byte):
    data = bytearray(json.dumps(GOOD).encode())
    data[at % len(data)] = byte
    only_library_errors(tmp_path_factory.getbasetemp() / "fuzz.json", bytes(data))


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    nodes = [{"id": 0, "class": "person", "box": [0, 0, 1, 1]}]
    data = {**GOOD, "frames": [{"time": 0, "nodes": nodes}] * 1500, "segments": [],
            "slots": [{"id": i, "class": "person"} for i in range(1500)]}  # fmt: skip
    with pytest.raises(DataError, match="found 1500 frames, 1500 objects and 0 edges .* at most 4194304 numbers"):
        read_own(write(tmp_path, data))
    data["frames"] = data["frames"][:600]
    assert read_own(write(tmp_path, data)).boxes.shape == (600, 1500, 4)


@pytest.mark.parametrize("data", [
    ("{" + ",".join(f'"k{i}":1' for i in range(30_000)) + ',"z":1,"z":2}').encode(),
    {**GOOD, "labels": [i if i % 2 else str(i) for i in range(30_000)]},
    {**GOOD, "labels": [{"a": i} for i in range(30_000)]},
    {**GOOD, "vocabulary": {"objects": [f"o {i}" for i in range(3000)]},
     "frames": [{"time": 0, "nodes": [{"id": i, "class": f"p {i}", "box": [0, 0, 1, 1]} for i in range(3000)]}]},
])  # fmt: skip
def test_no_file_takes_time_that_grows_with_its_square(tmp_path, data):
    path = write(tmp_path, data)
    with time_limit(8):
        assert check_own(path).errors


def test_long_names_are_shortened_in_messages(tmp_path):
    long, box = "p" * 100_000, [0, 0, 1, 1]
    person = {"id": long, "class": "person", "box": box}
    for nodes in ([{**person, "class": long}], [person, person]):
        with pytest.raises(DataError) as caught:
            read_own(write(tmp_path, {**GOOD, "frames": [{"time": 0, "nodes": nodes}]}))
        assert "ppp...ppp" in caught.value.found and len(str(caught.value)) < 1000


def test_repeated_labels_are_refused(tmp_path):
    with pytest.raises(DataError, match="labels: found .* expected optional: a list of different actions"):
        read_own(write(tmp_path, {**GOOD, "labels": ["raise_cup", "open_door", "raise_cup"]}))


def test_schema_is_valid_and_names_what_is_expected_everywhere():
    schema = json.loads((project_root() / "proda_lib/datasets/own_schema.json").read_text())
    Draft202012Validator.check_schema(schema)

    def parts(value):
        if isinstance(value, dict):
            if {"type", "minimum", "minItems", "uniqueItems"} & value.keys() and "if" not in value:
                yield value
            for inner in value.values():
                yield from parts(inner)

    found = [part for part in parts(schema) if isinstance(part.get("type"), str)]
    assert len(found) > 20
    assert not [p for p in found if "description" not in p and p != {"type": "object"}]


def test_named_vocabularies_have_persons_first():
    assert [named_vocabulary(name).objects[0] for name in NAMED] == ["person", "person", "head"]
    with pytest.raises(DataError, match="action_genome"):
        named_vocabulary("sports")


def test_the_example_is_good():
    path = project_root() / "book/data/own_video.json"
    assert check_own(path).errors == [] and read_own(path).num_frames >= 3
