"""Semantic neighbours against loops that follow the definition word by word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from engine.numerics.semantic import Candidates, SemanticNeighbours

BOUNDED = settings(max_examples=60, derandomize=True, deadline=None, database=None)
TEMPERATURE = 0.2


def problem(
    pictures: int, tags: int, queries: int, seed: int
) -> tuple[sparse.csr_matrix, NDArray[np.float32]]:
    """Labels [N, V], at least one a picture and skewed to the first tags; similarities [B, N]."""
    rng = np.random.default_rng(seed)
    labels_NV = rng.random((pictures, tags)) < 0.8 / np.arange(1, tags + 1)
    labels_NV[np.arange(pictures), rng.integers(0, tags, pictures)] = True
    similarities_BN = rng.uniform(-1, 1, (queries, pictures)).astype(np.float32)
    return sparse.csr_matrix(labels_NV.astype(np.float32)), similarities_BN


def nearest_carriers(
    labels_NV: NDArray[np.float32], similarities_N: NDArray[np.float32], neighbours: int
) -> set[int]:
    """The union over the tags of the K most similar pictures that carry the tag."""
    union: set[int] = set()
    for tag in range(labels_NV.shape[1]):
        carriers = [row for row in range(len(labels_NV)) if labels_NV[row, tag]]
        carriers.sort(key=lambda row: -similarities_N[row])
        union.update(carriers[:neighbours])
    return union


def tag_votes(
    labels_NV: NDArray[np.float32],
    similarities_N: NDArray[np.float32],
    neighbours: int,
    pooled: bool,
) -> list[float]:
    """Each tag's votes by its own K nearest carriers, or by all candidates that carry it."""
    votes = []
    for tag in range(labels_NV.shape[1]):
        only = labels_NV[:, [tag]]
        voters = nearest_carriers(labels_NV if pooled else only, similarities_N, neighbours)
        votes.append(
            sum(
                np.exp(-(1 - float(similarities_N[row])) / TEMPERATURE)
                for row in voters
                if labels_NV[row, tag]
            )
        )
    return votes


def kept(candidates: Candidates, query: int) -> set[int]:
    places = np.flatnonzero(np.isfinite(candidates.similarities_BM[query]))
    rows = places if candidates.rows_BM is None else candidates.rows_BM[query, places]
    return set(rows.tolist())


def shortlist_of_all(
    similarities_BN: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rows_BN = np.argsort(-similarities_BN, axis=1, kind="stable").astype(np.int64)
    return np.take_along_axis(similarities_BN, rows_BN, axis=1), rows_BN


@BOUNDED
@given(
    pictures=st.integers(1, 40),
    tags=st.integers(1, 12),
    queries=st.integers(1, 4),
    neighbours=st.integers(1, 8),
    pooled=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_both_paths_agree_with_the_definition(
    pictures: int, tags: int, queries: int, neighbours: int, pooled: bool, seed: int
) -> None:
    labels_NV, similarities_BN = problem(pictures, tags, queries, seed)
    semantic = SemanticNeighbours(labels_NV, neighbours)
    dense = semantic.among_all(similarities_BN)
    short = semantic.among(*shortlist_of_all(similarities_BN))
    dense_votes_BV = semantic.votes(dense, TEMPERATURE, pooled)
    short_votes_BV = semantic.votes(short, TEMPERATURE, pooled)
    assert dense_votes_BV.shape == short_votes_BV.shape == (queries, tags)
    assert dense_votes_BV.dtype == short_votes_BV.dtype == np.float32
    labels = labels_NV.toarray()
    for query in range(queries):
        expected = nearest_carriers(labels, similarities_BN[query], neighbours)
        assert kept(dense, query) == expected
        assert kept(short, query) == expected
        votes_V = tag_votes(labels, similarities_BN[query], neighbours, pooled)
        np.testing.assert_allclose(dense_votes_BV[query], votes_V, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(short_votes_BV[query], votes_V, rtol=1e-4, atol=1e-7)


def test_an_empty_place_of_a_shortlist_speaks_for_nobody() -> None:
    labels_NV, similarities_BN = problem(20, 5, 3, seed=1)
    semantic = SemanticNeighbours(labels_NV, 2)
    similarities_BM, rows_BM = shortlist_of_all(similarities_BN)
    similarities_BM, rows_BM = similarities_BM[:, :8].copy(), rows_BM[:, :8].copy()
    short = semantic.among(similarities_BM[:, :6], rows_BM[:, :6])
    rows_BM[:, 6:] = -1
    similarities_BM[:, 6:] = -np.inf
    holed = semantic.among(similarities_BM, rows_BM)
    for query in range(3):
        assert kept(holed, query) == kept(short, query)
    for pooled in (False, True):
        np.testing.assert_array_equal(
            semantic.votes(holed, TEMPERATURE, pooled), semantic.votes(short, TEMPERATURE, pooled)
        )


def test_a_tag_that_nobody_carries_gets_no_votes() -> None:
    labels_NV = sparse.csr_matrix(np.array([[1, 0, 1], [1, 0, 0]], np.float32))
    semantic = SemanticNeighbours(labels_NV, 1)
    similarities_BN = np.array([[0.5, 0.9]], np.float32)
    candidates = semantic.among_all(similarities_BN)
    assert kept(candidates, 0) == {0, 1}
    own_V = semantic.votes(candidates, TEMPERATURE, pooled=False)[0]
    pooled_V = semantic.votes(candidates, TEMPERATURE, pooled=True)[0]
    assert own_V[1] == pooled_V[1] == 0
    assert own_V[0] > own_V[2] > 0
    assert pooled_V[0] == pytest.approx(own_V[0] + own_V[2])


def test_no_queries_give_no_candidates() -> None:
    labels_NV, similarities_BN = problem(20, 5, 3, seed=1)
    semantic = SemanticNeighbours(labels_NV, 2)
    dense = semantic.among_all(similarities_BN[:0])
    short = semantic.among(similarities_BN[:0], np.zeros((0, 20), np.int64))
    for candidates in (dense, short):
        for pooled in (False, True):
            assert semantic.votes(candidates, TEMPERATURE, pooled).shape == (0, 5)
        assert candidates.nearest(4)[0].shape == (0, 4)


@pytest.mark.parametrize("most", [1, 5, 100])
def test_the_nearest_come_best_first(most: int) -> None:
    labels_NV, similarities_BN = problem(30, 6, 4, seed=2)
    semantic = SemanticNeighbours(labels_NV, 3)
    dense = semantic.among_all(similarities_BN)
    short = semantic.among(*shortlist_of_all(similarities_BN))
    for candidates in (dense, short):
        rows_BE, found_BE = candidates.nearest(most)
        assert rows_BE.shape == (4, min(most, 30))
        for query in range(4):
            best = sorted(kept(dense, query), key=lambda row: -similarities_BN[query, row])[:most]
            assert rows_BE[query, : len(best)].tolist() == best
            np.testing.assert_array_equal(
                found_BE[query, : len(best)], similarities_BN[query, best]
            )
            assert np.isneginf(found_BE[query, len(best) :]).all()
