"""Nearest sets by Jaccard similarity, and the mean of the maximum over subsets of neighbours."""

from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

HELD = 1 << 22
"""Similarities that are held at a time."""


def nearest_sets(
    queries_BW: sparse.csr_matrix,
    stored_NW: sparse.csr_matrix,
    most: int,
    excluded_B: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The rows of the stored sets that are most like each query: int64 [B, most].

    Similarity is how many members two sets share, over how many either has. Sets that share none
    are no neighbours: where there are fewer than `most`, -1 fills up. Equal similarities keep the
    order of the stored sets.

    Args:
        queries_BW, stored_NW: binary, float32; a set a row.
        excluded_B: a row that is no neighbour of the query; -1: none is excluded.
    """
    stored = stored_NW.shape[0]
    found_BM = np.full((queries_BW.shape[0], most), -1, dtype=np.int64)
    stored_sizes_N = np.diff(stored_NW.indptr).astype(np.float64)
    columns = stored_NW.T.tocsr()
    kept = min(most, stored)
    step = max(1, HELD // max(stored, 1))
    # Two different similarities of sets of W members differ by 1/W² or more, so this much less for
    # each row further down parts those that are equal, and no others.
    later_N = np.arange(stored) / (4.0 * max(stored, 1) * max(stored_NW.shape[1], 1) ** 2)
    for start in range(0, queries_BW.shape[0], step):
        block = queries_BW[start : start + step]
        common_BN = np.asarray((block @ columns).todense(), dtype=np.float64)
        sizes_B1 = np.diff(block.indptr).astype(np.float64)[:, None]
        key_BN = common_BN / np.maximum(sizes_B1 + stored_sizes_N - common_BN, 1) - later_N
        key_BN[common_BN == 0] = -np.inf
        if excluded_B is not None:
            out_B = excluded_B[start : start + step]
            rows = np.flatnonzero(out_B >= 0)
            key_BN[rows, out_B[rows]] = -np.inf
        if kept:
            best_BM = np.argpartition(-key_BN, kept - 1, axis=1)[:, :kept]
            keys_BM = np.take_along_axis(key_BN, best_BM, axis=1)
            order_BM = np.argsort(-keys_BM, axis=1)
            best_BM = np.take_along_axis(best_BM, order_BM, axis=1)
            best_BM[np.isneginf(np.take_along_axis(keys_BM, order_BM, axis=1))] = -1
            found_BM[start : start + step, :kept] = best_BM
    return found_BM


def subset_max_weights(candidates: int, size: int) -> NDArray[np.float32]:
    """What each of M sorted numbers counts in the mean of the maximum over all subsets of a size.

    The k-th smallest is the largest of C(k - 1, size - 1) of the C(M, size) subsets.

    Args:
        candidates: M.
        size: of a subset, 1 to M.

    Returns:
        float32 [M], for numbers in ascending order; they add up to 1.
    """
    total = comb(candidates, size)
    counts = [comb(place, size - 1) / total for place in range(candidates)]
    return np.array(counts, dtype=np.float32)
