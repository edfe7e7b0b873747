"""The figures of merit against scikit-learn and against cases worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    mean_squared_error,
    precision_score,
    recall_score,
)
from sklearn.metrics import hamming_loss as hamming_loss_of_sklearn

from engine.numerics.metrics import (
    Reliability,
    average_precisions,
    calibration_error,
    hamming_loss,
    harmonic_mean,
    mean_average_precision,
    picture_metrics,
    quantity_accuracy,
    quantity_error,
    word_metrics,
)

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
    assert hamming_loss(given_NW, truth_NW) == pytest.approx(
        hamming_loss_of_sklearn(truth_NW, given_NW)
    )


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


@BOUNDED
@given(st.integers(1, 30), st.integers(1, 300), st.floats(0.05, 1), st.integers(0, 999))
def test_average_precision_is_that_of_sklearn_ties_among_them(
    rows: int, words: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct scores, so that many pictures tie.
    scores_NW = (rng.integers(0, 5, (rows, words)) / 4).astype(np.float32)
    truth_NW = draw(seed, (rows, words), share)
    found_W = average_precisions(scores_NW, truth_NW)
    known_W = truth_NW.any(0)
    assert np.isnan(found_W[~known_W]).all()
    for word in np.flatnonzero(known_W)[:20]:
        theirs = average_precision_score(truth_NW[:, word], scores_NW[:, word])
        assert found_W[word] == pytest.approx(theirs)
    expected = found_W[known_W].mean() if known_W.any() else 0
    assert mean_average_precision(scores_NW, truth_NW) == pytest.approx(expected)
    order = rng.permutation(rows)
    again_W = average_precisions(scores_NW[order], truth_NW[order])
    np.testing.assert_allclose(again_W, found_W)


def test_average_precision_by_hand() -> None:
    truth_NW = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0]], bool)
    scores_NW = np.array([[0.9, 1, 0.5], [0.8, 1, 0.5], [0.7, 1, 0.1], [0.1, 1, 0.0]])
    # Of the first word the 1st and the 3rd picture are right; of the third two tie, then one.
    assert average_precisions(scores_NW, truth_NW)[[0, 2]] == pytest.approx(
        [(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2]
    )
    # The second word is no picture's and does not count.
    assert mean_average_precision(scores_NW, truth_NW) == pytest.approx((5 / 6 + 7 / 12) / 2)
    nothing = np.zeros((3, 2), bool)
    assert mean_average_precision(nothing.astype(float), nothing) == 0
    assert mean_average_precision(np.zeros((0, 2)), np.zeros((0, 2), bool)) == 0


def test_hamming_loss_by_hand() -> None:
    truth = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    given = np.array([[1, 0, 1, 0], [0, 0, 0, 1]], bool)
    assert hamming_loss(given, truth) == 3 / 8
    assert hamming_loss(truth, truth) == 0
    assert hamming_loss(truth[:0], truth[:0]) == 0


def test_harmonic_mean_of_nothing_is_nothing() -> None:
    assert harmonic_mean(0.5, 0.25) == pytest.approx(1 / 3)
    assert harmonic_mean(0, 0.5) == harmonic_mean(0, 0) == 0


def test_the_number_of_tags_by_hand() -> None:
    quantity = np.array([0.2, 1.49, 2.5, 3.4, 1.0], np.float32)
    truth = np.array([1, 2, 3, 3, 0])
    # 0.2 is read as the least there is, 1; 2.5 as 3; nothing is right of a picture without tags.
    assert quantity_accuracy(quantity, truth) == 3 / 5
    assert quantity_error(quantity, truth) == pytest.approx(
        (0.64 + 0.51**2 + 0.25 + 0.16 + 1) / 5, rel=1e-6
    )
    assert quantity_error(quantity, truth) == pytest.approx(
        mean_squared_error(truth, quantity), rel=1e-6
    )
    assert (
        quantity_accuracy(quantity[:0], truth[:0]) == quantity_error(quantity[:0], truth[:0]) == 0
    )


def test_reliability_by_hand() -> None:
    scores = np.array([[0.0, 0.19], [0.2, 1.0]], np.float32)
    found = Reliability.of(scores, np.array([[0, 1], [1, 1]], bool), bins=5)
    assert found.count_B.tolist() == [2, 1, 0, 0, 1]
    np.testing.assert_allclose(found.score_B, [0.095, 0.2, np.nan, np.nan, 1], rtol=1e-6)
    np.testing.assert_allclose(found.right_B, [0.5, 1, np.nan, np.nan, 1])
    assert found.error == pytest.approx((2 * 0.405 + 0.8) / 4)
    for wrong in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match=r"they lie in \[0, 1\]"):
            Reliability.of(np.array([wrong]), np.array([True]))
