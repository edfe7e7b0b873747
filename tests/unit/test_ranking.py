"""NDCG@k and Precision@k against scikit-learn, a loop, and cases worked out by hand."""

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score

from engine.numerics.ranking import NOTHING, best_first, graded_relevance, ndcg, precision_at

BOUNDED = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def drawn_places(rng: np.random.Generator, rows: int, words: int) -> NDArray[np.float32]:
    """Places of up to all the words; some pictures have no tag."""
    places_NW = np.zeros((rows, words), np.float32)
    for row in places_NW:
        chosen = rng.permutation(words)[: rng.integers(0, words + 1)]
        row[chosen] = np.arange(1, len(chosen) + 1)
    return places_NW


@BOUNDED
@given(st.integers(1, 12), st.integers(2, 15), st.integers(1, 12), st.integers(0, 999))
def test_ndcg_is_what_sklearn_says(rows: int, words: int, depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores_NW = rng.random((rows, words))
    relevance_NW = graded_relevance(drawn_places(rng, rows, words))
    found_NK = ndcg(best_first(scores_NW, depth), relevance_NW)
    tagged_N = relevance_NW.any(1)
    assert np.isnan(found_NK[~tagged_N]).all()
    if tagged_N.any():
        for k in range(1, found_NK.shape[1] + 1):
            theirs = ndcg_score(2 ** relevance_NW[tagged_N] - 1, scores_NW[tagged_N], k=k)
            assert found_NK[tagged_N, k - 1].mean() == pytest.approx(theirs)


@BOUNDED
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 12), st.integers(0, 999))
def test_both_are_the_papers_sums(rows: int, words: int, depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    places_NW = drawn_places(rng, rows, words)
    ranking_NK = np.full((rows, depth), NOTHING)
    for row in ranking_NK:
        chosen = rng.permutation(words)[: rng.integers(0, min(depth, words) + 1)]
        row[: len(chosen)] = chosen
    ndcg_NK = ndcg(ranking_NK, graded_relevance(places_NW))
    precision_NK = precision_at(ranking_NK, places_NW > 0)
    for row in range(rows):
        tags = int(places_NW[row].max())
        s = {w: (tags - p + 1) / tags for w, p in enumerate(places_NW[row].tolist()) if p}
        for k in range(1, depth + 1):
            ranked = [int(word) for word in ranking_NK[row, :k] if word != NOTHING]
            gained = sum((2 ** s.get(w, 0.0) - 1) / log(2 + p) for p, w in enumerate(ranked))
            best = sorted(s.values(), reverse=True)[:k]
            z = sum((2**value - 1) / log(2 + p) for p, value in enumerate(best))
            if s:
                assert ndcg_NK[row, k - 1] == pytest.approx(gained / z)
            else:
                assert np.isnan(ndcg_NK[row, k - 1])
            assert precision_NK[row, k - 1] == pytest.approx(sum(w in s for w in ranked) / k)


def test_relevance_falls_in_equal_steps_from_the_first_tag() -> None:
    places = np.array([[2, 0, 1, 4, 3], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.float32)
    assert graded_relevance(places).tolist() == [
        [0.75, 0, 1, 0.25, 0.5],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_ndcg_by_hand() -> None:
    # Two tags: the first gains 1, the second the root of 2 less 1.
    relevance = graded_relevance(np.array([[1, 2, 0]], np.float32))
    second = 2**0.5 - 1
    at = [1 / log(2), 1 / log(3), 1 / log(4)]
    z = at[0] + second * at[1]
    for ranking, expected in (
        ([0, 1, 2], [1, 1, 1]),
        ([1, 0, 2], [second, (second * at[0] + at[1]) / z, (second * at[0] + at[1]) / z]),
        ([2, 1, 0], [0, second * at[1] / z, (second * at[1] + at[2]) / z]),
        ([0, NOTHING, NOTHING], [1, at[0] / z, at[0] / z]),
    ):
        np.testing.assert_allclose(ndcg(np.array([ranking]), relevance)[0], expected)


def test_ties_go_to_the_earlier_column() -> None:
    scores = np.array([[0.5, 0.9, 0.5, 0.9], [0, 0, 0, 0]], np.float32)
    assert best_first(scores, 3).tolist() == [[1, 3, 0], [0, 1, 2]]
    assert best_first(scores, 9).shape == (2, 4)


def test_without_words_there_is_nothing_to_rank() -> None:
    empty = np.zeros((2, 0))
    assert best_first(empty, 10).shape == (2, 0)
    nowhere = np.full((2, 3), NOTHING)
    assert np.isnan(ndcg(nowhere, empty)).all()
    assert (precision_at(nowhere, empty > 0) == 0).all()
