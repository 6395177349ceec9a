"""Putting data sets under ``data/`` and checking them; nothing licensed is shipped with the code.

An archive is hashed, compared with ``checksums.json`` beside this file, unpacked beside its final place, read once in
full by the data set's own reader, and only then renamed. Whatever goes wrong before, what stood there stays as it was.
"""

from __future__ import annotations

import http.client
import json
import os
import reprlib
import stat
import struct
import urllib.parse
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from proda_lib.datasets.action_genome import check_action_genome
from proda_lib.datasets.cad120 import check_cad120
from proda_lib.datasets.charades import read_charades, read_classes
from proda_lib.datasets.official import CHARADES_CLASSES, CHARADES_CSVS, SPLITS, Files, charades_folder
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError, DataErrors
from proda_lib.files import NO_ROOM, make_folder, replacing, sha256, write_json
from proda_lib.paths import ABOUT, data_root

CHECKSUMS = Path(__file__).with_name("checksums.json")  #: {data set: {archive: SHA-256}} of the known releases
MARKER = ".source.json"  #: left in each installed folder: name and checksum of the archive it came from
MAX_BYTES = 2 * 2**30  #: largest download and largest unpacked size; CAD-120 is 2.3 MB, unpacked 55 MB
MAX_FILES = 10_000  #: CAD-120 has 134
MAX_FOLDERS = 1_000  #: CAD-120 has 50
MAX_DEPTH = 32  #: folders inside each other; CAD-120 has 4
MAX_RATIO = 200  #: unpacked size over size of the archive, beyond 64 MiB; CAD-120's is 24
_SMALL = 64 * 2**20
_CHUNK = 1 << 20

#: Data sets that come as one archive, with the reader that must accept it.
ARCHIVES: dict[str, Callable[[Path], Report]] = {"cad120": check_cad120}
#: All data sets under ``data/``; those that are no archive are placed by hand, as data/README.md says.
DATASETS = ("cad120", "action_genome", "charades")


def add_dataset(
    name: str,
    source: str | os.PathLike,
    root: str | os.PathLike | None = None,
    accept_unknown: bool = False,
    checksums: str | os.PathLike = CHECKSUMS,
    say: Callable[[str], None] = print,
) -> Path:
    """Check an archive and unpack it to ``root/name``. Doing it twice changes nothing.

    Args:
        name: one of :data:`ARCHIVES`.
        source: path of the archive, or an http(s) URL, fetched with a progress bar.
        root: folder of the data sets; by default the project's ``data/`` (``$PRODA_DATA``).
        accept_unknown: take an archive whose SHA-256 is not in ``checksums``.
        checksums: JSON file, {data set: {archive: SHA-256}}.
        say: receives one line a step.

    Returns:
        The folder of the data set. One that another archive left there is replaced.

    Raises:
        DataError: unknown name, missing or broken archive, hostile member, unknown checksum, or a folder in the way
            that was not installed by this function.
        DataErrors: the data set's reader finds faults in the unpacked files; all are listed.
    """
    if name not in ARCHIVES:
        raise DataError("proda data add", "name", repr(name), f"one of {', '.join(ARCHIVES)}; data/README.md tells "
                        "where to put the files of the other data sets")  # fmt: skip
    root = data_root() if root is None else Path(root)
    make_folder(root, "data sets")
    target = root / name
    with replacing(target) as scratch:
        installed = installed_checksum(target)
        make_folder(scratch / "download", "downloads")  # not beside what takes the data set's place, whatever its name
        archive = _fetch(str(source), scratch / "download")
        digest = sha256(archive)
        say(f"sha256 {digest}  {archive.name}")
        if installed == digest:
            say(f"{name} is already there with this checksum: {target}")
            return target
        if target.exists() and installed is None:
            raise DataError(target, "folder", "files not put there by `proda data add`", "no such folder; move it away")
        _verify(name, source, digest, Path(checksums), accept_unknown, say)
        unpacked = scratch / "new"
        files = _unpack(archive, unpacked)
        if errors := ARCHIVES[name](unpacked).errors:
            raise DataErrors(errors)
        write_json(unpacked / MARKER, {"archive": archive.name, "sha256": digest}, indent=2)
    say(f"{name}: {files} files in {target}")
    return target


