"""Execute notebooks in the order of the table of contents, then build the site (make book, make refresh).

The book is copied to build/book-PROFILE and executed there, so that the tree stays as it was. A notebook whose source,
library, results, data and settings have not changed since it last succeeded is not executed again: its executed copy
and the hash of all that went into it lie under build/executed-PROFILE-DEVICE.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import grid
import nbformat
import papermill
import yaml
from clean_notebook import clean

from proda_lib.files import write_text

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
SKIP = shutil.ignore_patterns("_build", ".ipynb_checkpoints", "__pycache__")


def notebooks(toc: Path = ROOT / "_toc.yml") -> list[str]:
    """Names such as ``model/vgpnn`` of the notebooks in ``_toc.yml``, in reading order."""

    def files(node) -> Iterable[str]:
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            for value in node.values():
                yield from files(value)
        elif isinstance(node, list):
            for value in node:
                yield from files(value)

    return [name for name in files(yaml.safe_load(toc.read_text())) if (BOOK / f"{name}.ipynb").exists()]


def inputs_hash(profile: str, device: str) -> "hashlib._Hash":
    """Everything besides its own cells that a notebook's outputs depend on."""
    digest = hashlib.sha256(f"{profile} {device}".encode())
    sources = [*(ROOT / "proda_lib").rglob("*"), *(ROOT / "results").rglob("*"), ROOT / "requirements.lock"]
    for path in sorted(path for path in sources if path.is_file() and path.suffix != ".pyc"):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    for path in sorted([*(ROOT / "data").glob("*"), *(ROOT / "data").glob("*/*")]):  # large: names and sizes do
        digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size if path.is_file() else ''}".encode())
    return digest


def notebook_hash(name: str, inputs: "hashlib._Hash") -> str:
    digest = inputs.copy()
    for cell in nbformat.read(BOOK / f"{name}.ipynb", as_version=4).cells:
        digest.update(f"{cell.cell_type}\0{cell.source}\0".encode())
    return digest.hexdigest()


def executed_markers(profile: str, device: str) -> list[str]:
    """A file for each notebook whose name holds the hash of all that its outputs depend on (targets of the grid)."""
    inputs = inputs_hash(profile, device)
    return [f"build/executed-{profile}-{device}/{name}.{notebook_hash(name, inputs)[:12]}" for name in notebooks()]


def execute(name: str, target: Path, work: Path, profile: str, device: str) -> bool:
    """Run one notebook; on success ``target`` is the executed copy, otherwise the copy beside it shows the error."""
    for folder in (target.parent, work / Path(name).parent):
        folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.ipynb")
    live = sys.stderr.isatty()
    bar = {"desc": f"  {name}", "leave": False, "ncols": 80, **({} if live else {"mininterval": 20, "delay": 20})}
    error = None
    try:
        papermill.execute_notebook(
            BOOK / f"{name}.ipynb", partial, {"profile": profile, "device": device}, kernel_name="python3",
            cwd=work / Path(name).parent, progress_bar=bar, stderr_file=sys.stderr if live else None,
            extra_arguments=["--IPKernelApp.log_level=50"],
        )  # fmt: skip
    except papermill.PapermillExecutionError as failure:
        error = failure
    except KeyboardInterrupt:
        partial.unlink(missing_ok=True)
        raise
    notebook = clean(nbformat.read(partial, as_version=4), ROOT)
    partial.unlink()
    failed = target.with_suffix(".failed.ipynb")
    write_text(failed if error else target, nbformat.writes(notebook))
    if error:
        print(f"  FAILED {error.ename}: {error.evalue}\n  see {failed.relative_to(ROOT)}", flush=True)
        return False
    failed.unlink(missing_ok=True)
    return True


