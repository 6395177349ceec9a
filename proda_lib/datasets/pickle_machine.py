"""The stack machine that reads a pickle of plain values, bounded by the size of the file.

A pickle is a program. Python's own machine imports and calls what it names, hashes whatever it makes a key, and
believes the sizes that it announces. This one has only the instructions that plain data needs. Its memo takes numbers
in order only, and nothing is longer than what is left of the file; :mod:`proda_lib.datasets.pickle_limits` bounds the
rest. An instruction is one byte and makes one object at most, so memory stays below some 400 bytes for each byte of the
file.
"""

from __future__ import annotations

import codecs
import gc
import pickletools
import struct
from collections.abc import Callable
from typing import Any

from proda_lib.datasets.pickle_limits import PLAIN, Refused, Room, check_keys, check_tree, whole, whole_of_bytes

_U1, _U2, _U4, _U8, _I4, _REAL = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q", "<i", ">d"))
_UNNUMBERED = object()


class Machine:
    """Runs one pickle."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the marks; a mark says that items of a container begin
        self.memo: list[Any] = []
        self.room = Room(len(data))

    def run(self) -> Any:
        """The one value of the pickle: dicts, lists, tuples, sets, single values and arrays.

        Raises:
            Refused: an instruction, global or size outside of what plain data needs.
            Exception: nearly any other; the pickle is damaged.
        """
        collecting = gc.isenabled()
        gc.disable()  # nothing is thrown away before the end, so there is nothing to collect
        try:
            self.follow()
            if len(self.stack) != 1 or self.below or self.at != len(self.data):
                raise Refused("pickle", f"more before or after byte {self.at}", "one value")
            check_tree(self.stack[0], self.room)
            return self.stack[0]
        finally:
            if collecting:
                gc.enable()

    def follow(self) -> None:
        """Instructions to the end; those that fill large files come first, without a call."""
        data, memo, stack = self.data, self.memo, self.stack
        while True:
            code, at = data[self.at], self.at + 1
            if code == 0x68 and data[at] < len(memo):  # BINGET
                self.at = at + 1
                stack.append(memo[data[at]])
            elif code == 0x94:  # MEMOIZE
                self.at = at
                memo.append(stack[-1])
            elif code == 0x72 and _U4.unpack_from(data, at)[0] == len(memo):  # LONG_BINPUT
                self.at = at + 4
                memo.append(stack[-1])
            elif code == 0x28:  # MARK
                self.at = at
                self.below.append(stack)
                self.stack = stack = []
            elif code == 0x7D:  # EMPTY_DICT
                self.at = at
                stack.append({})
            elif code == 0x47:  # BINFLOAT
                self.at = at + 8
                stack.append(_REAL.unpack_from(data, at)[0])
            elif code == 0x8C:  # SHORT_BINUNICODE
                self.at = at + 1
                stack.append(self.take(data[at]).decode())
            elif code == 0x58:  # BINUNICODE
                self.at = at + 4
                stack.append(self.take(_U4.unpack_from(data, at)[0]).decode())
            elif code == 0x5D:  # EMPTY_LIST
                self.at = at
                stack.append([])
            elif code == 0x2E:  # STOP
                self.at = at
                return
            else:
                self.at = at
                if (instruction := _INSTRUCTIONS[code]) is None:
                    raise Refused(f"instruction {_name(code)} at byte {at - 1}", "a request to run it", PLAIN)
                instruction(self)
                stack = self.stack

    # Reading the file.

    def within(self, count: int) -> None:
        if not 0 <= count <= len(self.data) - self.at:
            raise Refused("pickle", f"a length of {count} bytes at byte {self.at}", "no more than the file has")

    def take(self, count: int) -> bytes:
        self.within(count)
        start, self.at = self.at, self.at + count
        return self.data[start : self.at]

    def number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.at)
        start, self.at = self.at, end + 1
        return self.data[start:end]

    # Stack and memo.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_many(self, count: int) -> list:
        return [self.stack.pop() for _ in range(count)][::-1]

    def pop_to_mark(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise Refused("pickle", f"items for a {type(self.stack[-1]).__name__}", f"a {kind.__name__}")
        return self.stack[-1]

    def remember(self, index: int) -> None:
        """Pickles number what they make from 0, those of Python 2 from 1."""
        if index == 1 and not self.memo:
            self.memo.append(_UNNUMBERED)
        if index != len(self.memo):
            raise Refused("memo", f"number {index} after {len(self.memo)}", "numbers in order")
        self.memo.append(self.stack[-1])

    def recall(self, index: int) -> None:
        if not 0 <= index < len(self.memo):
            raise Refused("memo", f"number {index} of {len(self.memo)}", "a number that was given")
        self.stack.append(self.memo[index])

    # Containers.

    def fill(self, target: dict, items: list) -> dict:
        check_keys(keys := items[::2])
        target.update(zip(keys, items[1::2], strict=True))
        return target

    def members(self, items: Any) -> list:
        if type(items) not in (list, tuple, set, frozenset):
            raise Refused("set", type(items).__name__, "a list of its members")
        self.room.take(len(items))  # the same list may be made a set again and again
        check_keys(items)
        return list(items)

    # What a pickle can ask for beyond plain values; :mod:`proda_lib.datasets.safe_pickle` allows a little of it.

    def find(self, module: object, name: object) -> None:
        raise Refused(f"global {module}.{name}"[:200], "a request to import it", PLAIN)

    def call(self) -> None:
        raise Refused("call", "a request to call something", PLAIN)

    def build(self) -> None:
        raise Refused("state", "a request to change something", PLAIN)


def _name(code: int) -> str:
    known = pickletools.code2op.get(chr(code))
    return known.name if known else f"{code:#04x}"


def _truth_or_whole(m: Machine) -> None:
    line = m.line()
    m.push(line == b"01" if line in (b"00", b"01") else whole(line))


def _quoted(line: bytes) -> str:
    """A Python 2 string as protocol 0 writes it."""
    line = line.strip(b" \t\r")
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise Refused("pickle", "a string without quotes", "a complete, undamaged pickle")
    return codecs.escape_decode(line[1:-1])[0].decode("latin1")


def _unicode(line: bytes) -> str:
    text = line.decode("raw_unicode_escape")
    text.encode()  # half a surrogate pair cannot be printed
    return text


def _counted(form: struct.Struct, encoding: str = "") -> Callable[[Machine], None]:
    """Push bytes that follow their length, as text if there is an encoding."""
    if encoding:
        return lambda m: m.push(m.take(m.number(form)).decode(encoding))
    return lambda m: m.push(m.take(m.number(form)))


#: The instructions by their byte; a list holds the steps of one in order.
_KNOWN: dict[bytes, Callable[[Machine], object]] = {
    # protocol and frame
    b"\x80": lambda m: m.take(1), b"\x95": lambda m: m.within(m.number(_U8)),
    # single values
    b"N": lambda m: m.push(None), b"\x88": lambda m: m.push(True), b"\x89": lambda m: m.push(False),
    b"I": _truth_or_whole, b"L": lambda m: m.push(whole(m.line().rstrip(b"L"))),
    b"K": lambda m: m.push(m.number(_U1)), b"M": lambda m: m.push(m.number(_U2)),
    b"J": lambda m: m.push(m.number(_I4)), b"\x8a": lambda m: m.push(whole_of_bytes(m.take(m.number(_U1)))),
    b"\x8b": lambda m: m.push(whole_of_bytes(m.take(m.number(_I4)))),
    b"F": lambda m: m.push(float(m.line())),
    # text and bytes
    b"S": lambda m: m.push(_quoted(m.line())), b"V": lambda m: m.push(_unicode(m.line())),
    b"T": _counted(_I4, "latin1"), b"U": _counted(_U1, "latin1"), b"\x8d": _counted(_U8, "utf-8"),
    b"B": _counted(_U4), b"C": _counted(_U1), b"\x8e": _counted(_U8), b"\x96": _counted(_U8),
    # containers
    b")": lambda m: m.push(()), b"\x8f": lambda m: m.push(set()),
    b"t": lambda m: m.push(tuple(m.pop_to_mark())), b"l": lambda m: m.push(m.pop_to_mark()),
    b"d": lambda m: m.push(m.fill({}, m.pop_to_mark())),
    b"\x85": lambda m: m.push(tuple(m.pop_many(1))), b"\x86": lambda m: m.push(tuple(m.pop_many(2))),
    b"\x87": lambda m: m.push(tuple(m.pop_many(3))),
    b"\x91": lambda m: m.push(frozenset(m.members(m.pop_to_mark()))),
    b"a": lambda m: [value := m.stack.pop(), m.top(list).append(value)],
    b"e": lambda m: [items := m.pop_to_mark(), m.top(list).extend(items)],
    b"s": lambda m: [items := m.pop_many(2), m.fill(m.top(dict), items)],
    b"u": lambda m: [items := m.pop_to_mark(), m.fill(m.top(dict), items)],
    b"\x90": lambda m: [items := m.pop_to_mark(), m.top(set).update(m.members(items))],
    # memo
    b"p": lambda m: m.remember(whole(m.line())), b"q": lambda m: m.remember(m.number(_U1)),
    b"r": lambda m: m.remember(m.number(_U4)),
    b"g": lambda m: m.recall(whole(m.line())), b"h": lambda m: m.recall(m.number(_U1)),
    b"j": lambda m: m.recall(m.number(_U4)),
    # globals, for arrays
    b"c": lambda m: m.find(m.line().decode(), m.line().decode()), b"\x93": lambda m: m.find(*m.pop_many(2)),
    b"R": lambda m: m.call(), b"b": lambda m: m.build(),
}  # fmt: skip
_INSTRUCTIONS = [_KNOWN.get(bytes([code])) for code in range(256)]