def check_dataset(name: str, root: str | os.PathLike | None = None) -> Report:
    """All faults and quirks of a data set under ``root``, in the layout that data/README.md gives.

    Args:
        name: one of :data:`DATASETS`; or a folder with a packed store, or with stores ``train`` and ``test`` (there or
            under ``root``), whose files are all compared with their checksums.

    Raises:
        DataError: no such data set, or its folder is not there; a store's ``about.json`` is broken.
    """
    root = data_root() if root is None else Path(root)
    if name not in DATASETS:
        return _check_stores(name, root)
    folder = _folder(name, root)
    if not folder.is_dir():
        raise DataError(folder, "folder", "nothing", "the data set; data/README.md tells how to put it there")
    if name in ARCHIVES:
        return ARCHIVES[name](folder)
    with warnings.catch_warnings():  # each quirk is counted in the report
        warnings.simplefilter("ignore")
        if name == "action_genome":
            files = Files.at(folder)
            return check_action_genome(files.annotations, list(files.csvs.values()), files.classes, files.rates)
        report = Report(collect=True)
        classes = read_classes(folder / CHARADES_CLASSES, report)
        for csv in CHARADES_CSVS:
            read_charades(folder / csv, classes, report)
        return report


def _folder(name: str, root: Path) -> Path:
    """Where the data set's files lie, or should."""
    return (charades_folder(root) if name == "charades" else None) or root / name


def _check_stores(name: str, root: Path) -> Report:
    from proda_lib.datasets.store import GraphStore  # Arrow takes a while to load, and few need it

    stores = [[path for path in (folder, *(folder / part for part in SPLITS)) if (path / ABOUT).is_file()]
              for folder in (Path(name), root / name)]  # fmt: skip
    found = stores[0] or stores[1]
    if not found:
        expected = f"one of {', '.join(DATASETS)}, or a folder (also in {root}) with {ABOUT} or {'/, '.join(SPLITS)}/"
        raise DataError("proda data check", "name", repr(name), expected)
    report = Report(collect=True)
    for path in found:
        GraphStore(path).verify(report)
    return report


def list_datasets(root: str | os.PathLike | None = None) -> dict[str, str]:
    """What is under ``root``: for each data set "added, sha256 ...", "there" or "not there"; then the prepared ones."""
    root, states = data_root() if root is None else Path(root), {}
    for name in DATASETS:
        folder = _folder(name, root)
        digest = installed_checksum(folder)
        states[name] = f"added, sha256 {digest}" if digest else "there" if folder.is_dir() else "not there"
    for about in sorted(root.glob(f"*/{SPLITS[0]}/{ABOUT}")):
        folder = about.parents[1]
        parts = [part for part in SPLITS if (folder / part / ABOUT).is_file()]
        states.setdefault(folder.name, f"prepared: {', '.join(parts)}")
    return states


