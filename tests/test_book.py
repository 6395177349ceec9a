"""The committed book: its table of contents, its notebooks, and nothing that names a machine."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from clean_notebook import clean
from make_book import notebooks

ROOT = Path(__file__).parents[1]
NAMES = notebooks()
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
MACHINE_PATH = re.compile(r"(?<![\w.:/~<>+])(/(home|root|tmp|work|Users|opt|mnt|var)/\w|[A-Z]:\\\\?Users)")
PICTURES = ("image/png", "image/jpeg", "application/pdf")


def read(name: str):
    return nbformat.read(ROOT / f"book/{name}.ipynb", as_version=4)


def text_of(notebook) -> str:
    """Everything a notebook says, less its pictures."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in PICTURES:
                output.get("data", {}).pop(kind, None)
    return nbformat.writes(notebook)


def test_every_notebook_is_in_the_contents():
    on_disk = [p.relative_to(ROOT / "book") for p in (ROOT / "book").rglob("*.ipynb")]
    on_disk = [p for p in on_disk if not {"_build", ".ipynb_checkpoints"} & set(p.parts)]
    assert sorted(str(p.with_suffix("")) for p in on_disk) == sorted(NAMES)


@pytest.mark.parametrize("name", ["_config.yml", "_toc.yml"])
def test_settings_are_links_to_the_real_files(name):
    link = ROOT / "book" / name
    assert link.is_symlink() and str(link.readlink()) == f"../{name}"


@pytest.mark.parametrize("name", NAMES)
def test_one_parameters_cell(name):
    cells = [c for c in read(name).cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1, f"{len(cells)} cells are tagged 'parameters'"
    assigned = {t.id: node.value for node in ast.parse(cells[0].source).body if isinstance(node, ast.Assign)
                for t in node.targets}  # fmt: skip
    assert {"profile", "dataset", "seeds", "device"} <= set(assigned)
    assert "PRODA_PROFILE" in ast.unparse(assigned["profile"])


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_clean(name):
    notebook = read(name)
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    assert "injected-parameters" not in tags, "run make refresh instead of saving papermill's output"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output.ename for output in outputs if output.output_type == "error"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert not MACHINE_PATH.findall(text_of(notebook))


def test_no_record_names_a_machine():
    files = [p for p in (ROOT / "results").rglob("*") if p.suffix in {".json", ".csv", ".md", ".txt", ".yaml", ".yml"}]
    found = {str(p.relative_to(ROOT)): m[0] for p in files if (m := MACHINE_PATH.search(p.read_text()))}
    assert not found


def test_repository_address_is_the_one_of_the_configuration():
    tracked = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "environment.yml"]
    files = [ROOT / name for name in tracked] + sorted((ROOT / "book").glob("**/*.md"))
    files = [p for p in files if "_build" not in p.parts]
    slug = REPOSITORY.removeprefix("https://github.com/")
    mentions = {m for p in files for m in re.findall(r"github(?:\.com)?/([\w-]+/proda-book)\b", p.read_text())}
    assert mentions == {slug}
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"] == REPOSITORY
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["repository-code"] == REPOSITORY


def test_one_version():
    import proda_lib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert proda_lib.__version__ == version == str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"])


def test_every_package_has_an_api_page():
    pages = "".join(p.read_text() for p in (ROOT / "book/api").glob("*.md"))
    packages = {p.parent.name for p in (ROOT / "proda_lib").glob("*/__init__.py")}
    assert {name for name in packages if f"{{api}} proda_lib.{name}\n" not in pages} == set()


def test_cleaning_removes_paths_progress_and_injected_cells():
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {"input_path": "/home/x.ipynb", "parameters": {"a": 1}}})
    injected = nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["injected-parameters"]})
    cell = nbformat.v4.new_code_cell("f()", metadata={"papermill": {"start_time": "now"}})
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="\r 50%|█    | 1/2 [00:01<00:01, 1.0it/s]"),
        nbformat.v4.new_output("stream", name="stderr", text=f"{ROOT}/proda_lib/a.py:3: UserWarning: odd\n"),
        nbformat.v4.new_output("stream", name="stdout", text=f"{Path.home()}/x /tmp/ipykernel_12/34.py\n"),
    ]
    notebook.cells = [injected, cell]
    cleaned = clean(notebook, ROOT, committed=True)
    assert [c.source for c in cleaned.cells] == ["f()"]
    assert [o.text for o in cell.outputs] == ["./proda_lib/a.py:3: UserWarning: odd\n", "~/x <cell>\n"]
    assert cleaned.metadata == {"papermill": {"parameters": {"a": 1}}} and not cell.metadata


def test_link_check_finds_what_is_broken(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">1</a><a href="b.html#gone">2</a><img src="c.png">')
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="https://example.org">out</a>')
    script = ROOT / "workflow/check_links.py"
    result = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "a.html: b.html#gone: no such anchor", "a.html: c.png: no such file", "3 links, 2 broken",
    ]  # fmt: skip
