"""The explorer's page in a real browser without a network: what a reader sees and does, by keyboard, on a phone."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from proda_lib.explorer import precompute as pre
from proda_lib.explorer.app import explore
from proda_lib.explorer.page import Explorer
from proda_lib.nn.readout import localization_score
from tests.browser import CHROMIUM, Browser
from tests.explorer_cases import OFFERED, data_of, make_data, make_graphs, make_model, make_small_data

INNER = "document.querySelector('iframe').contentDocument"


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    return Explorer(data).save(tmp_path_factory.mktemp("explorer") / "explorer.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the page cannot be tried")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    assert browser.errors == [], "a script of the page failed"
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "about"}, "the page asked for something"
    browser.close()


def test_page_is_one_file_that_asks_for_nothing(saved, data):
    text = saved.read_text()
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"(src|href)\s*=|@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    assert not re.search("@[A-Z]+@", text) and len(list(saved.parent.iterdir())) == 1
    held = data_of(text)
    assert held["videos"] == data["videos"] and held["about"] == data["about"]


def shown(browser) -> dict:
    """Scores, heat and edge weights as a reader sees them."""
    return browser.evaluate("""((all) => ({
        scores: Object.fromEntries(all("[data-score]").map((e) => [e.dataset.score, e.textContent])),
        heat: all("[data-heat]").map((e) => e.dataset.heat),
        edges: all("#tables table:first-child tbody tr").map((r) => [r.cells[0].textContent, r.cells[2].textContent]),
        checked: all("#actions input").map((e) => e.checked),
        summary: document.querySelector("#summary").textContent,
        focus: document.activeElement.id, hash: location.hash }))
        ((what) => [...document.querySelectorAll(what)])""")


def matches(page: dict, entry: dict, places: list[int], filled: bool, frame: int) -> None:
    """What the page shows is this answer's."""
    given = entry["answers"][str(sum(2**place for place in places) + filled * 2 ** len(entry["actions"]))]
    for name in ("a_s", "a_t"):
        numbers = [float(page["scores"][f"{name}-{place}"]) for place in range(len(given[name]))]
        np.testing.assert_allclose(numbers, given[name], atol=5.1e-3)
    score = localization_score(torch.tensor(given["s"])[None])[0]
    np.testing.assert_allclose([float(value) for value in page["heat"]], score, atol=5.1e-3)
    w = given["w_max"] * pre.unpack(given["w"]).reshape(len(entry["edges"]), -1)[:, frame]
    names = [" → ".join(entry["slots"][slot] for slot in ends) for ends in entry["edges"]]
    expected = {name: value for name, value in zip(names, w, strict=True) if not np.isnan(value)}
    found = {name: float(value) for name, value in page["edges"]}
    assert found.keys() == expected.keys() and len(found) > 0
    np.testing.assert_allclose([found[name] for name in expected], list(expected.values()), rtol=0.051)  # two digits
    assert page["checked"] == [place in places for place in range(len(entry["actions"]))]


@pytest.mark.parametrize(
    ("video", "places", "frame", "filled"), [(0, [0], 3, False), (1, [0, 2], 9, False), (2, [1, 2, 3], 8, True)]
)
def test_address_selects_what_is_shown(browser, saved, data, video, places, frame, filled):
    actions = ",".join(map(str, places))
    browser.open(f"file://{saved}#video={video}&actions={actions}&frame={frame}&distractors={int(filled)}")
    page, entry = shown(browser), data["videos"][video]
    matches(page, entry, places, filled, frame)
    assert f"frame {frame + 1}:" in page["summary"] and entry["actions"][places[0]] in page["summary"]


