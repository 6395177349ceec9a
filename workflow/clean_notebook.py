"""Leave in an executed notebook only what belongs on a page: no progress bars, no widgets, no paths of a machine."""

import re
import sys
from pathlib import Path

PROGRESS = re.compile(r"\r|\d+%\||\d+(it|\S*/s) ?\[|TqdmWarning|from \.autonotebook import")
BINARY = ("image/png", "image/jpeg", "application/pdf")


def machine_paths(root: Path) -> list[tuple[re.Pattern, str]]:
    """What stands for a path of this machine, longest first, and what replaces it."""
    prefixes = {str(root): ".", sys.prefix: "<python>", sys.base_prefix: "<python>", str(Path.home()): "~"}
    if home_of_all := [p for p in ("/usr/local", "/usr", "/") if p in prefixes]:  # too short to be a machine's own
        for prefix in home_of_all:
            del prefixes[prefix]
    rules = [(re.compile(r"/tmp/ipykernel_\d+/\d+\.py"), "<cell>")]
    for prefix in sorted(prefixes, key=len, reverse=True):
        rules.append((re.compile(re.escape(prefix) + r"(?=/|\b|$)"), prefixes[prefix]))
    return [*rules, (re.compile(r"/tmp/(?=\w)"), "<tmp>/")]


def scrub(value, rules: list[tuple[re.Pattern, str]]):
    """Apply the rules to every string of an output; pictures stay as they are."""
    if isinstance(value, str):
        for pattern, replacement in rules:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, list):
        return [scrub(item, rules) for item in value]
    if isinstance(value, dict):
        for key in value:
            value[key] = value[key] if key in BINARY else scrub(value[key], rules)
    return value


def keep_output(output) -> bool:
    if output.output_type == "stream" and output.name == "stderr":
        lines = output.text.splitlines(keepends=True)
        output.text = "".join(line for line in lines if not PROGRESS.search(line))
        return bool(output.text.strip())
    return "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


def clean(notebook, root: Path, committed: bool = False):
    """Clean in place and return it. ``committed``: also drop the injected parameters, so that the notebook
    keeps taking its profile from its own ``parameters`` cell."""
    rules = machine_paths(root)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            if "never-commit" in cell.metadata.get("tags", []):  # licensed pictures
                cell.outputs = []
            cell.outputs = [scrub(output, rules) for output in cell.outputs if keep_output(output)]
    record = notebook.metadata.pop("papermill", {})
    notebook.metadata.pop("widgets", None)
    if "parameters" in record:
        notebook.metadata["papermill"] = {"parameters": record["parameters"]}
    if committed:
        injected = [c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", [])]
        notebook.cells = [cell for cell in notebook.cells if cell not in injected]
    return notebook
