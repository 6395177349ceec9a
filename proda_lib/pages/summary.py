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
    """A line a claim: the paper's number, ours by data set, and the page that shows it."""

    def read(table: Callable[..., tables.Rows]) -> list[Recorded]:
        return [grid.recorded(table, "reference", seeds, dataset) for dataset in ("world", "cad120")]

    table03, table05 = read(tables.table03), read(tables.table05)
    lines = [
        *_orderings("DPM", ["SimplePrompt"], table03, "table03"),
        *_orderings("VGNorm", ["LayerNorm", "BatchNorm", "GraphNorm"], read(tables.table04), "table04"),
        *_orderings("⑤", ["①", "②", "③", "④"], table05, "table05"),
        *_shortcut(table05),
        *_against_controls(read(tables.label_free)),
        *_prompt_only(table03),
    ]
    columns = ["claim or question", "paper", "SSG-World", "CAD-120", "Charades"]
    frame = pd.DataFrame(lines, columns=columns).set_index("claim or question")
    note = "mAP in percent, or points of it; in brackets: seeds whose difference has the sign of the paper's."
    return Table(frame, f"{note} Charades: its test labels alone, which is all that the prompt needs. –: no number.")


def _link(page: str, text: str) -> str:
    return f'<a href="{page}.html">{text}</a>'


def _orderings(base: str, others: Sequence[str], found: Sequence[Recorded], name: str) -> list[list[str]]:
    paper, lines = paper_table(name), []
    for other in others:
        expected = paper[base, "a_t"].mean - paper[other, "a_t"].mean
        here = [_same_sign(differences(f.runs[base], f.runs[other], "paper/both/a_t"), expected) for f in found]
        claim = _link(f"results/{name}", f"a_t: {base} above {other}")
        lines.append([claim, f"{expected:+.2f}".replace("-", "−"), *here, "–"])
    return lines


def _same_sign(ours: Spread, expected: float) -> str:
    if not ours.values:
        return "not run"
    same = sum(value * expected > 0 for value in ours.values)
    return f"{Spread(ours.values, signed=True)} ({same}/{len(ours.values)})"


def _shortcut(found: Sequence[Recorded]) -> list[list[str]]:
    paper, rows = paper_table("table05"), {"②": "a_m without margins, row ②", "⑤": "a_m with margins, row ⑤"}
    return [
        [_link("results/table05", claim), str(paper[row, "a_m"]), *(str(cell(f, row, "a_m/map")) for f in found), "–"]
        for row, claim in rows.items()
    ]


def _against_controls(found: Sequence[Recorded]) -> list[list[str]]:
    free = "label_free/partition/a_s/map"
    claims: list[tuple[str, str, Key, str, Key]] = [
        ("results/table03", "a_t − trained prompt-only", "paper/both/a_t", "prompt_only", "trained/both/a_t"),
        ("audit/label_free", "a_s by partition − no_prompt, label-free", free, "no_prompt", "a_t/map"),
        ("results/table05", "a_m − video encoder alone", "a_m/map", "encoder_only", "a_t/map"),
    ]
    lines = []
    for page, claim, key, control, other in claims:
        away = [differences(f.runs["ProDA"], f.runs[control], key, other) for f in found]
        here = [str(Spread(values.values, blank="not run", signed=True)) for values in away]
        lines.append([_link(page, claim), "–", *here, "–"])
    return lines


def _prompt_only(found: Sequence[Recorded]) -> list[list[str]]:
    """a_t of ProDA and of the controls that see no video; theirs also on the real Charades test labels."""
    metrics, quoted = audit.recorded()["metrics"], paper_table("table03")["DPM", "a_t"]
    ours = [str(cell(f, "DPM", "paper/both/a_t")) for f in found]
    lines = [[_link("results/table03", "a_t of ProDA"), str(quoted), *ours, "–"]]
    for name in ("rule", "trained"):
        key = f"{name}/both/a_t"
        labels = Spread(tuple(float(entry[name]["both"]["a_t"]) for entry in metrics))
        here = [str(cell(f, "prompt_only", key)) for f in found]
        lines.append([_link("audit/prompt", f"a_t of prompt-only, {name}"), "–", *here, str(labels)])
    return lines
