import json
from collections import Counter

import numpy as np
import pytest
import torch

from proda_lib.datasets.own import named_vocabulary
from proda_lib.errors import DataError
from proda_lib.features.detect import COUNTERPARTS, Detections, Detector, to_vocabulary
from proda_lib.features.track import Track, associate, graph_of_tracks, iou

WORLD = named_vocabulary("world")


def seen(*boxes) -> Detections:
    """Detections from (name, x1, y1, x2, y2)."""
    return Detections(tuple(b[0] for b in boxes), np.ones(len(boxes)), np.array([b[1:] for b in boxes]).reshape(-1, 4))


def at(name: str, x: float, y: float = 0.4, side: float = 0.2) -> tuple:
    return (name, x, y, x + side, y + side)


def frames_of(tracks: list[Track]) -> list[tuple[str, list[int]]]:
    return [(track.name, sorted(track.boxes)) for track in tracks]


def test_iou():
    a, b = np.array([[0, 0, 2, 2], [0, 0, 0, 5.0]]), np.array([[1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 2, 2.0]])
    np.testing.assert_allclose(iou(a, b), [[1 / 3, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize("names", [("cup", "book"), ("cup", "cup")])
@pytest.mark.parametrize("shuffled", [False, True])
def test_crossing_objects_keep_their_slot(names, shuffled):
    rng, steps = np.random.default_rng(0), np.linspace(0.0, 0.7, 15)
    found = []
    for x in steps:
        two = [at(names[0], x), at(names[1], 0.7 - x)]
        found.append(seen(*(two[::-1] if shuffled and rng.random() < 0.5 else two)))
    tracks = associate(found, np.arange(15.0))
    assert len(tracks) == 2 and all(len(track.boxes) == 15 for track in tracks)
    for track in tracks:
        moves = np.diff([track.boxes[t][0] for t in range(15)])
        np.testing.assert_allclose(moves, moves[0])  # neither turns round
    assert {np.sign(track.boxes[14][0] - track.boxes[0][0]) for track in tracks} == {-1, 1}


def test_classes_do_not_mix():
    found = [seen(at("cup", 0.1)), seen(at("book", 0.1))]
    assert frames_of(associate(found, np.arange(2.0))) == [("cup", [0]), ("book", [1])]


def test_gaps():
    here, gone = seen(at("cup", 0.1)), seen()
    for missed, tracks in ((3, 1), (4, 2)):
        found = [here, *[gone] * missed, here]
        assert len(associate(found, np.arange(len(found) * 1.0), max_gap=3)) == tracks
    moving = [seen(at("cup", 0.05 * t)) if t not in (4, 5, 6) else gone for t in range(12)]
    assert frames_of(associate(moving, np.arange(12.0))) == [("cup", [0, 1, 2, 3, 7, 8, 9, 10, 11])]


def test_what_turns_round_is_found_where_it_was():
    places = [0.0, 0.15, 0.3, 0.3, 0.15, 0.0]
    assert len(associate([seen(at("cup", x)) for x in places], np.arange(6.0))) == 1


def test_uneven_times():
    times = np.array([0.0, 1.0, 4.0, 5.0])
    found = [seen(at("cup", 0.1 * t), at("cup", 0.8 - 0.1 * t)) for t in times]
    tracks = associate(found, times)
    assert len(tracks) == 2
    assert [round(tracks[0].boxes[t][0], 3) for t in range(4)] == [0.0, 0.1, 0.4, 0.5]


def test_one_detection_serves_one_track():
    found = [seen(at("cup", 0.1), at("cup", 0.2)), seen(at("cup", 0.12))]
    assert sorted(len(track.boxes) for track in associate(found, np.arange(2.0))) == [1, 2]


def test_counterparts():
    assert set(COUNTERPARTS.values()) <= set(WORLD.objects)
    found = [seen(at("cup", 0.1), at("zebra", 0.2), at("person", 0.3)), seen(at("zebra", 0.1), at("bowl", 0.2))]
    kept, dropped = to_vocabulary(found, WORLD.objects)
    assert [d.names for d in kept] == [("cup/glass/bottle", "person"), ("dish",)]
    np.testing.assert_array_equal(kept[0].boxes, found[0].boxes[[0, 2]])
    assert dropped == Counter(zebra=2)
    kept, dropped = to_vocabulary(found, named_vocabulary("cad120").objects)
    assert [d.names for d in kept] == [("cup",), ("bowl",)] and dropped == Counter(zebra=2, person=1)


def test_graph_of_tracks():
    box = np.array([0.1, 0.1, 0.5, 0.5])
    tracks = [Track("table", {0: box}), Track("person", {0: box}), Track("person", {1: box, 2: box}),
              Track("book", {t: box for t in range(3)})]  # fmt: skip
    graph, left_out = graph_of_tracks(tracks, np.arange(3.0), 3.0, "v", WORLD, max_objects=2)
    assert [WORLD.objects[c] for c in graph.classes] == ["person", "book", "table"]
    assert left_out == Counter(person=1)
    np.testing.assert_array_equal(graph.present, [[0, 1, 1], [1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(graph.edges, [[0, 1, 0, 2], [1, 0, 2, 0]])
    assert not graph.relations.any()
    alone, _ = graph_of_tracks(tracks[:1], np.arange(3.0), 3.0, "v", WORLD)
    assert alone.num_edges == 0
    with pytest.raises(DataError, match="no known object in 3 frames"):
        graph_of_tracks([], np.arange(3.0), 3.0, "v", WORLD)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(10)]


def test_random_detector(pictures):
    detector = Detector.load("random-tiny")
    found = detector.detect(pictures)
    assert detector.random and len(found) == 10 and sum(len(d.names) for d in found) > 10
    for detections in found:
        assert (np.diff(detections.scores) <= 0).all() and (detections.scores > detector.threshold).all()
        assert (detections.boxes >= 0).all() and (detections.boxes <= 1).all()
        assert (detections.boxes[:, :2] < detections.boxes[:, 2:]).all()
    again = Detector.load("random-tiny").detect(pictures[3:4])[0]
    assert again.names == found[3].names
    np.testing.assert_allclose(again.boxes, found[3].boxes, atol=1e-5)
    assert not any(d.names for d in Detector.load("random-tiny", threshold=0.9999).detect(pictures))


def test_detector_from_a_folder(tmp_path, pictures):
    made = Detector.load("random-tiny")
    made._model.save_pretrained(tmp_path)
    made._processor.save_pretrained(tmp_path)
    loaded = Detector.load(tmp_path, threshold=made.threshold)
    assert not loaded.random and loaded.name == tmp_path.name
    for a, b in zip(made.detect(pictures[:2]), loaded.detect(pictures[:2]), strict=True):
        assert a.names == b.names
        np.testing.assert_array_equal(a.boxes, b.boxes)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="detector: found"):
        Detector.load(tmp_path)


def test_no_pickled_weights_and_no_code_from_a_folder(tmp_path, monkeypatch):
    made, canary = Detector.load("random-tiny"), tmp_path / "canary"
    monkeypatch.setattr("builtins.input", lambda *question: "y")  # whoever asks is allowed to
    for name in ("pickled", "code"):
        made._model.save_pretrained(tmp_path / name)
        made._processor.save_pretrained(tmp_path / name)
    (tmp_path / "pickled/model.safetensors").unlink()
    torch.save(made._model.state_dict(), tmp_path / "pickled/pytorch_model.bin")
    config = json.loads((tmp_path / "code/config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.A", "AutoModelForObjectDetection": "evil.B"}, "model_type": "evil"}
    (tmp_path / "code/config.json").write_text(json.dumps(config))
    (tmp_path / "code/evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass A: pass\nclass B: pass\n")
    for name in ("pickled", "code"):
        with pytest.raises(DataError, match="detector: found"):
            Detector.load(tmp_path / name)
    assert not canary.exists()


def test_a_detector_that_is_not_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="--download"):
        Detector.load("nobody/no-such-detector")


def test_device_that_is_not_here():
    for device in ("no-such-device", "cuda:99"):
        with pytest.raises(DataError, match=f"detector: device: found {device!r}"):
            Detector.load("random-tiny", device)
