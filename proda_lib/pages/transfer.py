"""From SSG-World to CAD-120: how much does a start from the simulator save?"""

from __future__ import annotations

import itertools

import pandas as pd
from matplotlib.figure import Figure

from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.differences import compare, differences
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.report import Key, network_size
from proda_lib.evaluation.tables import SHARES, STARTS
from proda_lib.plotting import style
from proda_lib.training.data import VALIDATION, share_size

#: Answer → key; the first two use no test label, a_t is the paper's protocol.
ANSWERS: dict[str, Key] = {
    "a_m": "a_m/map",
    "a_s by partition": "label_free/partition/a_s/map",
    "a_t": "paper/both/a_t",
}
#: Control → its row and key. ``no_prompt`` has ProDA's size, and stands beside the answers that use no test label.
CONTROLS: dict[str, tuple[str, Key]] = {
    "no_prompt": ("no_prompt", "a_t/map"),
    "class frequency": ("prompt_only", "frequency/map"),
    "prompt only, trained": ("prompt_only", "trained/both/a_t"),
}


def transfer_table(found: Recorded) -> Table:
    """A line for each share of the training videos: from the simulator, from scratch, and the controls."""
    cells: dict[tuple[str, str], list[Spread]] = {}
    for answer, key in ANSWERS.items():
        for start in STARTS:
            cells[answer, start] = [cell(found, f"{start}, {share:.0%}", key) for share in SHARES]
    for control, (row, key) in CONTROLS.items():
        cells["control", control] = [cell(found, f"{row}, {share:.0%}", key) for share in SHARES]
    index = pd.Index([f"{share:.0%}{_videos(found, share)}" for share in SHARES], name="training videos")
    counts = "In brackets: videos that networks train on; prompt_only has the share of all, those of validation too."
    return Table(pd.DataFrame(cells, index=index), f"{found.note} {network_size(found.runs)} {counts} {RULES}")


def _videos(found: Recorded, share: float) -> str:
    """How many videos ProDA trains on in a fold, from the records: a share of what validation leaves; "" if unknown."""
    counts = set()
    for run in itertools.chain(*(found.runs.get(f"{start}, {share:.0%}", []) for start in STARTS)):
        if run.recipe.dataset == "cad120_clips":  # validation takes whole videos, and the record counts clips
            return ""
        for fold in run.record["videos"]:
            held = share_size(fold["train"], VALIDATION) if run.recipe.select == "validation" else 0
            counts.add(share_size(fold["train"] - held, share))
    return f" ({'–'.join(map(str, sorted({min(counts), max(counts)})))} of a fold)" if counts else ""


def transfer_findings(found: Recorded) -> Text:
    """The start's difference at each share, and with all videos ProDA's from the controls, seed by seed."""
    sentences = []
    for answer in ("a_m", "a_s by partition"):
        for share in SHARES:
            ours, other = (found.runs.get(f"{start}, {share:.0%}", []) for start in STARTS)
            what = f"{answer} with {share:.0%} of the training videos"
            sentences.append(compare(STARTS[0], STARTS[1], what, differences(ours, other, ANSWERS[answer])))
    for answer, control in {"a_m": "no_prompt", "a_s by partition": "no_prompt", "a_t": "prompt only, trained"}.items():
        row, key = CONTROLS[control]
        for start in STARTS:
            ours, other = (found.runs.get(f"{name}, 100%", []) for name in (start, row))
            what = f"{answer} with 100% of the training videos"
            sentences.append(compare(start, control, what, differences(ours, other, ANSWERS[answer], key)))
    return bullets(sentences)


def learning_curves(found: Recorded) -> Figure:
    """mAP against the share of the training videos, a panel for each answer; dots are seeds, lines their means."""
    figure, axes = style.subplots(1, len(ANSWERS), height=2.6, sharey=True)
    for ax, (answer, key) in zip(axes, ANSWERS.items(), strict=True):
        for start, colour, marker in zip(STARTS, style.COLOURS, "os", strict=False):
            cells = {share: cell(found, f"{start}, {share:.0%}", key) for share in SHARES}
            done = {share: value for share, value in cells.items() if value.values}
            ax.plot(list(done), [value.mean for value in done.values()], color=colour, label=start)
            for share, value in done.items():
                ax.plot([share] * len(value.values), value.values, marker, color=colour, markersize=4, alpha=0.75)
        beside = {"prompt only, trained": "--"} if answer == "a_t" else {"no_prompt": ":", "class frequency": "--"}
        for control, line in beside.items():
            row, control_key = CONTROLS[control]
            flat = {share: cell(found, f"{row}, {share:.0%}", control_key) for share in SHARES}
            known = {share: value.mean for share, value in flat.items() if value.values}
            ax.plot(list(known), list(known.values()), line, color=style.BLACK, linewidth=1, label=control)
        ax.set(title=answer, xscale="log", xlabel="share of training videos")
        ax.set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
        ax.minorticks_off()
    axes[0].set(ylabel="mAP (%)", ylim=(0, 100))
    named = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named))
    return figure
