"""Reader of Charades' csv and class files: official quirks are counted, every other oddity is refused by place."""

import warnings

import numpy as np
import pytest

from proda_lib.datasets.charades import MEAN_COVERAGE, NO_ACTIONS, OVERRUN, REVERSED, read_charades, read_classes
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError
from proda_lib.vocabulary import CHARADES_SCENES

CLASSES = ("Holding a cup", "Sitting down", "Laughing")
HEADER = "id,scene,script,actions,length"
GOOD = 'AAAAA,Kitchen,"One ""person"", one\ncup",c001 1.00 2.50;c000 0.00 4.00;c001 3.00 4.90,5.00'


def write(tmp_path, *rows, header=HEADER, name="videos.csv"):
    path = tmp_path / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_video(tmp_path):
    report = Report()
    videos = read_charades(write(tmp_path, GOOD), CLASSES, report)
    video = videos["AAAAA"]
    assert list(videos) == ["AAAAA"] and CHARADES_SCENES[video.scene] == "Kitchen" and video.length == 5
    assert video.labels.tolist() == [0, 1] and video.segment_labels.tolist() == [1, 0, 1]
    assert video.segments.tolist() == [[1, 2.5], [0, 4], [3, 4.9]] and not report.quirks


@pytest.mark.parametrize(("text", "scene"), [
    ("Basement (A room below the ground floor)", "Basement"), ("Home Office / Study (for work)", "Home Office / Study"),
    ("Stairs", "Stairs"), ("", None),
])  # fmt: skip
def test_scenes_match_before_the_parenthesis(tmp_path, text, scene):
    video = read_charades(write(tmp_path, f"AAAAA,{text},,c000 0 1,5"), CLASSES)["AAAAA"]
    assert video.scene == (-1 if scene is None else CHARADES_SCENES.index(scene))


def test_quirks_are_counted(tmp_path):
    path = write(tmp_path, "AAAAA,,,c000 0.00 6.54;c001 1 2,5.00", "BBBBB,,,,4.00", "CCCCC,,,c002 3.00 2.00,5.00")
    report = Report()
    with pytest.warns(UserWarning, match=r"videos\.csv: line 4 \(CCCCC\).*dropped.*c002 3\.\.2 s") as caught:
        videos = read_charades(path, CLASSES, report)
    assert len(caught) == 1 and report.quirks == {OVERRUN: 1, NO_ACTIONS: 1, REVERSED: 1}
    assert videos["AAAAA"].segments.tolist() == [[0, 5], [1, 2]]
    assert videos["BBBBB"].labels.shape == (0,) and videos["BBBBB"].segments.shape == (0, 2)
    assert videos["CCCCC"].labels.tolist() == [2] and videos["CCCCC"].segments.shape == (0, 2)


FAULTS = [
    (",,,c000 0 1,5", r"line 2 \(\): found an empty id"),
    ("AAAAA,,,c000 0 1", r"line 2 \(AAAAA\): found too few fields, expected 5"),
    ("AAAAA,,,c000 0 1,5,6", "too many fields"),
    ("AAAAA,Moon,,c000 0 1,5", "line 2 .* scene: found 'Moon'"),
    ("AAAAA,,,c000 0 1,", "length: found ''"),
    ("AAAAA,,,c000 0 1,nan", "length: found 'nan'"),
    ("AAAAA,,,c000 0 1,inf", "length: found 'inf'"),
    ("AAAAA,,,c000 0 1,-5", "length: found '-5'"),
    ("AAAAA,,,c000 0 1,0", "length: found '0'"),
    ("AAAAA,,,c000 0 1,five", "length: found 'five'"),
    ("AAAAA,,,c003 0 1,5", "actions: found 'c003 0 1', expected a class in c000..c002"),
    ("AAAAA,,,k000 0 1,5", "'k000 0 1'"),
    ("AAAAA,,,c00 0 1,5", "'c00 0 1'"),
    ("AAAAA,,,c000 x 1,5", "'c000 x 1'"),
    ("AAAAA,,,c000 0 nan,5", "'c000 0 nan'"),
    ("AAAAA,,,c000 -1 1,5", "'c000 -1 1'"),
    ("AAAAA,,,c000 0,5", "'c000 0'"),
    ("AAAAA,,,c000 0 1;,5", "actions: found ''"),
    ("AAAAA,,,c000 0 7.01,5", r"0..7.01 s in a video of 5 s"),
    ("AAAAA,,,c000 5.5 6,5", r"5.5..6 s in a video of 5 s"),
    ("AAAAA,,,c000 9 7.5,5", r"9..7.5 s in a video of 5 s"),
    ('AAAAA,,"open,c000 0 1,5', "row after line 1"),
]


