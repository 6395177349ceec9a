import subprocess
import sys

import pytest

import proda_lib
from proda_lib.datasets import cad120
from proda_lib.datasets.world import VOCABULARY, WorldConfig, make_videos
from proda_lib.training import provenance
from proda_lib.training.recipe import NUMERICS
from tests.test_cad120 import write_release
from tests.test_install import pack
from tests.test_store import write_store


def test_add_check_list(proda, tmp_path):
    archive = pack(write_release(tmp_path / "release"), tmp_path / "annotations.zip")
    root = tmp_path / "data"
    code, out, err = proda("data", "add", "cad120", "--source", archive, "--root", root)
    assert code == 2 and err.startswith("proda: ") and "--accept-checksum" in err and "Traceback" not in err
    code, out, err = proda("data", "add", "cad120", "--source", archive, "--root", root, "--accept-checksum")
    assert code == 0 and "sha256 " in out and "accepted as asked" in out
    code, out, _ = proda("data", "add", "cad120", "--source", archive, "--root", root)
    assert code == 0 and "already there" in out
    code, out, _ = proda("data", "check", "cad120", "--root", root)
    assert code == 0 and "quirk: 4 x video without clips: no labels" in out and "cad120: no faults" in out
    code, out, _ = proda("data", "list", "--root", root)
    assert code == 0 and "added, sha256" in out and out.count("not there") == 2


def test_prepared_data_sets_are_listed_and_found_by_name(proda, tmp_path):
    code, out, _ = proda("data", "list", "--root", tmp_path / "none")
    assert code == 0 and out.count("\n") == 3
    for name, parts in {"mine": ("train", "test"), "half_of_a_data_set": ("train",)}.items():
        for part in parts:
            write_store(tmp_path / name / part, make_videos(WorldConfig(), part, 1), VOCABULARY)
    code, out, _ = proda("data", "list", "--root", tmp_path)
    lines = dict(line.split(maxsplit=1) for line in out.splitlines()[3:])
    assert code == 0 and lines == {"half_of_a_data_set": "prepared: train", "mine": "prepared: train, test"}
    for name in ("mine", tmp_path / "mine"):
        code, out, _ = proda("data", "check", name, "--root", tmp_path)
        assert code == 0 and f"{name}: no faults" in out
    about = tmp_path / "mine" / "test" / "about.json"
    about.write_text("{")
    code, _, err = proda("data", "check", "mine", "--root", tmp_path)
    assert code == 2 and str(about) in err


def test_check_lists_all_faults_and_ends_with_1(proda, tmp_path):
    base = write_release(tmp_path / "cad120") / "annotations"
    (base / "video_clips.txt").write_text("nonsense\nSubject1, taking_food, 0001, 4, 7, pick\n")
    (base / "all/Subject3/taking_food/0001.json").write_text("{")
    code, out, _ = proda("data", "check", "cad120", "--root", tmp_path)
    assert code == 1 and out.count("fault: ") == 3 and "cad120: 3 faults" in out


def test_errors_are_one_message(proda, tmp_path):
    code, out, err = proda("data", "check", "cad120", "--root", tmp_path)
    assert code == 2 and out == "" and err.count("\n") == 1 and "data/README.md" in err
    assert proda("data", "check", "kinetics", "--root", tmp_path)[0] == 2


@pytest.mark.parametrize("command", ["add", "check", "list"])
def test_help_has_an_example(proda, command):
    code, out, _ = proda("data", command, "--help")
    assert code == 0 and f"Example:\n    proda data {command}" in out


def test_the_example_of_predict_asks_cad120_for_one_of_its_actions(proda):
    example = next(line for line in proda("predict", "--help")[1].splitlines() if "--model cad120" in line)
    assert example.split()[-1] in cad120.VOCABULARY.actions


def test_version(proda, tmp_path, monkeypatch):
    code, out, err = proda("--version")
    expected = f"proda {proda_lib.__version__}, numerics {NUMERICS}"
    commit = provenance.commit()
    assert code == 0 and err == "" and out.strip() == (expected + f", commit {commit}" if commit else expected)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)  # somebody's project, with a commit
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", tmp_path, *who, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    monkeypatch.setenv("PRODA_ROOT", str(tmp_path))
    assert proda("--version")[1].strip() == expected
    assert "--version" in proda("--help")[1]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['proda', '--help']\n"
        "import proda_lib.cli\n"
        "try: proda_lib.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'lightning', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["charades"])
def test_real_files(proda, shared_data, name):
    if not (shared_data / name).is_dir():
        pytest.skip(f"{name} is not in the shared data")
    code, out, _ = proda("data", "check", name, "--root", shared_data)
    assert code == 0 and f"{name}: no faults" in out and "quirk: 7 x action starts at or after its end" in out
