"""pyproject.toml, environment.yml and requirements.lock agree, and the library imports nothing they do not name."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)")


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


def test_library_imports_only_what_it_declares():
    owners = packages_distributions()
    imported = {}
    for path in sorted((ROOT / "proda_lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                imported[name.split(".")[0]] = path.relative_to(ROOT)
    outside = {name: path for name, path in imported.items() if name not in sys.stdlib_module_names | {"proda_lib"}}
    undeclared = {
        name: str(path)
        for name, path in outside.items()
        if not any(re.sub(r"[-_.]+", "-", owner).lower() in DIRECT for owner in owners.get(name, [name]))
    }
    assert not undeclared
