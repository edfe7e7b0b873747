"""What a search weighs before it answers: enough to put together what parts of an index found.

The order is the same wherever the vectors lie: the larger similarity first, of equal ones the
smaller row, at the end of a shortlist too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.index.exact import Found
from engine.index.lists import flat_codes

WIDEST = 64
"""Times the candidates asked for that are looked at, at most, where many are equally near."""


@dataclass(frozen=True)
class Shortlist:
    """Candidates of B queries, M each; row -1 and similarity -inf where there are fewer.

    Attributes:
        found_by_BM: float32, the similarity by which candidates were found, the largest first.
        similarities_BM: float32, that by which they are ranked in the end; where an index keeps
            vectors beside its codes, of these vectors; elsewhere the same array.
        rows_BM: int64.
    """

    found_by_BM: NDArray[np.float32]
    similarities_BM: NDArray[np.float32]
    rows_BM: NDArray[np.int64]

    def moved(self, first: int) -> "Shortlist":
        """The same candidates where row 0 is row `first`."""
        rows_BM = np.where(self.rows_BM < 0, self.rows_BM, self.rows_BM + first)
        return Shortlist(self.found_by_BM, self.similarities_BM, rows_BM)

    def best(self, nearest: int) -> Found:
        """The `nearest` of the candidates that are ranked first."""
        if self.similarities_BM is self.found_by_BM:
            return self.found_by_BM[:, :nearest], self.rows_BM[:, :nearest]
        order_BM = np.lexsort((self.rows_BM, -self.similarities_BM), axis=1)[:, :nearest]
        return (
            np.take_along_axis(self.similarities_BM, order_BM, axis=1),
            np.take_along_axis(self.rows_BM, order_BM, axis=1),
        )


def shortlist(stored: faiss.Index, queries_BL: NDArray[np.float32], most: int) -> Shortlist:
    """The `most` candidates, or all vectors if they are fewer, that an index on the CPU finds."""
    most = min(most, int(stored.ntotal))
    if not isinstance(stored, faiss.IndexRefine):
        similarities_BM, rows_BM = _nearest(stored, queries_BL, most)
        return Shortlist(similarities_BM, similarities_BM, rows_BM)
    base = faiss.downcast_index(stored.base_index)
    found_by_BM, rows_BM = _nearest(base, queries_BL, most)
    return Shortlist(found_by_BM, _refined(stored, queries_BL, rows_BM), rows_BM)


def joined(parts: Sequence[Shortlist], most: int) -> Shortlist:
    """The `most` candidates of what was found in several parts of an index."""
    if len(parts) == 1 and parts[0].rows_BM.shape[1] <= most:
        return parts[0]
    found_by_BM = np.concatenate([part.found_by_BM for part in parts], axis=1)
    rows_BM = np.concatenate([part.rows_BM for part in parts], axis=1)
    order_BM = np.lexsort((rows_BM, -found_by_BM), axis=1)[:, :most]
    taken_BM = np.take_along_axis(found_by_BM, order_BM, axis=1)
    rows_BM = np.take_along_axis(rows_BM, order_BM, axis=1)
    if all(part.similarities_BM is part.found_by_BM for part in parts):
        return Shortlist(taken_BM, taken_BM, rows_BM)
    similarities_BM = np.concatenate([part.similarities_BM for part in parts], axis=1)
    return Shortlist(taken_BM, np.take_along_axis(similarities_BM, order_BM, axis=1), rows_BM)


def _nearest(index: faiss.Index, queries_BL: NDArray[np.float32], most: int) -> Found:
    """What FAISS finds, with equally near vectors in the order of their rows.

    FAISS leaves open which of equally near vectors it drops at the end, so it is asked for more
    until the last one is nearer than the next. All queries are asked again together, for how many
    there are may decide a product's last bits.
    """
    total = int(index.ntotal)
    width = min(most + 1, total)
    while True:
        similarities_BM, rows_BM = index.search(queries_BL, width)
        if width <= most or len(queries_BL) == 0 or width == total:
            break
        is_cut_B = (similarities_BM[:, most - 1] == similarities_BM[:, -1]) & (rows_BM[:, -1] >= 0)
        if not is_cut_B.any() or width >= WIDEST * most:
            break
        width = min(2 * width, total)
    similarities_BM[rows_BM < 0] = -np.inf
    is_tied_B = ((similarities_BM[:, 1:] == similarities_BM[:, :-1]) & (rows_BM[:, 1:] >= 0)).any(1)
    for query in np.flatnonzero(is_tied_B):
        order_M = np.lexsort((rows_BM[query], -similarities_BM[query]))
        similarities_BM[query] = similarities_BM[query, order_M]
        rows_BM[query] = rows_BM[query, order_M]
    return (
        np.ascontiguousarray(similarities_BM[:, :most]),
        np.ascontiguousarray(rows_BM[:, :most]),
    )


def _refined(
    stored: faiss.IndexRefine, queries_BL: NDArray[np.float32], rows_BM: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The similarities to the vectors beside the codes; -inf for row -1."""
    store = faiss.downcast_index(stored.refine_index)
    codes_NC = flat_codes(store)
    similarities_BM = np.full(rows_BM.shape, -np.inf, np.float32)
    for query, rows_M in enumerate(rows_BM):
        kept_M = rows_M >= 0
        vectors_ML = store.sa_decode(np.ascontiguousarray(codes_NC[rows_M[kept_M]]))
        # Not a matrix product: there a vector's neighbours may decide the last bits.
        similarities_BM[query, kept_M] = np.einsum("ml,l->m", vectors_ML, queries_BL[query])
    return similarities_BM
