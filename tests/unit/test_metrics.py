"""The figures of merit against scikit-learn and against cases worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_score, recall_score

from engine.numerics.metrics import calibration_error, picture_metrics, word_metrics

BOUNDED = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def draw(seed: int, shape: tuple[int, int], share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(shape) < share


@BOUNDED
@given(st.integers(1, 30), st.integers(2, 8), st.floats(0, 1), st.floats(0, 1), st.integers(0, 999))
def test_they_are_what_sklearn_says(
    rows: int, words: int, given_share: float, true_share: float, seed: int
) -> None:
    given_NW = draw(seed, (rows, words), given_share)
    truth_NW = draw(seed + 1, (rows, words), true_share)
    ours = word_metrics(given_NW, truth_NW)

    def theirs(
        figure: Callable[..., NDArray[np.float64]], average: str | None
    ) -> NDArray[np.float64]:
        return figure(truth_NW, given_NW, average=average, zero_division=0)

    np.testing.assert_allclose(ours.precision_W, theirs(precision_score, None))
    np.testing.assert_allclose(ours.recall_W, theirs(recall_score, None))
    assert ours.precision == pytest.approx(ours.precision_W.mean())
    assert ours.recall == pytest.approx(ours.recall_W.mean())
    assert ours.n_plus == int((ours.recall_W > 0).sum())
    over_pairs = picture_metrics(given_NW, truth_NW)
    assert over_pairs.precision == pytest.approx(theirs(precision_score, "micro"))
    assert over_pairs.recall == pytest.approx(theirs(recall_score, "micro"))
    assert over_pairs.f1 == pytest.approx(theirs(f1_score, "micro"))


def test_f1_is_of_the_mean_precision_and_the_mean_recall() -> None:
    truth_NW = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
    given_NW = np.array([[1, 0, 0, 1], [1, 0, 0, 0]], bool)
    ours = word_metrics(given_NW, truth_NW)
    assert ours.precision_W.tolist() == [1, 0, 0, 0]
    assert ours.recall_W.tolist() == [1, 0, 0, 0]
    assert ours.f1 == pytest.approx(0.25)
    assert ours.n_plus == 1
    over_pairs = picture_metrics(given_NW, truth_NW)
    assert over_pairs.precision == pytest.approx(2 / 3)
    assert over_pairs.recall == pytest.approx(1 / 2)
    assert over_pairs.f1 == pytest.approx(4 / 7)


def test_words_never_given_nor_true_count_as_zero() -> None:
    nothing = np.zeros((3, 2), bool)
    assert word_metrics(nothing, nothing).f1 == 0
    assert picture_metrics(nothing, nothing).f1 == 0
    truth = np.array([[1, 0], [1, 0], [1, 0]], bool)
    assert word_metrics(truth, truth).precision == 0.5


def test_perfect_scores_have_no_calibration_error() -> None:
    truth = np.array([[True, False, True]])
    assert calibration_error(truth.astype(np.float32), truth) == 0


def test_calibration_error_by_hand() -> None:
    scores = np.array([[0.9, 0.9], [0.9, 0.9], [0.2, 0.2]], np.float32)
    truth = np.array([[1, 1], [1, 0], [0, 0]], bool)
    # One bin of four at 0.9 of which 0.75 are right, one of two at 0.2 of which none is.
    assert calibration_error(scores, truth, bins=5) == pytest.approx((4 * 0.15 + 2 * 0.2) / 6)


def test_scores_that_mean_what_they_say_have_a_small_calibration_error(
    rng: np.random.Generator,
) -> None:
    scores = rng.random((400, 50)).astype(np.float32)
    truth = rng.random(scores.shape) < scores
    assert calibration_error(scores, truth) < 0.02
    assert calibration_error(scores, ~truth) > 0.3
    assert calibration_error(np.full_like(scores, 0.9), truth) == pytest.approx(0.4, abs=0.02)
