"""The page on reliability: what was thrown at the library, from ``results/reliability.json``, and what came of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from proda_lib.evaluation.cells import Table, Text, bullets
from proda_lib.files import read_json
from proda_lib.paths import results_root
from proda_lib.plotting import style

#: Outcome in the record → what the page calls it. The last three must not happen.
OUTCOMES = {"refused": "refused with a clear error", "read": "read: the damage left it valid",
            "another error": "another error", "died": "process died", "too late": "took too long"}  # fmt: skip
HATCHES = ("", "", "//", "xx", "..")


def record_path() -> Path:
    """Where ``workflow/reliability.py`` writes."""
    return results_root() / "reliability.json"


def recorded() -> dict:
    """The committed record.

    Raises:
        DataError: it is missing or damaged.
    """

    def check(record: dict) -> dict:
        for name in ("seed", "hostile", "damaged", "killed", "full disk", "rivals", "commit", "seconds"):
            record[name]
        for counts in record["damaged"].values():
            sum(counts[outcome] for outcome in OUTCOMES)
        return record

    return read_json(record_path(), check, "a record written by workflow/reliability.py")


def hostile_table(record: dict) -> Table:
    """Files made to do harm, by kind."""
    cells = {
        kind: {
            "refused": f"{found['refused']} of {found['files']}",
            "did something": f"{found['acted']} of {found['files']}",
            "most memory (MB)": f"{found['memory'] / 1e6:.0f}",
            "longest (s)": f"{found['seconds']:.1f}",
        }
        for kind, found in record["hostile"].items()
    }
    limit = record["limits"]["memory"] / 2**30
    note = (f"Each file is read in a process of its own, which may take {limit:g} GiB beyond what it has. Memory: by "
            f"how much it grew at most. {_made(record)}")  # fmt: skip
    return Table(pd.DataFrame(cells).T.rename_axis("files"), note)


def damaged_frame(record: dict) -> pd.DataFrame:
    """How many damaged inputs ended how: a row a reader, a column an outcome."""
    return pd.DataFrame(
        {reader: [counts[outcome] for outcome in OUTCOMES] for reader, counts in record["damaged"].items()},
        index=pd.Index(list(OUTCOMES.values())),
    ).T.rename_axis("reader")


def damaged_table(record: dict) -> Table:
    """:func:`damaged_frame`, with sums."""
    frame = damaged_frame(record)
    frame.loc["all"] = frame.sum()
    frame.insert(0, "inputs", frame.sum(axis=1))
    return Table(frame, f"Seed {record['seed']}. {_made(record)}")


def damaged_figure(record: dict) -> Figure:
    """Outcomes by reader, as shares of its inputs."""
    frame = damaged_frame(record)
    shares = 100 * frame.div(frame.sum(axis=1), axis=0)
    figure, (ax,) = style.subplots(height=1.1 + 0.28 * len(frame))
    colours = (style.BLUE, style.SKY, style.VERMILION, style.BLACK, style.PURPLE)
    left = pd.Series(0.0, index=shares.index)
    for (name, column), colour, hatch in zip(shares.items(), colours, HATCHES, strict=True):
        ax.barh(range(len(shares)), column, left=left, color=colour, hatch=hatch, edgecolor="white", label=name)
        left = left + column
    ax.set(xlim=(0, 100), ylim=(len(shares) - 0.5, -0.5), xlabel="share of the reader's damaged inputs (%)")
    ax.set_yticks(range(len(shares)), shares.index)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def killed_table(record: dict) -> Table:
    """Kills at random moments, by kind of work."""
    cells = {
        work: {
            "kills": found["killed"],
            "another result afterwards": found["lost"],
            "broken file under a final name": found["broken"],
            "file left over at the end": found["left_over"],
        }
        for work, found in record["killed"].items()
    }
    frame = pd.DataFrame(cells).T.rename_axis("work")
    frame.loc["all"] = frame.sum()
    return Table(frame, f"One kill a run, at a moment drawn evenly over its length. {_made(record)}")


def findings(record: dict) -> Text:
    """What the record says, as sentences."""
    files = sum(found["files"] for found in record["hostile"].values())
    refused = sum(found["refused"] for found in record["hostile"].values())
    frame = damaged_frame(record)
    bad = int(frame[[OUTCOMES[name] for name in ("another error", "died", "too late")]].to_numpy().sum())
    kills = sum(found["killed"] for found in record["killed"].values())
    losses, broken, left = (
        sum(found[name] for found in record["killed"].values()) for name in ("lost", "broken", "left_over")
    )
    disks = [good for found in record["full disk"].values() for good in found.values()]
    run, store = record["rivals"]["one run"], record["rivals"]["one store"]
    total, whole, got = int(frame.to_numpy().sum()), sum(disks), run["exit codes"].count(0)
    return bullets([
        f"Hostile files: {refused} of {files} were refused.",
        f"Damaged inputs: {total:,}, of which {bad} ended in anything but a value or a clear error.",
        f"Kills: after {kills}, {losses} results differed from those of a run left in peace, {broken} left a broken "
        f"file under a final name, and {left} left a file that was still there when all was done.",
        f"Full disks: in {whole} of {len(disks)} tries the error was clear, and what was there before stayed whole.",
        f"Two processes asked for the same run: it was made {run['made']} time(s), and {got} of "
        f"{len(run['exit codes'])} got it. A second writer of a store was {store['outcome']}.",
    ])  # fmt: skip


def _made(record: dict) -> str:
    hardware = record["hardware"]
    return (f"Made by workflow/reliability.py at commit {record['commit']} in {record['seconds'] / 60:.0f} minutes on "
            f"{hardware['cores']} cores of {hardware['cpu']}.")  # fmt: skip