def known_checksums(name: str, checksums: str | os.PathLike = CHECKSUMS) -> dict[str, str]:
    """SHA-256 by archive of the releases of a data set that are known; empty if the list has none of it.

    Raises:
        DataError: the list is missing or broken.
    """
    try:
        return dict(json.loads(Path(checksums).read_text(encoding="utf-8")).get(name, {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(checksums, "file", f"{type(error).__name__}: {error}", "the list of known checksums") from error


def installed_checksum(target: Path) -> str | None:
    """SHA-256 of the archive that :func:`add_dataset` unpacked to ``target``; None if it did not."""
    try:
        return json.loads((target / MARKER).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fetch(source: str, scratch: Path) -> Path:
    """The archive as a local file; a URL is loaded into ``scratch``."""
    if urllib.parse.urlsplit(source).scheme not in ("http", "https"):
        path = Path(source).expanduser()
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            raise DataError(source, "source", found, "the path of an archive, or an http(s) URL")
        return path
    path = scratch / (PurePosixPath(urllib.parse.urlsplit(source).path).name or "archive.zip")
    try:
        with urllib.request.urlopen(source, timeout=60) as reply, open(path, "wb") as file:
            expected = int(reply.headers.get("Content-Length") or 0)
            with tqdm(total=expected or None, unit="B", unit_scale=True, desc=path.name) as bar:
                _copy(reply, file, MAX_BYTES, source, bar.update)
            if expected and file.tell() != expected:
                raise DataError(source, "download", f"{file.tell()} bytes", f"{expected} bytes; try again")
    except (OSError, http.client.HTTPException) as error:
        _refuse_full_disk(error, path)
        raise DataError(source, "download", f"{type(error).__name__}: {error}", "an archive at this address") from error
    return path


def _copy(reader, writer, limit: int, source: object, progress: Callable[[int], object] | None = None) -> int:
    """Copies to the end and returns the number of bytes; more than ``limit`` is refused."""
    total = 0
    while chunk := reader.read(_CHUNK):
        total += len(chunk)
        if total > limit:
            raise DataError(source, "size", f"more than {limit} bytes", f"at most {limit} bytes")
        writer.write(chunk)
        if progress:
            progress(len(chunk))
    return total


def _verify(
    name: str, source: object, digest: str, checksums: Path, accept_unknown: bool, say: Callable[[str], None]
) -> None:
    known = known_checksums(name, checksums)
    if digest in known.values():
        say("checksum verified")
    elif accept_unknown:
        say("checksum not known, accepted as asked")
    else:
        listed = [f"{value} ({archive})" for archive, value in known.items()]
        wanted = " or ".join(listed) or f"one of {name} in {checksums}"
        raise DataError(source, "sha256", digest, f"{wanted}; to use another release, --accept-checksum")


def _unpack(archive: Path, target: Path) -> int:
    """Unpacks a zip file into a new folder and returns the number of files; refuses members that reach outside."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            if len(members) > MAX_FILES:
                raise DataError(archive, "members", len(members), f"at most {MAX_FILES}")
            for member in members:
                _refuse_hostile(archive, member)
            folders = {folder for member in members for folder in PurePosixPath(member.filename).parents}
            if len(folders) > MAX_FOLDERS:
                raise DataError(archive, "folders", len(folders), f"at most {MAX_FOLDERS}")
            room, files = min(MAX_BYTES, max(_SMALL, MAX_RATIO * archive.stat().st_size)), 0
            if (claimed := sum(member.file_size for member in members)) > room:
                raise DataError(f"{archive}, unpacked", "size", f"{claimed} bytes", f"at most {room} bytes")
            target.mkdir()
            for member in members:
                path = target / member.filename
                if member.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(member) as reader, open(path, "xb") as writer:  # x: no member twice
                    room -= _copy(reader, writer, room, f"{archive}, unpacked")
                    writer.flush()
                    os.fsync(writer.fileno())
                files += 1
            return files
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError) as error:
        _refuse_full_disk(error, target)
        raise DataError(archive, "file", f"{type(error).__name__}: {error}", "an undamaged zip file") from error


def _refuse_full_disk(error: Exception, path: Path) -> None:
    """An error that is the disk's fault, and not that of what is read."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        raise DataError(path, "writing", error.strerror, "room on the disk") from error


def _refuse_hostile(archive: Path, member: zipfile.ZipInfo) -> None:
    name, mode = member.filename, member.external_attr >> 16
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise DataError(archive, "member", reprlib.repr(name), "a path inside the archive")
    if (depth := len(parts) - (not member.is_dir())) > MAX_DEPTH:
        found = f"{depth} folders inside each other"
        raise DataError(archive, f"member {reprlib.repr(name)}", found, f"at most {MAX_DEPTH}")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(archive, f"member {name}", "a link or special file", "plain files and folders")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # LZMA takes the memory it asks for
        raise DataError(archive, f"member {name}", f"compression {member.compress_type}", "stored or deflated files")
