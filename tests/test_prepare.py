"""From official files and frames to stores with features: right, resumable to the same bytes, and honest about gaps."""

import json
import pickle
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from proda_lib.datasets import prepare, world
from proda_lib.datasets.miniature import write_action_genome
from proda_lib.datasets.official import Files
from proda_lib.datasets.prepare import check_charades, prepare_charades
from proda_lib.datasets.store import GraphStore
from proda_lib.errors import DataError
from proda_lib.features.clip import ClipEncoder, add_features
from proda_lib.features.video import read_frames
from tests.predict_cases import write_film

TINY = "random-tiny"


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder.load(TINY)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Official files of five training videos of four frames each, and their frames as PNG files."""
    folder = tmp_path_factory.mktemp("official")
    graphs = world.make_videos(world.WorldConfig(), "train", 5)
    write_action_genome(folder / "ag", [graph.take_frames(np.array([1, 3, 4, 6])) for graph in graphs])
    rng = np.random.default_rng(0)
    for video, numbers in Files.find(folder / "ag", ("train",)).frame_numbers().items():
        (folder / "frames" / f"{video}.mp4").mkdir(parents=True)
        for number in numbers:
            noise = rng.integers(0, 256, (27, 48, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / "frames" / f"{video}.mp4" / f"{number:06d}.png")
    return folder


@pytest.fixture(scope="module")
def whole(official, tmp_path_factory, encoder):
    """The store of an undisturbed run, in groups of two videos."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "GROUP", 2)
        run(official, out)
    return out / "train"


@pytest.fixture
def groups_of_two(monkeypatch):
    monkeypatch.setattr(prepare, "GROUP", 2)


def run(official, out, frames=None, features=TINY, **options):
    options = {"split": "train", **options}
    return prepare_charades(
        official / "ag", frames or official / "frames", out, features, say=lambda _: None, **options
    )


def copy_frames(official, tmp_path):
    return Path(shutil.copytree(official / "frames", tmp_path / "frames"))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_store_holds_the_features_of_each_video(official, whole, encoder):
    files = Files.find(official / "ag", ("train",))
    graphs, numbers, store = files.read("train"), files.frame_numbers(), GraphStore(whole)
    assert [found.video for found in store] == [graph.video for graph in graphs] and len(graphs) == 5
    for graph, found in zip(graphs, store, strict=True):
        frames = read_frames(official / "frames" / f"{graph.video}.mp4", numbers=numbers[graph.video])
        expected = add_features(graph, frames, encoder)
        assert np.asarray(found.features) == pytest.approx(expected.features, abs=1e-5)
        assert np.asarray(found.frame_features) == pytest.approx(expected.frame_features, abs=1e-5)
        assert (found.boxes == graph.boxes).all() and (found.relations == graph.relations).all()
    assert not (whole.parent / "train.partial").exists()


def test_record(official, whole, encoder):
    about = GraphStore(whole).about
    assert (about["encoder"], about["random"], about["width"], about["split"]) == (TINY, True, 16, "train")
    assert about["weights"] == encoder.checksum and about["precision"] == "float32"
    assert set(about["versions"]) >= {"torch", "transformers", "av", "pillow"} and len(about["checksums"]) == 8
    assert str(official) not in json.dumps(about)