def copy_book(work: Path) -> None:
    """A fresh copy of the committed book; times are kept, so that the site builder sees what has changed."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(BOOK, work, ignore=SKIP)


def execute_all(names: list[str], work: Path, done: Path, profile: str, device: str) -> list[str]:
    """Execute what has changed, into ``done``; return the names that failed."""
    inputs, failures = inputs_hash(profile, device), []
    for number, name in enumerate(names, 1):
        target, stamp = done / f"{name}.ipynb", done / f"{name}.sha256"
        digest, start = notebook_hash(name, inputs), time.monotonic()
        print(f"[{number:2d}/{len(names)}] {name}", end=" … ", flush=True)
        if target.exists() and stamp.exists() and stamp.read_text() == digest:
            print("unchanged", flush=True)
        else:
            print("executing", flush=True)
            if execute(name, target, work, profile, device):
                write_text(stamp, digest)
                print(f"{'':8}{name}: {time.monotonic() - start:.1f} s", flush=True)
            else:
                failures.append(name)
    return failures


def take_executed(names: list[str], work: Path, done: Path, profile: str, device: str) -> list[str]:
    """Put the executed copies that are up to date into the copy of the book; return the names that have none."""
    inputs, missing = inputs_hash(profile, device), []
    for name in names:
        target, stamp = done / f"{name}.ipynb", done / f"{name}.sha256"
        if target.exists() and stamp.exists() and stamp.read_text() == notebook_hash(name, inputs):
            shutil.copy2(target, work / f"{name}.ipynb")
        else:
            missing.append(name)
    return missing


def build_site(work: Path, site: Path) -> Path:
    """Render the copy; return the first page. The builder's own words go to a log, warnings to the terminal."""
    print("building the site", flush=True)
    command = ["jupyter-book", "build", "-q", "--path-output", str(site), str(work)]
    site.mkdir(parents=True, exist_ok=True)
    with open(site / "build.log", "w") as log:
        subprocess.run(command, check=True, cwd=ROOT, stdout=log)
    return site / "_build/html/index.html"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", choices=["smoke", "quick", "reference", "paper"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", action="append", metavar="NAME", help="a notebook, e.g. model/vgpnn; may be repeated")
    parser.add_argument("--refresh", action="store_true", help="write the executed notebooks back into book/")
    parser.add_argument("--no-site", action="store_true", help="do not render the site")
    parser.add_argument("--site-only", action="store_true", help="execute nothing, render what was executed")
    args = parser.parse_args()
    if args.refresh and args.profile != "reference":
        parser.error(
            f"--refresh: found profile {args.profile!r}, expected reference: its records are what is committed"
        )
    known = notebooks()
    names = [n for n in known if n in args.only] if args.only else known
    if unknown := set(args.only or []) - set(known):
        parser.error(f"--only: {sorted(unknown)} not in _toc.yml; it has {known}")
    binaries = str(Path(sys.executable).parent)
    os.environ.update(PRODA_ROOT=str(ROOT), PRODA_PROFILE=args.profile)
    os.environ["PATH"] = binaries + os.pathsep + os.environ["PATH"]
    start = time.monotonic()
    work, done = ROOT / f"build/book-{args.profile}", ROOT / f"build/executed-{args.profile}-{args.device}"
    if not args.no_site:
        copy_book(work)
    if args.site_only:
        names = []
    try:
        failures = execute_all(names, work, done, args.profile, args.device)
    except KeyboardInterrupt:
        print("\ninterrupted: finished notebooks and runs are kept; the same command goes on from here")
        return 130
    if args.refresh:
        for name in set(names) - set(failures):
            notebook = clean(nbformat.read(done / f"{name}.ipynb", as_version=4), ROOT, committed=True)
            notebook.metadata["proda"] = {"records": grid.records_of(name)}
            write_text(BOOK / f"{name}.ipynb", nbformat.writes(notebook))
    if args.no_site:
        page = None
    else:
        old = take_executed(known, work, done, args.profile, args.device)
        failures = sorted({*failures, *(old if args.site_only else [])})
        page = build_site(work, ROOT / f"build/site-{args.profile}")
    if names:
        good = len(set(names) - set(failures))
        print(f"{good} of {len(names)} notebooks in {time.monotonic() - start:.0f} s")
    for name in failures:
        print(f"FAILED {name}: .venv/bin/python workflow/make_book.py --profile {args.profile} "
              f"--device {args.device} --only {name}")  # fmt: skip
    if page:
        print(f"first page: {page.relative_to(ROOT)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
