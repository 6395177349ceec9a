"""Files that are there whole or not at all, and their checksums."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proda_lib.errors import DataError

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


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