def interrupted_at_the_second_group(official, out, monkeypatch) -> list[int]:
    """How many pictures each call of the encoder gets, from now on too."""
    real, calls = ClipEncoder.encode, []

    def interrupted(encoder, images):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(encoder, images)

    monkeypatch.setattr(ClipEncoder, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(official, out)
    return calls


def test_interrupted_runs_end_with_the_same_bytes(official, whole, tmp_path, monkeypatch, groups_of_two):
    calls = interrupted_at_the_second_group(official, tmp_path, monkeypatch)
    assert not (tmp_path / "train").exists()
    assert len(GraphStore(tmp_path / "train.partial")) == 2  # the group that was finished
    run(official, tmp_path)
    assert len(calls) == 2 + 2  # the first group is not encoded again
    assert content(tmp_path / "train") == content(whole) and not (tmp_path / "train.partial").exists()
    run(official, tmp_path)
    assert len(calls) == 4  # nothing left to do


def test_killed_in_the_middle_of_a_group(official, whole, tmp_path, monkeypatch, groups_of_two):
    monkeypatch.setattr(prepare, "FLUSH_SECONDS", -1.0)  # every group is written at once
    real, added = prepare.StoreWriter.add, []

    def killed(store, graph):
        if len(added) == 3:
            raise OSError("the power went")
        added.append(graph.video)
        real(store, graph)

    with monkeypatch.context() as patch:
        patch.setattr(prepare.StoreWriter, "add", killed)
        with pytest.raises(OSError, match="the power went"):
            run(official, tmp_path)
    assert GraphStore(tmp_path / "train.partial").videos == added[:2]
    run(official, tmp_path)
    assert content(tmp_path / "train") == content(whole)


def test_killed_before_a_store_that_grows_is_packed(official, whole, tmp_path, monkeypatch):
    """All videos are in one of the two stores then, and none may be lost."""
    frames, few = official / "frames", tmp_path / "few"
    few.mkdir()
    for video in sorted(frames.iterdir())[::2]:
        (few / video.name).symlink_to(video)
    run(official, tmp_path, frames=few, skip_broken=True)
    assert len(GraphStore(tmp_path / "train")) < len(GraphStore(whole))
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_pack", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(official, tmp_path)
    run(official, tmp_path)
    grown = GraphStore(tmp_path / "train")
    grown.verify()
    assert grown.videos == GraphStore(whole).videos and not (tmp_path / "train.partial").exists()


@pytest.mark.parametrize("name", ["00000.safetensors", "00000.arrow"])
def test_damage_on_the_disk_is_not_packed_as_if_it_were_sound(official, whole, tmp_path, monkeypatch, name):
    monkeypatch.setattr(prepare, "GROUP", 2)
    calls = interrupted_at_the_second_group(official, tmp_path, monkeypatch)
    path = tmp_path / "train.partial" / name
    sound = path.read_bytes()
    path.write_bytes(sound[:-3] + bytes([sound[-3] ^ 0x15]) + sound[-2:])
    with pytest.raises(DataError, match=f"{path}: checksum"):
        run(official, tmp_path)
    assert len(calls) == 2 and not (tmp_path / "train").exists()
    path.write_bytes(sound)
    run(official, tmp_path)
    assert content(tmp_path / "train") == content(whole)


def test_a_kill_while_the_finished_parts_are_removed(official, whole, tmp_path, monkeypatch, groups_of_two):
    def killed(folder, **options):
        if Path(folder).name == "train.partial":
            assert not (folder / "about.json").exists()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run(official, tmp_path)
    assert (tmp_path / "train.partial").exists()
    run(official, tmp_path)
    assert content(tmp_path / "train") == content(whole) and not (tmp_path / "train.partial").exists()


def test_files_in_the_place_of_a_store_stay(official, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="train: store: found other files"):
        run(official, tmp_path)
    assert (tmp_path / "train" / "mine.txt").read_text() == "mine"
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "inside", Path("/proc/nothing")):
        with pytest.raises(DataError, match=f"{out}: stores: .*expected a folder"):
            run(official, out)


def test_broken_frames_are_named_and_what_is_finished_stays(official, whole, tmp_path, groups_of_two):
    frames = copy_frames(official, tmp_path)
    names = GraphStore(whole).videos
    broken = sorted((frames / f"{names[3]}.mp4").iterdir())[1]
    sound = broken.read_bytes()
    broken.write_bytes(sound[:60])
    with pytest.raises(DataError) as error:
        run(official, tmp_path, frames)
    assert str(broken) in str(error.value)
    assert GraphStore(tmp_path / "train.partial").videos == names[:2]

    run(official, tmp_path, frames, skip_broken=True)
    assert GraphStore(tmp_path / "train").videos == [*names[:3], names[4]]
    skipped = json.loads((tmp_path / "train" / prepare.SKIPPED).read_text())
    assert list(skipped) == [names[3]] and str(broken) in skipped[names[3]]

    broken.write_bytes(sound)  # repaired: the missing video is added in its place
    run(official, tmp_path, frames)
    assert GraphStore(tmp_path / "train").videos == names
    assert not (tmp_path / "train" / prepare.SKIPPED).exists()


