"""Predictor: saved weights and a video in, a :class:`~proda_lib.predict.answer.Prediction` out."""

from __future__ import annotations

import numbers
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from proda_lib.datasets.registry import ENCODER
from proda_lib.devices import checked_device
from proda_lib.errors import CheckpointError, DataError
from proda_lib.evaluation.explain import look
from proda_lib.evaluation.report import about
from proda_lib.features.detect import DETECTOR, Detector
from proda_lib.features.video import probe, read_frames
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.models.shipped import read_json, read_vocabulary, shipped_model
from proda_lib.names import brief, nearest_names, plain, stems
from proda_lib.paths import runs_root
from proda_lib.predict.answer import THETA, Prediction
from proda_lib.predict.inputs import (
    NO_RELATIONS,
    detected,
    in_vocabulary,
    mismatch,
    read_graph,
    with_visual,
    without_object,
)
from proda_lib.specification import one_hot
from proda_lib.training.runs import Run, named
from proda_lib.vocabulary import Vocabulary

SIMULATED = (
    "SSG-World is a simulator, whose actions are orders of relations. How well these weights do on real videos has not "
    "been measured: an answer on one is a demonstration."
)

#: Of these, a folder with none is no model.
FILES = ("config.json", "model.safetensors", "vocabulary.json")
EXPECTED = "expected shipped, the name of a run (`proda runs`) or a folder with {}, {} and {}".format(*FILES)


class Predictor:
    """A trained ProDA that answers questions on videos::

        predictor = Predictor.load("shipped")
        answer = predictor(video="clip.mp4", graph="graph.json", actions=["hold_book"])
        answer.save_report("report")

    Attributes:
        model: in evaluation mode. ``vocabulary``: what its numbers mean.
        name: the name of its folder. ``about``: sentences on where its weights come from.
        trained_on: "encoder" and "weights" of the visual features that it was trained on, if that is known.
    """

    def __init__(
        self, model: ProDA, vocabulary: Vocabulary, name: str = "model", about: Sequence[str] = (), device: str = "cpu",
        trained_on: Mapping[str, str] | None = None,
    ):  # fmt: skip
        config = model.config
        for kind in ("objects", "relations", "actions"):
            if (names := len(getattr(vocabulary, kind))) != (wanted := getattr(config, kind)):
                raise CheckpointError(f"{name}: vocabulary: found {names} {kind}, expected the model's {wanted}")
        self.device = checked_device(device, name)
        self.model, self.vocabulary, self.name = model.to(self.device).eval(), vocabulary, name
        self.trained_on = trained_on
        self.about = list(about) or ["The folder does not say which run made these weights, or whether any did."]

    @classmethod
    def load(cls, folder: str | os.PathLike = "shipped", device: str = "cpu") -> Self:
        """A model by its folder (config.json, model.safetensors, vocabulary.json), by the name or folder of a run, of
        which it is the first fold's, or "shipped", the library's own.

        Raises:
            CheckpointError: nothing has this name; a run of another model, or one of which only the committed record is
                here; a file is missing or damaged, or model and vocabulary do not belong together.
            DataError: this machine has no such device.
        """
        checked_device(device, str(folder))
        path = shipped_model() if str(folder) == "shipped" else Path(folder)
        if not path.exists():
            path = _folder_of_run(str(folder))
        run = _of_proda(_record(path))
        weights = path / "fold0" / "model" if (path / "fold0").is_dir() else path
        if not any((weights / name).exists() for name in FILES):
            raise CheckpointError(f"model: found {str(folder)!r}, {EXPECTED}")
        vocabulary = read_vocabulary(weights)
        origin = [] if run is None else about(run)
        if run is not None and (folds := len(run.record["videos"])) > 1:
            origin.append(f"The weights are those of the first of {folds} folds.")
        if run is not None and run.recipe.dataset == "world":
            origin.append(SIMULATED)
        return cls(ProDA.from_pretrained(weights), vocabulary, path.name, origin, device,
                   None if run is None else run.record.get("features"))  # fmt: skip

    def __call__(
        self, video: str | os.PathLike | None = None, graph: SceneGraph | str | os.PathLike | None = None,
        actions: str | Sequence[str] = (), *, detector: str | None = None, features: str | None = None,
        frames: int | None = None, rate: float | None = None, download: bool = False, theta: float = THETA,
        threshold: float | None = None,
    ) -> Prediction:  # fmt: skip
        """Ask whether some actions are in a video.

        Args:
            video: a video file, or a folder of pictures named by frame number; may be left out if there is a graph,
                and the report then has no pictures.
            graph: a scene graph, or its file. Without it, objects are detected and tracked.
            actions: names to ask for, or one text with commas between them. All are asked for in one question, for
                the scores, and each alone, for its frame weights and its parsed graph.
            detector: object detection model by name or folder, used without ``graph``; by default :data:`DETECTOR`.
            features: CLIP model by name or folder, for a model that reads visual features.
            frames: N, how many frames the model sees, evenly spread; by default as many as it takes.
            rate: frames per second of a folder of pictures, which cannot know it.
            download: whether detector and CLIP may be fetched; otherwise the network is not touched.
            theta: smallest s² / max s² of a frame that counts as found.
            threshold: smallest score of a detection that counts; see :class:`Detector`.

        Raises:
            DataError: an unknown name (with the nearest ones); a graph, video or number that does not fit.
        """
        asked = self.numbers(actions)
        most = self.model.config.frames
        frames = most if frames is None else frames
        if not (isinstance(frames, numbers.Integral) and 1 <= frames <= most):
            raise DataError("predict", "frames", brief(frames), f"a whole number, 1..{most}, which the model takes")
        if not (isinstance(theta, numbers.Real) and 0 < theta <= 1):
            raise DataError("predict", "theta", brief(theta), "a number above 0 and at most 1")
        if video is None and rate is not None:
            raise DataError("predict", "rate", f"{brief(rate)} without a video", "a video; or no rate")
        if video is not None and not isinstance(video, str | os.PathLike):
            raise DataError("predict", "video", type(video).__name__, "the path of a file or folder")
        by_detector = graph is None
        if by_detector:
            if video is None:
                raise DataError("predict", "input", "neither a graph nor a video", "--graph, --video or both")
            probe(video, rate)  # a missing file is named before a missing detector
            finder = Detector.load(detector or DETECTOR, self.device, download, threshold)
            graph, notes = detected(video, finder, frames, self.vocabulary, rate)
        elif detector is not None or threshold is not None:
            found = "a graph and " + ("a threshold" if detector is None else "a detector")
            raise DataError("predict", "input", found, "a graph, or what finds its objects")
        else:
            source = graph
            graph, notes = in_vocabulary(read_graph(source), self.vocabulary)
            if video is not None:
                notes += mismatch(graph, source, video, rate)
        if not graph.present.any():
            raise DataError(graph.video, "frames", "no object in any frame", "at least one")
        notes = [*notes, *without_object(graph, asked)]
        if not graph.relations.any():
            notes = [*notes, NO_RELATIONS]
        seen = graph.sample_frames(frames)
        pictures = None if video is None else read_frames(video, times=seen.times.tolist(), rate=rate)
        seen, more = with_visual(seen, self.model.config.visual, pictures, features, self.device, download,
                                 self.trained_on)  # fmt: skip
        saps = np.concatenate([one_hot(asked, len(self.vocabulary.actions)).any(0, keepdims=True),
                               one_hot(asked, len(self.vocabulary.actions))])  # fmt: skip
        together, *alone = look(self.model, seen, saps, self.device)
        return Prediction(graph, seen, asked, together, alone, pictures, theta, by_detector,
                          self.name, self.about, [*notes, *more])  # fmt: skip

    def numbers(self, actions: str | Sequence[str]) -> np.ndarray:
        """Numbers of the actions with these names, in the order asked, each once; see :meth:`__call__`.

        Capitals do not matter, "open door" is "open_door", and so is "opening a door" if no other action is.
        """
        names = self.vocabulary.actions
        known = {plain(name): number for number, name in enumerate(names)}
        known |= {name: number for number, name in enumerate(names)}  # as it is written goes first
        alike = Counter(map(stems, names))
        by_stems = {stems(name): number for number, name in enumerate(names) if alike[stems(name)] == 1}

        def number(name: str) -> int | None:
            return known.get(name.strip(), known.get(plain(name), by_stems.get(stems(name))))

        if isinstance(actions, str):
            actions = [actions] if number(actions) is not None else actions.split(",")
        actions = list(actions) if isinstance(actions, Iterable) else [actions]
        if not all(isinstance(name, str) for name in actions):
            raise DataError("predict", "actions", brief(actions), "names of actions, as texts")
        asked = {name.strip(): number(name) for name in actions if name.strip()}
        if not asked:
            raise DataError("predict", "actions", "none", f"at least one of the model's {len(names)} actions")
        for name, found in asked.items():
            if found is None:
                expected = f"an action of the model ({self.vocabulary.name}); {nearest_names(name, names)}"
                raise DataError("predict", "actions", brief(name), expected)
        return np.array(list(dict.fromkeys(asked.values())))


