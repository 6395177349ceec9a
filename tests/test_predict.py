"""From a video or a graph to an answer: scores, frame weights, the parsed graph, what is refused, the commands."""

import dataclasses
import json
import os
import re
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from proda_lib.datasets.own import read_own, write_own
from proda_lib.datasets.world import VOCABULARY, WorldConfig, make_video
from proda_lib.errors import CheckpointError, DataError
from proda_lib.evaluation.explain import look
from proda_lib.features.video import read_frames
from proda_lib.paths import project_root
from proda_lib.predict import Predictor
from proda_lib.predict.answer import KEPT
from proda_lib.predict.inputs import NO_RELATIONS, in_vocabulary, read_graph
from proda_lib.specification import one_hot
from proda_lib.training import runs
from proda_lib.training.recipe import command
from proda_lib.vocabulary import Vocabulary
from tests.predict_cases import ASKED, EXAMPLE, make_model, write_film, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor.load(folder)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "clip.mp4")


@pytest.fixture(scope="module")
def graph():
    return make_video(WorldConfig(), 1)


def test_three_lines(folder, tmp_path):
    predictor = Predictor.load(folder)
    answer = predictor(graph=EXAMPLE, actions=["raise_cup"])
    report = answer.save_report(tmp_path / "report")
    assert report.is_file() and repr(answer).startswith("Prediction('kitchen', a_s: raise_cup 0.")
    assert {path.name for path in report.parent.iterdir()} == {
        "report.html", "scores.csv", "frame_weights.csv", "parsed.json"}  # fmt: skip


def test_scores_are_the_models(predictor, graph):
    answer = predictor(graph=graph, actions=ASKED)
    numbers = [VOCABULARY.actions.index(name) for name in ASKED]
    seen = graph.sample_frames(8)
    each = one_hot(numbers, len(VOCABULARY.actions))
    together, *alone = look(predictor.model, seen, np.concatenate([each.any(0, keepdims=True), each]))
    table = answer.scores
    assert list(table.index[:2]) == ASKED and len(table) == len(VOCABULARY.actions) and table["asked"].sum() == 2
    np.testing.assert_allclose(table.loc[ASKED, "a_s"], together.a_s[numbers])
    np.testing.assert_allclose(table.loc[ASKED, "a_s_alone"], [a.a_s[n] for a, n in zip(alone, numbers, strict=True)])
    np.testing.assert_allclose(table.loc[list(VOCABULARY.actions), "a_t"], together.a_t)
    assert table.loc[~table["asked"], ["a_s", "a_s_alone"]].isna().all(axis=None)
    assert (np.diff(table["a_t"].iloc[2:]) <= 0).all() and answer.no_action == pytest.approx(together.a_s[-1])
    other = predictor(graph=graph, actions="hold_book")
    np.testing.assert_allclose(other.scores.loc[table.index, "a_m"], table["a_m"])  # nobody asked
    assert not np.allclose(other.scores.loc[table.index, "a_t"], table["a_t"])
    assert other.scores.loc["hold_book", "a_s"] == pytest.approx(other.scores.loc["hold_book", "a_s_alone"])


def test_frame_weights_and_segments(predictor, graph):
    answer = predictor(graph=graph, actions=ASKED, theta=0.9)
    weights = answer.frame_weights
    assert weights.shape == (8, 2) and list(weights.columns) == ASKED
    s = np.stack([a.s for a in answer.alone])
    np.testing.assert_allclose(weights.to_numpy().T, s**2 / (s**2).max(1, keepdims=True), rtol=1e-5)
    for name, spans in answer.segments.items():
        assert spans and all(0 <= start < end <= graph.duration for start, end in spans)
        inside = [any(a <= t <= b for a, b in spans) for t in weights.index]
        assert inside == list(weights[name] >= 0.9)
    assert predictor(graph=graph, actions=ASKED, theta=1e-6).segments[ASKED[0]] == [(0.0, graph.duration)]


