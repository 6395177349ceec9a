"""Number a notebook's table as a table: the output of a cell with the figure class ``numbered-table``.

A cell's output gets a caption through its metadata, ``mystnb: {figure: {name, caption, classes: numbered-table,
caption_before: true}}``, but always as a figure. Here such a figure becomes a node that counts with the tables, so that
``{numref}`` says "Table 3".
"""

from docutils import nodes
from sphinx.transforms import SphinxTransform


class table_figure(nodes.figure):
    """A figure that holds a table."""


class NumberTables(SphinxTransform):
    default_priority = 500  # before the labels are collected

    def apply(self) -> None:
        for figure in list(self.document.findall(nodes.figure)):
            if "numbered-table" in figure["classes"]:
                figure.__class__ = table_figure


def title_of(node: nodes.Element) -> str | None:
    return next((child.astext() for child in node if isinstance(child, nodes.caption)), None)


def setup(app) -> dict:
    visitors = {"html": (lambda self, node: self.visit_figure(node), lambda self, node: self.depart_figure(node))}
    app.add_enumerable_node(table_figure, "table", title_of, **visitors)
    app.add_transform(NumberTables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
