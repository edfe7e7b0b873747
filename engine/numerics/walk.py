"""The walk of CCA annotation: in which order tags are gathered from neighbour to neighbour."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

STEPS = 1e9
"""Similarities are told apart by one part in so many; what is nearer counts as equally near.

Rounding differs between batches of different size, and must not decide which neighbour is first.
"""


NOBODY = np.iinfo(np.int64).min // 2
"""The key of no carrier: below all others, and its negative is still a number."""


class Walk:
    """Orders the tags of N training pictures by the first neighbour that carries each.

    Murthy et al. 2015, section 3.4.1: the tags of the nearest picture come first, those of one
    picture by their frequency in training, then those of the next nearest that are not there yet.
    """

    def __init__(self, labels_NV: sparse.csr_matrix) -> None:
        """`labels_NV` is binary; a tag without carriers comes after all others."""
        by_tag = sparse.csc_matrix(labels_NV)
        by_tag.sort_indices()
        sizes_V = np.diff(by_tag.indptr)
        self._carriers = by_tag.indices.astype(np.int64)
        self._carried_T = np.flatnonzero(sizes_V)
        self._begins_T = by_tag.indptr[self._carried_T]
        self._pictures, self._tags = labels_NV.shape
        self._labels = labels_NV
        # The most frequent first; of the equally frequent the one that the vocabulary has first.
        self._frequent_V = np.argsort(-sizes_V, kind="stable")

    def among_all(
        self, similarities_BN: NDArray[np.floating]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Walk all the training pictures.

        Of equally near pictures the one with the smaller row comes first.

        Returns:
            The place of each tag in the order of gathering, [B, V] from 0, and keys [B, N] by
            which a nearer picture is larger; no two in a row are the same.
        """
        steps_BN = np.rint(similarities_BN * STEPS).astype(np.int64)
        keys_BN = (steps_BN + 1) * self._pictures - np.arange(self._pictures)
        first_BV = np.full((len(keys_BN), self._tags), NOBODY)
        if len(keys_BN):
            first_BV[:, self._carried_T] = np.maximum.reduceat(
                keys_BN[:, self._carriers], self._begins_T, axis=1
            )
        return self._places(first_BV), keys_BN

    def among(self, rows_BM: NDArray[np.int64]) -> NDArray[np.int64]:
        """Walk a shortlist of training rows [B, M], nearest first and -1 for none.

        Returns the places [B, V]; tags that nobody in the shortlist carries come after the others,
        by frequency.
        """
        batch, width = rows_BM.shape
        flat = rows_BM.ravel()
        indptr = self._labels.indptr.astype(np.int64)
        sizes = np.where(flat < 0, 0, indptr[flat + 1] - indptr[flat])
        ends = np.cumsum(sizes)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
        tags = self._labels.indices[np.repeat(indptr[flat], sizes) + within]
        queries, ranks = np.divmod(np.repeat(np.arange(len(flat)), sizes), width)
        first = np.full(batch * self._tags, NOBODY)
        np.maximum.at(first, queries * self._tags + tags, -ranks)
        return self._places(first.reshape(batch, self._tags))

    def _places(self, first_BV: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places by the key of each tag's first carrier, the largest first, then by frequency."""
        order_BV = self._frequent_V[
            np.argsort(-first_BV[:, self._frequent_V], axis=1, kind="stable")
        ]
        places_BV = np.empty_like(order_BV)
        ranks_1V = np.broadcast_to(np.arange(self._tags), order_BV.shape)
        np.put_along_axis(places_BV, order_BV, ranks_1V, axis=1)
        return places_BV