def test_all_broken_leaves_no_store(official, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no video with sound frames"):
        run(official, tmp_path, tmp_path / "none", skip_broken=True)
    assert not (tmp_path / "train").exists()


def test_a_store_of_something_else_is_not_continued(official, whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "train")
    monkeypatch.setattr(prepare, "GROUP", 2)
    run(official, tmp_path)  # the same: nothing to do
    monkeypatch.setattr(prepare, "BATCH", 7)
    with pytest.raises(DataError, match="about.json: batch: found 64, expected 7"):
        run(official, tmp_path)


def test_video_files_are_decoded_at_the_annotated_numbers(official, tmp_path, encoder):
    files = Files.find(official / "ag", ("train",))
    numbers = files.frame_numbers()
    for video, wanted in numbers.items():
        grey = [20 + 200 * (number in wanted) for number in range(1, wanted[-1] + 3)]  # the annotated frames are light
        with av.open(str(tmp_path / f"{video}.mp4"), "w") as file:
            stream = file.add_stream("libx264", rate=Fraction(30000, 1001))  # the annotations say 29.97
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for level in grey:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 48, 3), level, np.uint8), "rgb24")))
            file.mux(stream.encode())
    assert all(check_charades(official / "ag", tmp_path, "train"))
    run(official, tmp_path / "out", tmp_path)
    light = encoder.encode([np.full((32, 48, 3), 220, np.uint8)])[0]
    for graph in GraphStore(tmp_path / "out" / "train"):
        assert np.asarray(graph.frame_features) == pytest.approx(np.tile(light, (4, 1)), abs=0.05)


def test_dry_run_says_what_each_video_lacks(official, tmp_path, proda, monkeypatch):
    ag, frames = shutil.copytree(official / "ag", tmp_path / "ag"), copy_frames(official, tmp_path)
    arguments = ("data", "prepare", "charades", "--annotations", ag, "--frames-or-videos", frames, "--features", TINY,
                 "--out", tmp_path / "out", "--split", "train", "--dry-run")  # fmt: skip
    code, out, _ = proda(*arguments)
    assert code == 0 and "5 videos with 20 frames; 0 videos lack something" in out

    numbers = Files.find(ag, ("train",)).frame_numbers()
    names = list(numbers)
    csv = ag / "Charades_v1_train.csv"
    csv.write_text("".join(line for line in csv.read_text().splitlines(True) if not line.startswith(names[0])))
    (frames / f"{names[1]}.mp4" / f"{numbers[names[1]][2]:06d}.png").unlink()
    (frames / f"{names[1]}.mp4" / f"{numbers[names[1]][3]:06d}.png").write_bytes(b"")
    shutil.rmtree(frames / f"{names[2]}.mp4")
    persons = ag / "annotations" / "person_bbox.pkl"
    boxes = pickle.loads(persons.read_bytes())
    del boxes[f"{names[3]}.mp4/{numbers[names[3]][0]:06d}.png"]
    persons.write_bytes(pickle.dumps(boxes, 2))
    code, out, _ = proda(*arguments)
    lines = out.splitlines()
    assert code == 1 and not (tmp_path / "out").exists()
    for name, words in zip(names[:4], ("csv row: ", "frames: ", "frames: ", "annotation: "), strict=True):
        assert sum(line.startswith(f"train {name}: {words}") for line in lines) == 1
    assert f"2 of 4 missing or empty, first {numbers[names[1]][2]:06d}.png" in out and "no such file" in out
    assert "4 videos lack something (annotation 1, frames 2, csv row 1)" in lines[-1]


