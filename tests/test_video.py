"""Pictures at given times: each written picture carries its number, so that a wrong one is told by reading it."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from proda_lib.errors import DataError
from proda_lib.features.film import Film
from proda_lib.features.video import probe, read_frames

WIDTH, HEIGHT, BITS = 128, 48, 10


def card(number):
    """A picture with a number on it: one white or black column for each bit, and a grey row to tell up from down."""
    on = np.repeat([number >> bit & 1 for bit in range(BITS)], 12)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, :120] = 255 * on[None, :, None]
    picture[:8] = 128
    return picture


def read_card(picture):
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
    return sum(int(picture[30, 12 * bit + 6].mean() > 128) << bit for bit in range(BITS))


def write(path, count=60, rate=25, codec="libx264", stamps=None, options=None, gop=10, **container):
    """``stamps``: time of each picture in thousandths of a second, for a variable rate."""
    with av.open(str(path), "w", **container) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(card(number), "rgb24")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = stream.codec_context.time_base if stamps is not None else Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def cards(path, **wanted):
    return [read_card(picture) for picture in read_frames(path, **wanted)]


FILES = {
    "b.mp4": {},
    "open.mp4": {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0"}},
    "one_key.mp4": {"gop": 1000, "options": {"x264-params": "scenecut=0:keyint=1000"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "bframes.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "h264.avi": {},  # whose presentation times libav guesses wrong
    "b.mkv": {},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.vob": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "b.ts": {},
}


@pytest.mark.parametrize("name", FILES)
def test_picture_of_every_number_and_time(tmp_path, name):
    path = write(tmp_path / name, **FILES[name])
    info = probe(path)
    assert (info.width, info.height, info.frames, info.rate) == (WIDTH, HEIGHT, 60, 25.0)
    assert info.duration == pytest.approx(60 / 25, abs=0.05)
    assert cards(path, numbers=range(1, 61)) == list(range(60))  # numbers count from 1
    assert cards(path, times=[n / 25 for n in range(60)]) == list(range(60))
    rng = np.random.default_rng(0)
    for _ in range(12):
        times = rng.uniform(0, 60 / 25, 3)
        assert cards(path, times=times) == [int(time * 25) for time in times]


def test_order_and_repeats(tmp_path):
    path = write(tmp_path / "a.mp4")
    pictures = read_frames(path, numbers=[40, 3, 40, 17])
    assert [read_card(p) for p in pictures] == [39, 2, 39, 16]
    assert pictures[0] is pictures[2]
    assert read_frames(path, times=[]) == []


def test_a_rounded_rate_does_no_harm(tmp_path):
    path = write(tmp_path / "ntsc.mp4", count=900, rate=Fraction(30000, 1001), gop=50)
    for rate in (None, 29.97, 29.98, 30000 / 1001):
        assert cards(path, numbers=[1, 2, 450, 900], rate=rate) == [0, 1, 449, 899]


def test_numbers_count_at_the_given_rate(tmp_path):
    path = write(tmp_path / "a.mp4", rate=25)
    assert cards(path, numbers=[1, 2, 3, 4], rate=12.5) == [1, 3, 5, 7]  # the middle of each 80 ms


def test_variable_rate_goes_by_time_not_by_index(tmp_path):
    stamps = np.cumsum([0, *np.tile([20, 400, 30, 30, 700], 4)]).tolist()[:20]
    path = write(tmp_path / "vfr.mp4", count=20, stamps=stamps, gop=6)
    for number, stamp in enumerate(stamps):
        assert cards(path, times=[stamp / 1000]) == [number]
        if number:
            assert cards(path, times=[stamp / 1000 - 0.001]) == [number - 1]
    assert probe(path).duration == pytest.approx(stamps[-1] / 1000, abs=0.8)


@pytest.mark.parametrize("name", ["seek.mp4", "seek.avi"])
def test_seeks_instead_of_scanning(tmp_path, monkeypatch, name):
    path = write(tmp_path / name, count=600, gop=20, codec="libx264" if name.endswith("mp4") else "mpeg4",
                 options={"sc_threshold": "1000000000"})  # fmt: skip
    decoded, real = [], Film._next
    monkeypatch.setattr(Film, "_next", lambda film: decoded.append(film) or real(film))
    assert cards(path, numbers=[105, 310, 312, 590]) == [104, 309, 311, 589]
    assert len(decoded) <= 3 * 22 + 2  # three groups of times, each within 20 pictures of a key frame
    decoded.clear()
    read_frames(path, numbers=range(1, 601))
    assert len(decoded) <= 2 * 602  # never back to the start


def turn(path, matrix):
    """Change the display matrix of an mp4 file's track: a, b, c, d of x' = a x + c y, y' = b x + d y."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    assert struct.unpack(">9i", content[start : start + 36])[:5] == (65536, 0, 0, 0, 65536)
    a, b, c, d = (value << 16 for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("matrix, upright", [
    ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),  # clockwise, a telephone held upright
    ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    ((1, 0, 0, -1), lambda p: p[::-1]),
    ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
])  # fmt: skip
def test_rotated_and_mirrored_files_come_upright(tmp_path, matrix, upright):
    path = write(tmp_path / "a.mp4", count=8)
    lying = read_frames(path, numbers=[6])[0]
    (picture,) = read_frames(turn(path, matrix), numbers=[6])
    assert (picture == upright(lying)).all()
    assert (probe(path).height, probe(path).width) == picture.shape[:2]


