"""Balancing words: the map is what the figure's derivative says, and the figure gains."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.fitting import ranked_tags
from engine.numerics.metrics import word_metrics
from engine.numerics.word_balance import WordBalance, balance_words


def drawn(
    seed: int, pictures: int, words: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """Calibrated probabilities, truth drawn from them, and the words' frequencies."""
    rng = np.random.default_rng(seed)
    base_V = np.sort(rng.pareto(1.0, words) + 0.2)[::-1] * 0.01
    odds_NV = base_V * np.exp(rng.normal(0, 2.0, (pictures, words)))
    p_NV = (odds_NV / (1 + odds_NV)).astype(np.float32)
    return p_NV, rng.random(p_NV.shape) < p_NV, p_NV.mean(0).astype(np.float64)


def test_expected_f1_is_better_than_by_probability_alone() -> None:
    gains = []
    for seed in range(4):
        p_NV, _, frequency_V = drawn(seed, 800, 120)
        balance = balance_words(p_NV[:400], frequency_V, 5, 400)
        unseen_NV = p_NV[400:]
        truth_NV = np.random.default_rng(seed + 100).random(unseen_NV.shape) < unseen_NV
        plain = word_metrics(ranked_tags(unseen_NV, 5), truth_NV)
        better = word_metrics(ranked_tags(balance(unseen_NV), 5), truth_NV)
        gains.append(better.f1 - plain.f1)
        assert better.n_plus >= plain.n_plus
    assert min(gains) > 0.01


def test_the_worth_is_the_derivative_of_the_expected_figure() -> None:
    """By finite differences of F1 of the mean expected precision and recall, in float64."""
    p_NV, _, frequency_V = drawn(1, 300, 40)
    balance = balance_words(p_NV, frequency_V, 5, 300)
    given_NV = ranked_tags(balance(p_NV), 5)
    true_V = np.maximum(frequency_V * 300, 1.0)

    def f1(given: NDArray[np.bool_]) -> float:
        right_V = (given * p_NV.astype(np.float64)).sum(0)
        precision = (right_V / np.maximum(given.sum(0), 1)).mean()
        recall = (right_V / true_V).mean()
        return float(2 * precision * recall / (precision + recall))

    rows, words = np.nonzero(~given_NV)
    places = np.random.default_rng(0).permutation(len(rows))[:60]
    found, expected = [], []
    for row, word in zip(rows[places], words[places], strict=True):
        more = given_NV.copy()
        more[row, word] = True
        expected.append((f1(more) - f1(given_NV)) * len(true_V))
        worth = p_NV[row, word] * balance.gain_V[word] - balance.toll_V[word]
        found.append(float(worth))
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_a_hand_worked_map() -> None:
    balance = WordBalance(np.float32([1.0, 0.5]), np.float32([0.2, 0.0]))
    scores_BV = balance(np.float32([[0.6, 0.6], [0.0, 1.0]]))
    np.testing.assert_allclose(scores_BV, [[0.7, 0.65], [0.4, 0.75]], atol=1e-6)
    assert scores_BV.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    pictures=st.integers(1, 30),
    words=st.integers(1, 20),
    k=st.integers(1, 8),
    reference=st.integers(1, 5000),
)
def test_scores_are_finite_and_keep_each_words_order(
    seed: int, pictures: int, words: int, k: int, reference: int
) -> None:
    p_NV, _, frequency_V = drawn(seed, pictures, words)
    frequency_V[0] = 0.0
    p_NV[:, -1] = 1.0
    balance = balance_words(p_NV, frequency_V, k, reference)
    scores_NV = balance(p_NV)
    assert np.isfinite(scores_NV).all()
    assert scores_NV.min() >= 0
    assert scores_NV.max() <= 1
    order_NV = np.argsort(p_NV, axis=0, kind="stable")
    along = np.take_along_axis(scores_NV, order_NV, axis=0)
    assert (np.diff(along, axis=0) >= -1e-7).all()
