"""Reader of Action Genome: a small release in the official layout, each quirk and fault, and real frames."""

import os
import pickle

import numpy as np
import pytest

from proda_lib.datasets import action_genome as ag
from proda_lib.datasets import action_genome_files as ag_files
from proda_lib.datasets.action_genome import check_action_genome, read_action_genome
from proda_lib.datasets.charades import NO_ACTIONS, OVERRUN, REVERSED, read_charades, read_classes
from proda_lib.datasets.report import Report
from proda_lib.datasets.safe_pickle import safe_load
from proda_lib.errors import DataError
from proda_lib.vocabulary import ACTION_GENOME_OBJECTS, ACTION_GENOME_RELATIONS

CUP, DISH, TABLE = (ACTION_GENOME_OBJECTS.index(name) for name in ("cup/glass/bottle", "dish", "table"))
A1, A2, A3, B1 = "AAAAA.mp4/000010.png", "AAAAA.mp4/000020.png", "AAAAA.mp4/000045.png", "BBBBB.mp4/000005.png"
OBJECTS, PERSONS = "object_bbox_and_relationship.pkl", "person_bbox.pkl"


def thing(name, bbox=(10, 20, 30, 40), attention=None, spatial=None, contacting=None, split="train"):
    return {"class": name, "bbox": bbox, "visible": bbox is not None, "attention_relationship": attention,
            "spatial_relationship": spatial, "contacting_relationship": contacting,
            "metadata": {"tag": "", "set": split}}  # fmt: skip


def person(*boxes, **more):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return {"bbox": boxes, "bbox_score": np.ones(len(boxes), np.float32), "bbox_size": (200, 100), "bbox_mode": "xyxy",
            **more}  # fmt: skip


class Release:
    """A release of two videos in ``folder``; change the attributes, then :meth:`read`."""

    def __init__(self, folder):
        self.folder = folder
        self.objects = {
            A1: [thing("cupglassbottle", (10, 20, 30, 40), ["lookingat"], ["infrontof", "on_the_side_of"], ["holding"]),
                 thing("table", None)],
            A2: [thing("cup/glass/bottle", None), thing("table", (0, 50, 200, 50), ["unsure"], ["beneath"], [])],
            A3: [thing("table", (0, 50, 100, 50), ["not_looking_at"], [], ["not_contacting"])],
            B1: [thing("dish", (0, 0, 20, 10), ["looking_at"], split="test")],
        }  # fmt: skip
        self.persons = {A1: person((50, 0, 150, 100)), A2: person((40, 0, 140, 100)), A3: person(),
                        B1: person((0, 0, 9, 9))}  # fmt: skip
        self.frames = [A2, A1, A3, B1]
        self.fps = {"AAAAA.mp4": 10.0, "BBBBB.mp4": 29.97}
        self.train, self.test = ["AAAAA,Kitchen,c001 1.00 4.50;c000 0.00 2.00,5.00"], ["BBBBB,Pantry,,4.00"]
        self.text = {"object_classes.txt": [n.replace("/", "") for n in ACTION_GENOME_OBJECTS],
                     "relationship_classes.txt": [n.replace("_", "") for n in ACTION_GENOME_RELATIONS]}  # fmt: skip

    def write(self):
        for name, content in ((OBJECTS, self.objects), (PERSONS, self.persons), ("fps", self.fps)):
            (self.folder / name).write_bytes(pickle.dumps(content, 2))
        texts = {**self.text, "frame_list.txt": self.frames, "classes.txt": ["c000 Hold", "c001 Put"],
                 "train.csv": ["id,scene,actions,length", *self.train],
                 "test.csv": ["id,scene,actions,length", *self.test]}  # fmt: skip
        for name, lines in texts.items():
            (self.folder / name).write_text("\n".join(lines) + "\n")
        return (self.folder, [self.folder / "train.csv", self.folder / "test.csv"], self.folder / "classes.txt",
                self.folder / "fps")  # fmt: skip

    def read(self, **options):
        return read_action_genome(*self.write(), **options)


@pytest.fixture
def release(tmp_path):
    return Release(tmp_path)


def names(relations):
    return {ACTION_GENOME_RELATIONS[i] for i in np.flatnonzero(relations)}


