"""Balancing words: the map is what the figure's derivative says, and the figure gains."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

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
    """By finite differences, in float64, of F1 of expectations that are summed count by count."""
    p_NV, _, frequency_V = drawn(1, 300, 40)
    balance = balance_words(p_NV, frequency_V, 5, 300)
    given_NV = ranked_tags(balance(p_NV), 5)
    counts_C = np.arange(400)

    def mean_share(right_V: NDArray[np.float64], times_V: NDArray[np.float64]) -> float:
        """Of `times` tries, as many as Poisson says, each right by the same chance; none: 0."""
        chances_CV = stats.poisson.pmf(counts_C[:, None], times_V)
        chance_V = np.divide(right_V, times_V, out=np.zeros_like(times_V), where=times_V > 0)
        right_CV = counts_C[:, None] * chance_V
        shares_CV = right_CV[1:] / counts_C[1:, None]
        return float((chances_CV[1:] * shares_CV).sum(0).mean())

    def f1(given_V: NDArray[np.float64], right_V: NDArray[np.float64]) -> float:
        precision = mean_share(right_V, given_V)
        recall = mean_share(right_V, frequency_V * len(p_NV))
        return 2 * precision * recall / (precision + recall)

    given_V = given_NV.sum(0).astype(np.float64)
    right_V = (given_NV * p_NV.astype(np.float64)).sum(0)
    rows, words = np.nonzero(~given_NV)
    places = np.random.default_rng(0).permutation(len(rows))[:60]
    found, expected = [], []
    step = 1e-4
    for row, word in zip(rows[places], words[places], strict=True):
        one = np.zeros(len(given_V))
        one[word] = step
        more = f1(given_V + one, right_V + one * float(p_NV[row, word]))
        expected.append((more - f1(given_V, right_V)) / step * len(given_V))
        found.append(float(p_NV[row, word] * balance.gain_V[word] - balance.toll_V[word]))
    np.testing.assert_allclose(found, expected, atol=0.008)
    assert max(map(abs, expected)) > 0.04


def test_a_word_that_might_never_be_given_pays_less_for_a_wrong_one() -> None:
    """Two words as likely where they are given: of the rarer one the first giving counts."""
    p_NV = np.full((1000, 3), 0.01, dtype=np.float32)
    p_NV[:2, 0] = p_NV[:200, 1] = 0.5
    p_NV[:, 2] = 0.6
    balance = balance_words(p_NV, p_NV.mean(0).astype(np.float64), 1, 500)
    worth_V = 0.5 * balance.gain_V - balance.toll_V
    assert worth_V[0] > 10 * worth_V[1] > 0


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
