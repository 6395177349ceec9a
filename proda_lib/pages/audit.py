"""The page "What the prompt gives away": prompt-only controls under every protocol, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from proda_lib.evaluation import audit, prompt_only, tables
from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.grid import Recorded, made_or_read
from proda_lib.evaluation.layouts import ASKED, RULES, UNKNOWN
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.report import Key, frame_of, spread, without_empty_lines
from proda_lib.evaluation.robustness import KINDS
from proda_lib.evaluation.tables import Rows
from proda_lib.pages import robustness
from proda_lib.training.runs import Run

#: Lines of the table of the paper's protocol, after the one of the paper's a_t, whose rows are not stated. Of a_u there
#: is a rule only.
LINES: dict[str, Key] = {UNKNOWN: (), **{k: key for k, key in ASKED.items() if not k.startswith("a_u")}}
#: Lines of the figure.
SHOWN = ("a_t, non-distractor", "a_t, both kinds", "a_t, distractor-injected",
         "a_s, non-distractor", "a_s, both kinds", "a_s, distractor-injected")  # fmt: skip
#: Label-free protocols and what ProDA answers them with; "none" is outside of what training shows.
PROTOCOLS = ("partition", "self", "scan", "none")


@dataclass(frozen=True)
class Controls:
    """Prompt-only controls on three data sets.

    Attributes:
        charades: one :class:`Run` per seed, with metrics only. ``record``: where they come from.
        world, cad120: runs or committed records.
    """

    charades: list[Run]
    record: dict
    world: Recorded
    cad120: Recorded

    @property
    def found(self) -> dict[str, list[Run]]:
        """Data set → runs."""
        return {"Charades": self.charades, "SSG-World": self.world.runs.get("prompt_only", []),
                "CAD-120": self.cad120.runs.get("prompt_only", [])}  # fmt: skip


def prompt_only_rows(profile: str, seeds: Sequence[int], dataset: str) -> Rows:
    """The prompt-only controls among the runs of table 3 or of CAD-120."""
    table = tables.cad120 if dataset == "cad120" else tables.table03
    return {"prompt_only": table(profile, seeds, dataset)["prompt_only"]}


def gather(profile: str, seeds: Sequence[int], device: str = "cpu") -> Controls:
    """Runs of SSG-World and CAD-120 of this profile (records where the data is missing), and the record of Charades."""
    record = audit.recorded()
    world, cad120 = (made_or_read(prompt_only_rows, profile, seeds, name, device) for name in ("world", "cad120"))
    return Controls([Run({"metrics": metrics}, None) for metrics in record["metrics"]], record, world, cad120)


def asked_table(controls: Controls) -> Table:
    """Controls under the paper's protocol. The paper's a_t has a line of its own, as in table 3."""
    columns = {("Charades", "class frequency"): (controls.charades, "frequency/")}
    for dataset, found in controls.found.items():
        columns |= {(dataset, kind): (found, f"{kind}/") for kind in ("rule", "trained")}
    frame = frame_of(LINES, columns, "answer, rows")
    quoted = paper_table("table03")["DPM", "a_t"]
    frame.insert(0, ("paper", "ProDA"), [quoted if line == UNKNOWN else Spread() for line in frame.index])
    return Table(without_empty_lines(frame), f"{_charades_note(controls.record)} {_other_notes(controls)} {RULES}")


def free_table(controls: Controls) -> Table:
    """Controls where no label decides the question; the paper's a_m is asked nothing."""
    columns = {"class frequency": "frequency", "rule": "rule", "trained": "trained"}
    lines = {"no question": None, **{f"a_s, {p}": f"label_free/{p}/a_s" for p in PROTOCOLS},
             **{f"a_t, {p}": f"label_free/{p}/a_t" for p in PROTOCOLS if p != "scan"}}  # fmt: skip
    quoted = [paper_table("table03")["DPM", "a_m"], *[Spread()] * (len(lines) - 1)]
    cells: dict[tuple[str, str], list[Spread]] = {("paper", "ProDA, a_m"): quoted}
    for column, name in columns.items():
        cells["Charades", column] = [spread(controls.charades, f"{name}/{key or 'map'}") for key in lines.values()]
    for dataset in ("SSG-World", "CAD-120"):
        frequency = spread(controls.found[dataset], "frequency/map")
        cells[dataset, "any control"] = [frequency] * len(lines)
    frame = pd.DataFrame(cells, index=pd.Index(list(lines), name="answer, protocol"))
    alike = "Any control: all videos are asked the same, so what sees no video ranks them as class frequency does."
    note = f"{_charades_note(controls.record)} {RULES} Per video. CAD-120: mean of the folds' mAP. {alike}"
    return Table(frame, note)


def quoted_lines() -> dict[str, float]:
    """The paper's a_t and a_m for the figure."""
    quoted = paper_table("table03")
    return {f"ProDA, paper: {name} {quoted['DPM', name]}": quoted["DPM", name].mean for name in ("a_t", "a_m")}


def asked_frame(controls: Controls) -> pd.DataFrame:
    """The lines of :func:`asked_table` that are drawn, controls only."""
    return asked_table(controls).frame.reindex(SHOWN)


