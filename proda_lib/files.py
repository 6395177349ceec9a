"""Files and folders that are there whole or not at all, JSON that is read or refused, and checksums of files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from proda_lib.errors import DataError

T = TypeVar("T")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  #: of an ``OSError``: the disk is full, or a quota or limit is


def make_folder(path: Path, what: str) -> None:
    """Make a folder and those that it lies in, if it is not there.

    Args:
        what: what the folder is to be, for the message.

    Raises:
        DataError: a file is in the way, or the place cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(path, what, error.strerror or error, "a folder, or a name for one") from error


def check_folder(path: Path, what: str) -> None:
    """Refuse what :func:`make_folder` would, as far as can be told without making anything, before hours of work.

    Raises:
        DataError: a file is in the way.
    """
    nearest = next((place for place in (path, *path.absolute().parents) if place.exists()), path)
    if nearest.exists() and not nearest.is_dir():
        raise DataError(path, what, f"the file {nearest}", "a folder, or a name for one")


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write(partial path)``, flush to disk, and only then give the file its name.

    ``write`` must keep to that path. So tensors go through ``safetensors``' ``save``, which gives bytes: its
    ``save_file`` writes to a file with a name of its own first, which a kill would leave behind.

    Raises:
        DataError: the disk is full, or the file cannot be written there; what stood under the name stays.
    """
    partial = path.with_name(f"{path.name}.partial{os.getpid()}")
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)  # it takes room that may be what is missing
        raise DataError(path, "writing", error, "a folder that can be written, with room on its disk") from error


def write_text(path: Path, text: str) -> None:
    """A file of text in UTF-8, as :func:`write_atomically` writes."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any, indent: int = 1) -> None:
    """A file of JSON, as :func:`write_atomically` writes."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def read_json(path: Path, check: Callable[[Any], T], expected: str) -> T:
    """What a file of JSON in UTF-8 holds, as ``check`` gives it back.

    Args:
        check: gets the content and takes from it what its reader needs, so that what is missing or of another kind is
            found here. A :class:`DataError` of its own passes as it is.
        expected: what the file should be, for the message.

    Raises:
        DataError: the file is missing or damaged, or ``check`` did not find what it needs.
    """
    try:
        return check(json.loads(path.read_text(encoding="utf-8")))
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(path, "file", f"{type(error).__name__}: {error}", expected) from error


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A scratch folder beside ``target``; if its folder ``new`` is there at the end, that takes the name ``target``.

    One process at a time; another waits. What stood under the name is removed once the new folder has it, and stays if
    anything stops this before. A kill leaves traces beside ``target``, which the next call removes: see
    :func:`recover_folder`.

    Raises:
        DataError: the system refuses to rename; what stood under the name is there again.
    """
    scratch, old = _beside(target, "scratch"), _beside(target, "old")
    with FileLock(_beside(target, "lock")):
        _recover(target)
        scratch.mkdir()
        try:
            yield scratch
            if os.path.lexists(scratch / "new"):
                _swap(scratch / "new", target, old)
        finally:  # Ctrl-C too
            _recover(target)


def _swap(new: Path, target: Path, old: Path) -> None:
    try:
        if os.path.lexists(target):
            os.rename(target, old)
        os.rename(new, target)
    except OSError as error:
        raise DataError(target, "renaming", error, f"to take the place of {new}") from error


def recover_folder(target: Path) -> None:
    """Clear up after a :func:`replacing` that was killed: a folder that lost its name to no other gets it back.

    Waits for a process that is replacing it at this moment, whose scratch folder is no trace of a kill.
    """
    with FileLock(_beside(target, "lock")):
        _recover(target)


def _recover(target: Path) -> None:
    scratch, old = _beside(target, "scratch"), _beside(target, "old")
    if os.path.lexists(old) and not os.path.lexists(target):
        os.rename(old, target)
    for path in (scratch, old):
        shutil.rmtree(path, ignore_errors=True)


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}")


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