def test_parsed_graph(predictor, graph):
    answer = predictor(graph=graph, actions=ASKED)
    parsed = json.loads(json.dumps(answer.parsed, allow_nan=False))["actions"]
    assert list(parsed) == ASKED
    for own, entry in zip(answer.alone, parsed.values(), strict=True):
        nodes = [(n["slot"], t, n["score"]) for t, f in enumerate(entry["frames"]) for n in f["nodes"]]
        assert len(nodes) == answer.seen.present.sum()
        np.testing.assert_allclose([v for *_, v in nodes], [own.node_score[m, t] for m, t, _ in nodes], atol=1e-6)
        edges = [(t, e) for t, f in enumerate(entry["frames"]) for e in f["edges"]]
        assert len(edges) == answer.seen.edge_present.sum() and len(edges[0][1]["w"]) == 2
        least = KEPT * np.nanmax(own.w[-1])
        assert {e["kept"] for _, e in edges} <= {True, False} and any(e["kept"] for _, e in edges)
        assert all(e["kept"] == (e["w"][-1] >= least - 1e-6) or abs(e["w"][-1] - least) < 1e-5 for _, e in edges)


@pytest.mark.parametrize(
    ("asked", "found", "expected"),
    [
        ("hold_bok", "'hold_bok'", "'hold_book'"),
        (["cup", "raise_cup"], "'cup'", "raise_cup"),
        ("", "none", "at least one"),
        (" , ", "none", "at least one"),
    ],
)
def test_unknown_actions(predictor, graph, asked, found, expected):
    with pytest.raises(DataError) as caught:
        predictor(graph=graph, actions=asked)
    assert caught.value.where == "actions" and found in caught.value.found and expected in caught.value.expected


def test_names_with_commas_and_repeats():
    vocabulary = dataclasses.replace(VOCABULARY, actions=("a, b", *VOCABULARY.actions[1:]))
    predictor = Predictor(make_model(), vocabulary)
    assert predictor.numbers("a, b").tolist() == [0]
    other = Predictor(make_model(), dataclasses.replace(VOCABULARY, actions=("Hold", "hold", *VOCABULARY.actions[2:])))
    assert other.numbers("hold, Hold, hold").tolist() == [1, 0]
    assert predictor.numbers("Open door, raise_CUP").tolist() == [VOCABULARY.actions.index(name) for name in
                                                                  ("open_door", "raise_cup")]  # fmt: skip
    assert predictor.numbers(" hold_book,hold_book ").tolist() == [VOCABULARY.actions.index("hold_book")]


def test_names_as_people_write_them():
    predictor = Predictor(make_model(), VOCABULARY)
    numbers = predictor.numbers("Opening a door, raising the cup, putting down some book")
    assert [VOCABULARY.actions[number] for number in numbers] == ["open_door", "raise_cup", "put_down_book"]
    for name, action in {"hugging a person": "hug_person", "Shaking hands with a person": "shake_hands_with_person",
                         "wiping mirror": None, "tidying a box": "tidy_box", "closing the door": "close_door",
                         "trying to open a door": "try_to_open_door", "adjusting a laptop": "adjust_laptop",
                         "unwrapping from a blanket": "unwrap_from_blanket", "the": None}.items():  # fmt: skip
        if action is None:
            with pytest.raises(DataError):
                predictor.numbers([name])
        else:
            assert [VOCABULARY.actions[n] for n in predictor.numbers([name])] == [action]
    with pytest.raises(DataError, match="found 'holding a cup', .*nearest: .*hold_book.*_cup"):
        predictor.numbers("holding a cup, opening a door")
    two = dataclasses.replace(VOCABULARY, actions=("Opening a door", "open the door", *VOCABULARY.actions[2:]))
    with pytest.raises(DataError, match="opening door"):  # which of the two?
        Predictor(make_model(), two).numbers("opening door")


@pytest.mark.parametrize("arguments, message", [
    ({"actions": [1]}, "actions: found [1], expected names of actions, as texts"),
    ({"actions": None}, "actions: found [None]"),
    ({"actions": 3}, "actions: found [3]"),
    ({"frames": 4.5}, "frames: found 4.5, expected a whole number, 1..8"),
    ({"frames": "4"}, "frames: found '4'"),
    ({"theta": "x"}, "theta: found 'x'"),
    ({"theta": float("nan")}, "theta: found nan"),
    ({"graph": {}}, "graph: found dict, expected a SceneGraph, or the path of its file"),
    ({"rate": -5.0}, "rate: found -5.0 without a video"),
    ({"video": 3}, "video: found int"),
])  # fmt: skip
def test_arguments_of_another_type(predictor, arguments, message):
    with pytest.raises(DataError, match=re.escape(message)):
        predictor(**{"graph": EXAMPLE, "actions": "raise_cup", **arguments})


