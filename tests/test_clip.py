"""CLIP features: the library's own model and preprocessing are the reference; every feature in its place."""

import dataclasses
import json
import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from proda_lib.datasets.world import WorldConfig, make_video
from proda_lib.errors import DataError
from proda_lib.features import clip
from proda_lib.features.clip import RANDOM, ClipEncoder, add_features, ahead, crops
from proda_lib.plotting import crops as crops_picture
from proda_lib.plotting.graphs import slot_names

SIZES = [(54, 96), (96, 54), (32, 32), (33, 32), (1, 1), (3, 3), (2, 90), (47, 41)]


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder.load("random-tiny")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def pictures(sizes=SIZES, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def save(folder, encoder, size=32):
    encoder._model.save_pretrained(folder)
    square = {"height": size, "width": size}
    CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=square).save_pretrained(folder)
    return folder


def test_preprocessing_is_clips(encoder):
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    for picture in pictures([s for s in SIZES if min(s) > 1]):
        height, width = picture.shape[:2]
        short = min(height, width)
        scaled = (int(width * 32 / short), int(height * 32 / short))
        pixels = np.asarray(Image.fromarray(picture).resize(scaled, Image.Resampling.BICUBIC))
        top, left = (pixels.shape[0] - 32) // 2, (pixels.shape[1] - 32) // 2
        square = pixels[top : top + 32, left : left + 32] / 255
        expected = ((square - mean) / deviation).transpose(2, 0, 1)
        assert encoder.preprocess(picture) == pytest.approx(expected, abs=1e-5)


def test_encode_is_the_model_applied_to_each_picture(encoder):
    images = pictures(SIZES * 10)  # more than a batch
    found = encoder.encode(images)
    assert found.shape == (80, encoder.width) and found.dtype == np.float32
    for image, feature in zip(images, found, strict=True):
        with torch.no_grad():
            alone = encoder._model(pixel_values=torch.from_numpy(encoder.preprocess(image))[None]).image_embeds[0]
        assert feature == pytest.approx(alone.numpy(), abs=1e-5)
    assert found.std(0).min() > 0.01  # pictures differ, so do features
    assert (encoder.encode(images) == found).all()
    assert encoder.encode([]).shape == (0, encoder.width)


def test_random_weights_are_the_same_each_time_and_say_so(encoder):
    state = torch.random.get_rng_state()
    again = ClipEncoder.load("random-tiny")
    assert (torch.random.get_rng_state() == state).all()
    assert again.checksum == encoder.checksum and again.random and again.name == "random-tiny"
    assert (again.encode(pictures()) == encoder.encode(pictures())).all()
    big = RANDOM["random"]
    assert (big["projection_dim"], big["hidden_size"], big["patch_size"], big["image_size"]) == (512, 768, 16, 224)


def test_folder_of_a_vision_tower(encoder, tmp_path, no_network):
    loaded = ClipEncoder.load(save(tmp_path / "tower", encoder))
    assert (loaded.name, loaded.random, loaded.width, loaded.checksum) == ("tower", False, 16, encoder.checksum)
    assert (loaded.encode(pictures()) == encoder.encode(pictures())).all()


def test_folder_of_a_whole_clip_model(tmp_path, no_network):
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 100, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=RANDOM["random-tiny"], projection_dim=16)).eval()
    model.save_pretrained(tmp_path)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    loaded = ClipEncoder.load(tmp_path)
    pixels = torch.from_numpy(np.stack([loaded.preprocess(p) for p in pictures()]))
    with torch.no_grad():
        seen = model.vision_model(pixel_values=pixels).pooler_output
        expected = model.visual_projection(seen).numpy()
    assert loaded.encode(pictures()) == pytest.approx(expected, abs=1e-5)


def test_device_that_is_not_here():
    for device in ("no-such-device", "cuda:99"):
        with pytest.raises(DataError, match="device"):
            ClipEncoder.load("random-tiny", device)


def test_weights_that_are_not_here(no_network, tmp_path):
    for name in ("someone/no-such-clip", str(tmp_path / "absent"), str(tmp_path)):
        with pytest.raises(DataError, match="CLIP weights") as error:
            ClipEncoder.load(name)
        assert name in str(error.value) and "--download" in str(error.value)


def test_incomplete_or_other_models(encoder, tmp_path, no_network):
    whole = save(tmp_path / "whole", encoder)

    def broken(name):
        return shutil.copytree(whole, tmp_path / name)

    (broken("no_preprocessing") / "preprocessor_config.json").unlink()
    content = (broken("cut") / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(content[:-100])
    config = json.loads((broken("deeper") / "config.json").read_text())
    (tmp_path / "deeper" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    save(tmp_path / "crop", encoder, size=48)
    BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
                         vocab_size=20)).save_pretrained(broken("text"))  # fmt: skip
    for name, message in {"no_preprocessing": "CLIP weights", "cut": "CLIP weights", "deeper": "layers.2",
                          "crop": "crop_size", "text": "CLIP weights"}.items():  # fmt: skip
        with pytest.raises(DataError, match=message):
            ClipEncoder.load(tmp_path / name)


