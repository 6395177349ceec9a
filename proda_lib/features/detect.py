"""Objects in frames, by any object detection model of ``transformers``, in the words of a scene graph's vocabulary."""

from __future__ import annotations

import numbers
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from proda_lib.devices import checked_device
from proda_lib.errors import DataError
from proda_lib.features.film import Picture
from proda_lib.features.pretrained import load_pretrained
from proda_lib.names import brief

#: Smallest score of a detection that counts.
THRESHOLD = 0.5
#: The detector where none is named: small, with the 91 classes of COCO.
DETECTOR = "hustvl/yolos-tiny"
#: A detector with random weights: to try a pipeline, never to believe.
RANDOM = "random-tiny"
BATCH = 8  #: pictures in one pass

#: What a detector's classes (those of COCO, 80 or 91) are called in the vocabulary of Action Genome and SSG-World.
#: A class with the same name in both needs no entry; what has neither has no counterpart.
COUNTERPARTS: dict[str, str] = {
    "backpack": "bag", "handbag": "bag", "suitcase": "bag",
    "couch": "sofa/couch", "sofa": "sofa/couch",
    "dining table": "table", "diningtable": "table", "desk": "table",
    "tv": "television", "tvmonitor": "television",
    "cell phone": "phone/camera",
    "cup": "cup/glass/bottle", "wine glass": "cup/glass/bottle", "bottle": "cup/glass/bottle",
    "bowl": "dish", "plate": "dish",
    "apple": "food", "banana": "food", "orange": "food", "broccoli": "food", "carrot": "food", "hot dog": "food",
    "pizza": "food", "donut": "food", "cake": "food",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture: ``names`` (n), ``scores`` (n,) in 0..1, ``boxes`` (n, 4) x1 y1 x2 y2 in 0..1."""

    names: tuple[str, ...]
    scores: Float[np.ndarray, "n"]
    boxes: Float[np.ndarray, "n 4"]


class Detector:
    """An object detection model; make it with :meth:`load`.

    Attributes:
        name: what was loaded: the model's name, or its folder's.
        random: whether the weights are random, so that detections mean nothing.
        threshold: smallest score of a detection that counts.
    """

    def __init__(self, name: str, model: torch.nn.Module, processor: Any, device="cpu", threshold: float = THRESHOLD):
        self.name, self.random, self.threshold = name, name == RANDOM, threshold
        self.device = checked_device(device, "detector")
        self._model, self._processor = model.to(self.device).eval(), processor

    @classmethod
    def load(
        cls, name: str | os.PathLike, device: torch.device | str = "cpu", allow_download: bool = False,
        threshold: float | None = None,
    ) -> Self:  # fmt: skip
        """A detector by name ("hustvl/yolos-tiny", "facebook/detr-resnet-50") or folder, in the format of transformers.

        Args:
            name: "random-tiny" makes random weights, the same each time.
            allow_download: fetch what is not on this machine; otherwise the network is not touched.
            threshold: by default :data:`THRESHOLD`, and 0.15 for the random weights, whose scores are all small.

        Raises:
            DataError: not on this machine, damaged, no object detection model, or some of its weights are missing; no
                such device; a threshold outside of 0..1.
        """
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        if threshold is not None and not (isinstance(threshold, numbers.Real) and 0 <= threshold <= 1):
            raise DataError("detector", "threshold", brief(threshold), "a number in 0..1")

        if name == RANDOM:
            return cls(name, *_random(), device, 0.15 if threshold is None else threshold)
        classes, kind = (AutoModelForObjectDetection, AutoImageProcessor), "an object detection model"
        shown, model, processor = load_pretrained(name, *classes, "detector", kind, allow_download, backend="pil")
        return cls(shown, model, processor, device, THRESHOLD if threshold is None else threshold)

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """What is in each picture (H, W, 3), best first."""
        from tqdm.auto import tqdm

        found = []
        for start in tqdm(range(0, len(pictures), BATCH), desc="detect", leave=False, disable=None):
            part = [Image.fromarray(picture) for picture in pictures[start : start + BATCH]]
            inputs = self._processor(images=part, return_tensors="pt").to(self.device)
            sizes = torch.ones(len(part), 2, device=self.device)  # of 1 x 1: boxes come as fractions
            outputs = self._model(**inputs)
            results = self._processor.post_process_object_detection(outputs, self.threshold, target_sizes=sizes)
            found += [self._detections(result) for result in results]
        return found

    def _detections(self, result: dict[str, torch.Tensor]) -> Detections:
        scores, boxes, labels = (result[key].float().cpu().numpy() for key in ("scores", "boxes", "labels"))
        boxes = boxes.astype(np.float64).clip(0.0, 1.0)
        order = np.argsort(-scores, kind="stable")
        order = order[(boxes[order, :2] < boxes[order, 2:]).all(-1)]  # what lies outside of the picture is no box
        names = self._model.config.id2label
        return Detections(tuple(names[int(label)] for label in labels[order]), scores[order], boxes[order])


def to_vocabulary(
    found: Sequence[Detections], objects: Sequence[str]
) -> tuple[list[Detections], Counter[str]]:  # fmt: skip
    """Detections in the words of ``objects``, and how many of which classes were dropped for want of a counterpart."""
    kept, dropped = [], Counter()
    for detections in found:
        names = [name if name in objects else COUNTERPARTS.get(name) for name in detections.names]
        known = [i for i, name in enumerate(names) if name in objects]
        dropped.update(detections.names[i] for i in set(range(len(names))) - set(known))
        kept.append(Detections(tuple(names[i] for i in known), detections.scores[known], detections.boxes[known]))
    return kept, dropped


def _random() -> tuple[torch.nn.Module, Any]:
    """A tiny YOLOS with random weights and COCO-like classes that have, or have not, a counterpart."""
    from transformers import YolosConfig, YolosForObjectDetection
    from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

    names = ("person", "cup", "chair", "couch", "book", "zebra", "kite")
    config = YolosConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=[64, 64],
        patch_size=16, num_detection_tokens=12, initializer_range=0.2, id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = YolosForObjectDetection(config)
        for name, parameter in model.named_parameters():
            if name.endswith(("detection_tokens", "position_embeddings")):
                torch.nn.init.normal_(parameter)  # from zeros, all boxes would be one
    return model, YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128})