def fault(path, **wanted):
    with pytest.raises(DataError) as error:
        read_frames(path, **(wanted or {"times": [0.0]}))
    assert str(path) in str(error.value)
    return str(error.value)


def test_a_file_that_is_cut_off(tmp_path):
    path = write(tmp_path / "whole.mp4", count=600)
    (tmp_path / "no_index.mp4").write_bytes(path.read_bytes()[:-2000])  # the index stands at the end
    assert "expected a complete video file" in fault(tmp_path / "no_index.mp4")
    path = write(tmp_path / "index_first.mp4", count=600, options={"movflags": "faststart"},
                 container_options={"movflags": "faststart"})  # fmt: skip
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 2 // 3])
    assert cards(cut, times=[2.0]) == [50]
    assert probe(path).frames == 600
    with pytest.raises(DataError, match=f"found {cut.stat().st_size} bytes, expected a complete video file"):
        probe(cut)
    assert "picture at 23.000 s" in fault(cut, times=[23.0]) or "sound video file" in fault(cut, times=[23.0])


@pytest.mark.parametrize("name, codec", [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.flv", "flv1"),
                                         ("a.avi", "mpeg4")])  # fmt: skip
def test_an_end_before_the_stated_one_is_told(tmp_path, name, codec):
    options = {"deadline": "realtime", "cpu-used": "8"} if name == "a.webm" else {}
    path = write(tmp_path / name, count=150, codec=codec, options=options)
    assert probe(path).duration == pytest.approx(6.0, abs=0.1)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(DataError, match=f"{name}: file: found an end at .* expected a complete video file, of 6.00 s"):
        probe(path)
    assert cards(path, times=[1.0]) == [25]  # what is there is there
    assert "picture at 5.800 s" in fault(path, times=[5.8])


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_damage_is_told_from_where_it_is_to_the_next_key_frame(tmp_path, name, codec):
    path = write(tmp_path / name, count=200, gop=25, codec=codec)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(content)
    broken = []
    for number in range(1, 201):
        try:
            assert cards(path, numbers=[number]) == [number - 1]
        except DataError:
            broken.append(number)
    assert 1 <= len(broken) <= 2 * 25 and broken == list(range(broken[0], broken[-1] + 1))