def test_devices_that_are_not_there(folder):
    for device in ("foo", "meta", "cuda:99", 3.5):
        with pytest.raises(DataError, match=f"device: found {device!r}, expected a device of this machine: it has"):
            Predictor.load(folder, device)


def test_a_graph_of_another_video_is_noted(predictor, film, tmp_path):
    content = {**json.loads(EXAMPLE.read_text()), "size": [1280, 480], "duration": 6.0}
    (tmp_path / "a.json").write_text(json.dumps(content))
    notes = predictor(film, tmp_path / "a.json", ASKED).notes
    assert [note for note in notes if "belong together" in note] == [
        "The graph's boxes are in frames of 1280 x 480 pixels, but the video's have 64 x 48: they may not belong "
        "together."]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({**content, "size": [640, 480]}))  # another scale
    assert not [note for note in predictor(film, tmp_path / "a.json", ASKED).notes if "belong" in note]
    long = dataclasses.replace(read_own(EXAMPLE), duration=9.0)
    notes = predictor(film, long, ASKED).notes
    assert [note for note in notes if "belong together" in note] == [
        "The graph says that the video has 9.0 s, but it has 6.0 s: they may not belong together."]  # fmt: skip
    assert not [note for note in predictor(graph=long, actions=ASKED).notes if "belong" in note]


def test_an_action_whose_object_is_not_there_is_noted(predictor):
    notes = predictor(graph=EXAMPLE, actions="open_door,raise_cup,close_door,hold_book").notes
    assert [note for note in notes if "No node" in note] == [
        "No node of class 'door' is in the graph.", "No node of class 'book' is in the graph."]  # fmt: skip
    other = dataclasses.replace(VOCABULARY, actions=VOCABULARY.actions[::-1])  # it is not known what they are done to
    assert not any("No node" in note for note in Predictor(make_model(), other)(graph=EXAMPLE, actions=ASKED).notes)


def test_a_file_name_that_is_not_utf_8(predictor, film, tmp_path):
    video = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    shutil.copy(film, video)
    answer = predictor(video, actions=ASKED, detector="random-tiny")
    assert answer.graph.video == "\ufffd\ufffd" and answer.save_report(tmp_path / "report").is_file()


def test_graph_is_mapped_by_name(graph):
    objects, relations = VOCABULARY.objects[::-1], VOCABULARY.relations[::-1] + ("floating",)
    turned = Vocabulary("mine", objects, relations, ("fly", *VOCABULARY.actions), ("Moon", *VOCABULARY.scenes[::-1]))
    flipped = np.zeros((*graph.relations.shape[:2], len(relations)), dtype=bool)
    flipped[..., :-1] = graph.relations[..., ::-1]
    mine = dataclasses.replace(
        graph, vocabulary=turned, classes=len(objects) - 1 - graph.classes, relations=flipped,
        labels=np.concatenate([[0], graph.labels + 1]), segment_labels=graph.segment_labels + 1,
        scene=len(VOCABULARY.scenes) - graph.scene,
    )  # fmt: skip
    mapped, notes = in_vocabulary(mine, VOCABULARY)
    for name in ("classes", "boxes", "edges", "relations", "labels", "segment_labels", "segments", "scene"):
        np.testing.assert_array_equal(getattr(mapped, name), getattr(graph, name), err_msg=name)
    assert len(notes) == 1 and "fly" in notes[0]


@pytest.mark.parametrize("kind", ["objects", "relations"])
def test_unknown_names_in_a_graph(predictor, graph, kind):
    names = list(getattr(VOCABULARY, kind))
    used = graph.classes[1] if kind == "objects" else np.flatnonzero(graph.relations.any((0, 1)))[0]
    right, names[used] = names[used], names[used] + "s"
    wrong = dataclasses.replace(graph, vocabulary=dataclasses.replace(VOCABULARY, **{kind: tuple(names)}))
    with pytest.raises(DataError) as caught:
        predictor(graph=wrong, actions=ASKED)
    assert (
        caught.value.where == kind and repr(right + "s") in caught.value.found and repr(right) in caught.value.expected
    )


def test_files_of_graphs(graph, tmp_path):
    graph.save(tmp_path / "a.safetensors")
    write_own(graph, tmp_path / "a.json")
    for source in (graph, tmp_path / "a.safetensors", str(tmp_path / "a.json")):
        np.testing.assert_array_equal(read_graph(source).relations, graph.relations)


