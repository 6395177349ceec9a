import errno
import hashlib
import http.server
import json
import os
import re
import shutil
import stat
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest

import proda_lib
from proda_lib.datasets import install
from proda_lib.datasets.install import add_dataset, check_dataset, installed_checksum, known_checksums, list_datasets
from proda_lib.errors import DataError, DataErrors
from tests.test_cad120 import write_release


def pack(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted(folder.rglob("*")):
            zipped.write(path, path.relative_to(folder))
    return archive


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def left(root):
    """What is under the root; a lock stays, as it does beside a run."""
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock")


@pytest.fixture
def archive(tmp_path) -> Path:
    return pack(write_release(tmp_path / "release"), tmp_path / "annotations.zip")


@pytest.fixture
def checksums(tmp_path, archive) -> Path:
    path = tmp_path / "checksums.json"
    path.write_text(json.dumps({"cad120": {"annotations.zip": sha256(archive)}}))
    return path


@pytest.fixture
def add(tmp_path, checksums):
    """add_dataset for CAD-120 into tmp_path/data; ``add.said`` holds its lines."""

    def call(source, **options):
        call.said.clear()
        return add_dataset("cad120", source, call.root, checksums=checksums, say=call.said.append, **options)

    call.root, call.said = tmp_path / "data", []
    return call


def test_add_verifies_unpacks_and_is_idempotent(add, archive):
    target = add(archive)
    assert target == add.root / "cad120" and "checksum verified" in add.said
    assert sha256(archive) in add.said[0]
    assert (target / "annotations/video_clips.txt").is_file()
    assert installed_checksum(target) == sha256(archive)
    before = content(target)
    assert str(archive.parent) not in before[install.MARKER].decode()

    assert add(archive) == target
    assert "already there" in add.said[-1]
    assert content(target) == before
    assert left(add.root) == ["cad120"]


def test_unknown_checksum(add, archive, checksums):
    checksums.write_text(json.dumps({"cad120": {"annotations.zip": "abc"}}))
    wrong = re.escape(f"{archive}: sha256: found {sha256(archive)}, expected abc (annotations.zip); ")
    with pytest.raises(DataError, match=f"^{wrong}.*accept"):
        add(archive)
    checksums.write_text("{}")
    with pytest.raises(DataError, match=r"annotations.zip: sha256: .* expected one of cad120 in .*checksums.json"):
        add(archive)
    assert left(add.root) == []
    add(archive, accept_unknown=True)
    assert "checksum not known, accepted as asked" in add.said


def test_a_folder_is_no_archive(add, tmp_path):
    with pytest.raises(DataError, match="source: found a folder, expected the path of an archive"):
        add(tmp_path)
    with pytest.raises(DataError, match="source: found no such file, expected the path of an archive"):
        add(tmp_path / "nothing.zip")


@pytest.mark.parametrize("text", ["{", "[]", '{"cad120": 3}'])
def test_broken_list_of_checksums(add, archive, checksums, text):
    checksums.write_text(text)
    with pytest.raises(DataError, match="checksums.json"):
        add(archive)


def test_without_list_of_checksums(add, archive, checksums):
    checksums.unlink()
    with pytest.raises(DataError, match="checksums.json: file: found FileNotFoundError"):
        add(archive)


def test_list_of_checksums_lies_inside_the_package():
    assert Path(proda_lib.__file__).parent in install.CHECKSUMS.parents and known_checksums("cad120")["annotations.zip"]


def test_failed_add_leaves_what_was_there(add, archive, tmp_path):
    target = add(archive)
    before = content(target)
    shutil.rmtree(tmp_path / "release")
    (write_release(tmp_path / "release") / "annotations/video_clips.txt").write_text("nonsense")
    with pytest.raises(DataErrors, match="row 1"):
        add(pack(tmp_path / "release", tmp_path / "other.zip"), accept_unknown=True)
    assert content(target) == before and left(add.root) == ["cad120"]


def test_another_release_replaces(add, archive, tmp_path):
    add(archive)
    (tmp_path / "release/annotations/new.txt").write_text("new")
    target = add(pack(tmp_path / "release", tmp_path / "other.zip"), accept_unknown=True)
    assert (target / "annotations/new.txt").is_file()
    assert left(add.root) == ["cad120"]


def test_failed_rename_brings_the_old_one_back(add, archive, tmp_path, monkeypatch):
    target = add(archive)
    before, rename = content(target), os.rename

    def fail_for_new(source, destination):
        if Path(source).name == "new":
            raise OSError("disk full")
        rename(source, destination)

    (tmp_path / "release/annotations/new.txt").write_text("new")
    other = pack(tmp_path / "release", tmp_path / "other.zip")
    monkeypatch.setattr(os, "rename", fail_for_new)
    with pytest.raises(DataError, match="renaming: found disk full"):
        add(other, accept_unknown=True)
    assert content(target) == before


def test_files_of_the_user_are_not_replaced(add, archive):
    (add.root / "cad120").mkdir(parents=True)
    (add.root / "cad120/mine.txt").write_text("mine")
    with pytest.raises(DataError, match="move it away"):
        add(archive)
    assert (add.root / "cad120/mine.txt").read_text() == "mine"


def test_names_and_sources(add, archive, tmp_path):
    with pytest.raises(DataError, match="data/README.md"):
        add_dataset("action_genome", archive, tmp_path / "data")
    with pytest.raises(DataError, match="no such file"):
        add(tmp_path / "nothing.zip")


def hostile(tmp_path: Path, name: str, data: bytes = b"x", mode: int = 0) -> Path:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(member, data, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "a\\..\\out.txt", "C:out.txt"])
def test_paths_that_reach_outside(add, tmp_path, name):
    with pytest.raises(DataError, match="a path inside the archive"):
        add(hostile(tmp_path, name), accept_unknown=True)
    assert left(add.root) == [] and not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(("names", "message"), [
    (["a/" * 800 + "x", "a/" * 1600 + "x"], "800 folders inside each other, expected at most 32"),
    (["a/" * 33 + "x"], "33 folders inside each other"),
    (["a/" * 33], "33 folders inside each other"),
    ([f"{i}/{j}/x" for i in range(40) for j in range(30)], "folders: found 1241, expected at most 1000"),
])  # fmt: skip
def test_too_many_folders(add, tmp_path, names, message):
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as zipped:
        for name in names:
            zipped.writestr(name, "x" if name.endswith("x") else "")
    with pytest.raises(DataError, match=message) as caught:
        add(tmp_path / "deep.zip", accept_unknown=True)
    assert left(add.root) == [] and len(str(caught.value)) < 300


