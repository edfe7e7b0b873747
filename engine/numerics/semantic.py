"""Semantic neighbours: for each tag the K nearest training pictures that carry it.

Verma and Jawahar 2012 (2PKNN), as Murthy et al. 2015 use it for CCA-KNN: the union of these is
the candidate set, in which every tag is represented, however rare it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


@dataclass(frozen=True)
class Candidates:
    """M training pictures for each of B queries; -inf similarity where it is no candidate.

    Attributes:
        rows_BM: training rows; None where column m is row m.
        similarities_BM: correlation with the query, -inf for one that is no candidate.
        bar_BV: similarity of each tag's K-th nearest carrier; -inf where there are fewer.
    """

    rows_BM: NDArray[np.int64] | None
    similarities_BM: NDArray[np.float32]
    bar_BV: NDArray[np.float32]

    def nearest(self, most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The most similar candidates: rows [B, m] and similarities [B, m], best first."""
        width = min(most, self.similarities_BM.shape[1])
        places = np.argpartition(-self.similarities_BM, width - 1, axis=1)[:, :width]
        similarities = np.take_along_axis(self.similarities_BM, places, axis=1)
        order = np.argsort(-similarities, axis=1, kind="stable")
        places = np.take_along_axis(places, order, axis=1)
        if self.rows_BM is not None:
            places_in_rows = np.take_along_axis(self.rows_BM, places, axis=1)
        else:
            places_in_rows = places
        return places_in_rows, np.take_along_axis(similarities, order, axis=1)


class SemanticNeighbours:
    """Finds candidate sets among N training pictures with the labels [N, V], by K."""

    def __init__(self, labels_NV: sparse.csr_matrix, neighbours: int) -> None:
        """Every picture must carry a tag; a tag without carriers has no neighbours."""
        self.neighbours = neighbours
        self.labels_NV = labels_NV
        by_tag = sparse.csc_matrix(labels_NV)
        sizes_V = np.diff(by_tag.indptr)
        self._carriers = by_tag.indices
        self._sizes_V = sizes_V
        self._carried_V = np.flatnonzero(sizes_V)
        self._begins = by_tag.indptr[self._carried_V]
        self._buckets: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        # Tags of similar frequency are looked at together, padded to the largest of them; those
        # with at most K carriers need no look: all of them are neighbours.
        classes_V = np.ceil(np.log2(np.maximum(sizes_V, 1))).astype(np.int64)
        frequent_V = sizes_V > neighbours
        for size_class in np.unique(classes_V[frequent_V]):
            tags_T = np.flatnonzero(frequent_V & (classes_V == size_class))
            members_TS = np.full((len(tags_T), int(sizes_V[tags_T].max())), -1, dtype=np.int64)
            for place, tag in enumerate(tags_T):
                carriers = by_tag.indices[by_tag.indptr[tag] : by_tag.indptr[tag + 1]]
                members_TS[place, : len(carriers)] = carriers
            self._buckets.append((tags_T, members_TS))

    def among_all(self, similarities_BN: NDArray[np.float32]) -> Candidates:
        """Candidate sets from the similarities to all the training pictures."""
        batch = len(similarities_BN)
        bar_BV = np.full((batch, self.labels_NV.shape[1]), -np.inf, dtype=np.float32)
        # Padding points one past the end, at a similarity below all others.
        padded_BN = np.concatenate(
            [similarities_BN, np.full((batch, 1), -np.inf, dtype=np.float32)], axis=1
        )
        for tags_T, members_TS in self._buckets:
            carried_BTS = padded_BN[:, members_TS]
            place = members_TS.shape[1] - self.neighbours
            carried_BTS.partition(place, axis=2)
            bar_BV[:, tags_T] = carried_BTS[:, :, place]
        # A picture is a candidate if it passes the bar of any tag it carries: of the lowest.
        lowest_BN = np.minimum.reduceat(
            bar_BV[:, self.labels_NV.indices], self.labels_NV.indptr[:-1], axis=1
        )
        kept_BN = np.where(similarities_BN >= lowest_BN, similarities_BN, np.float32(-np.inf))
        return Candidates(None, kept_BN, bar_BV)

    def among(self, similarities_BM: NDArray[np.float32], rows_BM: NDArray[np.int64]) -> Candidates:
        """Candidate sets from a shortlist, best first; row -1 is a place left empty."""
        batch, width = rows_BM.shape
        tags_BP, places_BP, lengths = self._carried(rows_BM)
        keys = np.repeat(np.arange(batch), lengths) * self.labels_NV.shape[1] + tags_BP
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(keys) else order
        rank = np.arange(len(keys)) - np.repeat(first, np.diff(np.r_[first, len(keys)]))
        chosen = places_BP[order[rank < self.neighbours]]
        kept = np.full(batch * width, -np.inf, dtype=np.float32)
        kept[chosen] = similarities_BM.ravel()[chosen]
        bar = np.full(batch * self.labels_NV.shape[1], -np.inf, dtype=np.float32)
        last = order[rank == self.neighbours - 1]
        bar[keys[last]] = similarities_BM.ravel()[places_BP[last]]
        bar_BV = bar.reshape(batch, self.labels_NV.shape[1])
        return Candidates(rows_BM, kept.reshape(batch, width), bar_BV)

    def votes(
        self, candidates: Candidates, temperature: float, pooled: bool
    ) -> NDArray[np.float32]:
        """Sum of exp(-D / temperature) over carriers of each tag: float32 [B, V].

        D = 1 - similarity is the correlation distance (Murthy et al. 2015, Eq. 5).

        Args:
            pooled: all the candidates that carry a tag vote for it; otherwise only its own K
                nearest do.
        """
        weights_BM = np.exp((candidates.similarities_BM - 1) / np.float32(temperature))
        batch, tags = candidates.bar_BV.shape
        if candidates.rows_BM is not None:
            tags_BP, places_BP, lengths = self._carried(candidates.rows_BM)
            keys = np.repeat(np.arange(batch), lengths) * tags + tags_BP
            weights = weights_BM.ravel()[places_BP]
            if not pooled:
                passed = candidates.similarities_BM.ravel()[places_BP]
                weights = np.where(passed >= candidates.bar_BV.ravel()[keys], weights, 0)
            sums = np.bincount(keys, weights, minlength=batch * tags)
            return sums.reshape(batch, tags).astype(np.float32)
        if pooled:
            all_votes: NDArray[np.float32] = (self.labels_NV.T @ weights_BM.T).T
            return np.ascontiguousarray(all_votes, dtype=np.float32)
        passed_BC = candidates.similarities_BM[:, self._carriers] >= np.repeat(
            candidates.bar_BV, self._sizes_V, axis=1
        )
        weights_BC = weights_BM[:, self._carriers] * passed_BC
        votes_BV = np.zeros((batch, tags), dtype=np.float32)
        votes_BV[:, self._carried_V] = np.add.reduceat(weights_BC, self._begins, axis=1)
        return votes_BV

    def _carried(
        self, rows_BM: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The tags of all the shortlisted pictures, one after the other.

        Returns the tag and the flat place in [B, M] of each, and how many each query has.
        """
        flat = rows_BM.ravel()
        indptr = self.labels_NV.indptr.astype(np.int64)
        starts = indptr[flat]
        sizes = np.where(flat < 0, 0, indptr[flat + 1] - starts)
        places = np.repeat(np.arange(len(flat)), sizes)
        within = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        tags = self.labels_NV.indices[np.repeat(starts, sizes) + within].astype(np.int64)
        return tags, places, sizes.reshape(rows_BM.shape).sum(axis=1)
