"""``python -m benchmarks [--quick] [--json FILE] [--device cpu|cuda] [--only NAME]``: library against yardsticks.

Both sides are timed in one process, in turn, after a call that is not timed (with --quick, after memory for them has
been fetched: the yardstick's step takes too long to be made for nothing). ``ratio`` is reference / ours (for
matmul_fraction: ours / reference), so larger is better in every row; the spread is the interquartile range over the
median, the larger one of the two sides, and unknown if one of them was measured once.
Without --quick there are more rows, and the file also gets the points of a roofline and cost curves. With --only, what
was not asked for stays in FILE as it is, and what is new has a commit of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from fnmatch import fnmatch
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.cases import FULL, NAMES, QUICK, QUICK_NAMES, SCANS, STEPS, WIDTHS, Row, scan_rows, step_rows
from benchmarks.curves import TIMED, curve_config, curves, rooflines, timed_again
from benchmarks.measure import describe, has_bf16, matmul_rate
from benchmarks.others import ON_GPU, OTHERS, other_rows
from benchmarks.store import STORE
from proda_lib.files import write_json
from proda_lib.memory import keep_freed_memory

#: What can be asked for without --quick; on a GPU also :data:`~benchmarks.others.ON_GPU`.
ALL = (*NAMES, *OTHERS, *STORE, "roofline", "curves")


def left_out() -> str:
    """The rows that --quick has no time for, those of all widths by their names alone."""
    names = []
    for name in (*STEPS, *SCANS):
        of_widths = [f"{name}@d{width}" for width in WIDTHS]
        missing = [full for full in of_widths if full not in QUICK_NAMES]
        names += [name] if missing == of_widths else missing
    return ", ".join(names)


def table(rows: list[Row], machine: dict[str, object], quick: bool) -> Table:
    """All rows, for a terminal."""

    def number(value: float | None, form: str = ".3g") -> str:
        return "–" if value is None else format(value, form)

    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    caption = "ratio: larger is better. spread –: a side was measured once."
    if quick:
        caption += f"\nNot in --quick, where they would take too long: {left_out()}."
    shown = Table(title=f"{where}, torch {machine['torch']}", caption=caption)
    for title in ("name", "reference", "ours", "unit", "ratio", "spread", "repeats", "note"):
        figures = title in ("reference", "ours", "ratio", "spread", "repeats")
        shown.add_column(title, justify="right" if figures else "left", no_wrap=title != "note")
    for row in rows:
        ratio = number(row.ratio, ".2f")
        shown.add_row(row.name, number(row.reference), number(row.ours), row.unit, ratio, number(row.spread, ".0%"),
                      " / ".join(map(str, row.repeats)), row.note)  # fmt: skip
    return shown


def rates(device: str) -> dict[str, float]:
    """The machine's own matrix products, by precision."""
    kinds = {"": torch.float32, **({"bf16_": torch.bfloat16} if has_bf16(device) else {})}
    return {f"matmul_{kind}gflop_per_s": round(max(matmul_rate(width, device, dtype) for width in WIDTHS) / 1e9, 1)
            for kind, dtype in kinds.items()}  # fmt: skip


def known_names(quick: bool, device: str) -> tuple[str, ...]:
    """What can be asked for."""
    return QUICK_NAMES if quick else (*ALL, *(ON_GPU if device == "cuda" else ()))


def choose(pattern: str, quick: bool, device: str = "cpu") -> set[str]:
    """The names that are asked for; a roofline also needs the rows that it takes its seconds from."""
    known = known_names(quick, device)
    wanted = {name for name in known if fnmatch(name, pattern) or fnmatch(name.split("@")[0], pattern)}
    if "roofline" in wanted:
        wanted |= {f"{name}@d{width}" for name in TIMED for width in WIDTHS}
    return wanted


def merged(old: dict, new: dict) -> dict:
    """The file ``old`` with what ``new`` has in place of its own; rows, roofline and curves note their new commit.

    The points of a roofline that is not measured again take the seconds of the rows that are. With new seconds come the
    machine's rates of copies and products on that day.

    Raises:
        SystemExit: ``old`` is of another machine or other versions.
    """
    same = ("cpu", "gpu", "cores", "threads", "python", "torch", "device")
    if found := [key for key in same if old["machine"].get(key) != new["machine"].get(key)]:
        raise SystemExit(f"--json: the file is of another machine ({', '.join(found)} differ); name another file")
    commit = {"commit": new["machine"]["commit"]}
    fresh = {key: [{**entry, **commit} for entry in new[key]] for key in ("rows", "roofline", "curves")}
    rows = {row["name"]: row for row in (*old["rows"], *fresh["rows"])}
    points = fresh["roofline"] or [timed_again(point, fresh["rows"]) for point in old["roofline"]]
    machine = old["machine"]
    if points != old["roofline"]:
        machine = {**machine, **{key: rate for key, rate in new["machine"].items() if key.endswith("_per_s")}}
    changed = {"machine": machine, "rows": list(rows.values()), "roofline": points}
    return {**old, **changed, "curves": fresh["curves"] or old["curves"]}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description="The library against its yardsticks.")
    parser.add_argument("--quick", action="store_true", help="few repeats, the compared rows only; under three minutes "
                        "on two cores")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found to FILE")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", metavar="NAME", default="*", help="a row, with or without @d768, or roofline or "
                        "curves; * and ? match")  # fmt: skip
    given = parser.parse_args()
    wanted = choose(given.only, given.quick, given.device)
    if not wanted:
        expected = ", ".join(known_names(given.quick, given.device))
        parser.error(f"--only: found {given.only!r}, expected one of {expected}")
    keep_freed_memory()  # as training does; the yardsticks get it too
    console, plan, start = Console(), QUICK if given.quick else FULL, time.perf_counter()
    if not console.is_terminal:
        console.width = 160  # a file has no edge to wrap at
    machine, rows, roofline, cost = describe(given.device), [], [], []
    for width in WIDTHS:
        for measure in (step_rows, scan_rows):
            with console.status(f"D = {width}: {measure.__name__.split('_')[0]}"):
                rows += measure(width, plan, given.device, wanted)
        if "roofline" in wanted:
            with console.status(f"D = {width}: what a step moves"):
                roofline += rooflines(width, rows, given.device)
    with console.status("other timings"):
        rows += other_rows(plan.repeats, given.device, wanted)
    if "curves" in wanted:
        with console.status("curves") as status:
            cost = curves(curve_config(), given.device, tell=status.update)
    console.print(table(rows, machine, given.quick))
    console.print(f"{time.perf_counter() - start:.0f} s")
    if given.json:
        written = {"machine": {**machine, **rates(given.device)}, "rows": [dataclasses.asdict(row) for row in rows],
                   "roofline": roofline, "curves": cost}  # fmt: skip
        if given.only != "*" and given.json.exists():
            written = merged(json.loads(given.json.read_text()), written)
        given.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(given.json, written, indent=2)


if __name__ == "__main__":
    main()
