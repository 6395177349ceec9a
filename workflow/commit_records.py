"""Copy the records of the runs that the book's pages show from the run store to results/runs (make refresh).

Only the profile "reference" is committed. Records that no page shows any more are removed. CAD-120's two controls are
measured and recorded too, where that data set is installed. Runs that are not in the store are named, not made.
"""

import argparse
import sys

from proda_lib.errors import DataError
from proda_lib.evaluation import cad120_controls
from proda_lib.evaluation.tables import by_page
from proda_lib.paths import project_root, results_root
from proda_lib.training import runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    recipes = {runs.run_name(r): (page, r) for page, found in by_page("reference", args.seeds).items() for r in found}
    missing = []
    for name, (page, recipe) in sorted(recipes.items()):
        if run := runs.find(recipe):
            print(f"committed {runs.commit_record(run).relative_to(project_root())}")
        elif not runs.committed(recipe):
            missing.append(f"{name} ({page}, seed {recipe.seed})")
    for path in sorted((results_root() / "runs").glob("*.json")):
        if path.stem not in recipes:
            path.unlink()
            print(f"removed {path.relative_to(project_root())}: no page shows it")
    try:
        print(f"committed {cad120_controls.commit_record().relative_to(project_root())}")
    except DataError as error:
        print(f"controls of CAD-120 not measured: {error.found} in its folder, {error.expected}")
    for name in missing:
        print(f"not in the run store: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
