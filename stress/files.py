"""Hostile archives, tensor files and JSON: each is made in a folder of its own and read by the library's own reader."""

from __future__ import annotations

import json
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proda_lib.datasets.install import MAX_FILES
from proda_lib.datasets.safe_pickle import safe_load
from stress import pickles
from stress.readers import READERS, RECIPE_HASH, write_valid

_READER = {reader.name: reader for reader in READERS}
DEEP = b"[" * 100_000 + b"]" * 100_000


@dataclass(frozen=True)
class Hostile:
    """A file that must be refused.

    Attributes:
        kind: "pickle", "archive", "tensors" or "JSON".
        make: writes it into an empty folder.
        read: reads it there.
    """

    kind: str
    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]


def all_hostile(canary: Path) -> list[Hostile]:
    """Every hostile file; ``canary`` must not be there after any of them was read."""
    found = [
        Hostile("pickle", name, lambda f, c=content: (f / "a.pkl").write_bytes(c), lambda f: safe_load(f / "a.pkl"))
        for name, content in {**pickles.running(canary), **pickles.filling()}.items()
    ]
    return found + _archives(canary) + _tensors() + _json()


def _archives(canary: Path) -> list[Hostile]:
    def member(name: str, data: bytes = b"x", mode: int = 0) -> Callable[[zipfile.ZipFile], None]:
        def add(zipped: zipfile.ZipFile) -> None:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            zipped.writestr(info, data, zipfile.ZIP_DEFLATED)

        return add

    def twice(zipped: zipfile.ZipFile) -> None:
        for _ in range(2):
            zipped.writestr("annotations/video_clips.txt", "x")

    def bomb(zipped: zipfile.ZipFile) -> None:
        with zipped.open("annotations/zeros", "w") as file:
            for _ in range(100):
                file.write(bytes(2**20))

    def many(zipped: zipfile.ZipFile) -> None:
        for number in range(MAX_FILES + 1):
            info = zipfile.ZipInfo(f"{number}")
            info.header_offset = info.CRC = 0
            zipped.filelist.append(info)
        zipped._didModify = True

    def through_a_link(zipped: zipfile.ZipFile) -> None:
        member("annotations", str(canary.parent).encode(), stat.S_IFLNK | 0o777)(zipped)
        zipped.writestr(f"annotations/{canary.name}", "x")

    def compressed(method: int) -> Callable[[zipfile.ZipFile], None]:
        return lambda zipped: zipped.writestr("annotations/a", b"x" * 1000, method)

    contents = {
        "path upwards": member(f"../../{canary.name}"), "path upwards inside": member(f"a/../../{canary.name}"),
        "absolute path": member(str(canary)), "backslashes": member(f"..\\..\\{canary.name}"),
        "drive letter": member("C:x"), "link": member("annotations/l", b"/etc/passwd", stat.S_IFLNK | 0o777),
        "file through a link": through_a_link, "pipe": member("annotations/p", b"", stat.S_IFIFO | 0o644),
        "device": member("annotations/d", b"", stat.S_IFCHR | 0o644), "member twice": twice,
        "a folder where a file is": lambda z: (z.writestr("a", "x"), z.writestr("a/b", "x")),
        "a name of 300 bytes": member("a" * 300), "bomb of zeros": bomb, "more members than allowed": many,
        "archive in an archive": member("annotations/inner.zip", b"PK\x05\x06" + bytes(18)),
        "LZMA": compressed(zipfile.ZIP_LZMA), "bzip2": compressed(zipfile.ZIP_BZIP2),
    }  # fmt: skip

    def write(folder: Path, fill: Callable[[zipfile.ZipFile], object]) -> None:
        with (
            warnings.catch_warnings(),
            zipfile.ZipFile(folder / "annotations.zip", "w", zipfile.ZIP_DEFLATED) as zipped,
        ):
            warnings.simplefilter("ignore")  # of a name twice
            fill(zipped)

    def change(folder: Path, at: int, value: bytes, signature: bytes = b"PK\x01\x02") -> None:
        write(folder, member("annotations/a", bytes(1000)))
        data = bytearray((folder / "annotations.zip").read_bytes())
        start = data.index(signature) + at
        data[start : start + len(value)] = value
        (folder / "annotations.zip").write_bytes(data)

    read = _READER["zip archive"].read
    lies = {"a size of 4 GiB": (24, b"\xfe\xff\xff\xff"), "a size that is too small": (24, b"\x01\x00\x00\x00"),
            "encrypted": (8, b"\x01\x00"), "another offset": (42, b"\xff\xff\xff\x00")}  # fmt: skip
    return [Hostile("archive", name, lambda f, fill=fill: write(f, fill), read) for name, fill in contents.items()] + [
        Hostile("archive", name, lambda f, lie=lie: change(f, *lie), read) for name, lie in lies.items()
    ]


