"""Pictures of a video at given times: from a video file (seeking, not scanning) or from a folder of numbered frames.

Conventions, for files and folders alike:

- Time 0 is the first picture. The picture at time t is the last one whose time is <= t, as a player shows it; times
  come from the container (``pts``), so a variable frame rate is right.
- Numbers count from 1, as ``ffmpeg -i VIDEO %06d.png`` names them, which is how Action Genome's frames were made:
  picture n is on the screen from (n - 1) / rate to n / rate, and is looked up in the middle of that, where a rounded
  rate does no harm. A folder that has a picture 0 counts from 0.
- Pictures come upright: the file's display matrix (a telephone held upright) is applied. Pixels are never rescaled.
"""

from __future__ import annotations

import numbers as numbers_of_python
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proda_lib.errors import DataError
from proda_lib.features.film import CUT_OFF, TOLERANCE, Film, Picture, said, upright
from proda_lib.names import brief

LARGEST = 1e7  #: seconds, frame number and rate at most; what is above means nothing and does not fit a time base
SUFFIXES = (".png", ".jpg", ".jpeg")  #: of the pictures in a folder


@dataclass(frozen=True)
class VideoInfo:
    """What a video is like.

    Attributes:
        path: the file or folder. ``start``: seconds of its first picture, which is 0 for a file.
        width, height: pixels of an upright picture.
        rate: average frames per second.
        duration: seconds.
        frames: number of pictures, as the container says; counted where it does not say.
    """

    path: Path
    width: int
    height: int
    rate: float
    duration: float
    frames: int
    start: float = 0.0


def probe(path: str | os.PathLike, rate: float | None = None) -> VideoInfo:
    """What a video file, or a folder of pictures named by frame number, is like. Decodes one picture.

    Args:
        rate: frames per second of a folder, which cannot know it; must be None for a file.

    Raises:
        DataError: nothing is there, it holds no pictures, it is damaged, or ``rate`` is missing or superfluous.
    """
    path = Path(path)
    if path.is_dir():
        rate, files = _checked_rate(path, rate), numbered(path)
        first, last = _first(files), max(files)
        height, width = _load(files[min(files)]).shape[:2]
        return VideoInfo(path, width, height, rate, (last - first + 1) / rate, len(files), (min(files) - first) / rate)
    if rate is not None:
        raise DataError(path, "rate", rate, "no rate: a video file has its own")
    with Film(path) as film:
        height, width = upright(film.shown).shape[:2]
        count, step = film.stream.frames, film.frame_time
        duration = film.stream.duration * film.stream.time_base if film.stream.duration else 0
        if not count or not duration:
            stamps = film.stamps()
            count = count or len(stamps)
            duration = max(duration, (max(stamps) - min(stamps)) * film.stream.time_base + step)
        elif (last := film.last_byte()) > (size := path.stat().st_size):
            raise DataError(path, "file", f"{size} bytes", f"a complete video file, of at least {last} bytes")
        elif count * step > duration + CUT_OFF:
            found, stated = f"an end at {float(duration):.2f} s", f"{float(count * step):.2f} s"
            raise DataError(path, "file", found, f"a complete video file, of {stated}")
        return VideoInfo(path, width, height, float(1 / step), float(duration), count)


