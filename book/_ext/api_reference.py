"""The API reference: ```` ```{api} proda_lib.nn ```` on a page documents every public module of that package.

No list of modules has to be kept and nothing is written into the source tree. Docstrings are Google style; indented
text outside their sections (formulas, tables of shapes) is shown as it stands, and stray ``*``, ``|`` or ``x_`` are
taken literally, so that a formula in a docstring cannot break the build.
"""

import importlib
import pkgutil
import re

BLOCK = re.compile(r"^```\{api\} +([\w. ]+)\n```$", re.MULTILINE)
SECTION = re.compile(r"(Args|Arguments|Attributes|Examples?|Notes?|Raises|Returns|Yields|References|See Also"
                     r"|Warnings?|Keyword Args|Other Parameters):$")  # fmt: skip
ITEM = re.compile(r"([-*+]|\d+[.)]|\.\.|>>>) ?")
LITERAL = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`[^`]+`__?|\\.)")


def modules(name: str) -> list[str]:
    """The module itself, or the public modules of a package."""
    path = getattr(importlib.import_module(name), "__path__", None)
    if path is None:
        return [name]
    return [f"{name}.{m.name}" for m in pkgutil.iter_modules(path) if not m.name.startswith("_") and not m.ispkg]


def expand(app, docname: str, source: list[str]) -> None:
    def section(match: re.Match) -> str:
        names = [module for name in match[1].split() for module in modules(name)]
        return "\n\n".join(
            f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```" for name in names
        )

    source[0] = BLOCK.sub(section, source[0])


def escape(line: str) -> str:
    """Keep literals and roles, take every other markup character as it stands."""
    parts = LITERAL.split(line)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*|])", r"\\\1", parts[i])
        parts[i] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", parts[i])
        parts[i] = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", parts[i])
    return "".join(parts)


def plain(app, what, name, obj, options, lines: list[str]) -> None:
    """Turn indented text outside sections into literal blocks, and escape the rest; runs before napoleon."""
    result: list[str] = []
    mode = "text"  # of the indented lines that follow: text (make literal), literal (in one), section, markup
    for line in (line.replace("\b", "") for line in lines):  # click's mark for "do not wrap"
        if not line.strip():
            result.append("")
            continue
        if line[0] != " ":
            item = ITEM.match(line)
            mode = "section" if SECTION.match(line) else "markup" if item or line.endswith("::") else "text"
            literal = item and item[1] in ("..", ">>>")
            marker = item[0] if item and not literal else ""
            result.append(line if literal else marker + escape(line[len(marker) :]))
            continue
        if mode == "text":
            result += ["", "::", ""] if result and result[-1] else ["::", ""]
            mode = "literal"
        result.append(escape(line) if mode == "section" else line)
    lines[:] = [*result, ""]


def outdated(app, env, added, changed, removed) -> list[str]:
    return [name for name in env.found_docs if name.startswith("api/")]


def load_once(app, config) -> None:
    """MathJax has its own setting; the site builder would load every script under _static a second time."""
    config.html_js_files = [name for name in config.html_js_files if "mathjax" not in str(name)]


def own_sources(app):
    """Source pages link back to where an object is documented: here always under the module that defines it.

    Without this viewcode follows values (a property, an imported constant) and links to places that do not exist.
    """
    sources = getattr(app.env, "_viewcode_modules", {})
    for name, entry in list(sources.items()):
        if entry:
            sources[name] = (*entry[:3], name)
        else:
            del sources[name]
    return []


def setup(app) -> dict:
    app.connect("config-inited", load_once)
    app.connect("html-collect-pages", own_sources, priority=100)
    app.connect("source-read", expand)
    app.connect("autodoc-process-docstring", plain, priority=400)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True}