@pytest.mark.parametrize(
    ("small", "places", "count", "asked"),
    [(True, [], "3 more, 3 in all; in training up to 4", "3 absent actions"),
     (True, [0], "3 more, 4 in all, as in training", "3 absent actions"),
     (True, [0, 1, 2], "1 more, 4 in all, as in training", "1 absent action."),
     (True, [0, 1, 2, 3, 4], "0 more, 5 in all; in training up to 4", None),
     (False, [0, 2], "14 more, 16 in all, as in training", "14 absent actions")],
)  # fmt: skip
def test_words_on_filling_up(browser, data, tmp_path, small, places, count, asked):
    found = make_small_data() if small else data
    page = Explorer(found, {"actions": places, "distractors": 1, "frame": 3}).save(tmp_path / "page.html")
    browser.open(f"file://{page}")
    assert browser.evaluate("document.querySelector('#distractors-count').textContent") == count
    names = browser.evaluate("document.querySelector('#distractors-names').textContent").split(", ")
    assert len([name for name in names if name]) == int(count.split()[0])
    summary = shown(browser)["summary"]
    assert (asked in summary) if asked else ("absent" not in summary.split(".")[0])
    matches(shown(browser), found["videos"][0], places, True, 3)


def test_address_with_nonsense_shows_the_beginning(browser, saved, data):
    browser.open(f"file://{saved}#video=99&actions=7,x&frame=-1")
    page = shown(browser)
    assert "Nothing is asked for" in page["summary"] and page["scores"] == {} and page["hash"].startswith("#video=0")


def test_keyboard_alone(browser, saved, data):
    browser.open(f"file://{saved}")
    start = data["videos"][0]["present"].index(True)
    browser.press("Tab")
    assert shown(browser)["focus"] == "video"
    browser.press("ArrowDown")  # the next video: its first label is asked for
    browser.press("Tab", start + 2)
    entry = data["videos"][1]
    assert shown(browser)["focus"] == f"action-{start + 1}"
    browser.press("Space")
    browser.press("Tab", OFFERED - start - 1)
    assert shown(browser)["focus"] == "distractors"
    browser.press("Space")
    browser.press("Tab", 3)  # past the list of absent actions and a button
    assert shown(browser)["focus"] == "frame"
    browser.press("Home")
    browser.press("ArrowRight", 4)
    page = shown(browser)
    matches(page, entry, sorted({entry["present"].index(True), start + 1}), True, 4)
    outline = browser.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2, "the focus cannot be seen"


def test_every_control_is_native_and_named(browser, saved):
    browser.open(f"file://{saved}")
    nameless = browser.evaluate("""[...document.querySelectorAll("input, select, button")]
        .filter((e) => !(e.labels?.length || e.ariaLabel)).map((e) => e.id)""")
    assert nameless == [] and browser.evaluate("document.querySelectorAll('[tabindex], [onclick]').length") == 0
    assert browser.evaluate("document.querySelector('#summary').getAttribute('aria-live')") == "polite"


def test_fits_a_phone(browser, saved):
    browser.open(f"file://{saved}", width=360, height=740)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    box = browser.evaluate("document.querySelector('#graph svg').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0 and box["right"] <= 360 and box["width"] > 300


def in_frame(browser, folder: Path, html: str) -> list[float]:
    """The a_s that a page with an embedded explorer shows."""
    (folder / "outer.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><p>before</p>{html}<p>after</p>")
    browser.open(f"file://{folder}/outer.html")
    browser.wait(f"{INNER}?.querySelector('#about')?.childElementCount || {INNER}?.querySelector('[data-score]')")
    scores = browser.evaluate(f"[...{INNER}.querySelectorAll('[data-score^=a_s]')].map((e) => e.textContent)")
    return [float(value) for value in scores]


def test_inside_another_page(browser, data, tmp_path):
    scores = in_frame(browser, tmp_path, Explorer(data, {"video": 1, "actions": [1]})._repr_html_())
    np.testing.assert_allclose(scores, data["videos"][1]["answers"]["2"]["a_s"], atol=5.1e-3)
    height = "document.querySelector('iframe').offsetHeight"  # it grows and shrinks with its content
    browser.wait(f"Math.abs({height} - {INNER}.querySelector('main').offsetHeight) < 10")


def test_what_the_widgets_show(browser, tmp_path):
    app = explore(make_model(), make_graphs())
    app.video.value = 1
    app.actions[2].value = True
    scores = in_frame(browser, tmp_path, app.view.value)
    (given,) = app.explorer.data["videos"][0]["answers"].values()
    np.testing.assert_allclose(scores, given["a_s"], atol=5.1e-3)
    assert browser.evaluate(f"[...{INNER}.querySelectorAll('input[type=checkbox]')].every((e) => e.disabled)")
