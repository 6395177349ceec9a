"""Copy the records of the runs that the book's pages show from the run store to results/runs.

Only the profile "reference" is committed. Records that no page shows any more are removed. CAD-120's two controls are
measured and recorded too, where that data set is installed, and the paired differences of the ablations. Runs that are
not in the store are named, not made.

python workflow/commit_records.py [--run NAME]
"""

import argparse
import itertools
import sys

from proda_lib.datasets.registry import installed
from proda_lib.errors import DataError
from proda_lib.evaluation import cad120_controls, grid, paired, tables
from proda_lib.paths import project_root, results_root
from proda_lib.training import runs

SEEDS = (0, 1, 2)


def commit_paired() -> None:
    """Measure the intervals that are missing; keep those whose runs are still in a table."""
    both = {}  # tables share pairs
    for (table, pairs), dataset in itertools.product(paired.PAIRS.items(), ("world", "cad120")):
        found = grid.read(table("reference", SEEDS, dataset)).runs
        for this, that in pairs:
            both[tuple(run.name for run in (*found[this], *found[that]))] = found[this], found[that]
    kept = {}
    for base, other in both.values():
        kept |= paired.measured(base, other)
    paired.write(kept)
    print(f"paired differences: {len(kept)}")


def commit_controls() -> None:
    """Measure and record CAD-120's two controls, where that data set is installed."""
    try:
        installed("cad120", "annotations")
    except DataError as error:
        print(f"controls of CAD-120 not measured: {error.found} in its folder, {error.expected}")
        return
    print(f"committed {cad120_controls.commit_record().relative_to(project_root())}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", metavar="NAME", help="only this run")
    args = parser.parse_args()
    if args.run:
        print(f"committed {runs.commit_record(runs.named(args.run)).relative_to(project_root())}")
        return 0
    recipes = {}
    for page, found in tables.by_page("reference", SEEDS).items():
        for recipe in found:
            recipes.setdefault(runs.run_name(recipe), (page, recipe))
    missing = []
    for name, (page, recipe) in recipes.items():
        if run := runs.find(recipe):
            print(f"committed {runs.commit_record(run).relative_to(project_root())}")
        elif not runs.committed(recipe):
            missing.append(f"{name} ({page}, seed {recipe.seed})")
    for path in sorted((results_root() / "runs").glob("*.json")):
        if path.stem not in recipes:
            path.unlink()
            print(f"removed {path.relative_to(project_root())}: no page shows it")
    commit_paired()
    commit_controls()
    for name in missing:
        print(f"not in the run store: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
