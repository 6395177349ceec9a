"""Throw bad input, kills and full disks at the library, and write results/reliability.json.

An input takes some ten milliseconds, a kill in training half a minute. Input i of a reader depends on the seed, the
reader and i alone; the record names those that ended badly. Needs Linux.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tqdm import tqdm  # noqa: E402

from proda_lib.files import write_json  # noqa: E402
from proda_lib.pages.reliability import record_path  # noqa: E402
from proda_lib.training import provenance  # noqa: E402
from stress import crashes, crowding  # noqa: E402
from stress.children import OUTCOMES, REFUSED, limit_memory  # noqa: E402
from stress.fuzz import SECONDS, fuzz  # noqa: E402
from stress.hostile import KINDS, MEMORY, read_hostile  # noqa: E402
from stress.readers import READERS  # noqa: E402

PART = 250  #: inputs that one call feeds
#: Kills by kind of work; together the 50 of the record.
MOMENTS = {"training": 20, "packed store": 10, "feature extraction": 10, "extraction into a finished store": 10}


def hostile() -> dict[str, dict]:
    """By kind: files, how many were refused, how many did something, and the most memory and time of one."""
    found = {kind: {"files": 0, "refused": 0, "acted": 0, "memory": 0, "seconds": 0.0, "bad": []} for kind in KINDS}
    for file, ending, acted in tqdm(read_hostile(), "hostile files", unit="file"):
        of_kind = found[file.kind]
        of_kind["files"] += 1
        of_kind["refused"] += ending.outcome == REFUSED
        of_kind["acted"] += bool(acted)
        of_kind["memory"] = max(of_kind["memory"], ending.memory)
        of_kind["seconds"] = round(max(of_kind["seconds"], ending.seconds), 3)
        if ending.outcome != REFUSED or acted:
            of_kind["bad"].append(f"{file.name}: {ending.outcome} {ending.message}")
    return found


def _fuzz_part(task: tuple[int, int, int, int]) -> tuple[int, dict, list]:
    number, seed, start, stop = task
    counts, bad = fuzz(READERS[number], seed, range(start, stop))
    return number, dict(counts), bad


def damaged(inputs: int, seed: int, jobs: int) -> dict[str, dict]:
    """By reader: how many inputs ended how, and the first that ended badly. ``inputs`` in all, evenly."""
    each = -(-inputs // len(READERS))
    found = {reader.name: {**dict.fromkeys(OUTCOMES, 0), "bad": []} for reader in READERS}
    tasks = [(number, seed, start, min(start + PART, each)) for start in range(0, each, PART)
             for number in range(len(READERS))]  # fmt: skip
    # Were a reader to end its process, the pool would break and this program with it: "died" is never a silent count.
    with ProcessPoolExecutor(jobs, initializer=limit_memory, initargs=(2 * MEMORY,)) as pool:
        with tqdm(total=each * len(READERS), desc="damaged inputs", unit="input", smoothing=0.05) as bar:
            for number, counts, bad in pool.map(_fuzz_part, tasks):
                of_reader = found[READERS[number].name]
                for outcome, count in counts.items():
                    of_reader[outcome] += count
                of_reader["bad"] = (of_reader["bad"] + bad)[:20]
                bar.update(sum(counts.values()))
    return found


def killed(share: float, seed: int) -> dict[str, dict]:
    """By kind of work: kills, results that differ afterwards, broken files under a final name."""
    found = {}
    for work in crashes.WORKS:
        moments = max(1, round(share * MOMENTS[work.name]))
        with tqdm(total=moments, desc=f"kills: {work.name}", unit="kill") as bar:
            found[work.name] = vars(crashes.kill_at_random(work, moments, seed, lambda bar=bar: bar.update()))
    return found


def full_disks() -> dict[str, dict[str, bool]]:
    """By what is written: whether the error was clear and what was there stayed; with a limit on files, and really."""
    found: dict[str, dict[str, bool]] = {}
    for writing in crowding.WRITINGS:
        with tempfile.TemporaryDirectory() as folder:
            ending, intact = crowding.fill_up(writing, Path(folder))
            found[writing.name] = {"no file may grow": ending.outcome == REFUSED and intact}
        with crowding.small_disk() as disk:
            if disk:
                ending, intact = crowding.fill_up(writing, disk, limit_files=False)
                found[writing.name]["disk of 1 MiB"] = ending.outcome == REFUSED and intact
    return found


def rivals() -> dict[str, dict]:
    """What two processes that want the same get."""
    with tempfile.TemporaryDirectory() as folder:
        run = crowding.two_of_one_run(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        ending = crowding.two_writers(Path(folder))
    return {
        "one run": run,
        "one store": {"outcome": ending.outcome, "message": ending.message.replace(folder, "STORE")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="damaged inputs in all")
    parser.add_argument("--kills", type=float, default=1.0, help="share of the 50 kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes for the damaged inputs")
    parser.add_argument("--out", type=Path, default=record_path(), help="where the record goes")
    args = parser.parse_args()
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    commit = provenance.commit()  # of the code that runs, whatever is committed meanwhile
    record = {
        "name": "reliability",
        "seed": args.seed,
        "hostile": hostile(),
        "limits": {"memory": MEMORY, "seconds of an input": SECONDS},
        "damaged": damaged(args.inputs, args.seed, args.jobs),
        "killed": killed(args.kills, args.seed),
        "full disk": full_disks(),
        "rivals": rivals(),
        "versions": {
            **provenance.versions(),
            **{name: version(name) for name in ("safetensors", "pyarrow", "jsonschema")},
        },
        "commit": commit,
        "hardware": {**provenance.hardware("cpu"), "processes": args.jobs, "system": platform.system()},
        "started": started,
        "seconds": round(time.monotonic() - clock, 1),
    }
    write_json(args.out, record)
    print(f"wrote {args.out}: {args.inputs} inputs in {record['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