def test_detected_graph(predictor, film, tmp_path):
    answer = predictor(film, actions=ASKED, detector="random-tiny")
    assert answer.detected and NO_RELATIONS in answer.notes and "random weights" in answer.notes[0]
    assert len(answer.pictures) == 8 and answer.graph.duration == pytest.approx(6.0, abs=0.2)
    answer.save_report(tmp_path)
    answer.save_report(tmp_path)
    again = read_own(tmp_path / "graph.json")  # to be completed by hand
    np.testing.assert_allclose(again.boxes, answer.graph.boxes)
    assert predictor(film, again, ASKED).scores.loc[ASKED, "a_s"].tolist() == pytest.approx(
        answer.scores.loc[ASKED, "a_s"].tolist(), abs=1e-5)  # fmt: skip


def test_a_graph_that_was_completed_by_hand_is_kept(predictor, film, tmp_path):
    answer = predictor(film, actions=ASKED, detector="random-tiny")
    report = answer.save_report(tmp_path)
    by_hand = (tmp_path / "graph.json").read_text() + "\n"
    (tmp_path / "graph.json").write_text(by_hand)
    before = report.stat().st_mtime_ns
    with pytest.raises(DataError, match="graph.json: graph: found another one.*give another --out"):
        answer.save_report(tmp_path)
    assert (tmp_path / "graph.json").read_text() == by_hand and report.stat().st_mtime_ns == before


def test_a_folder_of_pictures_is_a_film(predictor, film, tmp_path):
    from PIL import Image

    for number, picture in enumerate(read_frames(film, numbers=range(1, 61)), 1):
        Image.fromarray(picture).save(tmp_path / f"{number:06d}.png")
    for given in ({"graph": EXAMPLE}, {"detector": "random-tiny"}):
        one, other = (predictor(video, actions=ASKED, **given, **more)
                      for video, more in ((film, {}), (tmp_path, {"rate": 10.0})))  # fmt: skip
        np.testing.assert_array_equal(np.stack(other.pictures), np.stack(one.pictures))
        assert other.scores.equals(one.scores)
    for number in range(1, 31):  # those of Action Genome begin where the annotations do
        (tmp_path / f"{number:06d}.png").unlink()
    late = predictor(tmp_path, actions=ASKED, detector="random-tiny", rate=10.0)
    assert late.graph.times.min() > 3.0 and late.graph.times.max() < late.graph.duration == 6.0
    with pytest.raises(DataError, match="rate: found none, expected a positive number"):
        predictor(tmp_path, EXAMPLE, ASKED)
    with pytest.raises(DataError, match="a video file has its own"):
        predictor(film, EXAMPLE, ASKED, rate=10.0)


def test_what_the_detector_drops_is_counted(predictor, film, monkeypatch):
    from proda_lib.features import detect

    one = detect.Detections(("person", "zebra", "zebra", "cup"), np.ones(4), np.tile([0.1, 0.1, 0.5, 0.5], (4, 1)))
    monkeypatch.setattr(detect.Detector, "detect", lambda self, pictures: [one] * len(pictures))
    answer = predictor(film, actions=ASKED, detector="random-tiny")
    assert Counter(VOCABULARY.objects[c] for c in answer.graph.classes) == {"person": 1, "cup/glass/bottle": 1}
    assert any("16 × zebra" in note for note in answer.notes) and answer.graph.num_edges == 2
    assert not answer.graph.relations.any()


def test_input_that_does_not_fit(predictor, graph, film, monkeypatch):
    monkeypatch.setattr("proda_lib.predict.predictor.DETECTOR", "nobody/nothing")  # where none is named
    for arguments, message in [
        ({}, "neither a graph nor a video"),
        ({"video": film}, "nobody/nothing"),
        ({"video": film, "detector": "random-tiny", "threshold": 1.5}, "threshold: found 1.5"),
        ({"graph": graph, "detector": "random-tiny"}, "a graph and a detector"),
        ({"graph": graph, "threshold": 0.1}, "a graph and a threshold"),
        ({"graph": graph, "frames": 9}, "1..8"),
        ({"graph": graph, "frames": 0}, "1..8"),
        ({"graph": graph, "theta": 0}, "above 0"),
        ({"graph": graph, "features": "random-tiny"}, "reads no visual features"),
        ({"graph": graph, "video": film}, "clip.mp4"),  # the graph is of a longer video
    ]:
        with pytest.raises(DataError, match=re.escape(message)):
            predictor(actions=ASKED, **arguments)
    gone = dataclasses.replace(graph, present=graph.present & False, boxes=graph.boxes * 0,
                               relations=graph.relations & False, carriers=None)  # fmt: skip
    with pytest.raises(DataError, match="no object in any frame"):
        predictor(graph=gone, actions=ASKED)


