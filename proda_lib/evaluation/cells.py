"""What a page shows: values with their spread, intervals, tables of them, and computed sentences.

A table is made of cells, and a cell is a :class:`Spread`: the values that it stands for stay with it until it is shown.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Spread:
    """Values of one measure, one per seed. Shown as "12.3 ± 0.4", a single value as "12.3", none as ``blank``.

    ``signed``: a difference, "+12.3 ± 0.4".
    """

    values: tuple[float, ...] = ()
    digits: int = 1
    blank: str = "–"
    signed: bool = False

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation of a sample (divisor n − 1); NaN for fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        if not self.values:
            return self.blank
        spread = f" ± {self.sd:.{self.digits}f}" if len(self.values) > 1 else ""
        return f"{self.mean:{'+' if self.signed else ''}.{self.digits}f}{spread}".replace("-", "−")


@dataclass(frozen=True)
class Interval:
    """``difference`` of mAP in points (mean over seeds), and the ends of its 95 % bootstrap interval.

    ``seeds``: how many of how many seeds, where it is not all of them; then the difference of these is shown too.
    """

    difference: float
    low: float
    high: float
    seeds: str = ""

    @property
    def range(self) -> str:
        of_some = f"{self.difference:+.1f} {self.seeds}: " if self.seeds else ""
        return f"{of_some}[{self.low:+.1f}, {self.high:+.1f}]".replace("-", "−")

    @property
    def contains_0(self) -> bool:
        """Whether it leaves open what all seeds say: an interval of some of them decides nothing, and is never so."""
        return not self.seeds and self.low <= 0 <= self.high


@dataclass(frozen=True, eq=False)
class Table:
    """A frame of cells with a note below, shown without index clutter; ``frame`` has the cells for further use.

    ``words``: the heading of columns with words, which may take several lines; numbers never do.
    """

    frame: pd.DataFrame
    note: str = ""
    words: str | None = None

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return f'<p class="table-note">{html.escape(self.note)}</p>'
        strings = self.frame.map(str)
        levels = strings.columns.nlevels
        head = ""
        for level in range(levels):
            cells, heads = "", [c if levels == 1 else c[level] for c in strings.columns]
            for name, span in _spans(heads) if level < levels - 1 else [(h, 1) for h in heads]:
                cells += f'<th colspan="{span}" scope="colgroup">{html.escape(str(name))}</th>'
            corner = html.escape(str(strings.index.name or "")) if level == levels - 1 else ""
            head += f"<tr><th>{corner}</th>{cells}</tr>"
        marks = [' class="words"' if heading == self.words else "" for heading in heads]  # of the last level
        names = [name if isinstance(name, str) else ": ".join(map(str, name)) for name in strings.index]
        body = "".join(
            f'<tr><th scope="row">{_cell(name)}</th>'
            + "".join(f"<td{mark}>{_cell(cell)}</td>" for mark, cell in zip(marks, row, strict=True))
            + "</tr>"
            for name, row in zip(names, strings.to_numpy().tolist(), strict=True)
        )
        note = f'<p class="table-note">{html.escape(self.note)}</p>' if self.note else ""
        return f'<table class="dataframe results"><thead>{head}</thead><tbody>{body}</tbody></table>{note}'

    def __repr__(self) -> str:
        return self.frame.map(str).to_string() + (f"\n{self.note}" if self.note else "")


def _cell(text: str) -> str:
    """Escaped, unless it is a link."""
    return text if text.startswith("<a ") else html.escape(text)


def _spans(names: Sequence[str]) -> list[tuple[str, int]]:
    spans: list[tuple[str, int]] = []
    for name in names:
        spans[-1:] = [(name, spans[-1][1] + 1)] if spans and spans[-1][0] == name else [*spans[-1:], (name, 1)]
    return spans


class Text(str):
    """Computed sentences: a notebook shows them as text, not as code."""

    def _repr_markdown_(self) -> str:
        return str(self)


def bullets(sentences: Iterable[str]) -> Text:
    """Sentences as a list."""
    return Text("\n".join(f"- {sentence}" for sentence in sentences))
