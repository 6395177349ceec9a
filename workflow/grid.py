"""What the grid needs: runs by name, pages by the runs that they show, and which of both are out of date.

Nothing here looks at file times. A run is there if its record is, and the record's name is the hash of its recipe. A
committed page is up to date if what it was executed with (records of runs and other results, named, with their digests,
in its metadata) is what is there today.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat

from proda_lib.evaluation.tables import by_page
from proda_lib.files import sha256
from proda_lib.training import runs
from proda_lib.training.outcome import loader_workers
from proda_lib.training.recipe import Recipe, command

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "results/runs"
#: Committed results beside the records of runs, files and folders → the pages that read them.
FILES = {
    "results/paired.json": ("intro", "audit/label_free", *(f"results/table0{number}" for number in (1, 3, 4, 5))),
    "results/charades_audit.json": ("intro", "audit/checklist", "audit/prompt"),
    "results/cad120_controls.json": ("results/cad120",),
    "results/profiles.json": ("engineering/reference_profile",),
    "results/reliability.json": ("engineering/reliability",),
    "results/benchmarks": ("engineering/performance",),
}
#: The paper's numbers, and what the names of the pages that read them begin with.
PAPER, BESIDE_PAPER = "results/paper", ("intro", "results/", "audit/", "figures/")


@dataclass(frozen=True)
class Plan:
    """The runs and pages of one profile."""

    profile: str = "reference"
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    @cached_property
    def pages(self) -> dict[str, list[str]]:
        """Page → names of its runs, in the order in which they are worth making; then pages that only read files."""
        found = {page: [runs.run_name(r) for r in rs] for page, rs in by_page(self.profile, self.seeds).items()}
        return found | {page: [] for pages in FILES.values() for page in pages if page not in found}

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Name of a run → its recipe; a run that several pages show is there once."""
        return {runs.run_name(r): r for found in by_page(self.profile, self.seeds).values() for r in found}

    def record(self, name: str) -> str:
        """Where a run's record must be: committed for profile "reference", in the run store for the others."""
        if self.profile == "reference":
            return str((RECORDS / f"{name}.json").relative_to(ROOT))
        return str(runs.runs_root() / name / "record.json")

    def command(self, name: str) -> str:
        """The command that makes a run."""
        return f"{command(self.recipes[name])} --device {self.device}"

    @property
    def gpus(self) -> int:
        """How many GPUs a run needs."""
        return int(self.device.startswith("cuda"))

    @property
    def cores(self) -> int:
        """How many cores a run needs: on a GPU, one for each worker of its loader too."""
        return 1 + loader_workers(self.device)

    @cached_property
    def stale_pages(self) -> dict[str, str]:
        """Committed pages that were executed with other records than those of today → digest of both, so that a page
        which is put back to an older state is stale under a name of its own."""
        stale = {}
        for page, names in self.pages.items():
            now = sources(page, names)
            path = ROOT / f"book/{page}.ipynb"
            before = shown(nbformat.read(path, as_version=4)) if path.exists() else None
            if before != now:
                stale[page] = hashlib.sha256(f"{before} {sorted(now.items())}".encode()).hexdigest()[:12]
        return stale

    @property
    def targets(self) -> list[str]:
        """Everything that should exist."""
        made = [self.record(name) for name in self.recipes]
        if self.profile == "reference":
            made += [f"build/refreshed/{page}.{key}" for page, key in self.stale_pages.items()]
        return made


def digest(path: Path) -> str:
    """First digits of the SHA-256 of a file, or of all files of a folder; "" if there is none."""
    if path.is_dir():
        return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(path.iterdir()))).hexdigest()[:12]
    return sha256(path)[:12] if path.exists() else ""


def sources(page: str, names: Iterable[str]) -> dict[str, str]:
    """What a page was made of: its runs by name, and files, with the digests of their committed content."""
    runs_of = {name: digest(RECORDS / f"{name}.json") for name in names}
    files = {file: digest(ROOT / file) for file, pages in FILES.items() if page in pages}
    if page.startswith(BESIDE_PAPER):
        files[PAPER] = digest(ROOT / PAPER)
    return runs_of | files


def shown(notebook) -> dict[str, str]:
    """What a committed notebook was executed with, as :func:`sources` has it."""
    return dict(notebook.metadata.get("proda", {}).get("records", {}))


def records_of(page: str) -> dict[str, str]:
    """:func:`sources` of a page of profile "reference", as they are now."""
    return sources(page, Plan().pages.get(page, []))
