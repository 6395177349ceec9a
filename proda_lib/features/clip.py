"""CLIP features (Radford et al., ICML 2021) of boxes and whole frames: the paper's are those of ViT-B/16, 512-d.

A feature is CLIP's image embedding after the projection, not normalised. A box is cut out of its frame and then goes
the way of any picture: shorter side to the encoder's size, middle square, the encoder's mean and deviation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import islice
from typing import Any, Self, TypeVar

import numpy as np
import torch
from jaxtyping import Float

from proda_lib.devices import checked_device
from proda_lib.errors import DataError
from proda_lib.features.film import Picture
from proda_lib.features.pretrained import load_pretrained
from proda_lib.graph import SceneGraph

Item, Result = TypeVar("Item"), TypeVar("Result")

BATCH = 64  #: pictures in one pass; part of what makes the bits of a feature
WORKERS = min(8, os.cpu_count() or 1)  #: threads that scale pictures
PIXEL = 1e-3  #: pixels by which a box may miss a pixel's border (float32 fractions) and still mean it

#: Encoders with random weights: to try a pipeline, never to learn from. "random" has the sizes of ViT-B/16.
RANDOM: dict[str, dict[str, int]] = {
    "random": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
               "image_size": 224, "patch_size": 16, "projection_dim": 512},
    "random-tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "image_size": 32, "patch_size": 16, "projection_dim": 16},
}  # fmt: skip


class ClipEncoder:
    """The vision tower of a CLIP model; make it with :meth:`load`.

    Attributes:
        name: what was loaded: the model's name, or its folder's.
        width: numbers in a feature.
        random: whether the weights are random, so that features mean nothing.
        device: where it runs; float32 on a CPU, bfloat16 on a GPU.
    """

    def __init__(self, name: str, model: torch.nn.Module, processor: Any, device: torch.device | str = "cpu"):
        self.device = checked_device(device, "CLIP encoder")
        self.name, self.random = name, name in RANDOM
        self.checksum = _checksum(model)  #: SHA-256 of the weights as loaded, in float32
        self.width: int = model.config.projection_dim
        self.precision = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self._model = model.to(self.device, self.precision).eval()
        self._processor = processor

    @classmethod
    def load(cls, name: str | os.PathLike, device: torch.device | str = "cpu", allow_download: bool = False) -> Self:
        """An encoder by name ("openai/clip-vit-base-patch16") or folder, in the format of ``transformers``.

        Args:
            name: "random" and "random-tiny" make random weights, the same each time.
            allow_download: fetch what is not on this machine; otherwise the network is not touched.

        Raises:
            DataError: not on this machine; damaged; no CLIP vision tower; weights or preprocessing incomplete; no such
                device.
        """
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        if name in RANDOM:
            size = RANDOM[name]["image_size"]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = CLIPVisionModelWithProjection(CLIPVisionConfig(**RANDOM[name]))
            square = {"height": size, "width": size}
            return cls(name, model, CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=square), device)
        kind = "a CLIP vision tower with its projection"
        shown, model, processor = load_pretrained(name, CLIPVisionModelWithProjection, CLIPImageProcessorPil,
                                                  "CLIP weights", kind, allow_download)  # fmt: skip
        size, crop = model.config.image_size, processor.crop_size
        if (crop["height"], crop["width"]) != (size, size):
            raise DataError(name, "preprocessor_config.json crop_size", crop, f"{size} x {size}, as in config.json")
        return cls(shown, model, processor, device)

    def encode(self, images: Sequence[Picture]) -> Float[np.ndarray, "n width"]:
        """The feature of each picture; the same bits for the same pictures in the same order on the same machine.

        Raises:
            DataError: a picture that is not (H, W, 3) uint8.
        """
        for number, image in enumerate(images):
            if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
                raise DataError("encode", f"picture {number}", f"{image.dtype} {image.shape}", "uint8 (H, W, 3)")
        features = [np.zeros((0, self.width), np.float32)]
        with ThreadPoolExecutor(WORKERS) as pool:
            pixels = ahead(pool, self.preprocess, images, 2 * BATCH)
            while batch := list(islice(pixels, BATCH)):
                features.append(self._forward(np.stack(batch)))
        return np.concatenate(features)

    def preprocess(self, image: Picture) -> Float[np.ndarray, "3 side side"]:
        """What the encoder sees of a picture: scaled, its middle square, normalised."""
        pixels = self._processor(image, input_data_format="channels_last", return_tensors="np")["pixel_values"]
        return pixels[0].astype(np.float32, copy=False)

    @torch.inference_mode()
    def _forward(self, pixels: Float[np.ndarray, "b 3 side side"]) -> Float[np.ndarray, "b width"]:
        seen = torch.from_numpy(pixels).to(self.device, self.precision)
        return self._model(pixel_values=seen).image_embeds.float().cpu().numpy()


def crops(frame: Picture, boxes: Float[np.ndarray, "n 4"]) -> list[Picture]:
    """The part of a frame in each box (x1, y1, x2, y2 as fractions): every pixel that it touches, at least one.

    Raises:
        DataError: a box that is not inside 0..1 or is inverted.
    """
    height, width = frame.shape[:2]
    parts = []
    for number, box in enumerate(np.asarray(boxes, dtype=np.float64).reshape(-1, 4)):
        if not ((box >= 0).all() and (box <= 1).all() and (box[:2] < box[2:]).all()):  # NaN compares False
            raise DataError("crops", f"boxes[{number}]", box.tolist(), "0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1")
        scaled = box * (width, height, width, height)
        left, top = np.minimum(np.floor(scaled[:2] + PIXEL), (width - 1, height - 1)).astype(int)
        right, bottom = np.maximum(np.ceil(scaled[2:] - PIXEL), (left + 1, top + 1)).astype(int)
        parts.append(frame[top:bottom, left:right])
    return parts


def pictures_of(graph: SceneGraph, frames: Sequence[Picture]) -> list[Picture]:
    """Frame by frame: the whole frame, then the crop of each present slot in the order of slots.

    Raises:
        DataError: not as many frames as the graph has.
    """
    if len(frames) != graph.num_frames:
        raise DataError(graph.video, "frames", f"{len(frames)} pictures", f"{graph.num_frames}, one for each frame")
    return [picture for frame, boxes, present in zip(frames, graph.boxes, graph.present, strict=True)
            for picture in (frame, *crops(frame, boxes[present]))]  # fmt: skip


def with_features(graph: SceneGraph, vectors: Float[np.ndarray, "n width"]) -> SceneGraph:
    """The graph with the features of :func:`pictures_of`: (T, M, F), zeros where absent, and (T, F) of whole frames."""
    there = np.concatenate([np.ones((graph.num_frames, 1), bool), graph.present], axis=1)
    features = np.zeros((*there.shape, vectors.shape[-1]), np.float32)
    features[there] = vectors
    return dataclasses.replace(
        graph, features=np.ascontiguousarray(features[:, 1:]), frame_features=np.ascontiguousarray(features[:, 0])
    )


def add_features(graph: SceneGraph, frames: Sequence[Picture], encoder: ClipEncoder) -> SceneGraph:
    """The graph with visual features of its boxes and whole frames; ``frames[t]`` is the picture of frame t.

    Raises:
        DataError: not as many frames as the graph has.
    """
    return with_features(graph, encoder.encode(pictures_of(graph, frames)))


def ahead(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Iterator[Result]:
    """``map`` in a pool, at most ``depth`` items ahead of the consumer, so that memory stays bounded."""
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after an error nobody wants the rest
        for future in waiting:
            future.cancel()


def _checksum(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
