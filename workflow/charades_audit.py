"""Measure what the questions give away on Charades' labels, and write results/charades_audit.json.

Needs Charades' csv files (data/README.md; $PRODA_DATA names another folder than data/) and no video. The record holds
aggregate numbers only, and does not depend on how many seeds are measured side by side.
"""

import argparse
import sys
from pathlib import Path

from proda_lib.evaluation import audit
from proda_lib.paths import project_root


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder of the csv files, if they are not installed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=audit.EPOCHS)
    parser.add_argument("--jobs", type=int, default=1, help="seeds that are measured side by side")
    args = parser.parse_args()
    record = audit.measure(audit.read_labels(args.folder), args.seeds, args.epochs, args.jobs)
    path = audit.write_record(record)
    print(f"wrote {path.relative_to(project_root())}: {len(args.seeds)} seeds in {record['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
