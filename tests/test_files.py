"""A folder takes its final name whole, or everything stays as it was."""

import os

import pytest

from proda_lib.errors import DataError
from proda_lib.files import replace_folder


def folder(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.mark.parametrize("there", [True, False])
def test_the_new_folder_takes_the_name(tmp_path, there):
    if there:
        folder(tmp_path / "final", "old")
    replace_folder(folder(tmp_path / "new", "new"), tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]
    assert (tmp_path / "final/file").read_text() == "new"


@pytest.mark.parametrize("step", ["final", "new"])
@pytest.mark.parametrize(("stop", "error"), [(OSError("no room"), DataError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_what_was_there_comes_back(tmp_path, monkeypatch, step, stop, error):
    target, new, rename = folder(tmp_path / "final", "old"), folder(tmp_path / "new", "new"), os.rename

    def stopped(source, destination):
        if source == tmp_path / step:
            raise stop
        rename(source, destination)

    monkeypatch.setattr(os, "rename", stopped)
    with pytest.raises(error, match="final: renaming: found no room" if error is DataError else None):
        replace_folder(new, target)
    assert (target / "file").read_text() == "old" and (new / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final", "new"]
