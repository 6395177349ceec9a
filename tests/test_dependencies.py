"""pyproject.toml, environment.yml and requirements.lock agree, and name what is imported, all of it and no more."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)")
OWNERS = packages_distributions()
#: What is declared and imported nowhere, with the reason.
NOT_IMPORTED = {
    "ipykernel": "runs the notebooks: papermill and nbval start it",
    "jupyter-book": "make book, make links",
    "nbval": "make notebooks: pytest --nbval-lax",
    "pytest-xdist": "make test: pytest -n 2",
    "ruff": "the style of the code",
    "snakemake": "make book, and the grid",
    "snakemake-executor-plugin-slurm": "workflow/profiles/slurm",
    "sphinxcontrib-bibtex": "the bibliography of _config.yml",
}


def pins(lines) -> dict[str, str]:
    """Name → version; names as PEP 503 writes them. Anything but an exact, public version is refused."""
    found = {}
    for line in lines:
        match = PIN.fullmatch(line)
        assert match, f"{line!r} is not NAME==VERSION"
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


LOCK = pins((ROOT / "requirements.lock").read_text().split())
DIRECT = pins(sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"]))


def test_direct_dependencies_are_locked_at_the_same_version():
    assert {name: LOCK.get(name) for name in DIRECT} == DIRECT


def test_conda_environment_agrees():
    pip = next(entry["pip"] for entry in ENVIRONMENT if isinstance(entry, dict))
    assert pip[0] == "--constraint requirements.lock" and pip[-1] == "--editable ."
    assert pins(pip[1:-1]) == DIRECT


def test_python_range_agrees():
    python = next(entry for entry in ENVIRONMENT if isinstance(entry, str) and entry.startswith("python "))
    assert python.removeprefix("python ") == PROJECT["requires-python"] == ">=3.11,<3.14"


def imported(*folders: str) -> dict[str, str]:
    """Module from outside of the project → a file that imports it."""
    here = {"proda_lib", "tests", "benchmarks", "stress"} | {path.stem for path in (ROOT / "workflow").glob("*.py")}
    found = {}
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - here:
                found[name] = str(path.relative_to(ROOT))
    return found


def packages(module: str) -> set[str]:
    """The packages that a module comes from; its own name if it is not installed."""
    return {re.sub(r"[-_.]+", "-", owner).lower() for owner in OWNERS.get(module, [module])}


def undeclared(modules: dict[str, str], declared: set[str]) -> dict[str, str]:
    return {module: path for module, path in modules.items() if not packages(module) & declared}


@pytest.mark.parametrize(("folders", "extras"), [
    (["proda_lib"], ["book"]),  # the explorer's widget is for a notebook
    (["proda_lib", "workflow", "tests", "benchmarks", "stress"], ["book", "grid", "dev"]),
])  # fmt: skip
def test_what_is_imported_is_declared(folders, extras):
    declared = pins(PROJECT["dependencies"] + sum((PROJECT["optional-dependencies"][extra] for extra in extras), []))
    assert not undeclared(imported(*folders), set(declared))


def test_what_is_declared_is_imported_or_run_by_a_command():
    found = imported("proda_lib", "workflow", "tests", "benchmarks", "stress")
    assert set(DIRECT) - set().union(*map(packages, found)) == set(NOT_IMPORTED)
