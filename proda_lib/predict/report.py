"""The report of a prediction: one HTML page with pictures and tables that fetches nothing."""

from __future__ import annotations

import base64
import html
import io
from importlib.resources import files
from string import Template

import numpy as np
from matplotlib.figure import Figure

from proda_lib.plotting.graphs import edge_names, slot_names
from proda_lib.plotting.style import readable
from proda_lib.predict import pictures
from proda_lib.predict.answer import KEPT, Prediction


def report_html(answer: Prediction) -> str:
    """The page as text."""
    template = Template((files("proda_lib.predict") / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        video=html.escape(answer.graph.video),
        summary=_paragraph(summary(answer)),
        notes="".join(f"<li>{html.escape(note)}</li>" for note in answer.notes) or "<li>Nothing was left out.</li>",
        scores=_scores(answer),
        no_action=f"{answer.no_action:.2f}",
        others=_others(answer),
        boxes=_image(pictures.boxes(answer), _boxes_alt(answer)),
        weights=_image(pictures.frame_weights(answer), " ".join(weight_sentences(answer))),
        weight_sentences=_paragraph(" ".join(weight_sentences(answer))),
        weight_table=_weight_table(answer),
        theta=f"{answer.theta:g}",
        parsed="".join(_parsed(answer, place) for place in range(len(answer.asked))),
        kept=f"{KEPT:g}",
        about="".join(f"<li>{html.escape(line)}</li>" for line in (f"Model: {answer.model}.", *answer.about)),
        facts=_facts(answer),
    )


def summary(answer: Prediction) -> str:
    """What the model says of the actions asked for."""
    scores = answer.scores["a_s"]
    said = {True: [], False: []}
    for name in answer.actions:
        said[bool(scores[name] >= 0.5)].append(f"{readable(name)} ({scores[name]:.2f})")
    count = len(answer.asked)
    sentences = [f"The model was asked for {count} action{'s' * (count > 1)}."]
    sentences += [f"It finds {_listed(said[True])}."] if said[True] else []
    sentences += [f"It does not find {_listed(said[False], 'or')}."] if said[False] else []
    return " ".join(sentences)


def weight_sentences(answer: Prediction) -> list[str]:
    """Where each action is found, in words."""
    sentences = []
    for name, found in zip(answer.actions, answer.found, strict=True):
        if found.all():
            sentences.append(f"{readable(name)}: every frame is found, so that these weights locate nothing.")
            continue
        where = _listed([f"{start:.1f} to {end:.1f} s" for start, end in answer.segments[name]])
        sentences.append(f"{readable(name)}: found at {where}.")
    return sentences


def _scores(answer: Prediction) -> str:
    table = answer.scores.loc[answer.actions]
    rows = ""
    for name, row in table.iterrows():
        gain = f"{row.a_t - row.a_m:+.2f}".replace("-", "−")
        cells = (_bar(row.a_s), f"{row.a_s_alone:.2f}", f"{row.a_t:.2f}", f"{row.a_m:.2f}", gain)
        rows += f'<tr><th scope="row">{_name(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    return rows


def _bar(value: float) -> str:
    return f'<span class="bar" aria-hidden="true"><i style="width:{100 * value:.0f}%"></i></span> {value:.2f}'


def _others(answer: Prediction) -> str:
    table = answer.scores
    rows = (f'<tr><th scope="row">{_name(name)}</th><td>{row.a_t:.2f}</td><td>{row.a_m:.2f}</td></tr>'
            for name, row in table[~table["asked"]].iterrows())  # fmt: skip
    return "".join(rows)


def _weight_table(answer: Prediction) -> str:
    head = "".join(f'<th scope="col">{_name(name)}</th>' for name in answer.actions)
    rows = "".join(
        f'<tr><th scope="row">{time:.2f}</th>{"".join(f"<td>{value:.2f}</td>" for value in values)}</tr>'
        for time, values in zip(answer.seen.times, answer.localization.T, strict=True)
    )
    return f'<table><thead><tr><th scope="col">seconds</th>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _parsed(answer: Prediction, place: int) -> str:
    name, own = answer.actions[place], answer.alone[place]
    rows, graph, edges = "", answer.seen, edge_names(answer.seen)
    frame = int(np.argmax(own.s))
    w, largest = own.w[-1][:, frame], float(np.nanmax(own.w[-1], initial=0.0))
    for edge in np.argsort(-np.nan_to_num(w, nan=-1.0), kind="stable"):
        if not np.isnan(w[edge]):
            held = ", ".join(
                readable(graph.vocabulary.relations[r]) for r in np.flatnonzero(graph.relations[frame, edge])
            )
            kept = "yes" if w[edge] >= KEPT * largest else "no"
            rows += (f'<tr><th scope="row">{html.escape(edges[edge])}</th><td>{html.escape(held) or "–"}</td>'
                     f"<td>{w[edge]:.2f}</td><td>{kept}</td></tr>")  # fmt: skip
    picture = _image(pictures.parsed(answer, place), _parsed_alt(answer, place))
    table = ('<table><thead><tr><th scope="col">edge</th><th scope="col">relations</th><th scope="col"><i>w</i></th>'
             f'<th scope="col">kept</th></tr></thead><tbody>{rows}</tbody></table>')  # fmt: skip
    if not rows:
        table = "<p>No two joined objects are in this frame together.</p>"
    title = f"Edges at {graph.times[frame]:.1f} s, the frame with the largest weight"
    return (f"<h3>{_name(name)}</h3><figure>{picture}</figure><details><summary>{title}</summary>"
            f"{_scroll(table, title)}</details>")  # fmt: skip


def _boxes_alt(answer: Prediction) -> str:
    shown = pictures.spread(answer.seen, pictures.BOXES)
    return f"{len(shown)} frames of the video with boxes of {_listed(slot_names(answer.seen))}."


def _parsed_alt(answer: Prediction, place: int) -> str:
    own, names = answer.alone[place], edge_names(answer.seen)
    if not names:
        return "Boxes of the objects; the graph has no edges."
    best = np.nan_to_num(own.w[-1]).max(1)
    strongest = [names[edge] for edge in np.argsort(-best, kind="stable")[:2]]
    return f"Boxes and arrows in the frames with the largest weights; the strongest edges are {_listed(strongest)}."


def _facts(answer: Prediction) -> str:
    graph = answer.graph
    edges = int(graph.edge_present.sum())
    related = int((graph.relations.any(-1) & graph.edge_present).sum())
    objects = html.escape(_listed(slot_names(graph)))
    return (f"{graph.duration:.1f} s, {graph.num_frames} frames in the graph, of which the model saw "
            f"{len(np.unique(answer.seen.times))}; {graph.num_slots} objects: {objects}; {related} of "
            f"{edges} edges (each direction and frame counted) have a relation.")  # fmt: skip


def _image(figure: Figure, alt: str) -> str:
    """A figure inside the page, at twice the resolution of a screen."""
    data = io.BytesIO()
    figure.savefig(data, format="webp", dpi=200, pil_kwargs={"quality": 82})
    text = base64.b64encode(data.getvalue()).decode()
    width, height = (round(96 * side) for side in figure.get_size_inches())
    return f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" src="data:image/webp;base64,{text}">'


def _scroll(table: str, label: str) -> str:
    """A table that scrolls by keyboard where it is wider than the window."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(label)}">{table}</div>'


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _name(action: str) -> str:
    return html.escape(readable(action))


def _listed(names: list[str], word: str = "and") -> str:
    """ "a", "a and b", "a, b and c"; "no time" for none."""
    if not names:
        return "no time"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
