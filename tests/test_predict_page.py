"""The report: one page that fetches nothing, with pictures that have words, usable by keyboard and on a phone."""

import dataclasses
import re

import pytest

from proda_lib.datasets.own import read_own
from proda_lib.predict import Predictor
from tests.browser import CHROMIUM, Browser
from tests.predict_cases import ASKED, EXAMPLE, write_film, write_model


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor.load(write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "clip.mp4")


@pytest.fixture(scope="module")
def page(predictor, film, tmp_path_factory):
    answer = predictor(film, EXAMPLE, ASKED)
    return answer, answer.save_report(tmp_path_factory.mktemp("page"))


def test_page_is_one_file_that_asks_for_nothing(page):
    answer, path = page
    text = path.read_text()
    assert not re.search(r"https?://|@import|<script|<link|url\(", text) and "$" not in text.replace("base64", "")
    sources = re.findall(r'src="([^"]{0,30})', text)
    assert len(sources) == 4 and all(source.startswith("data:image/webp;base64,") for source in sources)
    alts = re.findall(r'<img alt="([^"]+)"', text)
    assert len(alts) == 4 and all(len(alt) > 20 for alt in alts) and "person, cup and table" in alts[0]
    for name in ASKED:
        assert f"{answer.scores.loc[name, 'a_s']:.2f}" in text and f"{answer.scores.loc[name, 'a_m']:.2f}" in text
    assert "What the prompt gives away" in text and "does not say which run made these weights" in text
    assert "<" not in re.sub(r"<[^<>]+>", "", re.sub(r"<style>.*?</style>", "", text, flags=re.S))


def test_names_are_escaped(predictor):
    graph = dataclasses.replace(read_own(EXAMPLE), video="<b>&amp;")
    assert "<h1>&lt;b&gt;&amp;amp;</h1>" in predictor(graph=graph, actions=ASKED).html()


def test_page_in_a_browser(page, tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the page cannot be tried")
    browser = Browser(tmp_path)
    try:
        browser.open(f"file://{page[1]}", width=360, height=740)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360
        assert browser.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 300)")
        browser.press("Tab", 2)  # past the table of scores
        assert browser.evaluate("document.activeElement.tagName") == "SUMMARY"
        browser.press("Space")
        assert browser.evaluate("document.querySelector('details').open")
        assert {address.split(":")[0] for address in browser.requests} <= {"file", "about", "data"}
        assert browser.errors == []
    finally:
        browser.close()


def test_a_real_video(predictor, shared_data, tmp_path):
    video = shared_data / "videos/mmaction2_demo.mp4"
    if not video.is_file():
        pytest.skip("videos are not in the shared data")
    answer = predictor(video, EXAMPLE, ASKED)
    assert answer.pictures[0].shape == (256, 340, 3) and answer.save_report(tmp_path).stat().st_size < 3_000_000