@pytest.mark.filterwarnings("ignore:.*dropped")
@pytest.mark.parametrize(("row", "message"), FAULTS, ids=[row for row, _ in FAULTS])
def test_faults_name_file_and_row(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"videos\.csv: .*{message}"):
        read_charades(write(tmp_path, row), CLASSES)
    report = Report(collect=True)
    assert read_charades(write(tmp_path, row), CLASSES, report) == {} and report.errors


def test_all_faults_at_once(tmp_path):
    path = write(tmp_path, "AAAAA,Moon,,c000 0 1;c000 x 1;c009 0 1,-5", GOOD.replace("AAAAA", "BBBBB"), "BBBBB,,,,3")
    report = Report(collect=True)
    assert list(read_charades(path, CLASSES, report)) == ["BBBBB"]
    found = [(e.where, e.found) for e in report.errors]
    assert found == [("line 2 (AAAAA) length", "'-5'"), ("line 2 (AAAAA) actions", "'c000 x 1'"),
                     ("line 2 (AAAAA) actions", "'c009 0 1'"), ("line 5 (BBBBB)", "a repeated id")]  # fmt: skip


def test_broken_files(tmp_path):
    with pytest.raises(DataError, match=r"header: found \['id', 'scene'\], expected the columns actions, length too"):
        read_charades(write(tmp_path, "AAAAA,Kitchen", header="id,scene"), CLASSES)
    with pytest.raises(DataError, match="no rows"):
        read_charades(write(tmp_path), CLASSES)
    with pytest.raises(DataError, match=r"absent\.csv: file: found No such file"):
        read_charades(tmp_path / "absent.csv", CLASSES)
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\nAAAAA,,caf\xe9,,5\n".encode("latin1"))
    with pytest.raises(DataError, match=r"latin\.csv: byte .* expected UTF-8"):
        read_charades(tmp_path / "latin.csv", CLASSES)
    (tmp_path / "empty.csv").write_bytes(b"")
    report = Report(collect=True)
    assert read_charades(tmp_path / "empty.csv", CLASSES, report) == {} and len(report.errors) == 1


def test_classes(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("c000 Holding a cup\nc001 Sitting down\n")
    assert read_classes(path) == ("Holding a cup", "Sitting down")
    for text, line in (("c000 A\nc002 B\n", 2), ("c000 A\nc001\n", 2), ("A\n", 1), ("c000 A\nc001 A\n", 2)):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"classes\.txt: line {line}"):
            read_classes(path)
    path.write_text("")
    with pytest.raises(DataError, match="no classes"):
        read_classes(path)
    with pytest.raises(DataError, match="absent"):
        read_classes(tmp_path / "absent.txt")


@pytest.mark.parametrize(("split", "rows", "kept", "quirks"), [
    ("train", 7985, 49802, {OVERRUN: 14596, REVERSED: 7, NO_ACTIONS: 174}),
    ("test", 1863, 16691, {OVERRUN: 5027, NO_ACTIONS: 49}),
])  # fmt: skip
def test_official_release(shared_data, split, rows, kept, quirks):
    folder, report = shared_data / "charades", Report()
    classes = read_classes(folder / "Charades_v1_classes.txt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        videos = read_charades(folder / f"Charades_v1_{split}.csv", classes, report)
    assert len(classes) == 157 and len(videos) == rows and report.quirks == quirks
    assert len(caught) == quirks.get(REVERSED, 0)
    assert sum(len(v.segments) for v in videos.values()) == kept
    assert {v.scene for v in videos.values()} == set(range(16))
    if split == "train":
        counts = np.bincount([len(v.labels) for v in videos.values()])[1:17].tolist()
        assert counts == [102, 389, 785, 1088, 1232, 1032, 955, 740, 464, 372, 248, 148, 96, 56, 44, 26]


def test_mean_coverage_is_that_of_the_official_training_intervals(shared_data):
    folder = shared_data / "charades"
    with pytest.warns(UserWarning):
        videos = read_charades(folder / "Charades_v1_train.csv", read_classes(folder / "Charades_v1_classes.txt"))
    shares = [(end - start) / video.length for video in videos.values() for start, end in video.segments]
    assert np.mean(shares) == pytest.approx(MEAN_COVERAGE, abs=5e-4)
