"""The committed records: each is what its name says, and SSG-World holds what it was made for."""

import ast
import json
import statistics
from pathlib import Path

import nbformat
import pytest
from grid import FILES, Plan, records_of, shown
from IPython.core.formatters import DisplayFormatter
from matplotlib import pyplot

from proda_lib.datasets.install import add_dataset
from proda_lib.evaluation import grid, paired, report
from proda_lib.evaluation.report import spread
from proda_lib.evaluation.tables import by_page, differences, transfer, world_controls
from proda_lib.pages import reference_profile
from proda_lib.training import runs
from proda_lib.training.recipe import Recipe, read_recipe

ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "results/runs").glob("*.json"))
#: Pages that read results/ and nothing else: no data set, no weights.
OF_RECORDS = ("audit/", "results/", "intro", "paper_and_code", "engineering/reference_profile")
PAGES = [page for page in Plan().pages if page.startswith(OF_RECORDS)]


def metric(recipe: Recipe, key: str) -> float:
    run = runs.committed(recipe)
    assert run, f"no committed record of {recipe}"
    return runs.flatten(run.metrics)[key]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_is_what_its_name_says(path):
    record = json.loads(path.read_text())
    recipe = read_recipe(record["recipe"])
    assert record["name"] == runs.run_name(recipe) == path.stem
    assert recipe.profile == "reference" and record["metrics"] and record["seconds"] > 0
    assert record["commit"] and not record["commit"].endswith("+changes")


def test_every_record_is_shown_on_a_page():
    shown = {runs.run_name(recipe) for recipes in by_page().values() for recipe in recipes}
    assert RECORDS and {path.stem for path in RECORDS} <= shown


def test_every_other_result_is_named_with_its_pages():
    """So that a page is stale once a file that it reads changes."""
    root = Path(__file__).parents[1]
    there = {path.relative_to(root) for path in (root / "results").rglob("*.json")}
    beside = {path for path in there if path.parent != Path("results/runs")}
    assert {str(path if str(path) in FILES else path.parent) for path in beside} == set(FILES)