def test_nothing_to_show(tmp_path):
    assert "no such file" in fault(tmp_path / "absent.mp4")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "0 bytes" in fault(empty)
    (tmp_path / "text.mp4").write_text("no video at all " * 99)
    assert "expected a complete video file" in fault(tmp_path / "text.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert "found audio, expected a video stream" in fault(tmp_path / "sound.mp4")


def test_times_outside(tmp_path):
    path = write(tmp_path / "a.mp4", count=50)  # 2 s
    assert cards(path, times=[2.0, 2.04]) == [49, 49]  # up to a frame after the end
    message = fault(path, times=[0.5, 2.1])
    assert "picture at 2.100 s" in message and "pictures of 0..2.000 s" in message
    assert "picture at 2.420 s" in fault(path, numbers=[61])
    for times in ([-0.1], [float("nan")], [float("inf")]):
        assert "finite seconds" in fault(path, times=times)
    assert "counted from 1" in fault(path, numbers=[0])
    with pytest.raises(DataError, match="either times or numbers"):
        read_frames(path)
    with pytest.raises(DataError, match="either times or numbers"):
        read_frames(path, times=[0.0], numbers=[1])
    with pytest.raises(DataError, match="positive number"):
        read_frames(path, numbers=[1], rate=0.0)
    with pytest.raises(DataError, match="a video file has its own"):
        probe(path, rate=25.0)


ODD = [float("nan"), float("inf"), -1.0, 1e300, 10**400, "a", "1", None, True, [1], 1j]


def test_what_is_no_time_number_or_rate(tmp_path, folder):
    for path in (write(tmp_path / "a.mp4", count=10), write(tmp_path / "a.mkv", count=10), folder):
        given = {"rate": 10} if path is folder else {}
        for odd in [*ODD, 1e12]:
            assert "times: found " in fault(path, times=[0.3, odd], **given)
        for odd in [*ODD, 1.5, 10**30]:
            assert "numbers: found " in fault(path, numbers=[3, odd])
        for odd in [*ODD[:7], True, [1], 0, 1e-300]:
            assert "rate: found " in fault(path, numbers=[3], rate=odd)
        assert "9999999" in fault(path, numbers=[9_999_999]) or path is not folder
        assert len(read_frames(path, numbers=[np.int64(3), np.float32(3)], **given)) == 2
    assert "picture at " in fault(tmp_path / "a.mp4", numbers=[9_999_999], rate=0.001)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "AAAAA.mp4"  # as Action Genome names its folders
    folder.mkdir()
    for number in (3, 10, 11, 25):
        Image.fromarray(card(number)).save(folder / f"{number:06d}.png")
    (folder / "readme.txt").write_text("not a picture")
    return folder


def test_folder_of_numbered_pictures(folder):
    assert cards(folder, numbers=[25, 3, 11, 3]) == [25, 3, 11, 3]
    assert cards(folder, times=[0.2, 0.89, 0.9, 1.05, 2.5], rate=10) == [3, 3, 10, 11, 25]
    info = probe(folder, rate=10)
    assert (info.width, info.height, info.rate, info.frames, info.duration) == (WIDTH, HEIGHT, 10.0, 4, 2.5)
    assert "4 pictures, numbers 3..25" in fault(folder, numbers=[3, 4])
    assert "picture at 0.100 s" in fault(folder, times=[0.1], rate=10)  # before the first that is there
    assert "picture at 2.700 s" in fault(folder, times=[2.7], rate=10)
    assert "expected a positive number of frames per second" in fault(folder, times=[1.0])


def test_folder_that_counts_from_0(folder):
    Image.fromarray(card(0)).save(folder / "0.jpg", quality=95)
    assert cards(folder, times=[0.0, 0.3, 1.0], rate=10) == [0, 3, 10]


def test_broken_folders(folder, tmp_path):
    content = (folder / "000010.png").read_bytes()
    (folder / "000010.png").write_bytes(content[: len(content) // 2])
    assert "000010.png" in fault(folder, numbers=[10]) and cards(folder, numbers=[11]) == [11]
    Image.fromarray(card(3)).save(folder / "3.jpg")
    assert "frame 3 again" in fault(folder, numbers=[11])
    (tmp_path / "bare").mkdir()
    assert "no pictures" in fault(tmp_path / "bare", numbers=[1])


@pytest.mark.parametrize("name", ["bikes.mp4", "mmaction2_demo.mp4", "mmaction2_part_0.mp4", "mmaction2_test.avi"])
def test_real_files_as_a_scan_shows_them(shared_data, name):
    path = shared_data / "videos" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with av.open(str(path)) as file:
        shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    if name.endswith("avi"):  # stores no presentation times; decoded in order, at a constant rate
        shown = [(number / 25, picture) for number, (_, picture) in enumerate(shown)]
    info, start = probe(path), shown[0][0]
    assert info.frames == len(shown) and (info.height, info.width) == shown[0][1].shape[:2]
    rng = np.random.default_rng(0)
    times = [*rng.uniform(0, info.duration, 6), *(shown[i][0] - start for i in rng.integers(0, len(shown), 6))]
    for time, picture in zip(times, read_frames(path, times=times), strict=True):
        assert (picture == [p for t, p in shown if t - start <= time + 1e-6][-1]).all()