def test_visual_features(graph, film):
    example = read_own(EXAMPLE)
    predictor = Predictor(make_model(visual=16), VOCABULARY)
    answer = predictor(film, example, ASKED, features="random-tiny")
    assert answer.seen.features.shape == (8, 3, 16) and any("random weights" in note for note in answer.notes)
    for arguments, message in [((None, example), "--features NAME"), ((None, example, "random-tiny"), "--video")]:
        video, given, *features = arguments
        with pytest.raises(DataError, match=message):
            predictor(video, given, ASKED, features=features[0] if features else None)
    of_another = {"encoder": "openai/clip-vit-base-patch16", "weights": "0" * 64}
    with pytest.raises(DataError, match="found weights .*expected 000000000000 of openai/clip"):
        Predictor(predictor.model, VOCABULARY, trained_on=of_another)(film, example, ASKED, features="random-tiny")
    with pytest.raises(DataError, match="width 16.*width 5"):
        Predictor(make_model(visual=5), VOCABULARY)(film, example, ASKED, features="random-tiny")


def test_command(proda, folder, film, tmp_path):
    common = ("predict", "--model", folder, "--out", tmp_path / "report")
    code, out, err = proda(*common, "--video", film, "--graph", EXAMPLE, "--actions", "raise_cup,open_door")
    assert code == 0 and err == "" and "raise_cup" in out and out.strip().endswith("report.html")
    table = pd.read_csv(tmp_path / "report/scores.csv", index_col="action")
    assert table["asked"].sum() == 2 and (tmp_path / "report/report.html").is_file()
    code, out, err = proda(*common, "--graph", EXAMPLE, "--actions", "raise_cop")
    assert code == 2 and "'raise_cup'" in err and err.count("\n") == 1
    for place in (film, film / "report"):  # before a model is read
        words = ("predict", "--model", "nope", "--graph", EXAMPLE, "--actions", "raise_cup")
        code, out, err = proda(*words, "--out", place)
        assert code == 2 and f"report: found the file {film}, expected a folder" in err
    words = ("predict", "--model", folder, "--actions", "raise_cup", "--video", tmp_path / "no.mp4")
    code, out, err = proda(*words, "--detector", "nobody/nothing")
    assert code == 2 and "no.mp4: file: found" in err and "nobody" not in err
    for words in (("train",), ("predict", "--model", folder, "--graph", EXAMPLE, "--actions", "raise_cup")):
        code, out, err = proda(*words, "--device", "foo")
        assert code == 2 and "found 'foo', expected a device of this machine" in err and err.count("\n") == 1


def test_what_is_no_model_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path))
    expected = "expected shipped, the name of a run (`proda runs`) or a folder with config.json, model.safetensors and"
    for name in ("nope", tmp_path, tmp_path / "nowhere", EXAMPLE):
        with pytest.raises(CheckpointError, match=re.escape(f"model: found {str(name)!r}, {expected} vocabulary.json")):
            Predictor.load(name)
    committed = {run.recipe.model: run for path in sorted((project_root() / "results/runs").glob("world-p*.json"))
                 if (run := runs.named(path.stem))}  # fmt: skip
    rebuilt = re.escape("found its committed record only, expected its folder, which this makes: proda train --dataset")
    with pytest.raises(CheckpointError, match=rebuilt) as caught:
        Predictor.load(committed["proda"].name)
    assert str(caught.value).endswith(command(committed["proda"].recipe))
    shutil.copytree(folder, tmp_path / "control")
    (tmp_path / "control" / "record.json").write_text(json.dumps(committed["prompt_only"].record))
    for name in ("control", tmp_path / "control", committed["prompt_only"].name):
        with pytest.raises(CheckpointError, match="found a run of prompt_only, expected one of proda"):
            Predictor.load(name)


def test_check_own_command(proda, tmp_path):
    code, out, _ = proda("data", "check-own", EXAMPLE)
    assert code == 0 and out.strip().endswith("no faults")
    (tmp_path / "a.json").write_text(EXAMPLE.read_text().replace('"person"', '"persn"'))
    code, out, _ = proda("data", "check-own", tmp_path / "a.json")
    assert code == 1 and "frames[0].nodes[0].class" in out and "'person'" in out
