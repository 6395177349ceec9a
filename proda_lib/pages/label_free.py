"""Label-free ProDA: what the same weights answer when no test label is in the question."""

from __future__ import annotations

import pandas as pd

from proda_lib.evaluation import paired
from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.differences import compare, differences
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import LABEL_FREE, RULES
from proda_lib.evaluation.report import Key

FREE, ASKED = "no test label in the question", "question built from the test labels"
SINGLES, OWN = "ProDA, absent singles", "ProDA, own questions"
READ, WIDE = "ProDA, target only read", "ProDA, margins 1"  # where the reconstruction is at work
#: ProDA's answers that need no test label: the main protocol, and the one without a question.
ANSWERS = {measure: key for measure, key in paired.KEYS.items() if measure != "a_t"}
CONTROLS = {"no_prompt": "no_prompt", "encoder_only": "the video encoder alone"}
#: Line → (row, key).
LINES: dict[tuple[str, str], tuple[str, str]] = {
    (FREE, "no_prompt"): ("no_prompt", "a_t/map"),
    (FREE, "video encoder alone"): ("encoder_only", "a_t/map"),
    **{(FREE, f"ProDA: {label}"): ("ProDA", f"{key}/map") for label, key in LABEL_FREE.items()},
    (FREE, "ProDA, absent singles: a_s, scan"): (SINGLES, "label_free/scan/a_s/map"),
    (FREE, "ProDA, absent singles: a_s, partition"): (SINGLES, "label_free/partition/a_s/map"),
    (FREE, "ProDA, own questions: a_s, self"): (OWN, "label_free/self/a_s/map"),
    (FREE, "ProDA, own questions: a_t, self"): (OWN, "label_free/self/a_t/map"),
    (FREE, "ProDA, own questions: a_s, partition"): (OWN, "label_free/partition/a_s/map"),
    (FREE, "ProDA, own questions: a_s, scan"): (OWN, "label_free/scan/a_s/map"),
    (FREE, "class frequency"): ("prompt_only", "frequency/map"),
    (ASKED, "ProDA: a_t"): ("ProDA", "paper/both/a_t"),
    (ASKED, "prompt only, trained: a_t"): ("prompt_only", "trained/both/a_t"),
    (ASKED, "prompt only, rule: a_t"): ("prompt_only", "rule/both/a_t"),
}
#: Attempt → (row, key): what might close the gap between ProDA's label-free answers and no_prompt.
ATTEMPTS: dict[str, tuple[str, str]] = {
    "a_s, partition (the main protocol)": ("ProDA", "label_free/partition/a_s/map"),
    "a_s, self (K actions, the others tie below)": ("ProDA", "label_free/self/a_s/map"),
    "a_s, self, the others below by a_m": ("ProDA", "label_free/self_filled/a_s/map"),
    "a_s, self iterated until the SAP stops changing": ("ProDA", "label_free/self_iterated/a_s/map"),
    "a_s, scan": ("ProDA", "label_free/scan/a_s/map"),
    "a_s, scan, trained with single absent actions too": (SINGLES, "label_free/scan/a_s/map"),
    "a_s of partition averaged with a_m": ("ProDA", "label_free/partition_with_a_m/a_s/map"),
    "a_s of scan averaged with a_m": ("ProDA", "label_free/scan_with_a_m/a_s/map"),
    "a_s of scan averaged with a_m, trained with single absent actions too": (
        SINGLES,
        "label_free/scan_with_a_m/a_s/map",
    ),
    "a_s, self, trained on its own questions too": (OWN, "label_free/self/a_s/map"),
    "a_t, self, trained on its own questions too": (OWN, "label_free/self/a_t/map"),
    "a_s, self iterated, trained on its own questions too": (OWN, "label_free/self_iterated/a_s/map"),
    "a_s, partition, trained on its own questions too": (OWN, "label_free/partition/a_s/map"),
    "a_s, scan, trained on its own questions too": (OWN, "label_free/scan/a_s/map"),
    "a_s of scan averaged with a_m, trained on its own questions too": (OWN, "label_free/scan_with_a_m/a_s/map"),
    "a_s, partition, the reconstruction only reads its target": (READ, "label_free/partition/a_s/map"),
    "a_m, the reconstruction only reads its target": (READ, "a_m/map"),
    "a_s, partition, margins of 1": (WIDE, "label_free/partition/a_s/map"),
    "a_m, margins of 1": (WIDE, "a_m/map"),
}


