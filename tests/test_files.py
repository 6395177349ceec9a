"""A folder takes its final name whole, or everything stays as it was."""

import json
import os

import pytest

from proda_lib.errors import DataError
from proda_lib.files import recover_folder, replacing, write_json, write_text


def folder(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


def names(place):
    return sorted(path.name for path in place.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("there", [True, False])
def test_the_new_folder_takes_the_name(tmp_path, there):
    if there:
        folder(tmp_path / "final", "old")
    with replacing(tmp_path / "final") as scratch:
        folder(scratch / "new", "new")
    assert names(tmp_path) == ["final"]
    assert (tmp_path / "final/file").read_text() == "new"


def test_nothing_new_changes_nothing_and_errors_pass(tmp_path):
    folder(tmp_path / "final", "old")
    with replacing(tmp_path / "final"):
        pass
    with pytest.raises(OSError, match="own"), replacing(tmp_path / "final") as scratch:
        folder(scratch / "new", "half")
        raise OSError("own")
    assert names(tmp_path) == ["final"] and (tmp_path / "final/file").read_text() == "old"


@pytest.mark.parametrize("step", ["final", "new"])
@pytest.mark.parametrize(("stop", "error"), [(OSError("no room"), DataError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_what_was_there_comes_back(tmp_path, monkeypatch, step, stop, error):
    target, rename = folder(tmp_path / "final", "old"), os.rename

    def stopped(source, destination):
        if source.name == step:
            raise stop
        rename(source, destination)

    monkeypatch.setattr(os, "rename", stopped)
    with (
        pytest.raises(error, match="final: renaming: found no room" if error is DataError else None),
        replacing(target) as scratch,
    ):
        folder(scratch / "new", "new")
    assert (target / "file").read_text() == "old" and names(tmp_path) == ["final"]


def test_a_kill_between_the_two_names_loses_nothing(tmp_path):
    """A process that vanishes after the first of two renames cannot clean up; the next one does."""
    target = folder(tmp_path / "final", "old")
    pid = os.fork()
    if not pid:
        rename = os.rename

        def killed(source, destination):
            rename(source, destination)
            os._exit(9)

        os.rename = killed
        with replacing(target) as scratch:
            folder(scratch / "new", "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert names(tmp_path) == [".final.old", ".final.scratch"]
    recover_folder(target)
    assert names(tmp_path) == ["final"] and (target / "file").read_text() == "old"


def test_text_and_json_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"name": "Tür"})
    assert path.read_text() == '{\n "name": "T\\u00fcr"\n}\n'
    with pytest.raises(TypeError):
        write_json(path, {"name": object()})
    assert json.loads(path.read_text()) == {"name": "Tür"} and names(tmp_path) == ["file.json"]
    write_text(path, "Tür")
    assert path.read_bytes() == "Tür".encode()