def _safetensors(header: object, rest: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + rest


def _tensors() -> list[Hostile]:
    def tensor(shape: list, start: int, end: int, kind: str = "U8") -> dict:
        return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}

    files = {
        "nothing": b"", "header of 2**63 bytes": _safetensors({}, length=2**63),
        "header of 4 GiB": _safetensors({}, length=2**32), "header beyond the end": _safetensors({}, length=1000),
        "header that is no JSON": _safetensors(b"{" * 100), "deep header": _safetensors(b'{"a":' + DEEP + b"}"),
        "overlapping tensors": _safetensors({"a": tensor([8], 0, 8), "b": tensor([8], 4, 12)}, bytes(12)),
        "tensor beyond the end": _safetensors({"a": tensor([2**40], 0, 2**40)}, bytes(8)),
        "shape of 2**62": _safetensors({"a": tensor([2**62, 4], 0, 8)}, bytes(8)),
        "shape that overflows": _safetensors({"a": tensor([2**32, 2**32, 2**32], 0, 0)}, b""),
        "negative shape": _safetensors({"a": tensor([-1], 0, 8)}, bytes(8)),
        "end before start": _safetensors({"a": tensor([8], 8, 0)}, bytes(8)),
        "unknown type": _safetensors({"a": tensor([1], 0, 8, "O8")}, bytes(8)),
        "bytes that belong to no tensor": _safetensors({"a": tensor([8], 0, 8)}, bytes(4096)),
        "the same name twice": _safetensors(
            b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}',
            bytes(16)),
        "a pickle": b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
    }  # fmt: skip
    places = {"checkpoint": "pretrain.safetensors", "saved model": "model.safetensors",
              "scene graphs": "graphs.safetensors"}  # fmt: skip
    found = _in_place_of("tensors", places, files)
    states = {"deep state": DEEP, "state that is a list": b"[1]", "state without a recipe": b"{}",
              "NaN for a number": b'"best_score": NaN', "huge number": b'"epoch": ' + b"9" * 5000,
              "negative step": b'"step": -1', "another recipe": b'"recipe": "x"'}  # fmt: skip

    def with_state(folder: Path, text: bytes) -> None:
        state = {"recipe": RECIPE_HASH, "stage": "pretrain", "epoch": 1, "step": 2, "curves": [], "best_score": 1.0,
                 "sums": {}, "looked": [0, {}], "trace": {}, "seconds": 0.5}  # fmt: skip
        if text.startswith(b'"'):  # a second value for a name: the last one counts
            text = json.dumps(state).encode()[:-1] + b", " + text + b"}"
        header = {"__metadata__": {"state": text.decode()}}
        (folder / "pretrain.safetensors").write_bytes(_safetensors(header))

    return found + [
        Hostile("tensors", f"checkpoint: {name}", lambda f, t=text: with_state(f, t), _READER["checkpoint"].read)
        for name, text in states.items()
    ]


def _in_place_of(kind: str, places: dict[str, str], files: dict[str, bytes]) -> list[Hostile]:
    """Every content in ``files`` in place of a reader's valid file; ``places``: reader → that file."""
    found = []
    for reader, path in places.items():
        for name, content in files.items():

            def make(folder: Path, reader=reader, path=path, content=content) -> None:
                write_valid(_READER[reader], folder)
                (folder / path).write_bytes(content)

            found.append(Hostile(kind, f"{reader}: {name}", make, _READER[reader].read))
    return found


def _json() -> list[Hostile]:
    files = {"deep": DEEP, "nothing": b"", "no UTF-8": b'{"a": "\xff\xfe"}', "a number": b"3", "null": b"null",
             "a huge number": b'{"duration": ' + b"9" * 10_000 + b"}", "a list": b"[1]",
             "cut off": b'{"a": [1, 2'}  # fmt: skip
    places = {"own JSON": "own.json", "saved model": "config.json", "run record": "world-proda-x/record.json",
              "packed store": "store/about.json"}  # fmt: skip
    found = _in_place_of("JSON", places, files)
    claims = {"width of a billion": {"width": 10**9}, "a billion layers": {"layers": 10**9},
              "heads of text": {"heads": "2"},
              "a million actions": {"actions": 10**6}, "frames without end": {"frames": 2**62},
              "an unknown setting": {"hook": "os.system"}}  # fmt: skip

    def claim(folder: Path, changes: dict) -> None:
        write_valid(_READER["saved model"], folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return found + [
        Hostile("JSON", f"saved model: {name}", lambda f, c=changes: claim(f, c), _READER["saved model"].read)
        for name, changes in claims.items()
    ]