def grids(controls: Controls) -> dict[tuple[str, str], Float[np.ndarray, "L L"]]:
    """(title of the kind, control) → a_s in cells (L, i), mean over seeds; NaN where there is no cell."""
    found = {"DPM": [], "prompt_only": controls.charades}
    groups = ("prompt-only, rule", "prompt-only, trained")
    return {(title, group): robustness.grid(found, group, kind)
            for kind, title in robustness.TITLES.items() for group in groups}  # fmt: skip


def label_counts(controls: Controls) -> dict[str, dict[str, Float[np.ndarray, "L"]]]:
    """Tables 6 and 7 by title: a_s for L = 1, 2, ... as they average it over i, the paper's and both controls'."""
    counts = range(1, audit.MAX_LABELS + 1)
    lines: dict[str, dict[str, np.ndarray]] = {}
    for kind, name in KINDS.items():
        quoted = paper_table(name)
        found = {"paper": np.array([quoted[str(L), "a_s"].mean for L in counts])}
        for control in ("rule", "trained"):
            keys = [f"robustness/{control}/{kind}/{L}/mean" for L in counts]
            found[control] = np.array([spread(controls.charades, key).mean for key in keys])
        lines[f"Table {int(name.removeprefix('table'))}, {robustness.TITLES[kind]}"] = found
    return lines


# --- sentences --------------------------------------------------------------------------------------------------------


def asked_findings(controls: Controls) -> Text:
    """Where the paper's a_t lies among the controls on Charades' labels."""
    quoted = paper_table("table03")["DPM", "a_t"]
    sentences = []
    for name in ("rule", "trained"):
        by_kind = {title: spread(controls.charades, f"{name}/{kind}/a_t")
                   for kind, title in {**robustness.TITLES, "both": "both kinds together"}.items()}  # fmt: skip
        sides = [f"{cell} on {title} ({'above' if cell.mean > quoted.mean else 'below'})"
                 for title, cell in by_kind.items()]  # fmt: skip
        sentences.append(f"a_t of the prompt alone, {name}, against the paper's {quoted}: {', '.join(sides)}.")
    free = [spread(controls.charades, f"{name}/label_free/{p}/a_s") for name in ("rule", "trained") for p in PROTOCOLS]
    frequency = spread(controls.charades, "frequency/map")
    away = max(abs(value - frequency.mean) for cell in free for value in cell.values)
    sentences.append(
        f"Without labels in the question, the controls have the mAP of class frequency ({frequency}), to within "
        f"{away:.1f} points."
    )
    return bullets(sentences)


def label_count_findings(controls: Controls) -> Text:
    """In how many lines of tables 6 and 7 the paper's a_s is above each control's, and by how much on average."""
    sentences = []
    for table, lines in label_counts(controls).items():
        for control in ("rule", "trained"):
            ahead = lines["paper"] - lines[control]
            sentences.append(
                f"{table}: the paper's a_s is above the prompt alone, {control}, for {int((ahead > 0).sum())} of "
                f"{len(ahead)} numbers of labels, on average by {ahead.mean():+.1f} points "
                f"(from {ahead.min():+.1f} to {ahead.max():+.1f})."
            )
    return bullets(sentences)


def prompt_free_findings() -> Text:
    """The paper's own numbers that no question enters."""
    a_m, encoder = paper_table("table03")["DPM", "a_m"], paper_table("table05")["⑥", "a_m"]
    return Text(f"The paper's own numbers without a question are a_m {a_m} (table 3) and {encoder} for the video "
                "encoder trained alone (table 5, row ⑥).")  # fmt: skip


def provenance(controls: Controls) -> Text:
    """What the Charades record was made of and how."""
    record, network, hardware = (controls.record, *(controls.record[key] for key in ("network", "hardware")))
    videos = "; ".join(
        f"{part}: {', '.join(f'{count} {name}' for name, count in counts.items())}"
        for part, counts in record["data"]["videos"].items()
    )
    return bullets([
        f"Videos of Charades. {videos}. Classes with a positive in the test videos: "
        f"{record['data']['classes with positives']}.",
        f"Trained network on Charades: hidden width {network['hidden']}, {network['epochs']} epochs, learning rate "
        f"{network['learning_rate']:g}, {network['batch_rows']} rows a batch, weight decay "
        f"{network['weight_decay']:g}; the last epoch counts, nothing is selected. "
        f"On the other data sets: {prompt_only.EPOCHS} epochs, more where these are fewer than "
        f"{prompt_only.LEAST_STEPS} steps, learning rate {prompt_only.LEARNING_RATE:g}, "
        f"{prompt_only.BATCH_ROWS} rows a batch.",
        f"Made in {record['seconds']:.0f} s on {hardware['cpu']}, processes: {hardware['processes']}, threads of each: "
        f"{hardware['threads of each']}; commit {record['commit'] or '–'}.",
    ])  # fmt: skip


def _charades_note(record: dict) -> str:
    seeds = record["seeds"]
    return (f"Charades: labels alone, {record['data']['videos']['train']['used']} training and "
            f"{record['data']['videos']['test']['used']} test videos with 1 to {audit.MAX_LABELS} labels; seed"
            f"{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}.")  # fmt: skip


def _other_notes(controls: Controls) -> str:
    parts = [controls.world, controls.cad120]
    return " ".join(part.note for part in parts)