def test_scene_graph_of_a_video(release):
    report = Report()
    graph, other = release.read(report=report)
    assert graph.video == "AAAAA" and graph.vocabulary.name == "action_genome" and graph.duration == 5
    assert graph.classes.tolist() == [0, CUP, TABLE] and graph.times.tolist() == [1, 2, 4.5]
    assert graph.present.tolist() == [[True, True, False], [True, False, True], [False, False, True]]
    np.testing.assert_allclose(graph.boxes[0], [[0.25, 0, 0.75, 1], [0.05, 0.2, 0.2, 0.6], [0] * 4], rtol=1e-6)
    assert graph.edges.T.tolist() == [[0, 1], [0, 2], [1, 0], [2, 0]]
    assert names(graph.relations[0, 0]) == {"looking_at", "in_front_of", "on_the_side_of", "holding"}
    assert names(graph.relations[1, 1]) == {"unsure", "beneath"}
    assert not graph.relations[2].any()  # without the person there is no edge
    np.testing.assert_array_equal(graph.relations[:, :2], graph.relations[:, 2:])
    assert graph.labels.tolist() == [0, 1] and graph.segments.tolist() == [[1, 4.5], [0, 2]]
    assert graph.vocabulary.scenes[graph.scene] == "Kitchen" and graph.vocabulary.actions == ("Hold", "Put")
    assert other.video == "BBBBB" and other.times.tolist() == [5 / 29.97] and other.labels.shape == (0,)
    assert report.quirks == {ag_files.NO_PERSON: 1, NO_ACTIONS: 1}


def test_splits(release):
    assert [g.video for g in release.read(split="train")] == ["AAAAA"]
    assert [g.video for g in release.read(split="test")] == ["BBBBB"]
    for options in ({"split": "val"}, {"max_objects": 0}):
        with pytest.raises(DataError, match=next(iter(options))):
            release.read(**options)


def test_a_video_where_no_object_is_visible(release):
    release.objects[B1] = [thing("dish", None, split="test")]
    graph = release.read(split="test")[0]
    assert graph.classes.tolist() == [0] and graph.num_edges == 0 and graph.present.all()


def test_more_objects_than_slots(release):
    release.objects[A1].append(thing("dish"))
    release.objects[A2].append(thing("dish"))  # table and dish in two frames, the cup in one
    report = Report()
    with pytest.warns(UserWarning, match=r"1 x video with more object classes than slots .*: 2 slots"):
        graph = release.read(max_objects=2, report=report)[0]
    assert graph.classes.tolist() == [0, DISH, TABLE] and report.quirks[ag.MANY_OBJECTS] == 1
    with pytest.warns(UserWarning):
        graph = release.read(max_objects=1)[0]
    assert graph.classes.tolist() == [0, DISH]  # a tie: the first of the vocabulary


QUIRKS = {
    ag_files.MANY_PERSONS: lambda r: r.persons.update(
        {B1: person((0, 0, 9, 9), (100, 0, 150, 50), bbox_score=np.array([0.2, 0.9]))}),
    ag_files.OUTSIDE: lambda r: r.objects[B1][0].update(bbox=(-10, -5, 225, 106)),
    ag_files.INVISIBLE: lambda r: r.objects[B1].append({**thing("table", split="test"), "visible": False}),
    ag_files.REPEATED: lambda r: r.objects[B1].append(thing("dish", (1, 1, 2, 2), ["unsure"], split="test")),
    ag.LATE: lambda r: r.fps.update({"BBBBB.mp4": 1.2}),
    ag_files.UNLISTED: lambda r: r.frames.remove(A2),
}  # fmt: skip


@pytest.mark.parametrize("quirk", QUIRKS)
def test_quirks_are_counted(release, quirk):
    QUIRKS[quirk](release)
    report = Report()
    graph = release.read(report=report)[-1]
    assert report.quirks == {ag_files.NO_PERSON: 1, NO_ACTIONS: 1, quirk: 1}
    assert graph.classes.tolist() == [0, DISH] and names(graph.relations[0, 0]) == {"looking_at"}
    if quirk == ag_files.MANY_PERSONS:
        assert graph.boxes[0, 0].tolist() == [0.5, 0, 0.75, 0.5]
    if quirk == ag_files.OUTSIDE:
        assert graph.boxes[0, 1].tolist() == [0, 0, 1, 1]
    if quirk == ag.LATE:
        assert graph.times.tolist() == [4]


def test_size_of_a_frame_without_a_person_may_be_missing(release):
    release.persons[A3] = {"bbox": []}
    np.testing.assert_allclose(release.read()[0].boxes[2, 2], [0, 0.5, 0.5, 1])


def change(key, index=0, **fields):
    return lambda r: r.objects[key][index].update(fields)


