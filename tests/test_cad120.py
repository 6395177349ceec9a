import json
import zipfile
from pathlib import Path

import commit_records
import numpy as np
import pytest

from proda_lib.datasets import cad120
from proda_lib.datasets.cad120 import FPS, NULL, check_cad120, clips, folds, read_cad120, split_by_fold, subject_of
from proda_lib.datasets.cad120_files import ACTIONS, EMPTY_SIDE, UNLABELLED, VOCABULARY
from proda_lib.datasets.registry import data_version
from proda_lib.datasets.transforms import shuffle_frames, without_relations
from proda_lib.errors import DataError
from proda_lib.evaluation import cad120_controls
from proda_lib.evaluation.cad120_controls import ControlResult, graph_states, object_bag_map, state_recall, track_states

SUBJECTS = ("Subject1", "Subject3", "Subject4", "Subject5")
T = 6


def video_json(subject: str = "Subject1", activity: str = "taking_food", video: str = "0001") -> dict:
    """A microwave that is opened in frame 4, and a cup that has no box in frame 2."""
    box = [[64 * k, 48, 64, 96] for k in range(1, T + 1)]
    cup = [[0, 0, 0, 0] if k == 1 else [320, 240, 320, 240] for k in range(T)]
    return {
        "person_id": subject, "video_label": activity, "video_id": video,
        "locations": [
            {"obj_id": "microwave_1", "loc_list": [list(b) for b in box]},
            {"obj_id": "cup_1", "loc_list": cup},
            {"obj_id": "hand_1", "loc_list": [list(b) for b in box]},
            {"obj_id": "head_1", "loc_list": [list(b) for b in box]},
        ],
        "relations": [
            {"obj_ids": ["hand_1", "cup_1"], "rel_list": ["holding"] * 3 + ["not_holding"] * 3},
            {"obj_ids": ["microwave_1", "cup_1"], "rel_list": ["containing"] * T},
        ],
        "attributes": [{"obj_id": "microwave_1", "attr_list": ["closed"] * 3 + ["open"] * 3}],
    }  # fmt: skip


def write_release(root: Path) -> Path:
    """A small release: two videos of each subject, the second without clips."""
    base = root / "annotations"
    rows = []
    for subject in SUBJECTS:
        folder = base / "all" / subject / "taking_food"
        folder.mkdir(parents=True)
        for video in ("0001", "0002"):
            (folder / f"{video}.json").write_text(json.dumps(video_json(subject, video=video)))
        rows += [f"{subject}, taking_food, 0001, 1, 3, pick", f"{subject}, taking_food, 0001, 4, 6, null"]
    (base / "video_clips.txt").write_text("\n".join(rows) + "\n\n")
    (base / "splits").mkdir()
    for k, subject in enumerate(SUBJECTS, 1):
        (base / "splits" / f"testlist{k:02d}.txt").write_text(subject + "\n")
        others = [s for s in SUBJECTS if s != subject]
        (base / "splits" / f"trainlist{k:02d}.txt").write_text("\n".join(others) + "\n")
    return root


@pytest.fixture
def release(tmp_path) -> Path:
    return write_release(tmp_path / "cad120")


def edge(graph, sender: str, receiver: str) -> int:
    names = [graph.vocabulary.objects[c] for c in graph.classes]
    wanted = [names.index(sender), names.index(receiver)]
    return graph.edges.T.tolist().index(wanted)


