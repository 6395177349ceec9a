"""The first page: the main numbers, and what reproduces, what does not, and what cannot be known from here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from proda_lib.evaluation import audit, grid, paired, tables
from proda_lib.evaluation.cells import Interval, Spread, Table, Text, bullets
from proda_lib.evaluation.differences import differences
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.report import Key
from proda_lib.pages import domain_shift

#: Data sets that were trained on, as the book calls them.
DATA = {"world": "SSG-World", "cad120": "CAD-120"}
#: Rows of table 5 in words.
NAMES = {"①": "① no further loss", "②": "② no margins", "③": "③ dis", "④": "④ rec", "⑤": "⑤ both",
         "⑥": "⑥ encoder alone"}  # fmt: skip
#: Signs of a verdict.
HOLDS, REVERSED, OPEN, SAME, UNKNOWN = "✓", "✗", "≈", "=", "?"
_FRAMES = "localization/distractor"
#: Training videos of the larger runs on SSG-World's own page.
MANY = tables.world_controls("reference")["ProDA"][0].train_videos


def _many_videos(profile: str, seeds: Sequence[int], dataset: str = "world") -> tables.Rows:
    """Those runs, which have one seed; CAD-120 has no more videos than it has."""
    return tables.world_controls(profile, seeds[:1]) if dataset == "world" else {}


def _wider(profile: str, seeds: Sequence[int], dataset: str = "world") -> tables.Rows:
    """CAD-120 with the larger network of the page on transfer."""
    return tables.transfer(profile, seeds, dataset) if dataset == "cad120" else {}


#: Page, question, table → (row, key) minus (row, key): what no paper's number stands beside.
AGAINST: list[tuple[str, str, Callable[..., tables.Rows], tuple[str, Key], tuple[str, Key]]] = [
    ("results/table03", "a_t − trained prompt-only", tables.table03,
     ("DPM", "paper/both/a_t"), ("prompt_only", "trained/both/a_t")),
    ("results/table03", "a_s − trained prompt-only", tables.table03,
     ("DPM", "paper/both/a_s"), ("prompt_only", "trained/both/a_s")),
    ("audit/label_free", "a_s by partition − no_prompt, no test labels", tables.label_free,
     ("ProDA", "label_free/partition/a_s/map"), ("no_prompt", "a_t/map")),
    ("results/table03", "a_m − no_prompt, no test labels", tables.table03,
     ("DPM", "a_m/map"), ("no_prompt", "a_t/map")),
    ("results/table01", "a_m − transformer over node tokens, no test labels", tables.table01,
     ("ProDA", "a_m/map"), ("token_transformer", "a_t/map")),
    ("data/world", f"a_t − trained prompt-only, with {MANY:,} videos, one seed", _many_videos,
     ("ProDA", "paper/both/a_t"), ("prompt_only", "trained/both/a_t")),
    ("data/world", f"a_s − trained prompt-only, with {MANY:,} videos, one seed", _many_videos,
     ("ProDA", "paper/both/a_s"), ("prompt_only", "trained/both/a_s")),
    ("data/world", f"a_s by partition − no_prompt, with {MANY:,} videos, one seed", _many_videos,
     ("ProDA", "label_free/partition/a_s/map"), ("no_prompt", "a_t/map")),
    ("data/world", f"a_m − no_prompt, with {MANY:,} videos, one seed", _many_videos,
     ("ProDA", "a_m/map"), ("no_prompt", "a_t/map")),
    ("results/transfer", "a_t − trained prompt-only, wider network, 16 frames", _wider,
     ("from scratch, 100%", "paper/both/a_t"), ("prompt_only, 100%", "trained/both/a_t")),
    ("results/transfer", "a_s by partition − no_prompt, wider network, 16 frames", _wider,
     ("from scratch, 100%", "label_free/partition/a_s/map"), ("no_prompt, 100%", "a_t/map")),
    ("results/transfer", "a_m − no_prompt, wider network, 16 frames", _wider,
     ("from scratch, 100%", "a_m/map"), ("no_prompt, 100%", "a_t/map")),
    ("results/table05", "a_u − trained prompt-only", tables.table05,
     ("⑤", "paper/both/a_u"), ("prompt_only", "trained/both/a_u")),
    ("results/table08", "frames found − every frame marked", tables.table03,
     ("DPM", f"{_FRAMES}/hit/mean/mean"), ("DPM", f"{_FRAMES}/hit/every_frame/mean")),
    ("results/table08", "frames found − found by any other question about the video", tables.table03,
     ("DPM", f"{_FRAMES}/hit/mean/mean"), ("DPM", f"{_FRAMES}/any_question/mean/mean")),
    ("figures/parsing", "average precision of edges: w − attention of the encoder alone", tables.table01,
     ("ProDA", "parsing/edges/w_1"), ("encoder_only", "parsing/edges/attention")),
]  # fmt: skip
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


@dataclass(frozen=True)
class Claim:
    """One row of the paper's against another: "a_t: DPM > SimplePrompt", by how much there and here, and the verdicts.

    ``ours`` and ``verdicts``: one for each of :data:`DATA`.
    """

    page: str
    words: str
    paper: float
    ours: list[Spread]
    verdicts: list[str]


def find_claims(seeds: Sequence[int]) -> list[Claim]:
    """What the paper's tables 3 to 5 say of one row against another (every pair that their pages compare, in a_t and
    a_m), and whether it is so here, the clearest first."""
    have = paired.known()
    claims: list[Claim] = []
    for table, name in ((tables.table03, "table03"), (tables.table04, "table04"), (tables.table05, "table05")):
        found, paper = [grid.recorded(table, "reference", seeds, dataset) for dataset in DATA], paper_table(name)
        for (this, that), (measure, key) in itertools.product(paired.PAIRS[table], paired.KEYS.items()):
            if not {(this, measure), (that, measure)} <= set(paper):
                continue
            expected = paper[this, measure].mean - paper[that, measure].mean
            ours = [differences(f.runs[this], f.runs[that], key) for f in found]
            verdicts = [_verdict(o, expected, paired.interval(have, f, this, that, measure))
                        for o, f in zip(ours, found, strict=True)]  # fmt: skip
            words = f"{measure}: {NAMES.get(this, this)} {'>' if expected > 0 else '<'} {NAMES.get(that, that)}"
            claims.append(Claim(f"results/{name}", words, expected, ours, verdicts))
    return sorted(claims, key=lambda claim: (-claim.verdicts.count(HOLDS), claim.verdicts.count(REVERSED)))


def short(claims: Sequence[Claim]) -> Text:
    """How many claims hold and how many are reversed; by name those that are so on every data set."""
    sentences = []
    for sign, what in ((HOLDS, "hold"), (REVERSED, "are reversed")):
        both = [claim.words for claim in claims if set(claim.verdicts) == {sign}]
        names = f" ({'; '.join(both)})" if both else ""
        sentences.append(f"Of {len(claims)} claims, {len(both)} {what} on {' and '.join(DATA.values())}{names}.")
    for place, name in enumerate(DATA.values()):
        held, turned = (sum(c.verdicts[place] == sign for c in claims) for sign in (HOLDS, REVERSED))
        rest = len(claims) - held - turned
        sentences.append(f"{name}: {held} hold, {turned} are reversed, {rest} cannot be told.")
    return bullets(sentences)


def claims_table(claims: Sequence[Claim]) -> Table:
    """Every claim: the paper's difference, ours, and whether it is so here."""
    columns = ["the paper's claim", "paper", *DATA.values()]
    rows = [[_link(claim.page, claim.words), f"{claim.paper:+.2f}".replace("-", "−"),
             *(f"{Spread(o.values, signed=True)} {v}" if o.values else v
               for o, v in zip(claim.ours, claim.verdicts, strict=True))] for claim in claims]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns).set_index(columns[0])
    note = (f"Points of mAP, mean ± standard deviation over seeds. {HOLDS} holds, {REVERSED} reversed: the same sign "
            "with every seed, and the interval over test videos leaves 0 out.")  # fmt: skip
    return Table(frame, f"{note} {OPEN} the two are not told apart. {SAME} no difference at all. "
                 f"{UNKNOWN} no interval of all seeds yet.")  # fmt: skip


