"""The evaluation report in a real Chromium without a network."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from engine.numerics.metric_registry import Answers
from engine.report import Course, Examples, Facts, best_and_worst, render_report
from engine.report.content import shown
from tests.browsing import CONTRAST, Offline, chromium

WORDS = (*(f"word {number}" for number in range(28)), "a-very-long-word-" * 4, "<b>&amp;")


def report() -> str:
    rng = np.random.default_rng(0)
    truth_NW = rng.random((120, 30)) < np.linspace(0.3, 0.02, 30)
    scores_NW = (0.6 * rng.random(truth_NW.shape) + 0.35 * truth_NW).astype(np.float32)
    given_NW = scores_NW > 0.55
    places_NW = np.where(truth_NW, np.cumsum(truth_NW, axis=1), 0).astype(np.float32)
    quantity_N = (truth_NW.sum(1) + rng.normal(size=120)).astype(np.float32)
    answers = Answers(scores_NW, given_NW, truth_NW, None, places_NW, quantity_N)
    file = io.BytesIO()
    Image.new("RGB", (96, 64), "teal").save(file, "JPEG")
    worst, best = best_and_worst(answers, 4)
    ids = [f"picture-{row}" for row in range(120)]
    pictures = {int(row): file.getvalue() for row in (*worst[1:], *best)}
    examples = Examples(
        shown(answers, WORDS, worst, ids, pictures), shown(answers, WORDS, best, ids, pictures)
    )
    course = Course(
        ("linear", "knn"), (0, 50, 100), ((0.5, 0.5), (0.7, 0.3), (0.8, 0.2)), (0.7, 0.3)
    )
    trained = {word: 3 * number for number, word in enumerate(WORDS[:-1])}
    facts = Facts("How well it tags", "0123456789abcdef", "/a/corpus", "auto", 120, 3, 1)
    return render_report(facts, answers, WORDS, trained, examples, course)


PAGE = report()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def offline(browser: Browser, tmp_path: Path) -> Iterator[Offline]:
    offline = Offline(browser, tmp_path)
    yield offline
    offline.close()


def column(page: Page, number: int) -> list[float]:
    cells = page.locator(f"#words tbody tr:visible > :nth-child({number})")
    return cells.evaluate_all("cells => cells.map(cell => Number(cell.dataset.value))")


def test_words_sort_by_pointer_and_by_keyboard(offline: Offline) -> None:
    page = offline.open(PAGE)
    recall = page.locator("#words").get_by_role("columnheader", name="Recall")
    expect(recall).to_have_attribute("aria-sort", "none")
    before = column(page, 7)
    recall.get_by_role("button").click()
    expect(recall).to_have_attribute("aria-sort", "descending")
    assert column(page, 7) == sorted(before, reverse=True) != before
    recall.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(recall).to_have_attribute("aria-sort", "ascending")
    assert column(page, 7) == sorted(before)
    word = page.locator("#words").get_by_role("columnheader", name="Word")
    page.keyboard.press("Tab")
    word.get_by_role("button").click()
    expect(word).to_have_attribute("aria-sort", "ascending")
    expect(recall).to_have_attribute("aria-sort", "none")
    names = page.locator("#words tbody th").all_inner_texts()
    assert names[-3:] == ["word 25", "word 26", "word 27"]
    # The table of confusions has an order of its own.
    chance = page.locator("#taken").get_by_role("columnheader", name="By chance")
    chance.get_by_role("button").click()
    cells = page.locator("#taken tbody td:nth-child(4)")
    values = cells.evaluate_all("cells => cells.map(cell => Number(cell.dataset.value))")
    assert values == sorted(values, reverse=True)
    expect(word).to_have_attribute("aria-sort", "ascending")


def test_words_are_searched(offline: Offline) -> None:
    page = offline.open(PAGE)
    status = page.get_by_role("status")
    expect(status).to_have_text("30 of 30 words")
    page.get_by_label("Search the words").fill(" WORD 1")
    expect(status).to_have_text("11 of 30 words")
    assert page.locator("#words tbody tr:visible").count() == 11


def test_charts_can_be_read_out_and_their_numbers_opened(offline: Offline) -> None:
    page = offline.open(PAGE)
    for name in (
        "NDCG and precision of the k best tags",
        "Reliability of the scores",
        "Precision against frequency",
        "Recall against frequency",
        "Missed words by wrongly given words",
        "Weights of the annotators while they are learned",
    ):
        expect(page.get_by_role("img", name=name)).to_be_visible()
    numbers = page.locator("#order details")
    expect(numbers.locator("table")).to_be_hidden()
    numbers.locator("summary").focus()
    page.keyboard.press("Enter")
    assert numbers.locator("tbody tr").count() == 10
    weights = page.locator("#learned details")
    weights.locator("summary").click()
    assert weights.locator("tbody tr").all_inner_texts() == [
        "linear\t0.500\t0.800\t0.700",
        "knn\t0.500\t0.200\t0.300",
    ]
    # Every line is within its chart.
    for chart in page.locator("svg.chart").all():
        assert chart.evaluate(
            """chart => { const box = chart.getBoundingClientRect();
              return [...chart.querySelectorAll("text, circle, polyline, rect")].every(node => {
                const own = node.getBoundingClientRect();
                return own.left >= box.left - 1 && own.right <= box.right + 1
                  && own.top >= box.top - 1 && own.bottom <= box.bottom + 1; }); }"""
        ), chart.get_attribute("aria-labelledby")


def test_worst_and_best_pictures_are_there(offline: Offline) -> None:
    page = offline.open(PAGE)
    cards = page.locator("#pictures .card")
    expect(cards).to_have_count(8)
    expect(cards.first.locator(".sr").first).to_contain_text("no picture to show")
    image = cards.last.get_by_role("img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    shares = [float(text[3:-1]) for text in page.locator("#pictures .tally").all_inner_texts()]
    assert max(shares[:4]) <= min(shares[4:])


@pytest.mark.parametrize("width", [320, 360, 768])
def test_no_sideways_scrolling(offline: Offline, width: int) -> None:
    page = offline.open(PAGE, width)
    for summary in page.locator("details summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_and_the_theme_turns(offline: Offline, dark: bool) -> None:
    page = offline.open(PAGE, dark=dark)
    for selector in (
        "h1, .about, dt, dd, nav a",
        "th, td",
        ".chart text",
        ".tally, .given bdi, .chip",
    ):
        contrasts = page.locator(selector).evaluate_all(f"nodes => nodes.map({CONTRAST})")
        assert contrasts, selector
        assert min(contrasts) >= 4.5, selector
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    before = page.evaluate(ground)
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(ground) != before