def test_graph_of_a_video(release):
    graph = read_cad120(release)[0]
    assert graph.video == "Subject1/taking_food/0001" and subject_of(graph) == "Subject1"
    assert [VOCABULARY.objects[c] for c in graph.classes] == ["head", "hand", "cup", "microwave"]
    np.testing.assert_allclose(graph.boxes[0, 0], [0.1, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(graph.boxes[0, 2], [0.5, 0.5, 1, 1])
    assert not graph.present[1, 2] and graph.present.sum() == T * 4 - 1
    assert graph.num_edges == 6

    relation = {name: r for r, name in enumerate(VOCABULARY.relations)}
    for sender, receiver in (("hand", "cup"), ("cup", "hand")):
        held = graph.relations[:, edge(graph, sender, receiver)]
        assert held[:, relation["holding"]].tolist() == [True, False, True, False, False, False]  # no box in frame 2
        assert held[:, relation["not_holding"]].tolist() == [False] * 3 + [True] * 3
    door = graph.relations[:, edge(graph, "head", "microwave")]
    assert door[:, relation["closed"]].tolist() == [True] * 3 + [False] * 3
    assert door[:, relation["open"]].tolist() == [False] * 3 + [True] * 3


def test_clips_count_from_one_and_include_both_ends(release):
    graph = read_cad120(release)[0]
    assert graph.duration == T / FPS
    np.testing.assert_allclose(graph.segments * FPS, [[0, 3], [3, 6]])
    assert graph.active().sum(0)[[ACTIONS.index("pick"), NULL]].tolist() == [3, 3]
    first, second = clips([graph])
    assert (first.video, second.video) == ("Subject1/taking_food/0001#0", "Subject1/taking_food/0001#1")
    assert second.num_frames == 3 and second.labels.tolist() == [NULL]
    np.testing.assert_array_equal(second.boxes, graph.boxes[3:])
    np.testing.assert_allclose(second.times * FPS, [0.5, 1.5, 2.5])
    np.testing.assert_allclose(second.segments, [[0, 0.1]])


def test_folds_leave_one_subject_out(release):
    graphs, four = read_cad120(release), folds(release)
    assert len(four) == 4
    for train, test in four:
        assert len(train) == 3 and set(train) | set(test) == set(SUBJECTS)
        parts = split_by_fold(graphs, (train, test))
        assert [len(part) for part in parts] == [6, 2]
        assert {subject_of(g) for g in parts[1]} == set(test)


def test_videos_without_clips_and_empty_sides_are_counted(release):
    path = release / "annotations/all/Subject1/taking_food/0001.json"
    data = json.loads(path.read_text())
    data["locations"][2]["loc_list"][4] = [781, 781, -142, -302]
    path.write_text(json.dumps(data))
    report = check_cad120(release)
    assert not report.errors
    assert report.quirks[EMPTY_SIDE] == 1 and report.quirks[UNLABELLED] == 4
    assert report.quirks[cad120.HIDDEN.format(state="holding")] == 8
    assert report.quirks[cad120.HIDDEN.format(state="containing")] == 8
    assert not read_cad120(release)[0].present[4, 1]


def test_a_video_without_relations(release):
    path = release / "annotations/all/Subject1/taking_food/0001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"relations": [], "attributes": []}))
    assert read_cad120(release)[0].num_edges == 0


def put(value, *keys):
    """Sets a place of a video's JSON."""

    def change(data):
        place = data
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


JSON_FAULTS = {
    "no locations": (lambda d: d.pop("locations"), "locations: found NoneType"),
    "other subject": (put("Subject9", "person_id"), "person_id: found 'Subject9'"),
    "entry": (put(7, "locations", 1), "locations[1]: found 7"),
    "name is a list": (put(["cup_1"], "locations", 1, "obj_id"), "locations[1]: found"),
    "unknown class": (put("dragon_1", "locations", 1, "obj_id"), "locations, dragon_1"),
    "repeated object": (put("hand_1", "locations", 1, "obj_id"), "hand_1 again"),
    "no head": (lambda d: d["locations"].pop(3), "found 0 heads"),
    "no frames": (put([], "locations", 3, "loc_list"), "locations, head_1: found no frames"),
    "short track": (lambda d: d["locations"][0]["loc_list"].pop(), "locations, microwave_1: found 5 frames"),
    "NaN": (put(float("nan"), "locations", 2, "loc_list", 4, 0), "locations, hand_1, frame 5: found [nan"),
    "huge": (put(10**400, "locations", 2, "loc_list", 4, 0), "locations, hand_1, frame 5"),
    "text in a box": (put("64", "locations", 2, "loc_list", 4, 0), "locations, hand_1, frame 5"),
    "three numbers": (put([1, 2, 3], "locations", 2, "loc_list", 4), "locations, hand_1, frame 5"),
    "outside": (put([600, 0, 64, 64], "locations", 2, "loc_list", 4), "inside 640 x 480"),
    "pair": (put(["hand_1", "cup_9"], "relations", 0, "obj_ids"), "relations, obj_ids: found ['hand_1', 'cup_9']"),
    "same pair": (put(["cup_1", "hand_1"], "relations", 1, "obj_ids"), "relations[1]: found"),
    "with itself": (put(["cup_1", "cup_1"], "relations", 0, "obj_ids"), "two different objects"),
    "pair is text": (put("hand_1", "relations", 0, "obj_ids"), "relations[0]: found"),
    "relation": (put("eats", "relations", 0, "rel_list", 2), "relations, hand_1-cup_1, frame 3: found 'eats'"),
    "relation is a list": (put(["holding"], "relations", 0, "rel_list", 2), "frame 3: found ['holding']"),
    "long relations": (lambda d: d["relations"][0]["rel_list"].append("holding"), "found 7 frames"),
    "attribute": (put("ajar", "attributes", 0, "attr_list", 0), "attributes, microwave_1, frame 1: found 'ajar'"),
    "whose attribute": (put("cup_2", "attributes", 0, "obj_id"), "attributes, obj_id: found cup_2"),
    "head's attribute": (put("head_1", "attributes", 0, "obj_id"), "attributes, obj_id: found head_1"),
}


@pytest.mark.parametrize("name", JSON_FAULTS)
def test_broken_video(release, name):
    change, message = JSON_FAULTS[name]
    path = release / "annotations/all/Subject3/taking_food/0001.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError) as caught:
        read_cad120(release)
    assert str(path) in str(caught.value) and message in str(caught.value)
    errors = check_cad120(release).errors  # goes on, and says the same
    assert any(message in str(error) for error in errors) and {error.source for error in errors} == {str(path)}


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '{"person_id": '], ids=len)
def test_no_json(release, text):
    path = release / "annotations/all/Subject3/taking_food/0001.json"
    path.write_text(text)
    with pytest.raises(DataError, match="0001.json"):
        read_cad120(release)