@pytest.mark.parametrize("rate", ["30", None, [30], 0, -1, float("nan"), float("inf")])
def test_dry_run_reports_a_broken_rate_beside_a_video_file(official, tmp_path, rate):
    ag = shutil.copytree(official / "ag", tmp_path / "ag")
    video, numbers = next(iter(Files.find(ag, ("train",)).frame_numbers().items()))
    rates = pickle.loads((ag / "star_video_fps").read_bytes())
    (ag / "star_video_fps").write_bytes(pickle.dumps({**rates, f"{video}.mp4": rate}, 2))
    frames = copy_frames(official, tmp_path)
    shutil.rmtree(frames / f"{video}.mp4")
    write_film(frames / f"{video}.mp4")
    (ready,) = check_charades(ag, frames, "train")
    assert any("star_video_fps" in text for _, text in ready.missing[video]), ready


def test_dry_run_looks_for_encoder_place_and_room(official, tmp_path, monkeypatch, proda):
    def dry(out, features=TINY):
        code, said, _ = proda("data", "prepare", "charades", "--annotations", official / "ag", "--frames-or-videos",
                              official / "frames", "--features", features, "--out", out, "--split", "train",
                              "--dry-run")  # fmt: skip
        return code, said

    assert dry(tmp_path / "a" / "b")[0] == 0 and not (tmp_path / "a").exists()
    code, said = dry(tmp_path / "a", "nobody/no-such-model")
    assert code == 1 and "train: nobody/no-such-model: CLIP weights: found" in said
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "inside", "/proc/nothing"):
        code, said = dry(out)
        assert code == 1 and f"train: {out}: stores: found" in said and "expected a folder that can be written" in said
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "mine").touch()
    code, said = dry(tmp_path / "out")
    assert code == 1 and "found other files" in said
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    code, said = dry(tmp_path / "a")
    assert code == 1 and f"train: {tmp_path}: free space: found 0.00 GiB" in said and "1 other faults" in said
    run(official, tmp_path / "a")
    assert dry(tmp_path / "a")[0] == 0  # what is done needs no more room


def test_dry_run_without_files(official, tmp_path):
    (ready,) = check_charades(tmp_path, official / "frames", "train")
    assert not ready and "frame_list.txt" in ready.faults[0]
    (ready,) = check_charades(official / "ag", official / "frames", "test")
    assert not ready and "Charades_v1_test.csv" in ready.faults[0]


def test_a_video_that_ends_before_its_last_annotation(official, tmp_path):
    files = Files.find(official / "ag", ("train",))
    video, numbers = next(iter(files.frame_numbers().items()))
    with av.open(str(tmp_path / f"{video}.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), "rgb24")))
        file.mux(stream.encode())
    (ready,) = check_charades(official / "ag", tmp_path, "train")
    kind, text = ready.missing[video][0]
    assert kind == "frames" and "ends at 0.10 s" in text and f"frame {numbers[-1]} is at" in text
    with pytest.raises(DataError, match="picture at"):
        run(official, tmp_path / "out", tmp_path)


def test_only_charades_can_be_prepared(proda, official, tmp_path):
    code, _, err = proda("data", "prepare", "cad120", "--annotations", official, "--frames-or-videos", official,
                         "--features", TINY, "--out", tmp_path)  # fmt: skip
    assert code == 2 and "expected charades" in err


def test_real_frames(shared_data, tmp_path, encoder):
    mini, charades = shared_data / "action_genome_mini", shared_data / "charades"
    rates = shared_data / "action_genome" / "star_video_fps"
    if not (mini.is_dir() and charades.is_dir() and rates.is_file()):
        pytest.skip(f"Action Genome's frames are not in {shared_data}")
    ag = tmp_path / "ag"
    ag.mkdir()
    for source in (mini / "annotations", charades, rates):
        (ag / source.name).symlink_to(source)
    assert all(check_charades(ag, mini / "frames", "test"))
    stores = prepare_charades(ag, mini / "frames", tmp_path / "out", TINY, "test", say=lambda _: None)
    (graph,) = GraphStore(stores["test"])
    assert graph.video == "M6ERH" and np.asarray(graph.features)[graph.present].std() > 0