FAULTS = [
    (change(A1, bbox=(float("nan"), 0, 1, 1)), rf"{OBJECTS}: {A1} cupglassbottle bbox: found \(nan, 0, 1, 1\)"),
    (change(A1, bbox=(0, 0, float("inf"), 1)), "cupglassbottle bbox"),
    (change(A1, bbox=(5, 5, -3, 4)), r"found \(5, 5, -3, 4\), expected x, y, w, h"),
    (change(A1, bbox=(5, 5, 3, 0)), "cupglassbottle bbox"),
    (change(A1, bbox=(5, 5, 3)), "cupglassbottle bbox"),
    (change(A1, bbox=("a", 5, 3, 3)), "cupglassbottle bbox"),
    (change(A1, bbox=7), "cupglassbottle bbox"),
    (change(A1, bbox=(0, 0, 230, 50)), "a frame of 200 x 100"),
    (change(A1, bbox=(205, 0, 10, 50)), "cupglassbottle bbox"),
    (change(A1, bbox=None), "cupglassbottle bbox: found no box, expected a box, since visible is True"),
    (change(A1, visible="yes"), "cupglassbottle visible: found 'yes'"),
    (change(A1, **{"class": "unicorn"}), f"{A1} class: found 'unicorn'"),
    (change(A1, **{"class": "person"}), f"{A1} class: found 'person'"),
    (change(A1, spatial_relationship=["under"]), "cupglassbottle relation: found 'under'"),
    (lambda r: r.objects[A1][0].pop("visible"), f"{OBJECTS}: {A1}: .*a dict with class, bbox and visible"),
    (lambda r: r.objects.update({A1: 3}), f"{OBJECTS}: {A1}: found int"),
    (lambda r: r.objects[A1].append(None), f"{OBJECTS}: {A1}: found None"),
    (lambda r: r.objects.pop(A2), f"{OBJECTS}: {A2}: found no entry"),
    (lambda r: r.persons.pop(A2), f"{PERSONS}: {A2}: found no entry"),
    (lambda r: r.persons.update({A2: None}), f"{PERSONS}: {A2}: found NoneType"),
    (lambda r: r.persons.update({A2: person((9, 0, 3, 5))}), rf"{PERSONS}: {A2} bbox: .*expected x1, y1, x2, y2"),
    (lambda r: r.persons.update({A2: person((0, np.nan, 3, 5))}), f"{A2} bbox"),
    (lambda r: r.persons[A2].update(bbox=[[1, 2, 3]]), f"{A2} bbox"),
    (lambda r: r.persons[A2].update(bbox="box"), f"{A2} bbox"),
    (lambda r: r.persons[A2].update(bbox_size=(200, 0)), rf"{A2} bbox_size: found \(200, 0\)"),
    (lambda r: r.persons[A2].update(bbox_size=7), f"{A2} bbox_size: found 7"),
    (lambda r: r.persons[A2].update(bbox_mode="xywh"), f"{A2} bbox_mode: found 'xywh'"),
    (lambda r: r.fps.pop("AAAAA.mp4"), "fps: AAAAA.mp4: found no frame rate"),
    (lambda r: r.fps.update({"AAAAA.mp4": float("nan")}), "fps: AAAAA.mp4: found nan"),
    (lambda r: r.fps.update({"AAAAA.mp4": 0}), "fps: AAAAA.mp4: found 0"),
    (lambda r: r.fps.update({"AAAAA.mp4": 8.0}), f"frame_list.txt: {A3}: .*a frame at 5.6. s"),
    (lambda r: r.train.__setitem__(0, "CCCCC,Kitchen,,5"), "frame_list.txt: AAAAA: found no row in the csv"),
    (lambda r: r.test.append("AAAAA,Kitchen,,5"), "test.csv: AAAAA: found a video that another csv has too"),
    (lambda r: r.train.append("AAAAA,Kitchen,,5"), r"train.csv: line 3 \(AAAAA\): found a repeated id"),
    (lambda r: r.frames.append(A1), f"frame_list.txt: line 5: found {A1} again"),
    (lambda r: r.frames.append("AAAAA/1.png"), "frame_list.txt: line 5: found 'AAAAA/1.png'"),
    (lambda r: r.frames.clear(), "frame_list.txt: file: found nothing"),
    (lambda r: r.text["object_classes.txt"].append("unicorn"), "object_classes.txt: line 37: found 'unicorn'"),
    (lambda r: r.text["relationship_classes.txt"].remove("holding"), "relationship_classes.txt: .*no holding"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_faults_name_file_and_key(release, fault, message):
    fault(release)
    with pytest.raises(DataError, match=message):
        release.read()
    report = Report(collect=True)
    release.read(report=report)
    assert report.errors


@pytest.mark.parametrize("metadata", [None, {"set": "val"}, {}, 3])
def test_a_split_must_be_known_to_be_chosen(release, metadata):
    release.objects[B1][0]["metadata"] = metadata
    assert len(release.read()) == 2
    with pytest.raises(DataError, match=f"{OBJECTS}: BBBBB metadata set"):
        release.read(split="test")


def test_all_faults_at_once(release):
    release.objects[A1][0]["bbox"] = (5, 5, -3, 4)
    release.objects[A2].append(thing("unicorn"))
    release.persons[A3]["bbox_size"] = None, 3
    release.fps.clear()
    report = check_action_genome(*release.write())
    found = [e.where for e in report.errors]
    assert found == ["AAAAA.mp4", f"{A1} cupglassbottle bbox", f"{A2} class", f"{A3} bbox_size", "BBBBB.mp4"]
    good = Release(release.folder)
    assert check_action_genome(*good.write()).errors == []
    good.fps.pop("AAAAA.mp4")
    assert [g.video for g in good.read(report=Report(collect=True))] == ["BBBBB"]


@pytest.mark.parametrize("name", [OBJECTS, PERSONS, "fps"])
def test_unreadable_and_hostile_pickles(release, name):
    arguments = release.write()
    path = release.folder / name
    whole = path.read_bytes()
    hostile = b"cos\nmkdir\n(V" + str(release.folder / "mark").encode() + b"\ntR."
    cases = {"global os.mkdir": hostile, "pickle": whole[:-20], "pickle: found list": pickle.dumps([]), "file": None}
    for message, content in cases.items():
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: {message}"):
            read_action_genome(*arguments)
        assert check_action_genome(*arguments).errors[0].source == str(path)
    assert not (release.folder / "mark").exists()


@pytest.mark.parametrize("name", ["frame_list.txt", "object_classes.txt", "classes.txt", "train.csv"])
def test_missing_text_files(release, name):
    arguments = release.write()
    os.remove(release.folder / name)
    with pytest.raises(DataError, match=f"{name}: file"):
        read_action_genome(*arguments)
    assert any(error.source.endswith(name) for error in check_action_genome(*arguments).errors)


def shared_arguments(folder):
    charades = folder / "charades"
    return (folder / "action_genome_mini" / "annotations",
            [charades / "Charades_v1_train.csv", charades / "Charades_v1_test.csv"],
            charades / "Charades_v1_classes.txt", folder / "action_genome" / "star_video_fps")  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*dropped")
def test_real_frames(shared_data):
    report = Report()
    graphs = read_action_genome(*shared_arguments(shared_data), report=report)
    frames = {g.video: g.num_frames for g in graphs}
    assert frames == {"LEG82": 57, "0BNML": 52, "0TXYV": 29, "EK19H": 14, "M6ERH": 14}
    assert report.quirks == {ag_files.NO_PERSON: 7, OVERRUN: 14596 + 5027, REVERSED: 7, NO_ACTIONS: 174 + 49}
    assert sum(g.present[:, 0].sum() for g in graphs) == 159 and sum(g.present[:, 1:].sum() for g in graphs) == 470
    assert all(len(g.labels) and g.scene >= 0 and g.times[-1] < g.duration for g in graphs)
    assert {g.video for g in read_action_genome(*shared_arguments(shared_data), split="test")} == {"M6ERH"}


@pytest.mark.filterwarnings("ignore:.*dropped")
def test_every_official_frame_lies_in_its_video(shared_data, tmp_path):
    """The official frame lists, rates and csv files agree; the objects of this test are made up."""
    official, made_up = shared_data / "action_genome", Release(tmp_path)
    _, csvs, classes_file, fps_file = shared_arguments(shared_data)
    classes, rates = read_classes(classes_file), safe_load(fps_file)
    for split, csv_path, num_videos, num_frames in (("train", csvs[0], 7464, 166785), ("test", csvs[1], 1737, 54371)):
        listed, videos = safe_load(official / f"ag_{split}_id.pkl"), read_charades(csv_path, classes)
        assert len(listed) == num_videos and sum(map(len, listed.values())) == num_frames
        late = [max(int(f[:6]) for f in frames) / rates[v] - videos[v[:-4]].length for v, frames in listed.items()]
        assert -0.2 < max(late) < 0
    made_up.frames = [f"{video}/{frame}" for video, frames in listed.items() for frame in frames]
    made_up.objects = dict.fromkeys(made_up.frames, [thing("dish", split="test")])
    made_up.persons = dict.fromkeys(made_up.frames, person((0, 0, 9, 9)))
    made_up.write()
    report = Report()
    graphs = read_action_genome(tmp_path, csvs[1:], classes_file, fps_file, split="test", report=report)
    assert len(graphs) == 1737 and sum(g.num_frames for g in graphs) == 54371 and ag.LATE not in report.quirks
