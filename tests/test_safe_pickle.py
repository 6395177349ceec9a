"""safe_load reads plain data and arrays, and lets no pickle run or change anything."""

import io
import os
import pickle
import struct

import numpy as np
import pytest

from proda_lib.datasets.pickle_limits import EXPANSION, MAX_DEPTH
from proda_lib.datasets.safe_pickle import safe_load
from proda_lib.errors import DataError


def write(path, content: bytes):
    path.write_bytes(content)
    return path


class Call:
    """Pickles to a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


PLAIN = {"a": [1, 2.5, None, True, (3, "é", 10**30)], "set": {1, 2}, "frozen": frozenset({3}), "bytes": [b"", b"\xff"]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_survives_every_protocol(tmp_path, protocol):
    assert safe_load(write(tmp_path / "a.pkl", pickle.dumps(PLAIN, protocol))) == PLAIN


ARRAYS = [
    np.arange(12, dtype="f4").reshape(3, 4), np.zeros((0, 4), "f4"), np.arange(3, dtype=">i8"), np.array([True, False]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(7, dtype="u1"), np.ones(2, "c16"), np.ones(2, "f2"),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_arrays_of_numbers(tmp_path, protocol, array):
    loaded = safe_load(write(tmp_path / "a.pkl", pickle.dumps({"x": array}, protocol)))["x"]
    assert isinstance(loaded, np.ndarray) and loaded.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded, array)
    loaded += loaded  # owns its memory


def test_numpy_scalars(tmp_path):
    loaded = safe_load(write(tmp_path / "a.pkl", pickle.dumps([np.float32(1.5), np.int64(-2), np.bool_(True)], 2)))
    assert loaded == [1.5, -2, True] and isinstance(loaded[0], np.float32)


def python2_array() -> bytes:
    """What Python 2 and an old NumPy write for array([1, 2], float32): byte strings and the old module name."""
    string = lambda raw: b"U" + bytes([len(raw)]) + raw  # noqa: E731
    dtype = (b"cnumpy\ndtype\n(" + string(b"f4") + b"K\x00K\x01tR(K\x03" + string(b"<")
             + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")  # fmt: skip
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + string(b"b") + b"tR"
    return b"\x80\x02" + array + b"(K\x01(K\x02t" + dtype + b"\x89" + string(struct.pack("<2f", 1, 2)) + b"tb."


def test_python2_names_and_strings(tmp_path):
    np.testing.assert_array_equal(safe_load(write(tmp_path / "a.pkl", python2_array())), np.float32([1, 2]))
    assert safe_load(write(tmp_path / "b.pkl", b"S'caf\\xe9'\n.")) == "café"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickle_is_refused_by_name_and_runs_nothing(tmp_path, protocol):
    mark = tmp_path / "mark"
    path = write(tmp_path / "hostile.pkl", pickle.dumps([Call(os.mkdir, str(mark))], protocol))
    pickle.loads(path.read_bytes())  # the pickle does work where it is trusted
    assert mark.is_dir()
    mark.rmdir()
    with pytest.raises(DataError, match=r"hostile\.pkl: global (posix|nt)\.mkdir: found a request to import it"):
        safe_load(path)
    assert not mark.exists()


@pytest.mark.parametrize(("module", "name"), [
    ("builtins", "eval"), ("builtins", "getattr"), ("numpy", "load"), ("os", "system"), ("numpy", "ndarray.__class__"),
    ("numpy.core.multiarray", "_reconstruct.__class__"), ("proda_lib.datasets.safe_pickle", "_DType"),
    ("collections", "OrderedDict"), ("numpy.core.multiarray", "fromfile"),
])  # fmt: skip
def test_other_globals_are_refused(tmp_path, module, name):
    content = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name)) + b"\x93."
    with pytest.raises(DataError) as caught:
        safe_load(write(tmp_path / "a.pkl", content))
    assert caught.value.where == f"global {module}.{name}"


@pytest.mark.parametrize("content", [
    pickle.dumps(Call(bytes, 10**12), 2), b"c__builtin__\nbytes\n(I1000000000000\ntR.",
    pickle.dumps(np.array([{}], dtype=object), 2), pickle.dumps(np.array(["text"]), 2),
    pickle.dumps(np.zeros(2, [("x", "f4")]), 2), b"c_codecs\nencode\n(S'a'\nS'hex'\ntR.",
    python2_array().replace(b"K\x02t", b"K\x03t"),
    b"cnumpy.core.multiarray\n_reconstruct\n(S'__defaults__'\nS'x'\ndb.",  # tries to change the stand-in itself
    b"c__builtin__\nset\n(NS'x'\ntb.",
], ids=["bytes", "bytes2", "object array", "text array", "record array", "codec", "size", "state", "type"])  # fmt: skip
def test_misused_globals_are_refused(tmp_path, content):
    with pytest.raises(DataError, match="a.pkl"):
        safe_load(write(tmp_path / "a.pkl", content))


def test_every_cut_of_a_pickle_is_refused(tmp_path):
    buffer = io.BytesIO()
    pickle.dump({**PLAIN, "x": ARRAYS[0]}, buffer, 2)
    for length in range(len(buffer.getvalue())):
        with pytest.raises(DataError, match=r"cut\.pkl"):
            safe_load(write(tmp_path / "cut.pkl", buffer.getvalue()[:length]))


def test_values_may_be_shared_in_reason(tmp_path):
    """A value that occurs again and again is written once, and read as once more the same."""
    size, tag = (480, 270), {"set": "train", "tag": "a"}
    frames = {f"{i:06d}.png": {"bbox_size": size, "metadata": tag, "bbox": ARRAYS[0]} for i in range(300)}
    loaded = safe_load(write(tmp_path / "a.pkl", pickle.dumps(frames, 2)))
    assert loaded.keys() == frames.keys()
    assert all(entry["bbox_size"] == size and entry["metadata"] == tag for entry in loaded.values())


@pytest.mark.parametrize(("content", "where"), [
    (b"\x80\x02}(K\x01K\x02\x86Nu.", "key"), (b"\x80\x02]q\x05.", "memo"), (b"\x80\x02]q\x00h\x00a.", "values"),
    (b"\x80\x02h\x00.", "memo"), (b"\x80\x02N2.", "instruction DUP at byte 3"), (b"L" + b"9" * 301 + b"L\n.", "number"),
    (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "pickle"), (b"\x80\x02N.N", "pickle"), (b"\x80\x02(NN.", "pickle"),
    (b"\x80\x02K\x01(K\x02e.", "pickle"),
])  # fmt: skip
def test_what_is_refused_is_named(tmp_path, content, where):
    with pytest.raises(DataError) as caught:
        safe_load(write(tmp_path / "a.pkl", content))
    assert caught.value.where == where


def test_depth_and_size_have_a_limit_and_data_stays_below(tmp_path):
    def nested(depth):
        return [nested(depth - 1)] if depth else 1

    assert safe_load(write(tmp_path / "a.pkl", pickle.dumps(nested(MAX_DEPTH)))) == nested(MAX_DEPTH)
    with pytest.raises(DataError, match=f"more than {MAX_DEPTH} inside each other"):
        safe_load(write(tmp_path / "a.pkl", pickle.dumps(nested(MAX_DEPTH + 1))))
    shared = list(range(100))
    with pytest.raises(DataError, match=f"at most {EXPANSION} for each byte"):
        safe_load(write(tmp_path / "a.pkl", pickle.dumps([shared] * 1000)))


def test_other_files_are_refused(tmp_path):
    for path in (tmp_path / "absent.pkl", tmp_path, write(tmp_path / "text.pkl", b"no pickle\n")):
        with pytest.raises(DataError, match=path.name):
            safe_load(path)


def test_real_pickles(shared_data):
    rates = safe_load(shared_data / "action_genome" / "star_video_fps")
    assert len(rates) == 9848 and min(rates.values()) == 6 and max(rates.values()) == 120
    persons = safe_load(shared_data / "action_genome_mini" / "annotations" / "person_bbox.pkl")
    assert len(persons) == 166 and sum(len(p["bbox"]) for p in persons.values()) == 159