def label_free_table(found: Recorded) -> Table:
    """Recognition without test labels in the question; below it the paper's protocol with its control."""
    cells = {line: cell(found, row, key) for line, (row, key) in LINES.items()}
    frame = pd.DataFrame({"mAP": list(cells.values())}, index=pd.MultiIndex.from_tuples(cells))
    return Table(frame, f"{found.note} {RULES} K as in training.")


def attempts_table(found: Recorded) -> Table:
    """Each attempt of which the data set has a row: its mAP, and its distance from the two controls seed by seed."""
    tried = {label: (row, key) for label, (row, key) in ATTEMPTS.items() if row in found.runs}
    frame = pd.DataFrame(
        {
            "mAP": [cell(found, row, key) for row, key in tried.values()],
            **{f"− {name}": [_away(found, label, row) for label in tried] for row, name in CONTROLS.items()},
        },
        index=pd.Index(list(tried), name="attempt"),
    )
    return Table(frame, f"{found.note} {RULES}")


def label_free_differences(found: Recorded) -> Table:
    """ProDA's answers to no question and by partition, against the controls, with the intervals of table 1's runs."""
    return paired.difference_table(found, [("ProDA", control) for control in CONTROLS], {}, ANSWERS)


def label_free_findings(found: Recorded) -> Text:
    """The main protocol and a_m against the two controls, and which of the other attempts are above no_prompt."""
    main, *others = ATTEMPTS
    stands = [_stands(found, label, key) for label, key in ANSWERS.items()]
    sentences = [compare("ProDA", name, main, away)
                 for row, name in CONTROLS.items() if (away := _away(found, main, row)).values]  # fmt: skip
    run = {label: away for label in others if (away := _away(found, label, "no_prompt")).values}
    if run:
        above = [f"{label} ({away}, {len(away.values)} seed{'s' * (len(away.values) > 1)})"
                 for label, away in run.items() if min(away.values) > 0]  # fmt: skip
        which = f": {'; '.join(above)}. The same test videos show which these are" if above else ""
        seeds = "with every seed that was run"
        sentences.append(
            f"Of the {len(run)} other attempts that were run, {len(above)} are above no_prompt {seeds}{which}."
        )
    return bullets([*filter(None, stands), *sentences] or ["Nothing was run yet."])


def _stands(found: Recorded, label: str, key: Key) -> str:
    """A sentence on where an answer that needs no test label stands; empty without runs.

    Above or below: with every seed, and the interval over test videos, if there is one for all seeds, leaves 0 out.
    """
    words, have = [], paired.known()
    for control, name in CONTROLS.items():
        away = differences(found.runs.get("ProDA", []), found.runs.get(control, []), key, "a_t/map").values
        if away:
            range_ = paired.interval(have, found, "ProDA", control, label)
            open_ = min(away) <= 0 <= max(away) or (range_ and range_.contains_0)
            words.append(f"{'not told apart from' if open_ else 'above' if away[0] > 0 else 'below'} {name}")
    return f"When nobody tells the model the answer, {label} is {' and '.join(words)}." if words else ""


def disentangling_findings(found: Recorded) -> Text:
    """Rows ⑤ and ① of table 5: what the two losses that disentangle do to the answers that need no test label."""
    rows = found.runs["⑤"], found.runs["①"]
    return bullets(compare("⑤ both losses", "① neither", f"{label}, no test labels", differences(*rows, key))
                   for label, key in ANSWERS.items())  # fmt: skip


def _away(found: Recorded, attempt: str, control: str) -> Spread:
    row, key = ATTEMPTS[attempt]
    away = differences(found.runs.get(row, []), found.runs.get(control, []), key, "a_t/map")
    return Spread(away.values, blank="not run", signed=True)
