"""Base distances against loops in float64 and SciPy's own; neighbours against a full sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import distance as scipy_distance

from engine.numerics.distances import (
    Distance,
    comparable_levels,
    dimension_terms,
    level_distances,
    weigh_dimensions,
)
from engine.numerics.weighted_knn import nearest, nearest_by_any, softmax_weights, vote

BOUNDED = settings(max_examples=60, derandomize=True, deadline=None, database=None)
DISTANCES: tuple[Distance, ...] = ("l1", "l2", "chi2", "cosine", "correlation")
LEVELS = (5, 3, 8)


def one_distance(a: NDArray[np.float64], b: NDArray[np.float64], distance: Distance) -> float:
    """Two pictures' distance in one level, from the definition, a feature at a time."""
    if distance in ("l1", "chi2"):
        a, b = a / max(sum(map(abs, a)), 1e-12), b / max(sum(map(abs, b)), 1e-12)
        total = 0.0
        for x, y in zip(a, b, strict=True):
            if distance == "l1":
                total += abs(x - y)
                continue
            # The positive parts are one histogram, the negative parts another.
            for p, q in ((max(x, 0), max(y, 0)), (max(-x, 0), max(-y, 0))):
                total += (p - q) ** 2 / (p + q) / 2 if p + q > 0 else 0
        return total
    if distance == "correlation":
        return float(scipy_distance.correlation(a, b))
    a, b = np.sign(a) * np.sqrt(np.abs(a)), np.sign(b) * np.sqrt(np.abs(b))
    if distance == "cosine":
        return float(scipy_distance.cosine(a, b))
    return float(np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("signed", [True, False])
def test_distances_are_their_definition(
    distance: Distance, signed: bool, rng: np.random.Generator
) -> None:
    x_ND = rng.standard_normal((70, sum(LEVELS)))
    x_ND = x_ND if signed else np.maximum(x_ND, 0)
    x_ND[:, [0, 5, 8]] += 0.1
    stored = comparable_levels(x_ND, LEVELS, distance)
    found_MBN = level_distances(tuple(part[:6] for part in stored), stored, distance)
    assert found_MBN.dtype == np.float32
    for level, part_ND in enumerate(np.split(x_ND, np.cumsum(LEVELS)[:-1], axis=1)):
        for query in range(6):
            wanted_N = [one_distance(part_ND[query], row_D, distance) for row_D in part_ND]
            np.testing.assert_allclose(found_MBN[level, query], wanted_N, atol=2e-6)
    own = found_MBN[:, np.arange(6), np.arange(6)]
    assert own.max() < 1e-6 if distance != "l2" else own.max() < 1e-3


def test_a_case_by_hand() -> None:
    """Two histograms (3/4, 1/4) and (1/4, 3/4): L1 is 1, χ² is ½ · 2 · (1/2)² / 1 = 1/4; their
    roots have the cosine √3/2, and the L2 distance √(2 - √3)."""
    x_ND = np.array([[3.0, 1.0], [2.0, 6.0]])
    for distance, wanted in (
        ("l1", 1.0),
        ("chi2", 0.25),
        ("cosine", 1 - np.sqrt(3) / 2),
        ("l2", np.sqrt(2 - np.sqrt(3))),
        ("correlation", 2.0),
    ):
        both = comparable_levels(x_ND, (2,), distance)
        found = level_distances(both, both, distance)[0]
        np.testing.assert_allclose(found, [[0, wanted], [wanted, 0]], atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_level_of_zeros_has_distances_and_no_nan(distance: Distance) -> None:
    x_ND = np.array([[0.0, 0, 0, 0, 1, 2], [1, 2, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    stored = comparable_levels(x_ND, (3, 3), distance)
    found = level_distances(stored, stored, distance)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert level_distances(tuple(p[:0] for p in stored), stored, distance).shape == (2, 0, 3)


@pytest.mark.parametrize("distance", DISTANCES)
def test_weighted_dimensions_multiply_their_terms(
    distance: Distance, rng: np.random.Generator
) -> None:
    x_ND = np.abs(rng.standard_normal((9, 4))) + 0.1
    stored = comparable_levels(x_ND, (4,), distance)
    weights = (rng.uniform(0, 2, stored[0].shape[1]),)
    weighted = weigh_dimensions(stored, weights, distance)
    found_BN = level_distances(weighted, weighted, distance)[0]
    exact_ND = stored[0].astype(np.float64)
    for row in range(9):
        terms_ND = dimension_terms(exact_ND[row], exact_ND, distance)
        wanted_N = terms_ND @ weights[0]
        wanted_N = np.sqrt(2 * wanted_N) if distance == "l2" else wanted_N
        np.testing.assert_allclose(found_BN[row], wanted_N, atol=3e-6)


@BOUNDED
@given(
    rows=st.integers(0, 4),
    stored=st.integers(1, 30),
    neighbours=st.integers(1, 35),
    seed=st.integers(0, 999),
)
def test_nearest_is_a_stable_sort(rows: int, stored: int, neighbours: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties abound; some are infinite.
    distances_BN = rng.choice([0, 1e-7, 0.5, 2, np.inf], (rows, stored)).astype(np.float32)
    columns_BK, found_BK = nearest(distances_BN, neighbours)
    wanted_BK = np.argsort(distances_BN, axis=1, kind="stable")[:, :neighbours]
    np.testing.assert_array_equal(columns_BK, wanted_BK)
    np.testing.assert_array_equal(found_BK, np.take_along_axis(distances_BN, wanted_BK, axis=1))


@BOUNDED
@given(
    levels=st.integers(1, 4),
    stored=st.integers(1, 25),
    neighbours=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_the_union_keeps_the_first_neighbours_of_each_distance(
    levels: int, stored: int, neighbours: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    distances_MBN = rng.random((levels, 2, stored)).astype(np.float32)
    columns_BK = nearest_by_any(distances_MBN, neighbours)
    for query in range(2):
        ranked = [np.argsort(distances_MBN[m, query], kind="stable") for m in range(levels)]
        chosen = columns_BK[query].tolist()
        assert len(set(chosen)) == len(chosen) == min(neighbours, stored)
        # As many first neighbours of every distance as fit into K, and those first.
        depth = 0
        while (
            depth < stored and len({int(c) for r in ranked for c in r[: depth + 1]}) <= neighbours
        ):
            depth += 1
        union = {int(c) for r in ranked for c in r[:depth]}
        assert set(chosen[: len(union)]) == union


def test_weights_and_votes_by_hand() -> None:
    far_MBK = np.array([[[0.0, np.log(3)]], [[0.0, 0.0]]])
    weights_BK = softmax_weights(far_MBK, np.array([1.0, 5.0]))
    np.testing.assert_allclose(weights_BK, [[0.75, 0.25]])
    labels_NV = sparse.csr_matrix(np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0]], dtype=np.float32))
    votes_BV = vote(weights_BK, np.array([[2, 0]]), labels_NV)
    np.testing.assert_allclose(votes_BV, [[1, 0.75, 0.25]])
    assert vote(np.ones((2, 0)), np.zeros((2, 0), np.int64), labels_NV).tolist() == [[0] * 3] * 2
