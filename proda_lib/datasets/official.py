"""The official files of Action Genome and Charades: where each lies. No other module knows the layout."""

from __future__ import annotations

import functools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proda_lib.datasets.action_genome import read_action_genome
from proda_lib.datasets.action_genome_files import load_dict
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError
from proda_lib.files import sha256
from proda_lib.graph import SceneGraph

SPLITS = ("train", "test")
CHARADES_CSVS = ("Charades_v1_train.csv", "Charades_v1_test.csv")  #: one for each of :data:`SPLITS`
CHARADES_CLASSES = "Charades_v1_classes.txt"
ANNOTATIONS = ("frame_list.txt", "object_bbox_and_relationship.pkl", "person_bbox.pkl", "object_classes.txt",
               "relationship_classes.txt")  # fmt: skip
RATES = "star_video_fps"


def charades_folder(root: Path) -> Path | None:
    """Where Charades' csv files lie: ``root/charades``, else ``root/action_genome``, else None."""
    return next((f for f in (root / "charades", root / "action_genome") if (f / CHARADES_CSVS[0]).is_file()), None)


@dataclass(frozen=True)
class Files:
    """Paths of the official files; ``csvs`` has one for each split that was asked for."""

    annotations: Path
    csvs: dict[str, Path]
    classes: Path
    rates: Path

    @classmethod
    def at(cls, folder: str | os.PathLike, splits: Sequence[str] = SPLITS) -> Files:
        """The files of ``folder``: each in ``charades/`` beside it or in it, in ``folder`` or in its ``annotations/``.

        A file that is in none of these has the path that data/README.md gives it.
        """
        folder = Path(folder)
        places, names = _places(folder), dict(zip(SPLITS, CHARADES_CSVS, strict=True))

        def path(name: str, default: Path) -> Path:
            return next((place for place in places if (place / name).is_file()), default) / name

        csvs = {split: path(names[split], places[0]) for split in splits}
        annotations = path(ANNOTATIONS[0], folder / "annotations").parent
        return cls(annotations, csvs, path(CHARADES_CLASSES, places[0]), path(RATES, folder))

    @classmethod
    def find(cls, folder: str | os.PathLike, splits: Sequence[str] = SPLITS) -> Files:
        """As :meth:`at`, but every file is there.

        Raises:
            DataError: the first that is not.
        """
        files = cls.at(folder, splits)
        for path in files.paths():
            if not path.is_file():
                places = ", ".join(map(str, _places(Path(folder))))
                raise DataError(folder, path.name, "no such file", f"the official file in one of {places}")
        return files

    def paths(self) -> list[Path]:
        """Every file that the graphs come from."""
        return [*(self.annotations / name for name in ANNOTATIONS), *self.csvs.values(), self.classes, self.rates]

    def read(self, split: str, report: Report | None = None) -> list[SceneGraph]:
        """The scene graphs of the split, without features."""
        return read_action_genome(self.annotations, [self.csvs[split]], self.classes, self.rates, split, report=report)

    def frame_numbers(self) -> dict[str, list[int]]:
        """The annotated frames of each video in order of time, as the reader takes them."""
        text = (self.annotations / "frame_list.txt").read_text("utf-8", "replace")
        numbers: dict[str, set[int]] = defaultdict(set)
        for video, number in re.findall(r"^\s*([^/\n]+)\.mp4/([0-9]{6})\.png\s*$", text, re.M):
            numbers[video].add(int(number))
        return {video: sorted(found) for video, found in numbers.items()}

    def frame_rates(self) -> dict[str, float]:
        """Frames per second by the name of the video's file."""
        return load_dict(self.rates, Report())

    def checksums(self) -> dict[str, str]:
        """SHA-256 of :meth:`paths` by name. A process reads a file for it once, as long as the file stays as it is."""
        return {path.name: _checksum(path, state.st_size, state.st_mtime_ns) for path, state in _states(self.paths())}


def _places(folder: Path) -> tuple[Path, ...]:
    beside = Path(os.path.abspath(folder)).parent / "charades"  # of the name given, not of what a link leads to
    return beside, folder / "charades", folder, folder / "annotations"


def _states(paths: Iterable[Path]) -> list[tuple[Path, os.stat_result]]:
    return [(path, path.stat()) for path in paths]


@functools.cache
def _checksum(path: Path, size: int, mtime: int) -> str:
    """Size and time of change stand in the cache's key: an edited file is read again."""
    return sha256(path)