def test_crops_are_the_pixels_that_a_box_touches():
    frame = pictures([(20, 40)])[0]
    boxes = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.5, 1], [0.26, 0.51, 0.49, 0.99], [0.9999, 0, 1, 1e-6],
                      [3 / 40, 7 / 20, 11 / 40, 13 / 20]], np.float32)  # fmt: skip
    expected = [frame, frame[10:20, 10:20], frame[10:20, 10:20], frame[:1, 39:], frame[7:13, 3:11]]
    for found, wanted in zip(crops(frame, boxes), expected, strict=True):
        assert found.shape == wanted.shape and (found == wanted).all()
    assert crops(frame, np.zeros((0, 4))) == []
    for box in ([0, 0, 1.1, 1], [0.5, 0, 0.4, 1], [np.nan, 0, 1, 1]):
        with pytest.raises(DataError, match=r"boxes\[0\]"):
            crops(frame, np.array([box]))


def test_every_feature_in_its_place(encoder):
    graph = make_video(WorldConfig(), 0).take_frames(np.arange(6))
    frames = pictures([(54, 96)] * 6)
    found = add_features(graph, frames, encoder)
    assert not graph.present.all()
    assert found.features.shape == (6, graph.num_slots, 16) and found.frame_features.shape == (6, 16)
    assert (found.features[~graph.present] == 0).all()
    for t, frame in enumerate(frames):
        assert found.frame_features[t] == pytest.approx(encoder.encode([frame])[0], abs=1e-5)
        for slot in np.flatnonzero(graph.present[t]):
            x1, y1, x2, y2 = graph.boxes[t, slot] * (96, 54, 96, 54)
            part = frame[int(y1 + 1e-3) : int(np.ceil(y2 - 1e-3)), int(x1 + 1e-3) : int(np.ceil(x2 - 1e-3))]
            assert found.features[t, slot] == pytest.approx(encoder.encode([part])[0], abs=1e-5)
    assert dataclasses.replace(found, features=None, frame_features=None).video == graph.video
    with pytest.raises(DataError, match="5 pictures, expected 6"):
        add_features(graph, frames[:5], encoder)


def test_picture_of_crops_shows_what_is_encoded():
    graph = make_video(WorldConfig(), 0).take_frames(np.arange(6))
    frames = [crops_picture.drawn(graph, t, 96) for t in range(6)]
    assert frames[0].shape == (72, 96, 3) and frames[0].dtype == np.uint8
    shown = [int(graph.present.sum(1).argmax()), int(graph.present.sum(1).argmin())]
    figure = crops_picture.encoded(graph, frames, shown)
    drawn = [(ax.get_title(), ax.images[0].get_array()) for ax in figure.axes]
    for t in shown:
        title, whole = drawn.pop(0)
        assert title == f"{graph.times[t]:.1f} s" and (whole == frames[t]).all()
        for number, slot in enumerate(np.flatnonzero(graph.present[t]), 1):
            title, part = drawn.pop(0)
            assert title == f"{number}: {slot_names(graph)[slot]}"
            assert (part == crops(frames[t], graph.boxes[t, slot])[0]).all()
    assert drawn == []
    with pytest.raises(DataError, match="5 pictures, expected 6"):
        crops_picture.encoded(graph, frames[:5], [0])


def test_pictures_of_another_kind_are_refused(encoder):
    for picture in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 4), np.uint8)):
        with pytest.raises(DataError, match="uint8 \\(H, W, 3\\)"):
            encoder.encode([picture])


def test_ahead_keeps_order_bounds_work_and_passes_errors_on():
    from concurrent.futures import ThreadPoolExecutor

    started = []

    def work(number):
        started.append(number)
        if number == 7:
            raise DataError("a", "b", "c", "d")
        return 2 * number

    with ThreadPoolExecutor(2) as pool:
        results = ahead(pool, work, range(100), depth=3)
        assert next(results) == 0
        assert max(started, default=0) <= 4
        with pytest.raises(DataError):
            list(results)
    assert max(started) <= 11


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bfloat16_on_a_gpu(encoder):
    found = ClipEncoder.load("random-tiny", "cuda")
    assert found.precision is torch.bfloat16
    first, again, exact = found.encode(pictures()), found.encode(pictures()), encoder.encode(pictures())
    assert (first == again).all() and np.abs(first - exact).max() < 0.05 * np.abs(exact).max()


def test_batches_do_not_change_the_order(encoder, monkeypatch):
    whole = encoder.encode(pictures())
    monkeypatch.setattr(clip, "BATCH", 3)
    assert encoder.encode(pictures()) == pytest.approx(whole, abs=1e-5)
