"""Damage to files: bytes of any file, and values of files whose format is known."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

#: Values that a field may be swapped for: other types, edges of ranges, text that means something elsewhere.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**6, -(10**9), 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 10**400, 0.0, -0.5,
    0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), "", " ", "0", "-1", "nan", "1e999",
    "a" * 300, "é", "\x00", "../../x", "person", "F32", "person/1", "\ud800", [], {}, [[]], [None], [1, 2, 3, 4],
    [0.1] * 4, [float("nan")] * 4, {"a": 1}, {"": {}}, [[[[[[1]]]]]], ["x"] * 50, list(range(200)),
)  # fmt: skip
TOKENS = (b"", b"\x00", b"\xff" * 4, b"\n", b"\r\n", b",", b";", b'"', b"'", b"{", b"}", b"[", b"]", b":", b"NaN", b"-",
          b"1e999", b"null", b"9" * 40, b"\xff\xfe", b"\xef\xbb\xbf", b"\x80\x04", b".", b"R", b"\x94", b"h\x00",
          b"0" * 5000, b"[" * 3000)  # fmt: skip


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: bits flipped, a part cut, repeated, zeroed or overwritten, something put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, 1000))
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = rng.randbytes(length)
        elif kind == 4:
            data[at:at] = rng.choice(TOKENS)
        elif kind == 5:
            source = rng.randrange(len(data) + 1)
            data[at : at + length] = data[source : source + length]
        else:
            data[at : at + length] = bytes(len(data[at : at + length]))
    return bytes(data)


def damage_text(content: bytes, rng: random.Random) -> bytes:
    """Lines and fields of a text swapped, dropped, repeated or replaced; otherwise as :func:`damage_bytes`."""
    lines = content.split(b"\n")
    line, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    separator = rng.choice((b",", b";", b" ", b"/"))
    fields = lines[line].split(separator)
    field = rng.randrange(len(fields))
    kind = rng.randrange(7)
    if kind == 0:
        lines[line], lines[other] = lines[other], lines[line]
    elif kind == 1:
        lines.insert(line, lines[other])
    elif kind == 2:
        fields[field] = str(rng.choice(ODD)).encode("utf-8", "surrogatepass")
    elif kind == 3:
        del fields[field]
    elif kind == 4:
        fields[field], fields[0] = fields[0], fields[field]
    elif kind == 5:
        fields.insert(field, fields[-1])
    else:
        return damage_bytes(content, rng)
    if kind > 1:
        lines[line] = separator.join(fields)
    return b"\n".join(lines)


def damage_value(value: Any, rng: random.Random) -> Any:
    """One to three places of a nested value swapped for something odd, dropped, repeated, or for another place."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [(box, key) for box, key in _places(root)]
        box, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind <= 3:
            box[key] = copy.deepcopy(rng.choice(ODD))
        elif kind == 4 and box is not root:
            del box[key]
        elif kind == 5:
            source, name = rng.choice(places)
            box[key] = copy.deepcopy(source[name])
        elif kind == 6 and isinstance(box, dict):
            box[rng.choice(("", "a", "x" * 100, key + "2" if isinstance(key, str) else key))] = box.pop(key)
        elif isinstance(box[key], list):
            box[key] = box[key] * rng.choice((0, 2, 3))
        elif isinstance(box[key], int | float) and not isinstance(box[key], bool) and abs(box[key]) < 1e300:
            box[key] = rng.choice((-box[key], box[key] * 1000, str(box[key]), [box[key]], box[key] + 0.5))
    return root[0]


def _places(root: list) -> list[tuple[Any, Any]]:
    """(container, key) of every value under ``root``, tuples made lists on the way."""
    found, todo = [], [root]
    while todo:
        box = todo.pop()
        for key in list(box) if isinstance(box, dict) else range(len(box)):
            if isinstance(box[key], tuple):
                box[key] = list(box[key])
            found.append((box, key))
            if isinstance(box[key], dict | list):
                todo.append(box[key])
    return found


def damage_json(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return damage_text(content, rng)
    made = json.dumps(damage_value(json.loads(content), rng), ensure_ascii=rng.random() < 0.8)
    if rng.random() < 0.1:  # the same name twice in one object
        made = made.replace("{", '{"video": 3, ', 1) if rng.random() < 0.5 else made.replace("}", ', "video": 3}', 1)
    return made.encode("utf-8", "surrogatepass")


def damage_pickle(content: bytes, rng: random.Random) -> bytes:
    """``content`` must be a trusted pickle."""
    if rng.random() < 0.4:
        return damage_bytes(content, rng)
    return pickle.dumps(damage_value(pickle.loads(content), rng), rng.randrange(6))


def damage_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header's values, the JSON texts in its metadata, or bytes."""
    (length,) = struct.unpack_from("<Q", content)
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = rng.randrange(4)
    if kind == 0:
        return damage_bytes(content, rng)
    if kind == 1 and (metadata := header.get("__metadata__")):
        name = rng.choice(sorted(metadata))
        metadata[name] = damage_json(metadata[name].encode(), rng).decode("utf-8", "replace")
        text = json.dumps(header)
    elif kind == 2:
        rest, text = damage_bytes(rest, rng), json.dumps(header)
    else:
        text = damage_json(json.dumps(header).encode(), rng).decode("utf-8", "replace")
    return struct.pack("<Q", len(text.encode())) + text.encode() + rest


def damage_zip(content: bytes, rng: random.Random) -> bytes:
    """A member's content or name, with checksums that fit; otherwise bytes."""
    if rng.random() < 0.4:
        return damage_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        members = [(info.filename, source.read(info)) for info in source.infolist()]
    at = rng.randrange(len(members))
    name, data = members[at]
    if rng.random() < 0.2:
        members[at] = rng.choice(("", "../x", "/x", "a" * 300, "x/", name + "/x", members[0][0], "\\x")), data
    elif not name.endswith("/"):
        members[at] = name, damage_of(name)(data, rng)
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        warnings.simplefilter("ignore")  # of a name twice
        for name, data in members:
            target.writestr(zipfile.ZipInfo(name), data)
    return made.getvalue()


def damage_of(name: str) -> Callable[[bytes, random.Random], bytes]:
    """What damages a file of this name best."""
    suffix = name.rpartition(".")[2]
    known = {"csv": damage_text, "txt": damage_text, "json": damage_json, "pkl": damage_pickle,
             "star_video_fps": damage_pickle, "safetensors": damage_safetensors,
             "zip": damage_zip}  # fmt: skip
    return known.get(suffix, damage_bytes)
