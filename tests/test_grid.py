"""The grid: pages read runs and never train, commands make the recipe they stand for, names decide what is missing."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from grid import Plan, digest, shown
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from proda_lib.cli import app
from proda_lib.datasets.registry import NAMES
from proda_lib.errors import DataError
from proda_lib.evaluation import grid, paired, report, tables
from proda_lib.evaluation.cells import Interval, Spread, Table
from proda_lib.evaluation.charades import mean_average_precision
from proda_lib.evaluation.differences import ordering
from proda_lib.pages import summary
from proda_lib.training import runs
from proda_lib.training.recipe import Recipe, command, make_recipe

ROOT = Path(__file__).parents[1]
TABLES = {
    "table01": tables.table01,
    "table03": tables.table03,
    "table04": tables.table04,
    "table05": tables.table05,
    "label_free": tables.label_free,
    "selection": tables.selection,
}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path / "runs"))


def record(recipe: Recipe, metrics: dict) -> None:
    folder = runs.runs_root() / runs.run_name(recipe)
    folder.mkdir(parents=True)
    content = {"name": folder.name, "recipe": dataclasses.asdict(recipe), "metrics": metrics, "curves": [],
               "data": "world-1", "videos": [{"train": 1, "test": 1}]}  # fmt: skip
    (folder / "record.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", TABLES)
def test_a_page_reads_what_is_there_and_names_what_is_not(empty, monkeypatch, name):
    monkeypatch.setattr(runs, "get", lambda *a: pytest.fail("a page of the grid must not train"))
    rows = TABLES[name]("paper", (0, 1))
    first = next(iter(rows))
    record(rows[first][1], {"a_m": {"map": 12.5}})
    found = grid.recorded(TABLES[name], "paper", (0, 1))
    assert [r.recipe.seed for r in found.runs[first]] == [1] and found.missing[first] == [rows[first][0]]
    assert str(grid.cell(found, first, "a_m/map")) == "12.5"
    assert str(grid.cell(found, first, "no such/metric")) == "–"
    assert all(str(grid.cell(found, row, "a_m/map")) == "not run" for row in rows if not found.runs[row])
    assert "were not run yet" in found.note


@pytest.mark.parametrize("profile", ["paper", "quick"])
def test_without_runs_of_a_profile_the_reference_records_are_read_and_named(empty, profile):
    found = grid.recorded(tables.table03, profile, (0,))
    assert f"Profile {profile} has no runs of these rows" in found.source
    assert "committed records of profile reference" in found.source
    assert {r.recipe.profile for group in found.runs.values() for r in group} == {"reference"}


def test_a_small_profile_shows_its_own_runs_once_every_row_has_one(empty):
    rows = tables.table04("quick", (0,))
    *some, last = rows
    for row in some:
        record(rows[row][0], {})
    found = grid.recorded(tables.table04, "quick", (0,))
    assert "quick has no runs of some of these rows" in found.source
    assert {r.recipe.profile for group in found.runs.values() for r in group} == {"reference"}
    record(rows[last][0], {})
    found = grid.recorded(tables.table04, "quick", (0,))
    assert found.source.startswith("Profile quick, read") and not found.missing
    assert {r.recipe.profile for group in found.runs.values() for r in group} == {"quick"}


def all_recipes(profile: str) -> list[Recipe]:
    return [recipe for found in tables.by_page(profile, (0, 1)).values() for recipe in found]


@pytest.mark.parametrize("profile", ["quick", "reference"])
def test_a_command_makes_its_recipe(monkeypatch, profile):
    asked = []
    monkeypatch.setattr(runs, "get", lambda recipe, *a: asked.append(recipe))
    monkeypatch.setattr("proda_lib.cli._show", lambda run: None)
    recipes = list(dict.fromkeys(all_recipes(profile)))
    for recipe in recipes:
        words = shlex.split(command(recipe))
        result = CliRunner().invoke(app, words[1:])
        assert words[0] == "proda" and result.exit_code == 0, result.output
    assert asked == recipes


def test_a_setting_that_is_new_leaves_old_names_alone():
    recipe = make_recipe("quick")
    renamed = {runs.run_name(recipe), runs.run_name(dataclasses.replace(recipe, missing=0.0))}
    assert len(renamed) == 1 and runs.run_name(dataclasses.replace(recipe, missing=0.1)) not in renamed


def test_plan_names_each_run_once_with_a_command_and_goes_by_names_only():
    plan = Plan("reference", (0, 1, 2))
    needed = [name for names in plan.pages.values() for name in names]
    assert set(needed) == set(plan.recipes) and len(plan.recipes) < len(needed)
    assert all(plan.command(name) == f"{command(recipe)} --device cpu" for name, recipe in plan.recipes.items())
    assert all(re.fullmatch(r"results/runs/[a-z0-9_]+-[a-z0-9_]+-[0-9a-f]{12}\.json", plan.record(n)) for n in needed)
    assert all(plan.recipes[n].dataset in NAMES for n in needed)


def test_a_committed_page_is_stale_once_its_records_change(monkeypatch, tmp_path):
    plan = Plan("reference", (0,))
    page, names = next((p, n) for p, n in plan.pages.items() if (ROOT / f"book/{p}.ipynb").exists())
    notebook = nbformat.read(ROOT / f"book/{page}.ipynb", as_version=4)
    notebook.metadata["proda"] = {"records": {n: digest(ROOT / f"results/runs/{n}.json") for n in names}}
    assert shown(notebook) == notebook.metadata["proda"]["records"]
    monkeypatch.setattr("grid.nbformat.read", lambda *a, **k: notebook)
    assert page not in plan.stale_pages
    notebook.metadata["proda"]["records"][names[0]] = "0" * 12
    stale = Plan("reference", (0,)).stale_pages[page]
    notebook.metadata["proda"]["records"][names[0]] = "1" * 12  # another old state: its refresh has another marker
    assert Plan("reference", (0,)).stale_pages[page] != stale


def test_snakemake_plans_what_has_no_record(tmp_path):
    name = runs.run_name(tables.sweeps("reference", (0,))["candidate prompts, T: 1"][0])
    call = [sys.executable, "-m", "snakemake", "-n", f"results/runs/{name}.json"]
    found = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    there = (ROOT / f"results/runs/{name}.json").exists()
    assert found.returncode == 0, found.stderr
    assert ("Nothing to be done" in found.stdout + found.stderr) == there


@pytest.mark.parametrize("values, expected, words", [
    ((), 1.0, "nothing to compare"),
    ((0.5,), 1.0, "the same ordering as the paper's, with one seed"),
    ((0.5,), -1.0, "the other ordering, with one seed"),
    ((0.0, 0.0), 1.0, "no difference"),  # the same network twice is no reversal
    ((0.1, 2.0), 1.0, "the paper's ordering holds with all 2 seeds"),
    ((-0.1, -2.0), 1.0, "reversed with all 2 seeds"),
    ((-0.1, 2.0, 0.0), 1.0, "open: the paper's ordering with 1 of 3 seeds"),
    ((-0.1, 0.0), 1.0, "open: the paper's ordering with 0 of 2 seeds"),
])  # fmt: skip
def test_the_words_for_an_ordering(values, expected, words):
    assert ordering(Spread(values), expected) == words


def test_an_ordering_says_when_the_interval_contains_0():
    apart, not_apart = Interval(0.5, 0.1, 0.9), Interval(0.5, -0.1, 0.9)
    assert ordering(Spread((0.5, 0.6)), 1.0, apart) == ordering(Spread((0.5, 0.6)), 1.0)
    assert ordering(Spread((0.5, 0.6)), 1.0, not_apart).endswith("with all 2 seeds; the interval contains 0")
    of_some = Interval(0.5, -0.1, 0.9, "(1 of 2 seeds)")  # decides nothing about both
    assert ordering(Spread((0.5, 0.6)), 1.0, of_some) == ordering(Spread((0.5, 0.6)), 1.0)


def test_a_table_escapes_all_but_links():
    frame = pd.DataFrame({"a": ["<b>", '<a href="x.html">x</a>']}, index=["<i>", '<a href="y.html">y</a>'])
    shown = Table(frame)._repr_html_()
    assert 'class="words"' in Table(frame, words="a")._repr_html_() and "words" not in shown
    assert "&lt;b&gt;" in shown and "&lt;i&gt;" in shown
    assert '<td><a href="x.html">x</a></td>' in shown and '<th scope="row"><a href="y.html">y</a></th>' in shown


# --- paired differences -----------------------------------------------------------------------------------------------


def scores(seed: int, rows: int = 40, classes: int = 5):
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, classes)) < 0.3
    return rng.normal(size=truth.shape) + truth, truth


def test_weights_of_one_give_the_official_mean():
    values, truth = scores(1)
    order = np.argsort(-values, axis=0, kind="stable")
    expected = mean_average_precision(values, truth, empty="skip").map
    assert paired.weighted_map(order, truth, np.ones(len(truth))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_weights_count_rows_as_scikit_learn_does(seed):
    values, truth = scores(seed)
    weights = np.random.default_rng(seed).integers(0, 4, size=len(truth)).astype(float)
    order = np.argsort(-values, axis=0, kind="stable")
    kept = [c for c in range(truth.shape[1]) if weights[truth[:, c]].sum()]
    expected = np.mean([average_precision_score(truth[:, c], values[:, c], sample_weight=weights) for c in kept])
    assert paired.weighted_map(order, truth, weights) == pytest.approx(expected, abs=1e-12)


def test_interval_of_a_model_with_itself_is_nothing_and_of_a_better_one_above_it():
    noisy, truth = scores(2, rows=200)
    video = np.repeat(np.arange(50), 4)
    same = paired.bootstrap([noisy], [noisy], [truth], [video], samples=30)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    better = paired.bootstrap([noisy + 2 * truth], [noisy], [truth], [video], samples=50)
    assert 0 < better.low < better.difference < better.high
    assert better.range.startswith("[+") and not better.contains_0


def test_interval_resamples_videos_and_not_rows():
    """Rows that repeat a video add nothing: the interval must be as wide as with one row a video."""
    values, truth = scores(3, rows=60)
    other, _ = scores(4, rows=60)
    once = paired.bootstrap([values], [other], [truth], [np.arange(60)], samples=40)
    thrice = paired.bootstrap(*([np.repeat(x, 3, axis=0)] for x in (values, other, truth)),
                              [np.repeat(np.arange(60), 3)], samples=40)  # fmt: skip
    assert thrice.high - thrice.low > 0.8 * (once.high - once.low)


def test_folds_are_ranked_and_drawn_by_themselves():
    """Scores that are shifted from fold to fold are as good as without the shift; rows without truth are out."""
    values, truth = scores(5, rows=80)
    fold = np.repeat([0, 1], 40)
    shifted = values + 100.0 * fold[:, None]
    args = [values], [truth], [np.arange(80)]
    same = paired.bootstrap([shifted], *args, fold, samples=20)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    assert paired.bootstrap([shifted], *args, samples=20).difference != 0
    folds = [(fold == f) & truth.any(1) for f in (0, 1)]
    by_hand = [mean_average_precision(v[f], truth[f], "skip").map for v in (values, -values) for f in folds]
    found = paired.bootstrap([values], [-values], [truth], [np.arange(80)], fold, samples=20)
    assert found.difference == pytest.approx(100 * (np.mean(by_hand[:2]) - np.mean(by_hand[2:])), abs=1e-9)
    nothing = np.zeros((5, truth.shape[1]), bool)
    more = paired.bootstrap([np.r_[values, values[:5] + 50]], [np.r_[-values, values[:5]]], [np.r_[truth, nothing]],
                            [np.arange(85)], np.r_[fold, np.zeros(5, int)], samples=20)  # fmt: skip
    assert more.difference == pytest.approx(found.difference, abs=1e-9)


def test_an_interval_stays_for_its_seeds_when_the_scores_of_some_are_lost(monkeypatch, tmp_path):
    monkeypatch.setattr(paired, "results_root", lambda: tmp_path)
    values, truth = scores(7, rows=30)

    def run(name, seed, folder=tmp_path):
        kept = {"a_m": values * (-1) ** (name == "that"), "labels": truth}
        recipe = SimpleNamespace(seed=seed)
        return SimpleNamespace(name=f"{name}{seed}", folder=folder, recipe=recipe, scores=lambda: kept)

    def rows(seeds, lost=()):
        return [[run(name, s, None if s in lost else tmp_path) for s in seeds] for name in ("this", "that")]

    def interval():
        groups = dict(zip(("this", "that"), rows((0, 1, 2)), strict=True))
        return paired.interval(paired.known(), SimpleNamespace(runs=groups), "this", "that", "a_m")

    two = paired.measured(*rows((0, 1)))
    paired.write(two)
    assert list(two) == ["a_m this0:that0 this1:that1"]
    assert interval().range.startswith(f"{interval().difference:+.1f} (2 of 3 seeds): [".replace("-", "−"))
    assert paired.measured(*rows((0, 1, 2), lost=(0,))) == two
    three = paired.measured(*rows((0, 1, 2)))
    paired.write(three)
    assert list(three) == ["a_m this0:that0 this1:that1 this2:that2"]
    assert interval().range.startswith("[") and interval().range.endswith("]")
    assert paired.measured(*rows((1, 2), lost=(1,))) == {}


def test_a_control_is_paired_with_its_own_answer(monkeypatch, tmp_path):
    """Prompt-only has no a_m and no_prompt no a_t of the paper's protocol: each pair has what both have."""
    values, truth = scores(6, rows=30)
    video = np.arange(30)
    asked = {"paper/a_t": values, "paper/labels": truth, "paper/video": video, "a_m": values, "labels": truth}
    trained = {"trained/a_t": -values, "trained/labels": truth, "trained/video": video, "labels": truth}
    plain = {"a_t": -values, "labels": truth}
    monkeypatch.setattr(paired, "results_root", lambda: tmp_path)
    first = SimpleNamespace(seed=0)
    made = [SimpleNamespace(name=str(i), folder=tmp_path, recipe=first, scores=lambda found=found: found)
            for i, found in enumerate((asked, trained, plain))]  # fmt: skip
    assert [key.split()[0] for key in paired.measured(made[:1], made[1:2])] == ["a_t"]
    assert [key.split()[0] for key in paired.measured(made[:1], made[2:])] == ["a_m"]
    parts = {f"partition/{i}/a_s": values * sign for i, sign in enumerate((1, -1, 1))}
    three = SimpleNamespace(name="3", folder=tmp_path, recipe=first, scores=lambda: {**parts, "labels": truth})
    found = paired.measured([three], made[2:])
    assert list(found) == ["a_s by partition 3:2"]
    rows = truth.any(1)
    high, low = (mean_average_precision(s[rows], truth[rows], empty="skip").map for s in (values, -values))
    assert found["a_s by partition 3:2"][0] == pytest.approx(100 * (2 * high + low) / 3 - 100 * low, abs=1e-9)
    (tmp_path / "paired.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="paired.json"):
        paired.known()


def test_records_have_the_command_of_their_run_and_the_size_of_their_networks():
    found = grid.recorded(tables.robustness, "reference", (0,), "cad120").runs
    told = report.records(found).frame["command"]
    assert [line.split("proda")[1] for line in told] == [
        " train --dataset cad120 --profile reference",
        " train --dataset cad120 --profile reference --model prompt_only",
    ]
    assert report.network_size(found) == "Networks: width 32, 8 frames, 8 + 2 epochs (the two stages)."


def test_a_command_has_its_number_of_threads_or_the_note_says_why_not():
    def run(seed: int, **threads) -> runs.Run:
        recipe = dataclasses.asdict(make_recipe("smoke", seed=seed))
        return runs.Run({"name": f"run{seed}", "recipe": recipe, "hardware": {"device": "cpu", **threads}}, None)

    missing = {"row": [make_recipe("smoke", seed=2)]}
    one, old = (grid.commands(grid.Recorded({"row": [run(0, threads=1), other]}, missing))
                for other in (run(1, threads=1), run(1)))  # fmt: skip
    assert one.frame["command"].str.startswith("OMP_NUM_THREADS=1 proda train").tolist() == [True] * 3
    assert "before it was kept" not in one.note
    assert old.frame["command"].str.startswith("proda train").tolist() == [False, True, False]
    assert "before it was kept" in old.note


@pytest.mark.parametrize("values, expected, interval, verdict", [
    ((), 1.0, None, "not run"),
    ((0.0, 0.0), 1.0, None, summary.SAME),
    ((1.0, 2.0), 1.0, None, summary.UNKNOWN),
    ((1.0, 2.0), 1.0, Interval(1.5, 1.0, 2.0, "(1 of 2 seeds)"), summary.UNKNOWN),
    ((1.0, 2.0), 1.0, Interval(1.5, 1.0, 2.0), summary.HOLDS),
    ((-1.0, -2.0), -3.0, Interval(-1.5, -2.0, -1.0), summary.HOLDS),
    ((1.0, 2.0), -1.0, Interval(1.5, 1.0, 2.0), summary.REVERSED),
    ((-1.0, -2.0), 1.0, Interval(-1.5, -2.0, -1.0), summary.REVERSED),
    ((1.0, 2.0), 1.0, Interval(1.5, -0.1, 2.0), summary.OPEN),
    ((1.0, 2.0), -1.0, Interval(1.5, -0.1, 2.0), summary.OPEN),
    ((3.0, -1.0), 1.0, Interval(1.0, 0.1, 2.0), summary.OPEN),
    ((3.0, 0.0), 1.0, Interval(1.5, 0.1, 2.0), summary.OPEN),
])  # fmt: skip
def test_the_verdict_on_a_claim(values, expected, interval, verdict):
    assert summary._verdict(Spread(values), expected, interval) == verdict


def test_the_first_page_counts_what_holds_and_what_is_reversed():
    def claim(words: str, *verdicts: str) -> summary.Claim:
        return summary.Claim("page", words, 1.0, [Spread((1.0,))] * 2, list(verdicts))

    claims = [claim("a", summary.HOLDS, summary.HOLDS), claim("b", summary.REVERSED, summary.HOLDS),
              claim("c", summary.OPEN, "not run")]  # fmt: skip
    assert summary.short(claims).splitlines() == [
        "- Of 3 claims, 1 hold on SSG-World and CAD-120 (a).",
        "- Of 3 claims, 0 are reversed on SSG-World and CAD-120.",
        "- SSG-World: 1 hold, 1 are reversed, 1 cannot be told.",
        "- CAD-120: 2 hold, 0 are reversed, 1 cannot be told.",
    ]
    lines = summary.claims_table(claims).frame
    assert lines.iloc[1].tolist() == ["+1.00", "+1.0 ✗", "+1.0 ✓"]


def test_the_first_page_has_the_controls_of_the_larger_runs_too():
    lines = summary.controls((0,)).frame
    larger = lines[["16,000 videos" in line for line in lines.index]]
    assert len(larger) == 4 and set(larger["CAD-120"]) == {"–"}
    against_prompt = larger.index.str.contains("trained prompt-only")
    signs = [{cell[0] for cell in larger["SSG-World"][chosen]} for chosen in (against_prompt, ~against_prompt)]
    assert signs == [{"+"}, {"−"}]