def _folder_of_run(name: str) -> Path:
    """Where the run store has a run, finished or not.

    Raises:
        CheckpointError: no run has this name, or only its committed record is here.
    """
    if (runs_root() / name).is_dir():
        return runs_root() / name
    try:
        run = named(name)
    except DataError as error:
        raise CheckpointError(f"model: found {name!r}, {EXPECTED}") from error
    return _of_proda(run).existing_folder()


def _of_proda(run: Run | None) -> Run | None:
    if run is not None and run.recipe.model != "proda":
        raise CheckpointError(f"run {run.name}: model: found a run of {run.recipe.model}, expected one of proda")
    return run


def _record(folder: str | os.PathLike) -> Run | None:
    """The run that made the weights in a folder; None if the folder does not say.

    Raises:
        CheckpointError: ``record.json`` is no record of a run, or lacks what is said of a model.
    """
    path = Path(folder) / "record.json"
    if not path.is_file():
        return None
    try:
        run = Run(read_json(path), None)
        kinds = {"name": str, "data": str, "metrics": dict, "videos": list}
        if wrong := [name for name, kind in kinds.items() if not isinstance(run.record[name], kind)]:
            raise TypeError(f"another type of {', '.join(wrong)}")
        if "features" in run.record and not all(isinstance(run.record["features"][key], str) for key in ENCODER):
            raise TypeError("another type of features")
        folds = run.record["videos"]
        if not folds or not all(isinstance(fold[part], int) for fold in folds for part in ("train", "test")):
            raise ValueError(f"videos: {folds!r:.80}")
        _ = run.recipe
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {type(error).__name__}: {error}; expected the record of a run") from error
    return run
