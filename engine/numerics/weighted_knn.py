"""Nearest neighbours of a batch, in an order that is settled, and the weights they vote with."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def nearest(
    distances_BN: NDArray[np.float32], neighbours: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `neighbours` smallest of each row, ascending; ties go to the smaller column.

    Returns columns [B, K] and distances [B, K], K = min(neighbours, N).

    Args:
        distances_BN: no less than 0 and not NaN; infinity stands for a picture that is not
            looked at, and comes last.
    """
    batch, stored = distances_BN.shape
    kept = min(neighbours, stored)
    # The bits of floats from 0 up are ordered as the floats are: one integer holds both.
    bits = np.ascontiguousarray(np.abs(distances_BN), dtype=np.float32).view(np.int32)
    keys_BN = (bits.astype(np.int64) << 32) | np.arange(stored, dtype=np.int64)
    if kept < stored:
        keys_BN.partition(max(kept - 1, 0), axis=1)
    keys_BK = np.sort(keys_BN[:, :kept], axis=1)
    columns_BK = keys_BK & 0xFFFFFFFF
    distances_BK = (keys_BK >> 32).astype(np.int32).view(np.float32).reshape(batch, kept)
    return columns_BK, distances_BK


def nearest_by_any(distances_MBN: NDArray[np.float32], neighbours: int) -> NDArray[np.int64]:
    """Columns [B, K] of the pictures that rank best under any of M distances, best rank first.

    As many as possible of the first neighbours of each distance are among the K: k* of Guillaumin
    et al. 2009, section 3.2, is as large as it can be. Ties go to the smaller column.
    """
    levels, batch, stored = distances_MBN.shape
    kept = min(neighbours, stored)
    if levels == 1:
        return nearest(distances_MBN[0], kept)[0]
    ranks_BN = np.full((batch, stored), stored, dtype=np.float32)
    places_K = np.arange(kept, dtype=np.float32)
    for distances_BN in distances_MBN:
        columns_BK, _ = nearest(distances_BN, kept)
        best_BK = np.minimum(np.take_along_axis(ranks_BN, columns_BK, axis=1), places_K)
        np.put_along_axis(ranks_BN, columns_BK, best_BK, axis=1)
    return nearest(ranks_BN, kept)[0]


def softmax_weights(
    distances_MBK: NDArray[np.floating], scales_M: NDArray[np.float64]
) -> NDArray[np.float64]:
    """π_ij = exp(-d_ij) / Σ_j exp(-d_ij) with d = Σ_m scale_m d_m (Guillaumin et al. 2009, Eq. 7).

    Args:
        distances_MBK: at least one neighbour K.
    """
    combined_BK = np.einsum("m,mbk->bk", scales_M, distances_MBK)
    weights_BK = np.exp(combined_BK.min(axis=1, keepdims=True) - combined_BK)
    normalised: NDArray[np.float64] = weights_BK / weights_BK.sum(axis=1, keepdims=True)
    return normalised


def vote(
    weights_BK: NDArray[np.floating], rows_BK: NDArray[np.int64], labels_NV: sparse.csr_matrix
) -> NDArray[np.float64]:
    """Σ_k weight_bk · [neighbour k carries the tag]: float64 [B, V]."""
    batch, kept = rows_BK.shape
    voters_BN = sparse.csr_matrix(
        (
            weights_BK.ravel().astype(np.float64),
            rows_BK.ravel(),
            np.arange(batch + 1) * kept,
        ),
        shape=(batch, labels_NV.shape[0]),
    )
    votes_BV: NDArray[np.float64] = (voters_BN @ labels_NV).toarray().astype(np.float64)
    return votes_BV
