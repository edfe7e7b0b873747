"""The exact oracle that every index is measured against, in plain NumPy."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Index(Protocol):
    """Finds the M stored vectors with the largest inner product."""

    def search(
        self, queries_BL: NDArray[np.float32], nearest: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities [B, M] and rows [B, M], best first; M = min(nearest, stored vectors).

        An approximate index may find fewer: the row is -1 and the similarity -inf there.
        """
        ...


class ExactIndex:
    """The oracle: one matrix product and a stable sort. Ties go to the smaller row."""

    def __init__(self, vectors_NL: NDArray[np.float32]) -> None:
        self.vectors_NL = vectors_NL

    def search(
        self, queries_BL: NDArray[np.float32], nearest: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        similarities_BN = queries_BL @ self.vectors_NL.T
        rows_BM = np.argsort(-similarities_BN, axis=1, kind="stable")[:, :nearest]
        return np.take_along_axis(similarities_BN, rows_BM, axis=1), rows_BM.astype(np.int64)


Block = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Some stored vectors: their rows [B], and they [B, L]."""

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Similarities [Q, m], best first, and their rows [Q, m]."""


def nearest_in_blocks(
    queries_QL: NDArray[np.float32],
    blocks: Iterable[Block],
    nearest: int,
) -> Found:
    """What `ExactIndex` finds among all the blocks, of which one at a time is held."""
    parts: list[Found] = []
    for rows_B, block_BL in blocks:
        similarities_QB = queries_QL @ block_BL.T
        width = min(nearest, similarities_QB.shape[1])
        places_QM = np.argpartition(-similarities_QB, width - 1, axis=1)[:, :width]
        parts.append((np.take_along_axis(similarities_QB, places_QM, axis=1), rows_B[places_QM]))
        if len(parts) > 16:
            parts = [best_of(parts, nearest)]
    return best_of(parts, nearest)


def best_of(parts: Iterable[Found], nearest: int) -> Found:
    """The best of what was found in several places; ties go to the smaller row."""
    similarities, rows = zip(*parts, strict=True)
    similarities_QM = np.concatenate(similarities, axis=1)
    rows_QM = np.concatenate(rows, axis=1)
    order_QM = np.lexsort((rows_QM, -similarities_QM), axis=1)[:, :nearest]
    return (
        np.take_along_axis(similarities_QM, order_QM, axis=1),
        np.take_along_axis(rows_QM, order_QM, axis=1),
    )
