"""What the evaluation report says, worked out by hand, and that no string changes its shape."""

from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.numerics.metric_registry import Answers
from engine.report import Course, Examples, Facts, best_and_worst, render_report
from engine.report.charts import Axis, log_count
from engine.report.content import Shown, confusions, picture_f1, shown, word_lines

WORDS = ("sea", "sky", "dog", "cat")
TRUTH = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
GIVEN = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]], bool)
SCORES = np.where(GIVEN, np.float32([[0.9], [0.8], [0.7], [0.75], [0.6]]), 0.1).astype(np.float32)
ANSWERS = Answers(SCORES, GIVEN, TRUTH, None, TRUTH.astype(np.float32))
TRAINED = {"sea": 9, "sky": 0, "cat": 3}
FACTS = Facts("How well it tags", "0123", "corpus", "5", 5, 2, 1)


def test_words_by_hand() -> None:
    sea, sky, dog, cat = word_lines(ANSWERS, WORDS, TRAINED)
    assert (sea.trained, sea.true, sea.given, sea.right) == (9, 2, 2, 1)
    assert (sea.precision, sea.recall, sea.f1) == (0.5, 0.5, 0.5)
    # The dog's two are among five with the same score: precision 2 of 5 at each.
    assert (dog.trained, dog.recall, dog.f1, dog.average_precision) == (None, 0, 0, 0.4)
    assert (sky.trained, sky.precision, sky.average_precision) == (0, 0.5, 1)
    assert (cat.true, cat.given, cat.average_precision) == (0, 2, None)


def test_confusions_by_hand() -> None:
    found = confusions(ANSWERS, WORDS)
    dog, sea = found.pairs
    # Two pictures of five miss the dog, and two are given a cat wrongly: 4/5 by chance.
    assert (dog.missed, dog.given, dog.pictures, dog.misses, dog.together) == (
        "dog",
        "cat",
        2,
        2,
        0,
    )
    assert dog.expected == pytest.approx(4 / 5)
    # Both are true of one other picture.
    assert (sea.missed, sea.given, sea.pictures, sea.together) == ("sea", "sky", 1, 1)
    assert sea.expected == pytest.approx(1 / 5)
    assert (found.rows, found.columns) == (("dog", "sea"), ("cat", "sea", "sky"))
    assert found.matrix == ((2, 0, 0), (0, 0, 1))
    perfect = confusions(Answers(SCORES, TRUTH, TRUTH), WORDS)
    assert (perfect.pairs, perfect.rows, perfect.matrix) == ((), (), ())


def test_rare_words_do_not_stand_first_for_having_met_once() -> None:
    truth, given = np.zeros((100, 4), bool), np.zeros((100, 4), bool)
    truth[:20, 0] = given[2:20, 1] = True
    truth[99, 2] = given[99, 3] = True
    first, second = confusions(Answers(given.astype(np.float32), given, truth), WORDS).pairs
    assert (first.missed, first.given, second.missed) == ("sea", "sky", "dog")


def test_worst_and_best_pictures_by_hand() -> None:
    f1 = picture_f1(ANSWERS)
    assert f1[:4].tolist() == [1, 0, 0, 0]
    assert np.isnan(f1[4])
    worst, best = best_and_worst(ANSWERS, 2)
    # The most confident mistakes first; of the rest the best.
    assert worst.tolist() == [1, 3]
    assert best.tolist() == [0, 2]
    worst, best = best_and_worst(ANSWERS, 1)
    assert (worst.tolist(), best.tolist()) == ([1], [0])
    none = best_and_worst(Answers(SCORES[4:], GIVEN[4:], TRUTH[4:]), 2)
    assert [len(rows) for rows in none] == [0, 0]


def test_a_shown_picture_has_its_tags_in_their_order() -> None:
    ranking = np.array([[1, 0, 2, 3]] * 5)
    answers = Answers(SCORES, GIVEN, TRUTH, ranking)
    first, second = shown(answers, WORDS, np.array([0, 3]), ["a", "b", "c", "d", "e"], {3: b"x"})
    assert [(tag, right) for tag, _, right in first.tags] == [("sky", True), ("sea", True)]
    assert (first.picture, first.missed, first.f1) == (None, (), 1)
    assert (second.image_id, second.picture, second.missed) == ("d", b"x", ("dog",))
    assert second.tags == (("cat", pytest.approx(0.75), False),)


def test_axes() -> None:
    assert Axis.whole("k", 1, 10).ticks == tuple((k, str(k)) for k in range(1, 11))
    assert [label for _, label in Axis.whole("t", 0, 4900).ticks] == [
        "0", "1,000", "2,000", "3,000", "4,000",
    ]  # fmt: skip
    # One tick more would be beyond it.
    assert Axis.whole("t", 0, 0).high == 1
    shares = Axis.shares("w", 0.11)
    assert [label for _, label in shares.ticks] == ["0%", "2%", "4%", "6%", "8%", "10%", "12%"]
    assert shares.share(shares.high) == 1
    counts = Axis.counts("n", 250)
    assert [label for _, label in counts.ticks] == ["0", "1", "10", "100"]
    assert counts.share(0) == 0
    assert log_count(250) < counts.high


class Shape(HTMLParser):
    """Collects the tags of a page and its text outside of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.starts: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.starts.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(text: str) -> str:
    words = (text, *WORDS[1:])
    one = Shown(text, None, ((text, 0.5, True),), (text,), 0.5)
    facts = Facts(text, text, text, "auto", 5, 0, 0)
    course = Course((text, "b"), (0, 10), ((0.5, 0.5), (0.6, 0.4)), (0.6, 0.4))
    return render_report(facts, ANSWERS, words, {text: 3}, Examples((one,), (one,)), course)


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("<script>window.hacked=1</script>")
@example('"><img src=x onerror="window.hacked=1">')
@example("{{ 7 * 7 }}</script></style></title></svg>")
def test_no_string_changes_the_shape_of_the_page(text: str) -> None:
    shape = Shape(page_of(text))
    assert shape.starts == Shape(page_of("plain")).starts
    assert text in shape.text


def test_the_page_names_no_other_file_or_server() -> None:
    page = page_of("plain")
    assert "default-src &#39;none&#39;; img-src data:;" in page
    assert "unsafe" not in page
    for harmless in ("http://www.w3.org/2000/svg", "http-equiv"):
        page = page.replace(harmless, "")
    assert "http" not in page


def test_nothing_at_all_is_a_page_too() -> None:
    nothing = np.zeros((1, 2), bool)
    answers = Answers(np.zeros((1, 2), np.float32), nothing, nothing)
    page = render_report(FACTS, answers, ("a", "b"), {}, Examples(), None)
    assert "No picture misses a word where another is given wrongly." in page
    assert "The order of the true tags is not known" in page
    assert "Weights over time" not in page