def test_a_full_disk_is_not_the_archives_fault(add, archive, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device, expected room on the disk"):
        add(archive)
    assert left(add.root) == []


def test_a_root_that_is_no_folder(archive, tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "inside", Path("/proc/nothing")):
        with pytest.raises(DataError, match=f"{root}: data sets: .*expected a folder"):
            add_dataset("cad120", archive, root)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files(add, tmp_path, kind):
    with pytest.raises(DataError, match="a link or special file"):
        add(hostile(tmp_path, "annotations/link", b"/etc/passwd", kind | 0o644), accept_unknown=True)
    assert left(add.root) == []


def test_size_and_number_are_capped(add, archive, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(install, "MAX_FILES", 3)
        with pytest.raises(DataError, match="at most 3"):
            add(archive)
    monkeypatch.setattr(install, "MAX_BYTES", 10_000)
    with pytest.raises(DataError, match="at most 10000 bytes"):
        add(hostile(tmp_path, "zeros", bytes(20_000)), accept_unknown=True)
    assert left(add.root) == []


def test_far_larger_than_the_archive_is_refused_before_a_byte_is_written(add, tmp_path, monkeypatch):
    monkeypatch.setattr(install, "_SMALL", 1000)
    path = hostile(tmp_path, "annotations/zeros", bytes(10**6))
    with pytest.raises(DataError, match=f"1000000 bytes, expected at most {install.MAX_RATIO * path.stat().st_size} "):
        add(path, accept_unknown=True)
    assert left(add.root) == []


def test_a_link_in_the_place_of_the_data_set_is_not_followed(add, archive, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(add(archive), elsewhere)
    shutil.rmtree(add.root / "cad120")
    (add.root / "cad120").symlink_to(elsewhere)
    before = content(elsewhere)
    (tmp_path / "release/annotations/new.txt").write_text("new")
    target = add(pack(tmp_path / "release", tmp_path / "other.zip"), accept_unknown=True)
    assert not target.is_symlink() and (target / "annotations/new.txt").is_file() and content(elsewhere) == before


def test_no_zip_and_damaged_zip(add, archive, tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(DataError, match="an undamaged zip file"):
        add(tmp_path / "text.zip", accept_unknown=True)
    damaged = bytearray(archive.read_bytes())
    damaged[200:260] = bytes(60)
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(DataError, match="an undamaged zip file"):
        add(tmp_path / "damaged.zip", accept_unknown=True)
    assert left(add.root) == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path != "/short.zip":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "999999")
        self.end_headers()
        self.wfile.write(b"the line breaks here")


@pytest.fixture
def served(archive):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=archive.parent))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_download(add, served, archive, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    target = add(f"{served}/annotations.zip")
    assert installed_checksum(target) == sha256(archive)
    shutil.copy(archive, archive.with_name("new"))  # the name under which the unpacked folder waits
    assert add(f"{served}/new") == target and installed_checksum(target) == sha256(archive)
    with pytest.raises(DataError, match="download.*404"):
        add(f"{served}/nothing.zip")
    with pytest.raises(DataError, match="short.zip: download"):
        add(f"{served}/short.zip")
    monkeypatch.setattr(install, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 100 bytes"):
        add(f"{served}/annotations.zip")
    assert left(add.root) == ["cad120"]


def test_check_and_list(add, archive):
    assert set(list_datasets(add.root).values()) == {"not there"}
    with pytest.raises(DataError, match="data/README.md"):
        check_dataset("cad120", add.root)
    with pytest.raises(DataError, match="one of cad120, action_genome, charades"):
        check_dataset("kinetics", add.root)
    add(archive)
    assert check_dataset("cad120", add.root).errors == []
    assert list_datasets(add.root)["cad120"] == f"added, sha256 {sha256(archive)}"


def test_check_and_list_look_for_charades_in_both_places(tmp_path):
    for folder in ("charades", "action_genome"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Charades_v1_train.csv").write_text("id\n")
    assert {Path(e.source).parent.name for e in check_dataset("charades", tmp_path).errors} == {"charades"}
    shutil.rmtree(tmp_path / "charades")
    assert list_datasets(tmp_path) == {"cad120": "not there", "action_genome": "there", "charades": "there"}
    assert {Path(e.source).parent.name for e in check_dataset("charades", tmp_path).errors} == {"action_genome"}
    assert any(e.source.endswith("person_bbox.pkl") for e in check_dataset("action_genome", tmp_path).errors)


def test_real_release_is_known(shared_data):
    archive = shared_data / "cad120" / "annotations.zip"
    if not archive.is_file():
        pytest.skip("CAD-120 is not in the shared data")
    assert sha256(archive) in known_checksums("cad120").values()
