"""A folder takes its final name whole, or everything stays as it was."""

import json
import os

import pytest

from proda_lib.errors import DataError
from proda_lib.evaluation import audit, cad120_controls, paired, performance
from proda_lib.files import read_json, recover_folder, replacing, write_json, write_text
from proda_lib.pages import reference_profile, reliability


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


def number(content) -> int:
    if content["n"] == "precise":
        raise DataError("place", "key", "one fault", "another")
    return int(content["n"].strip())


@pytest.mark.parametrize(("content", "found"), [
    (None, "FileNotFoundError"), (b"{", "JSONDecodeError"), (b'{"n": "\xff"}', "UnicodeDecodeError"),
    (b"[" * 100_000, "RecursionError"), (b"{}", "KeyError: 'n'"), (b"[1]", "TypeError"),
    (b'{"n": 1}', "AttributeError"), (b'{"n": "one"}', "ValueError"),
])  # fmt: skip
def test_damaged_json_names_file_fault_and_what_it_should_be(tmp_path, content, found):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(path, number, "a number as text")
    error = caught.value
    assert (error.source, error.where, error.expected) == (str(path), "file", "a number as text")
    assert error.found.startswith(found)


def test_json_is_read_as_utf8_and_a_precise_error_passes(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes('{"n": "\u202f12", "name": "Tür"}'.encode())
    assert read_json(path, number, "a number as text") == 12
    assert read_json(path, lambda content: content["name"], "a name") == "Tür"
    path.write_text('{"n": "precise"}')
    with pytest.raises(DataError, match="place: key: found one fault, expected another"):
        read_json(path, number, "a number as text")


#: Reader of a committed record → its file in results/, and JSON that is something else.
READERS = {
    "paired": (paired.known, "paired.json", ["[]", '{"a": [1]}', '{"a": [1, 2, 3, 4]}', '{"a": [1, 2, {}]}']),
    "controls": (cad120_controls.recorded, "cad120_controls.json", ["[]", '{"data": "", "controls": {"states": {}}}']),
    "audit": (audit.recorded, "charades_audit.json", ["[]", '{"metrics": [{"rule": {}}]}']),
    "performance": (performance.records, "benchmarks/odd.json", ["[]", '{"machine": {"device": "cpu"}, "rows": []}']),
    "reliability": (reliability.recorded, "reliability.json", ["[]", '{"damaged": {}}']),
    "tries": (reference_profile.tries, "profiles.json", ["[]", '{"tries": 1}', '{"tries": ["one"]}']),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_a_committed_record_refuses_what_is_none(tmp_path, monkeypatch, name):
    read, file, wrong = READERS[name]
    monkeypatch.setenv("PRODA_ROOT", str(tmp_path))
    path = tmp_path / "results" / file
    path.parent.mkdir(parents=True)
    for content in (*wrong, "{", "[" * 100_000, b"\xff"):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError, match=f"{path.name}: file: found .*, expected (what|JSON|a record)"):
            read()
    path.unlink()
    if name in ("paired", "performance"):  # nothing is measured yet
        assert not read()
    else:
        with pytest.raises(DataError, match=f"{path.name}: file: found FileNotFoundError"):
            read()


def test_intervals_that_are_known_are_three_numbers_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_ROOT", str(tmp_path))
    (tmp_path / "results").mkdir()
    write_json(tmp_path / "results/paired.json", {"a_t x:y": [1, -0.5, 2]})
    assert paired.known() == {"a_t x:y": [1.0, -0.5, 2.0]}
