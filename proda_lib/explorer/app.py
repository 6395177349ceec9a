"""The explorer in a live notebook: any model, any graphs, computed at each click (ipywidgets).

The controls are widgets; what they ask for is answered by the model and shown by the page of
:mod:`proda_lib.explorer.page`, so that there is one drawing.
"""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np

from proda_lib.errors import RecipeError
from proda_lib.explorer.page import Explorer
from proda_lib.explorer.precompute import (
    OFFERED,
    ask,
    distractors,
    facts,
    offered_actions,
    specification,
    video_entry,
)
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.plotting.style import readable
from proda_lib.specification import specification_length

SHORT = {"description_width": "initial"}


class App(widgets.VBox):
    """Choose a video and actions; each change is one forward pass.

    Attributes:
        video: Dropdown over the graphs. ``another``: Dropdown that puts one more action on offer, and asks for it.
        actions: a Checkbox for each action on offer. ``fill``: Checkbox, fill up with absent actions to length K.
        view: HTML, the page with the answer. ``explorer``: what it shows, for ``app.explorer.save(path)``.
    """

    def __init__(self, model: ProDA, graphs: Sequence[SceneGraph], device: str, spec_length: int, about: Sequence[str]):
        self._model, self._device, self._about = model, device, list(about)
        self._length = specification_length(model.config.actions, spec_length)
        self._graphs = [graph.sample_frames(model.config.frames) for graph in graphs]
        names = [(f"{graph.video} ({len(graph.labels)} labels)", i) for i, graph in enumerate(graphs)]
        self.video = widgets.Dropdown(options=names, description="Video", style=SHORT)
        self.another = widgets.Dropdown(description="Offer another action", style=SHORT)
        self.fill = widgets.Checkbox(description="Fill up with absent actions", indent=False)
        self._boxes = widgets.Box(layout=widgets.Layout(flex_flow="row wrap"))
        self.view = widgets.HTML()
        super().__init__([widgets.HBox([self.video, self.another], layout=widgets.Layout(flex_flow="row wrap")),
                          self._boxes, self.fill, self.view])  # fmt: skip
        self.video.observe(lambda change: self._start(), names="value")
        self.another.observe(self._offer, names="value")
        self.fill.observe(lambda change: self._show(), names="value")
        self._start()

    @property
    def actions(self) -> tuple[widgets.Checkbox, ...]:
        return self._boxes.children

    @property
    def chosen(self) -> list[int]:
        """The actions asked for, as numbers of the vocabulary."""
        return [int(action) for action, box in zip(self._offered, self.actions, strict=True) if box.value]

    def _start(self) -> None:
        """Another video: offer its labels and some absent actions, ask for the first."""
        self._graph = self._graphs[self.video.value]
        self._offered = offered_actions(self._graph, OFFERED)
        self._boxes.children = [self._box(action, place == 0) for place, action in enumerate(self._offered)]
        self._list_others()
        self._show()

    def _box(self, action: int, on: bool) -> widgets.Checkbox:
        truth = "in video" if action in self._graph.labels else "absent"
        name = f"{readable(self._graph.vocabulary.actions[action])} ({truth})"
        box = widgets.Checkbox(value=on, description=name, indent=False, layout=widgets.Layout(width="auto"))
        box.observe(lambda change: self._show(), names="value")
        return box

    def _list_others(self) -> None:
        names = self._graph.vocabulary.actions
        others = np.setdiff1d(np.arange(len(names)), self._offered)
        self.another.options = [("", None), *((readable(names[action]), int(action)) for action in others)]

    def _offer(self, change: dict) -> None:
        if change["new"] is not None:
            self._offered = np.append(self._offered, change["new"])
            self._boxes.children = [*self.actions, self._box(change["new"], True)]
            self._list_others()
            self._show()

    def _show(self) -> None:
        fill = distractors(self._graph, self._offered, self._length)
        filled = self.fill.value and len(fill) > 0
        sap = specification(len(self._graph.vocabulary.actions), self.chosen, fill if filled else (), self._length)
        places = [place for place, box in enumerate(self.actions) if box.value]
        number = sum(2**place for place in places) + filled * 2 ** len(self._offered)
        (answer,) = ask(self._model, self._graph, sap[None], self._device)
        entry = video_entry(self._graph, self._offered, fill, {} if answer is None else {number: answer})
        data = {"videos": [entry], "about": self._about, **facts(self._model, self._length)}
        choice = {"video": 0, "actions": places, "distractors": filled}
        self.explorer = Explorer(data, choice, controls=False)
        self.view.value = self.explorer._repr_html_()


def explore(
    model: ProDA, graphs: Sequence[SceneGraph], device: str = "cpu", *, spec_length: int = 16, about: Sequence[str] = ()
) -> App:
    """The explorer as an ipywidgets app, on any trained ProDA and any graphs of its vocabulary.

    Args:
        graphs: whole videos; the model sees as many frames as it takes, evenly spread.
        spec_length: of the model's recipe, for filling up; K is less where there are few actions.
        about: sentences on the run and the data, shown below.

    Raises:
        RecipeError: there is no graph, or the graphs' vocabulary has not as many actions as the model.
    """
    if not graphs:
        raise RecipeError("explore: found no graphs, expected at least one")
    for graph in graphs:
        found, wanted = len(graph.vocabulary.actions), model.config.actions
        if found != wanted:
            raise RecipeError(f"explore: {graph.video}: found {found} actions, expected the model's {wanted}")
    return App(model, graphs, device, spec_length, about)
