"""Semantic neighbours: for each tag the K nearest training pictures that carry it.

Verma and Jawahar 2012 (2PKNN), as Murthy et al. 2015 use it for CCA-KNN: the union of these is
the candidate set, in which every tag is represented, however rare it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


@dataclass(frozen=True)
class Carried:
    """The tags of shortlisted pictures, grouped by query and tag: P entries in B·V groups.

    Attributes:
        similarities_P: of the picture that carries the tag, best first in each group.
        places_P: where that picture stands in the flattened [B, M] shortlist.
        begins: of the groups, and the end of the last: [B·V + 1].
        is_voter_P: whether it is among its tag's K nearest carriers.
    """

    similarities_P: NDArray[np.float32]
    places_P: NDArray[np.int32]
    begins: NDArray[np.int32]
    is_voter_P: NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """M training pictures for each of B queries; -inf similarity where it is no candidate.

    Attributes:
        rows_BM: training rows; None where column m is row m.
        similarities_BM: correlation with the query, -inf for one that is no candidate.
        bar_BV: similarity of each tag's K-th nearest carrier; -inf where there are fewer.
        carried: what votes are counted from in a shortlist; None where column m is row m.
    """

    rows_BM: NDArray[np.int64] | None
    similarities_BM: NDArray[np.float32]
    bar_BV: NDArray[np.float32]
    carried: Carried | None = None

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
        batch, tags = len(rows_BM), self.labels_NV.shape[1]
        flat = rows_BM.ravel()
        places_R = np.flatnonzero(flat >= 0).astype(np.int32)
        labels_RV = self.labels_NV[flat[places_R]]
        places_P = np.repeat(places_R, np.diff(labels_RV.indptr))
        groups_P = places_P // max(rows_BM.shape[1], 1) * tags + labels_RV.indices
        # A counting sort, in linear time, that keeps the order within a group: best first.
        entries = sparse.coo_matrix(
            (similarities_BM.ravel()[places_P], (groups_P, places_P)),
            shape=(batch * tags, max(flat.size, 1)),
        )
        entries.has_canonical_format = True
        grouped = entries.tocsr()
        begins = grouped.indptr
        bar = np.full(batch * tags, -np.inf, dtype=np.float32)
        full = np.flatnonzero(np.diff(begins) >= self.neighbours)
        bar[full] = grouped.data[begins[full] + self.neighbours - 1]
        is_voter_P = grouped.data >= np.repeat(bar, np.diff(begins))
        chosen = grouped.indices[is_voter_P]
        kept = np.full(flat.size, -np.inf, dtype=np.float32)
        kept[chosen] = similarities_BM.ravel()[chosen]
        return Candidates(
            rows_BM,
            kept.reshape(rows_BM.shape),
            bar.reshape(batch, tags),
            Carried(grouped.data, grouped.indices, begins, is_voter_P),
        )

    def votes(
        self, candidates: Candidates, temperature: float, pooled: bool
    ) -> NDArray[np.float32]:
        """Sum of exp(-D / temperature) over carriers of each tag: float32 [B, V].

        D = 1 - similarity is the correlation distance (Murthy et al. 2015, Eq. 5).

        Args:
            pooled: all the candidates that carry a tag vote for it; otherwise only its own K
                nearest do.
        """
        batch, tags = candidates.bar_BV.shape
        if candidates.carried is not None:
            return _grouped_votes(candidates, candidates.carried, temperature, pooled)
        weights_BM = np.exp((candidates.similarities_BM - 1) / np.float32(temperature))
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


def _grouped_votes(
    candidates: Candidates, carried: Carried, temperature: float, pooled: bool
) -> NDArray[np.float32]:
    """Votes [B, V] from a shortlist whose entries are grouped by query and tag."""
    if pooled:
        votes_P = np.isfinite(candidates.similarities_BM.ravel()[carried.places_P])
    else:
        votes_P = carried.is_voter_P
    # Of each group's entries those before it in the list of voters: where its voters begin.
    counted = np.concatenate([[0], np.cumsum(votes_P)])
    begins = counted[carried.begins]
    weights = np.exp((carried.similarities_P[votes_P] - 1) / np.float32(temperature))
    votes = np.zeros(candidates.bar_BV.size, dtype=np.float32)
    filled = np.flatnonzero(np.diff(begins))
    if len(filled):
        votes[filled] = np.add.reduceat(weights, begins[filled])
    return votes.reshape(candidates.bar_BV.shape)