def _verdict(ours: Spread, expected: float, interval: Interval | None) -> str:
    if not ours.values:
        return "not run"
    if not any(ours.values):
        return SAME
    if interval is None or interval.seeds:  # of some seeds only, it may not even hold their mean
        return UNKNOWN
    signs = {value * expected > 0 for value in ours.values}
    if len(signs) > 1 or interval.contains_0:
        return OPEN
    return HOLDS if signs == {True} else REVERSED


def controls(seeds: Sequence[int]) -> Table:
    """What stands beside ProDA's numbers: the prompt alone, the network without a prompt, every frame marked."""
    read = {table: [grid.recorded(table, "reference", seeds, dataset) for dataset in DATA]
            for table in {line[2] for line in AGAINST}}  # fmt: skip
    lines = [*_prompt_only(read[tables.table03])]
    for page, question, table, (this, key), (that, other) in AGAINST:
        cells = [Spread(differences(f.runs[this], f.runs[that], key, other).values,
                        blank="–" if f.runs[this] and f.runs[that] else "not run", signed=True)
                 if f.runs else Spread() for f in read[table]]  # fmt: skip
        lines.append([_link(page, question), *map(str, cells), "–"])
    shift = grid.recorded(lambda profile, seeds, dataset: tables.domain_shift(profile, seeds), "reference", seeds[:1])
    away = domain_shift.over_splits(shift, "paper/both/a_t", "prompt_only", "trained/both/a_t")
    shifted = "a_t − trained prompt-only, in other scenes, one seed of each of five splits"
    lines.append([_link("results/table10", shifted), str(away), "–", "–"])
    columns = ["question", *DATA.values(), "Charades"]
    frame = pd.DataFrame(lines, columns=columns).set_index(columns[0])
    note = (
        "mAP in percent, or points of it (signed). Charades: labels of its training and test videos, and no video; the "
        "prompt needs no more."
    )
    return Table(
        frame, f"{note} –: no number. Frames: percent of hits, mean over thresholds, one action asked among others."
    )


def _link(page: str, text: str) -> str:
    return f'<a href="{page}.html">{text}</a>'


def _prompt_only(found: Sequence[Recorded]) -> list[list[str]]:
    """a_t of ProDA and of the controls that see no video; theirs also on the real Charades test labels."""
    metrics = audit.recorded()["metrics"]
    lines = [[_link("results/table03", "a_t of ProDA"), *(str(cell(f, "DPM", "paper/both/a_t")) for f in found), "–"]]
    for name in ("rule", "trained"):
        key = f"{name}/both/a_t"
        labels = Spread(tuple(float(entry[name]["both"]["a_t"]) for entry in metrics))
        here = [str(cell(f, "prompt_only", key)) for f in found]
        lines.append([_link("audit/prompt", f"a_t of prompt-only, {name}"), *here, str(labels)])
    return lines
