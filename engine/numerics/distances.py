"""Base distances between pictures, one for each level of the embedding: L1, L2, χ² and cosine."""

from collections.abc import Sequence
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.numerics.levels import normalised_levels

Distance = Literal["l1", "l2", "chi2", "cosine", "correlation"]
"""L1 and χ² compare levels as histograms (absolute values add up to 1), L2 and cosine as vectors
of unit length after the signed square root of `normalised_levels`, correlation as centred vectors
of unit length. χ² is of the positive and the negative parts of the features side by side, so that
features with signs have one too."""

ROWS = 64
"""Pictures that are compared with a query at a time by χ²: these stay in a core's cache."""

CHUNK = 2048
"""Pictures that are held in float64 at a time by distances that are products of matrices."""

ABSENT = np.float32(1e-20)
"""Stands for a feature that is 0 in χ²: 0/0 becomes 0, and no sum changes by so little."""


def comparable_levels(
    x_ND: NDArray[np.floating], levels: Sequence[int], distance: Distance
) -> tuple[NDArray[np.float32], ...]:
    """The levels of an embedding, each scaled as `distance` compares it: M arrays [N, D_m].

    A level that is 0 throughout stays 0. Under 'chi2' a level is twice as wide: positive parts,
    then negative parts.

    Args:
        levels: widths of the levels, which add up to D.
    """
    ends = np.cumsum(levels)[:-1]
    if distance in ("l2", "cosine"):
        parts = np.split(normalised_levels(x_ND, levels), ends, axis=1)
        return tuple(np.ascontiguousarray(part) for part in parts)
    scale = _unit_deviations if distance == "correlation" else _shares
    parts = [scale(part) for part in np.split(np.asarray(x_ND, dtype=np.float64), ends, axis=1)]
    if distance == "chi2":
        parts = [np.hstack([np.maximum(part, 0), np.maximum(-part, 0)]) for part in parts]
        parts = [np.maximum(part, ABSENT) for part in parts]
    return tuple(np.ascontiguousarray(part) for part in parts)


def _shares(part_ND: NDArray[np.float64]) -> NDArray[np.float32]:
    total_N1 = np.abs(part_ND).sum(axis=1, keepdims=True)
    shares_ND: NDArray[np.float32] = (part_ND / np.maximum(total_N1, 1e-12)).astype(np.float32)
    return shares_ND


def _unit_deviations(part_ND: NDArray[np.float64]) -> NDArray[np.float32]:
    centred_ND = part_ND - part_ND.mean(axis=1, keepdims=True)
    length_N1 = np.linalg.norm(centred_ND, axis=1, keepdims=True)
    unit_ND: NDArray[np.float32] = (centred_ND / np.maximum(length_N1, 1e-12)).astype(np.float32)
    return unit_ND


def level_distances(
    queries: Sequence[NDArray[np.float32]],
    stored: Sequence[NDArray[np.float32]],
    distance: Distance,
) -> NDArray[np.float32]:
    """Distances of B queries to N stored pictures, level by level: float32 [M, B, N], no less
    than 0.

    'l1' is Σ|x - y|, 'l2' the root of Σ(x - y)², 'chi2' is ½ Σ(x - y)²/(x + y), and 'cosine' and
    'correlation' are ½ Σ(x - y)², which is 1 - cos of vectors of unit length. L2 and these
    multiply matrices in float64, for their differences cancel.

    Args:
        queries, stored: of `comparable_levels` with the same `distance`; both may have been
            weighted by `weigh_dimensions`.
    """
    distances_MBN = np.zeros((len(stored), len(queries[0]), len(stored[0])), dtype=np.float32)
    if not distances_MBN.size:
        return distances_MBN
    for out_BN, query_BD, stored_ND in zip(distances_MBN, queries, stored, strict=True):
        if distance == "l1":
            out_BN[:] = faiss.pairwise_distances(query_BD, stored_ND, faiss.METRIC_L1)
        elif distance == "chi2":
            _chi2(query_BD, stored_ND, out_BN)
        else:
            _half_squares(query_BD, stored_ND, out_BN)
            if distance == "l2":
                np.sqrt(2 * out_BN, out=out_BN)
    return distances_MBN


def _half_squares(
    query_BD: NDArray[np.float32], stored_ND: NDArray[np.float32], out_BN: NDArray[np.float32]
) -> None:
    query = query_BD.astype(np.float64)
    query_B1 = np.einsum("bd,bd->b", query, query)[:, None]
    for start in range(0, len(stored_ND), CHUNK):
        chunk = stored_ND[start : start + CHUNK].astype(np.float64)
        half = (query_B1 + np.einsum("nd,nd->n", chunk, chunk)) / 2 - query @ chunk.T
        out_BN[:, start : start + CHUNK] = np.maximum(half, 0)


def _chi2(
    query_BD: NDArray[np.float32], stored_ND: NDArray[np.float32], out_BN: NDArray[np.float32]
) -> None:
    # ½(x - y)²/(x + y) = ½(x + y) - 2xy/(x + y): one division and one product a feature.
    positive = stored_ND.shape[1] // 2
    if not any((part[:, positive:] > ABSENT).any() for part in (query_BD, stored_ND)):
        # Behind a ReLU there are no negative parts to compare.
        query_BD, stored_ND = query_BD[:, :positive], stored_ND[:, :positive]
    sums_N = stored_ND.sum(axis=1, dtype=np.float64)
    sums_B = query_BD.sum(axis=1, dtype=np.float64)
    share = np.empty((ROWS, stored_ND.shape[1]), dtype=np.float32)
    for start in range(0, len(stored_ND), ROWS):
        rows = stored_ND[start : start + ROWS]
        part = share[: len(rows)]
        for query_D, out_N in zip(query_BD, out_BN[:, start : start + ROWS], strict=True):
            np.add(rows, query_D, out=part)
            np.divide(rows, part, out=part)
            np.dot(part, query_D, out=out_N)
    exact = (sums_B[:, None] + sums_N) / 2 - 2 * out_BN.astype(np.float64)
    # What float32 leaves of the distance of a picture to itself is not told from 0.
    out_BN[:] = np.where(exact < 1e-6 * (sums_B[:, None] + sums_N), 0, exact)


def weigh_dimensions(
    x: Sequence[NDArray[np.float32]], weights: Sequence[NDArray[np.float64]], distance: Distance
) -> tuple[NDArray[np.float32], ...]:
    """Scale the features so that each dimension's term of the distance is multiplied by its weight.

    Under 'l2' it is the term under the root.

    Args:
        x: of `comparable_levels`, M arrays [N, D_m].
        weights: M arrays [D_m], no less than 0.
    """
    power = 1.0 if distance in ("l1", "chi2") else 0.5
    return tuple(
        np.ascontiguousarray(part * (weight**power).astype(np.float32))
        if distance != "chi2"
        else np.maximum(part * weight.astype(np.float32), ABSENT)
        for part, weight in zip(x, weights, strict=True)
    )


def dimension_terms(
    query_D: NDArray[np.float64], stored_ND: NDArray[np.float64], distance: Distance
) -> NDArray[np.float64]:
    """The terms [N, D] whose sum over D is the distance (under 'l2': half its square)."""
    apart_ND = stored_ND - query_D
    if distance == "l1":
        return np.abs(apart_ND)
    if distance == "chi2":
        terms_ND: NDArray[np.float64] = apart_ND**2 / (2 * (stored_ND + query_D))
        return terms_ND
    terms_ND = apart_ND**2 / 2
    return terms_ND
