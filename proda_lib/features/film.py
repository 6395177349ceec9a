"""Film: an open video file that shows the picture of a time; the seeking behind :mod:`proda_lib.features.video`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from proda_lib.errors import DataError

TOLERANCE = 1e-6  #: seconds by which a time may miss a picture's own time and still mean it
STEPS_BACK = (0.0, 1.0, 4.0, 16.0)  #: seconds by which to seek earlier when a file's index led too far
CUT_OFF = 1.0  #: seconds by which a file's packets may end before the time that it states
NO_INDEX = 2.0  #: seconds from which seeking beats decoding on, where a file has no index of its key frames

Picture = UInt8[np.ndarray, "H W 3"]


class Film:
    """An open video file that shows the picture of a time; forward in time it decodes on, or seeks where that is less.

    ``shown`` is the picture on the screen and ``coming`` the next one, None at the end of the file. ``sound`` is False
    after a damaged picture, until the next seek: those that build on it are spoilt without the decoder saying so.
    """

    def __init__(self, path: Path):
        import av

        self.path, self.broken = path, (av.FFmpegError, OSError, ValueError)
        if not path.is_file():
            raise DataError(path, "file", "no such file", "a video file or a folder of pictures")
        if not path.stat().st_size:
            raise DataError(path, "file", "0 bytes", "a video file")
        try:
            self.container = av.open(str(path))
        except self.broken as error:
            raise DataError(path, "file", said(error), "a complete video file") from error
        try:
            if not self.container.streams.video:
                kinds = ", ".join(stream.type for stream in self.container.streams) or "nothing"
                raise DataError(path, "streams", kinds, "a video stream")
            self.stream = self.container.streams.video[0]
            self._start(self.container.decode(self.stream))
            self.first = self.shown.pts
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def frame_time(self) -> float:
        """Seconds of one frame at the file's average rate."""
        if rate := self.stream.average_rate or self.stream.guessed_rate:
            return 1 / rate
        raise DataError(self.path, "streams", "no frame rate", "a video stream with a frame rate")

    def at(self, time: float):
        """The picture of ``time`` (seconds). Times must not decrease from call to call."""
        wanted = self.first + math.floor((time + TOLERANCE) / self.stream.time_base)
        self._show(wanted, seek=self._seek_is_less(wanted))
        if not self.sound:  # the damage may lie before the last key frame
            self._show(wanted, seek=True)
        if self.coming is None:
            end = self._seconds(self.shown.pts + (self.shown.duration or 0))
            if time > end + self.frame_time + TOLERANCE:
                raise DataError(self.path, f"picture at {time:.3f} s", f"pictures of 0..{end:.3f} s", "a time inside")
        if not self.sound:
            raise DataError(self.path, f"picture at {time:.3f} s", "damaged data", "a sound video file")
        return self.shown

    def _show(self, wanted: int, seek: bool) -> None:
        if seek:
            self._seek(wanted)
        while self.coming is not None and self.coming.pts <= wanted:
            self.shown, self.coming = self.coming, self._next()
            self.sound &= not self.shown.is_corrupt

    def stamps(self) -> list[int]:
        """Times of all pictures as the packets state them, not decoded; ends the use of this object.

        Raises:
            DataError: the packets of all streams end well before the time that the file states: it is cut off.
        """
        stamps, end = [], 0.0
        try:
            self.container.seek(0)
            for packet in self.container.demux():
                if (stamp := packet.dts if packet.pts is None else packet.pts) is not None:
                    end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
                    stamps += [stamp] if packet.stream_index == self.stream.index else []
        except self.broken as error:
            raise DataError(self.path, "video stream", said(error), "a complete video file") from error
        stated = (self.container.duration or 0) / 1e6
        if end < stated - CUT_OFF:
            raise DataError(self.path, "file", f"an end at {end:.2f} s", f"a complete video file, of {stated:.2f} s")
        return stamps

    def last_byte(self) -> int:
        """Where the last picture ends in the file, by the file's index; 0 if it has none."""
        return max((entry.pos + entry.size for entry in self.stream.index_entries), default=0)

    def _seconds(self, stamp: int) -> float:
        return float((stamp - self.first) * self.stream.time_base)

    @property
    def _seeks(self) -> bool:
        """Whether pictures have their own times after seeking; in MPEG program streams, not every packet has one."""
        return self.container.format.name != "mpeg"

    def _seek_is_less(self, wanted: int) -> bool:
        """Whether a key frame lies between the next picture and the wanted one."""
        if not self._seeks or self.coming is None or wanted <= self.coming.pts:
            return False
        entries = self.stream.index_entries
        if not len(entries):
            return self._seconds(wanted) - self._seconds(self.coming.pts) > NO_INDEX
        index = entries.search_timestamp(wanted, backward=True)
        return index >= 0 and entries[index].timestamp > self.coming.pts

    def _seek(self, wanted: int) -> None:
        """Go to a key frame not later than ``wanted``; what follows a later one is not what a player shows there."""
        for back in STEPS_BACK if self._seeks else ():
            target = wanted - round(back / self.stream.time_base)
            if target <= self.first:
                break
            try:
                self.container.seek(target, stream=self.stream, backward=True)
                pictures = self.container.decode(self.stream)
                self._start(pictures)
            except (DataError, *self.broken):  # a container that cannot seek there
                continue
            if self.shown.key_frame and self.shown.pts <= wanted:
                return
        try:
            self.container.seek(min(self.first, 0), stream=self.stream, backward=True)
            pictures = self.container.decode(self.stream)
        except self.broken as error:
            raise DataError(
                self.path, "video stream", said(error), "a video that can be read from its start"
            ) from error
        self._start(pictures)

    def _start(self, pictures: Iterator) -> None:
        self.pictures, self.stamp = pictures, None
        if (shown := self._next()) is None:
            raise DataError(self.path, "video stream", "no pictures", "at least one")
        self.shown, self.coming, self.sound = shown, self._next(), not shown.is_corrupt

    def _next(self):
        try:
            frame = next(self.pictures, None)
        except self.broken as error:
            raise DataError(self.path, "video stream", said(error), "a sound video file") from error
        if frame is not None:
            frame.pts = self.stamp = self._stamp(frame)
        return frame

    def _stamp(self, frame) -> int:
        """The time of the picture that was just decoded, in units of the stream's time base.

        AVI stores no presentation times, and those that are guessed for it are out of order. But pictures leave the
        decoder in the order of presentation, one for each decoding time, and one a frame after the last of these.
        """
        stamp = frame.dts if self.container.format.name == "avi" else frame.pts
        if stamp is not None:
            return stamp
        if self.stamp is None:
            raise DataError(self.path, "video stream", "a picture without a time", "a container that stores times")
        return self.stamp + round(self.frame_time / self.stream.time_base)


def upright(frame) -> Picture:
    """The pixels of a decoded frame as a player shows them: RGB, turned and mirrored by the display matrix."""
    from av.sidedata.sidedata import Type

    picture = frame.to_ndarray(format="rgb24")
    data = next((bytes(d) for d in frame.side_data if d.type is Type.DISPLAYMATRIX), None)
    if data is None:
        return picture
    a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
    turned = abs(b) > abs(a)  # rows of the file become columns of the screen: x' = a x + c y, y' = b x + d y
    if turned:
        picture = picture.transpose(1, 0, 2)
        a, d = c, b
    picture = picture[:, ::-1] if a < 0 else picture
    return np.ascontiguousarray(picture[::-1] if d < 0 else picture)


def said(error: Exception) -> str:
    """What went wrong, in one line."""
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
