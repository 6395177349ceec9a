"""The page on figure 4: its table, beside the paper's numbers, and its sentences."""

from __future__ import annotations

import pandas as pd

from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.separability import Distance, Separability, Separation

#: Set of videos → prompts on their own videos, and the control.
Found = dict[str, tuple[Separability, Separability]]

COLUMNS = [("paper", "Charades"), ("ours", "own video"), ("control", "another video")]
SPACES = {"t-SNE plane": "in_plane", "feature space": "in_features"}


def paper_distances() -> dict[tuple[str, str], Distance]:
    """(set, intra- or inter-class) → distance in the t-SNE plane, as printed in the paper."""
    quoted = paper_table("figure04").items()
    return {place: Distance(number.mean, number.deviation.mean, 0) for place, number in quoted}


def distance_table(found: Found, setting: str) -> Table:
    """Intra- and inter-class distances, and their ratio, for each set of videos and each space."""
    paper, lines = paper_distances(), {}
    for name, pair in found.items():
        for space, field in SPACES.items():
            model, control = (getattr(entry, field) for entry in pair)
            quoted: dict[str, object] = {"intra-class": Spread(), "inter-class": Spread(), "inter / intra": Spread()}
            if space == "t-SNE plane" and (name, "intra-class") in paper:
                whole = Separation(paper[name, "intra-class"], paper[name, "inter-class"])
                quoted = dict(zip(quoted, _cells(whole), strict=True))
            for line, *cells in zip(quoted, quoted.values(), _cells(model), _cells(control), strict=True):
                lines[f"{name}, {space}", line] = cells
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=pd.MultiIndex.from_tuples(COLUMNS))
    frame.index = pd.MultiIndex.from_tuples(lines)
    sizes = ", ".join(f"{len(pair[0].features.actions)} features ({name})" for name, pair in found.items())
    return Table(frame, f"Mean ± standard deviation over all pairs. {sizes}. {setting}")


def _cells(separation: Separation) -> tuple[Distance, Distance, Spread]:
    known = separation.intra.mean > 0
    return separation.intra, separation.inter, Spread((separation.ratio,) if known else (), digits=2)


def findings(found: Found) -> Text:
    """How the control compares, in the words that the numbers allow."""
    sentences = []
    for name, pair in found.items():
        for space, field in SPACES.items():
            own, other = (getattr(entry, field).ratio for entry in pair)
            sentences.append(f"{name.capitalize()}, {space}: inter-class is {own:.2f} times intra-class with each "
                             f"prompt on its own video, and {other:.2f} times with the same prompts on other videos, "
                             f"{100 * other / own:.0f} % of that.")  # fmt: skip
    shares = [f"{100 * control.features.present.mean():.0f} % ({name})" for name, (_, control) in found.items()]
    sentences.append(f"By chance the other video has the action asked for in {' and '.join(shares)} of the questions.")
    return bullets(sentences)