ROW_FAULTS = {
    "Subject1, taking_food, 0001, 1, 3": "5 columns",
    "Subject1, taking_food, 0009, 1, 3, pick": "Subject1/taking_food/0009",
    "Subject1, taking_food, 0001, 1, 3, juggle": "action: found 'juggle'",
    "Subject1, taking_food, 0001, one, 3, pick": "frames: found one, 3",
    "Subject1, taking_food, 0001, 0, 3, pick": "found 0, 3, expected 1 <= first <= last <= 6",
    "Subject1, taking_food, 0001, 4, 3, pick": "found 4, 3",
    "Subject1, taking_food, 0001, 4, 7, pick": "found 4, 7",
    f"Subject1, taking_food, 0001, 4, {'7' * 5000}, pick": "two whole numbers",
}


@pytest.mark.parametrize("row", ROW_FAULTS, ids=lambda row: row[-20:])
def test_broken_clip_row(release, row):
    path = release / "annotations/video_clips.txt"
    path.write_text("Subject1, taking_food, 0001, 1, 3, pick\n" + row + "\n")
    with pytest.raises(DataError) as caught:
        read_cad120(release)
    assert "video_clips.txt: row 2" in str(caught.value) and ROW_FAULTS[row] in str(caught.value)


@pytest.mark.parametrize("missing", ["video_clips.txt", "splits/trainlist03.txt", "splits/testlist04.txt"])
def test_missing_file(release, missing):
    (release / "annotations" / missing).unlink()
    (error,) = check_cad120(release).errors
    assert error.source.endswith(missing) and error.found == "FileNotFoundError"


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no SUBJECT/ACTIVITY/VIDEO.json"):
        read_cad120(tmp_path)


@pytest.mark.parametrize("name", ["Subject9", "Subject1"])
def test_broken_fold(release, name):
    (release / "annotations/splits/testlist02.txt").write_text(name)
    with pytest.raises(DataError, match=rf"testlist02.txt.*{name}"):
        folds(release)


def test_all_faults_at_once(release):
    (release / "annotations/all/Subject3/taking_food/0001.json").write_text("{")
    with open(release / "annotations/video_clips.txt", "a") as file:
        file.write("Subject1, taking_food, 0001, 4, 7, pick\nSubject1\n")
    (release / "annotations/splits/testlist02.txt").write_text("Subject9")
    places = [(Path(error.source).name, error.where) for error in check_cad120(release).errors]
    assert sorted(places) == [
        ("0001.json", "file"), ("testlist02.txt", "subject"), ("video_clips.txt", "row 10, frames"),
        ("video_clips.txt", "row 11"),
    ]  # fmt: skip


def test_transforms(release):
    graph = read_cad120(release)[0]
    bare = without_relations(graph)
    assert not bare.relations.any() and bare.relations.shape == graph.relations.shape
    np.testing.assert_array_equal(bare.edges, graph.edges)
    assert graph.relations.any()

    shuffled = shuffle_frames(graph, np.random.default_rng(0))
    order = [int(np.flatnonzero((graph.boxes[:, 0] == box).all(-1))[0]) for box in shuffled.boxes[:, 0]]
    assert sorted(order) == list(range(T)) != order
    np.testing.assert_array_equal(shuffled.relations, graph.relations[order])
    np.testing.assert_array_equal(shuffled.present, graph.present[order])
    np.testing.assert_array_equal(shuffled.times, graph.times)
    np.testing.assert_array_equal(shuffled.segments, graph.segments)


