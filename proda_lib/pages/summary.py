"""The first page: the main numbers, and what reproduces, what does not, and what cannot be known from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from proda_lib.evaluation import audit, grid, tables
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.report import Key, Spread, Table, differences, paper_table

#: The main numbers: (panel, line) → (row of table 1, key).
HEADLINE: dict[tuple[str, str], tuple[str, Key]] = {
    ("question built from the test labels", "ProDA, a_t"): ("ProDA", "paper/both/a_t"),
    ("question built from the test labels", "prompt only, trained"): ("prompt_only", "trained/both/a_t"),
    ("question built from the test labels", "prompt only, rule"): ("prompt_only", "rule/both/a_t"),
    ("no test label in the question", "ProDA, a_s by partition"): ("ProDA", "label_free/partition/a_s/map"),
    ("no test label in the question", "ProDA, a_m"): ("ProDA", "a_m/map"),
    ("no test label in the question", "no_prompt"): ("no_prompt", "a_t/map"),
    ("no test label in the question", "video encoder alone"): ("encoder_only", "a_t/map"),
    ("no test label in the question", "class frequency"): ("prompt_only", "frequency/map"),
}


def headline(seeds: Sequence[int]) -> Table:
    """The main numbers on SSG-World as one column, in two groups that must not be compared with each other."""
    found = grid.recorded(tables.table01, "reference", seeds)
    lines = {line: cell(found, row, key) for line, (row, key) in HEADLINE.items()}
    main = {row: found.runs[row] for row, _ in HEADLINE.values()}
    missing = {row: found.missing[row] for row in main if row in found.missing}
    frame = pd.DataFrame({"mAP": list(lines.values())}, index=pd.MultiIndex.from_tuples(lines))
    return Table(frame, f"{Recorded(main, missing, found.source).note} {RULES}")


def summary(seeds: Sequence[int]) -> Table:
    """A line a claim: the paper's number, ours, and the page that shows it."""

    def read(table: Callable[..., tables.Rows]) -> Recorded:
        return grid.recorded(table, "reference", seeds)

    lines = [
        *_orderings("DPM", ["SimplePrompt"], read(tables.table03), "table03"),
        *_orderings("VGNorm", ["LayerNorm", "BatchNorm", "GraphNorm"], read(tables.table04), "table04"),
        *_orderings("⑤", ["①", "②", "③", "④"], read(tables.table05), "table05"),
        _shortcut(read(tables.table05)),
        *_against_controls(read(tables.label_free)),
        *_audit(),
    ]
    frame = pd.DataFrame(lines, columns=["claim or question", "paper", "here", "page"])
    frame = frame.set_index("claim or question")
    note = "mAP in percent, or points of it; same sign: seeds whose difference has the sign of the paper's. Paper:"
    return Table(
        frame, f"{note} Charades; here: SSG-World, unless a line says otherwise. –: no published control found."
    )


def _link(page: str, text: str) -> str:
    return f'<a href="{page}.html">{text}</a>'


def _orderings(base: str, others: Sequence[str], found: Recorded, name: str) -> list[list[str]]:
    paper, lines = paper_table(name), []
    for other in others:
        expected = paper[base, "a_t"].mean - paper[other, "a_t"].mean
        ours = differences(found.runs[base], found.runs[other], "paper/both/a_t")
        same = sum(value * expected > 0 for value in ours.values)
        here = (
            f"{Spread(ours.values, signed=True)} (same sign: {same} of {len(ours.values)})"
            if ours.values
            else "not run"
        )
        lines.append([f"a_t: {base} above {other}", f"{expected:+.2f}".replace("-", "−"), here,
                      _link(f"results/{name}", f"table {int(name[-2:])}")])  # fmt: skip
    return lines


def _shortcut(found: Recorded) -> list[str]:
    paper, ours = paper_table("table05"), cell(found, "②", "a_m/map")
    return ["a_m without margins: row ② (⑤)",
            f"{paper['②', 'a_m']} ({paper['⑤', 'a_m']})", f"{ours} ({cell(found, '⑤', 'a_m/map')})",
            _link("results/table05", "table 5")]  # fmt: skip


def _against_controls(found: Recorded) -> list[list[str]]:
    def line(claim: str, key: Key, control: str, other: Key, page: str, text: str) -> list[str]:
        away = differences(found.runs["ProDA"], found.runs[control], key, other)
        return [claim, "–", str(Spread(away.values, blank="not run", signed=True)),
                _link(page, text)]  # fmt: skip

    free, table03 = "label_free/partition/a_s/map", ("results/table03", "table 3")
    return [
        line("a_t − trained prompt-only control", "paper/both/a_t", "prompt_only", "trained/both/a_t", *table03),
        line(
            "a_s by partition − no_prompt, both label-free", free, "no_prompt", "a_t/map", "audit/label_free", "audit"
        ),
        line("a_m − video encoder alone", "a_m/map", "encoder_only", "a_t/map", "results/table05", "table 5"),
    ]


def _audit() -> list[list[str]]:
    """On the real Charades test labels, without any video."""
    metrics, quoted, lines = audit.recorded()["metrics"], paper_table("table03")["DPM", "a_t"], []
    for name in ("rule", "trained"):
        values = Spread(tuple(float(entry[name]["both"]["a_t"]) for entry in metrics))
        claim = f"a_t of prompt-only ({name}), Charades labels"
        lines.append([claim, f"{quoted}, ProDA", str(values), _link("audit/prompt", "audit")])
    return lines