@pytest.mark.parametrize("table, row, seed, later", [
    (transfer, "prompt_only, 1%", 1, set()),
    (differences, "warmup", 0, {"self_filled", "ranked", "any_question", "any_video", "any_class", "variation"}),
])  # fmt: skip
def test_a_committed_cell_is_made_again_with_the_same_numbers(
    table, row, seed, later, shared_data, tmp_path, monkeypatch
):
    """Bit for bit on the machine type and thread count of the record, else within 0.5 points of mAP.

    A control and a ProDA, a minute each. ``later``: metrics that came after the record.
    """
    recipe = table("reference", (seed,), "cad120")[row][0]
    monkeypatch.setenv("PRODA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path / "runs"))
    archive = shared_data / "cad120/annotations.zip"
    if not archive.is_file():
        pytest.skip(f"{archive.name} of CAD-120 is not in the shared data")
    add_dataset("cad120", archive, tmp_path / "data")
    record = runs.committed(recipe).record
    again = runs.get(recipe).record
    same = all(record["hardware"].get(key) == again["hardware"].get(key) for key in ("cpu", "threads", "device"))
    old, new = runs.flatten(record["metrics"]), runs.flatten(again["metrics"])
    new = {name: value for name, value in new.items() if not later & set(name.split("/"))}
    assert old.keys() == new.keys()
    assert new == (old if same and record["versions"] == again["versions"] else pytest.approx(old, abs=0.5))


def test_intervals_are_those_of_the_numbers_beside_them():
    """A run that was scored again has other numbers under the same name; its intervals must be measured anew then."""

    def difference(pair: str, measure: str) -> float:
        sides = [
            runs.Run(json.loads((ROOT / f"results/runs/{name}.json").read_text()), None) for name in pair.split(":")
        ]
        this, that = (spread([run], paired.KEYS[measure]).values[0] for run in sides)
        return this - that

    assert paired.known()
    for key, values in paired.known().items():
        pairs = [word for word in key.split() if ":" in word]
        measure = key.removesuffix(" " + " ".join(pairs))
        assert values[0] == pytest.approx(statistics.fmean(difference(pair, measure) for pair in pairs), abs=1e-6), key


@pytest.mark.parametrize("page", Plan().pages)
def test_page_was_executed_with_the_records_of_today(page):
    """The numbers of a committed page are those of the committed records: run `make refresh` after new ones."""
    notebook = nbformat.read(ROOT / f"book/{page}.ipynb", as_version=4)
    assert shown(notebook) == records_of(page)


def run_cell(source: str, names: dict) -> object:
    """The value of a cell's last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop().value if isinstance(tree.body[-1], ast.Expr) else ast.Constant(None)
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.fix_missing_locations(ast.Expression(last)), "cell", "eval"), names)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_its_cells_find_in_the_records(page, monkeypatch, tmp_path):
    """Every text and table is made again and compared whole; of a picture, that there is one. The runs that are looked
    for are those that the plan names for the page."""
    for name, value in {"PROFILE": "reference", "RUNS": tmp_path, "DATA": tmp_path, "SHARED_DATA": tmp_path}.items():
        monkeypatch.setenv(f"PRODA_{name}", str(value))
    monkeypatch.setattr(runs, "get", None)  # nothing is trained
    asked: set[str] = set()
    for name in ("find", "committed"):
        reader = getattr(runs, name)
        monkeypatch.setattr(
            runs, name, lambda recipe, reader=reader: (asked.add(runs.run_name(recipe)), reader(recipe))[1]
        )
    compared, names, formats = 0, {}, DisplayFormatter()
    for cell in nbformat.read(ROOT / f"book/{page}.ipynb", as_version=4).cells:
        if cell.cell_type != "code":
            continue
        found = run_cell(cell.source, names)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                data = {kind: text for kind, text in output.data.items() if kind.startswith("text/")}
                made = formats.format(found)[0]
                assert {kind: made.get(kind) for kind in data} == data, cell.source
                compared += 1
    pyplot.close("all")
    assert compared >= (1 if page == "results/table02" else 4)  # table 2 has nothing but its quoted rows
    assert asked == set(Plan().pages[page]), "runs that the plan of the pages does not name, or the page does not read"


@pytest.mark.parametrize("page, shown", [
    ("figures/localization", ["localization.hit_table(", "localization.hit_findings("]),
    ("figures/parsing", ["page.precision_table(", "page.findings(", "page.layer_findings("]),
])  # fmt: skip
def test_numbers_beside_pictures_are_those_of_the_records(page, shown, monkeypatch, tmp_path):
    """The pictures of these pages need weights; their tables and sentences do not."""
    for name in ("RUNS", "DATA", "SHARED_DATA"):
        monkeypatch.setenv(f"PRODA_{name}", str(tmp_path))
    monkeypatch.setenv("PRODA_PROFILE", "reference")
    monkeypatch.setattr(report, "get_runs", lambda rows, *a, **k: grid.read(rows).runs)
    names: dict = {"test": [], "device": "cpu", "seeds": (0, 1, 2)}
    exec(
        "from proda_lib.evaluation import cells, grid, report, tables\nfrom proda_lib.pages import localization", names
    )
    exec("from proda_lib.pages import parsing as page", names)
    formats, compared = DisplayFormatter(), []
    for cell in nbformat.read(ROOT / f"book/{page}.ipynb", as_version=4).cells:
        wanted = [call for call in shown if call in cell.source]
        if "parameters" in cell.metadata.get("tags", []) or "report.get_runs(" in cell.source or wanted:
            skipped = ("load_splits(", "run = ")  # the first run's weights and the videos, for the pictures
            lines = [line for line in cell.source.splitlines() if not any(word in line for word in skipped)]
            found = run_cell("\n".join(lines), names)
        if wanted:
            data = {kind: text for kind, text in cell.outputs[0].data.items() if kind.startswith("text/")}
            assert {kind: formats.format(found)[0].get(kind) for kind in data} == data, cell.source
            compared += wanted
    assert compared == shown


def test_prompt_free_answer_beats_class_frequency_on_the_world():
    rows = world_controls("reference")
    a_m = metric(rows["ProDA"][0], "a_m/map")
    frequency = metric(rows["prompt_only"][0], "frequency/map")
    assert a_m >= frequency + 20


def test_no_prompt_beats_relation_histograms_on_the_world():
    rows = world_controls("reference")
    network = metric(rows["no_prompt"][0], "a_t/map")
    assert 35 <= network <= 75
    assert network >= metric(rows["logistic"][0], "relation_histogram/map") + 10


@pytest.mark.parametrize("lost", ["frames shuffled", "without relations"])
def test_no_prompt_needs_order_and_relations_on_the_world(lost):
    rows = world_controls("reference")
    network, other = (metric(rows[name][0], "a_t/map") for name in ("no_prompt", f"no_prompt, {lost}"))
    assert network >= other + 5


def test_the_costs_count_every_run_once():
    recipes = {r for found in by_page().values() for r in found}
    seconds = [runs.committed(r).record["seconds"] for r in recipes if runs.committed(r)]
    pages, kinds = reference_profile.cost_by_page(cores=1), reference_profile.cost_by_kind()
    for table in (pages, kinds):
        assert (table.frame["runs"].sum(), table.frame["recorded"].sum()) == (len(recipes), len(seconds))
    hours = pages.frame["hours on 1 cores"].astype(float).sum()
    assert sum(seconds) / 3600 - 0.05 * len(pages.frame) < hours  # rounded; missing runs come on top