def test_states_of_tracks_go_on_without_a_box(release):
    from_graph, from_tracks = graph_states(clips(read_cad120(release)))[0], track_states(release)[0]
    assert from_tracks.state["first: hand holding cup"] == 1.0
    assert from_tracks.state["last: cup containing microwave"] == 1.0
    assert from_tracks.action == from_graph.action == ACTIONS.index("pick")
    assert from_graph.state.items() <= from_tracks.state.items()


def test_only_a_data_set_that_is_not_installed_is_passed_over(release, tmp_path, monkeypatch, capsys):
    """A damaged release, or a record that cannot be written, is an error and not "not measured"."""
    monkeypatch.setenv("PRODA_ROOT", str(tmp_path))
    monkeypatch.setenv("PRODA_DATA", str(tmp_path / "nothing"))
    commit_records.commit_controls()
    assert "not measured: nothing in its folder" in capsys.readouterr().out
    monkeypatch.setenv("PRODA_DATA", str(tmp_path))
    (release / "annotations/video_clips.txt").unlink()
    with pytest.raises(DataError, match="video_clips.txt"):
        commit_records.commit_controls()
    monkeypatch.setattr(cad120_controls, "measure", dict)
    (tmp_path / "results/cad120_controls.json").mkdir(parents=True)  # a folder is in the way
    with pytest.raises(DataError, match="writing"):
        commit_records.commit_controls()
    assert capsys.readouterr().out == ""
    (tmp_path / "results/cad120_controls.json").rmdir()
    commit_records.commit_controls()
    assert capsys.readouterr().out == "committed results/cad120_controls.json\n"
    assert cad120_controls.recorded() == {}


def test_a_record_of_another_release_is_told_apart_from_a_damaged_one(tmp_path, monkeypatch):
    path = tmp_path / "controls.json"
    monkeypatch.setattr(cad120_controls, "record_path", lambda: path)
    control = {"value": 0.5, "pooled": 0.4, "folds": [0.5], "per_class": {"open": 0.5}, "rows": 2}
    path.write_text(json.dumps({"data": data_version("cad120"), "controls": {"states": control}}))
    assert cad120_controls.recorded() == {"states": ControlResult(**{**control, "folds": (0.5,)})}
    path.write_text(json.dumps({"data": "cad120-0", "controls": {"states": control}}))
    with pytest.raises(DataError, match="commit_records.py") as caught:
        cad120_controls.recorded()
    assert (caught.value.where, caught.value.found) == ("data", "cad120-0")
    assert data_version("cad120") in caught.value.expected
    path.write_text(json.dumps({"controls": {"states": control}}))
    with pytest.raises(DataError, match="commit_records.py") as caught:
        cad120_controls.recorded()
    assert (caught.value.where, caught.value.found) == ("file", "KeyError: 'data'")


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory) -> Path:
    archive = shared_data / "cad120" / "annotations.zip"
    if not archive.is_file():
        pytest.skip(f"{archive.name} of CAD-120 is not in the shared data")
    root = tmp_path_factory.mktemp("cad120")
    zipfile.ZipFile(archive).extractall(root)
    return root


def test_real_release(real):
    report = check_cad120(real)
    assert report.errors == []
    assert report.quirks[EMPTY_SIDE] == 30 and report.quirks[UNLABELLED] == 24
    assert report.quirks[cad120.HIDDEN.format(state="containing")] == 3589
    graphs = read_cad120(real)
    assert len(graphs) == 124 and sum(g.num_frames for g in graphs) == 65_133
    assert sum(len(g.labels) > 0 for g in graphs) == 100
    assert all(VOCABULARY.objects[g.classes[0]] == "head" for g in graphs)
    parts = clips(graphs)
    counts = np.bincount([int(part.labels[0]) for part in parts])
    assert dict(zip(ACTIONS, counts.tolist(), strict=True)) == {
        "open": 48, "close": 40, "pick": 109, "place": 100, "drink": 31, "eat": 28, "microwave_food": 10,
        "take_food": 12, "clean": 12, "null": 161,
    }  # fmt: skip
    assert [sum(map(len, split_by_fold(graphs, fold))) for fold in folds(real)] == [124] * 4


def test_real_controls(real):
    graphs, four = read_cad120(real), folds(real)
    bag = object_bag_map(graphs, four)
    assert bag.rows == 98 and len(bag.per_class) == 9 and bag.value == pytest.approx(0.808, abs=0.01)
    states = state_recall(track_states(real), four)
    assert states.rows == 551 and len(states.per_class) == 10 and states.value == pytest.approx(0.884, abs=0.01)
    assert state_recall(graph_states(clips(graphs)), four).value == pytest.approx(0.832, abs=0.01)