def read_frames(
    path: str | os.PathLike, times: Sequence[float] | None = None, numbers: Sequence[int] | None = None,
    rate: float | None = None,
) -> list[Picture]:  # fmt: skip
    """The pictures at the given times, or with the given numbers: (H, W, 3) RGB each, in the order asked.

    Args:
        path: a video file, or a folder of pictures named by frame number.
        times: seconds, in any order; repeats give the same array again.
        numbers: frame numbers instead of times; see the conventions above.
        rate: frames per second at which numbers count, by default the file's average; a folder needs it for times, a
            file has its own.

    Raises:
        DataError: not exactly one of ``times`` and ``numbers``; a rate that is missing or superfluous; the file is
            missing, empty, cut off or damaged, or has no video stream; a time is before the first picture of a folder,
            or more than a frame after the end. The message names the file, the time asked for and what is there.
    """
    path = Path(path)
    if (times is None) == (numbers is None):
        found = "neither" if times is None else "both"
        raise DataError(path, "times, numbers", found, "either times or numbers")
    if times is not None and path.is_file() and rate is not None:
        raise DataError(path, "rate", rate, "no rate: a video file has its own times")
    if rate is not None or (path.is_dir() and times is not None):
        rate = _checked_rate(path, rate)
    first = 0 if path.is_dir() else 1
    for number in () if numbers is None else numbers:
        if not (_is_number(number) and first <= number <= LARGEST and number == int(number)):
            raise DataError(path, "numbers", brief(number), "whole frame numbers, counted from 1")
    for time in () if times is None else times:
        if not (_is_number(time) and 0 <= time <= LARGEST):
            raise DataError(path, "times", brief(time), "finite seconds from 0 on")
    return (_from_folder if path.is_dir() else _from_file)(path, times, numbers, rate)


def numbered(folder: str | os.PathLike) -> dict[int, Path]:
    """The pictures of a folder by the number that is their name.

    Raises:
        DataError: there are none, or two have the same number.
    """
    files: dict[int, Path] = {}
    for file in sorted(Path(folder).iterdir()):
        if file.suffix.lower() in SUFFIXES and file.stem.isascii() and file.stem.isdigit():
            if (number := int(file.stem)) in files:
                raise DataError(folder, file.name, f"frame {number} again, as {files[number].name}", "each frame once")
            files[number] = file
    if not files:
        raise DataError(folder, "folder", "no pictures", f"pictures named by frame number ({', '.join(SUFFIXES)})")
    return files


def _from_folder(
    folder: Path, times: Sequence[float] | None, numbers: Sequence[int] | None, rate: float | None
) -> list[Picture]:
    files = numbered(folder)
    there = np.array(sorted(files))
    if times is not None:
        starts = (there - _first(files)) / rate
        wanted = np.searchsorted(starts, np.asarray(times, dtype=np.float64) + TOLERANCE, side="right") - 1
        for time, index in zip(times, wanted, strict=True):
            if index < 0 or time > starts[-1] + 2 / rate + TOLERANCE:
                span = f"pictures of {starts[0]:.3f}..{starts[-1] + 1 / rate:.3f} s"
                raise DataError(folder, f"picture at {time:.3f} s", span, "a time inside")
        numbers = there[wanted].tolist()
    for number in numbers:
        if number not in files:
            found = f"{len(files)} pictures, numbers {there[0]}..{there[-1]}"
            raise DataError(folder, f"frame {number}", found, f"{number:06d}.png (or .jpg)")
    loaded = {number: _load(files[number]) for number in set(numbers)}
    return [loaded[number] for number in numbers]


def _from_file(
    path: Path, times: Sequence[float] | None, numbers: Sequence[int] | None, rate: float | None
) -> list[Picture]:
    with Film(path) as film:
        if times is None:
            rate = rate or float(1 / film.frame_time)
            times = [min((number - 0.5) / rate, LARGEST) for number in numbers]
        pictures: dict[float, Picture] = {}
        last = None
        for time in sorted(set(times)):
            if (frame := film.at(time)) is not last:
                last, picture = frame, upright(frame)
            pictures[time] = picture
        return [pictures[time] for time in times]


def _load(file: Path) -> Picture:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:  # Pillow's readers
        raise DataError(file, "picture", said(error), "a sound PNG or JPEG picture") from error


def _first(files: dict[int, Path]) -> int:
    """The number of the picture at time 0, whether it is there or not."""
    return min(1, min(files))


def _checked_rate(path: Path, rate: float | None) -> float:
    if not (_is_number(rate) and 1 / LARGEST <= rate <= LARGEST):
        found = "none" if rate is None else brief(rate)
        raise DataError(path, "rate", found, "a positive number of frames per second")
    return float(rate)


def _is_number(value: object) -> bool:
    """Whether it is a real number, of Python or NumPy; NaN passes, and is in no range."""
    return isinstance(value, numbers_of_python.Real) and not isinstance(value, bool)
