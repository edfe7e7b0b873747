"""Which pictures are copies of one another, exact or near, and the groups that they form."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from engine.fingerprint import hash_distance
from engine.index import FaissIndex, Vectors

Kind = Literal["exact-bytes", "exact-pixels", "near"]
"""What makes a picture a copy: the same file, the same pixels in another file, or the rule."""

QUERIES = 1024
"""Pictures whose neighbours are sought together."""

FIRST, TIMES, MOST = 32, 8, 2048
"""Neighbours sought at first; of a crowd of copies `TIMES` as many, up to `MOST`, which is what
FAISS gives on a GPU. Of a larger crowd, all the hashes are looked through."""

BLOCK = 4096
"""Pairs whose vectors are looked at together."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows [P] and the rows [P] that are compared with them."""

_SLACK, _CODED_SLACK = 1e-4, 0.05
"""How far an index's similarities may lie from the true ones: by rounding, and by coding."""


@dataclass(frozen=True)
class NearRule:
    """When two pictures of different pixels are near duplicates; both must hold.

    Attributes:
        cosine: of their vectors, at least.
        hash_distance: of their perceptual hashes, at most; bits, 0 to 64.
    """

    cosine: float
    hash_distance: int


@dataclass(frozen=True)
class Contents:
    """U pictures that differ in their pixels.

    Attributes:
        vectors: of unit length [U, L].
        perceptual_U: their perceptual hashes.
    """

    vectors: Vectors
    perceptual_U: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.perceptual_U)

    def cosines(self, one_P: NDArray[np.int64], other_P: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of pairs, one by one: what a pair gets does not depend on what else is asked."""
        found_P = np.empty(len(one_P), np.float64)
        for start in range(0, len(one_P), BLOCK):
            part = slice(start, start + BLOCK)
            one_BL = self.vectors.take(one_P[part]).astype(np.float64)
            other_BL = self.vectors.take(other_P[part]).astype(np.float64)
            found_P[part] = np.einsum("bl,bl->b", one_BL, other_BL)
        return found_P


def join_near(contents: Contents, index: FaissIndex | None, rule: NearRule) -> NDArray[np.int64]:
    """Who belongs together by the rule, and by others in between: int64 [U].

    The least row of those with whom a content is connected is the label of all of them. What the
    index proposes is checked against the vectors themselves, so where it finds a picture's
    nearest, the labels depend on neither its kind nor the order of the rows.

    Args:
        index: of the vectors, in their order; None: there is a single one.
    """
    joined = _Joined(len(contents))
    if index is None:
        return joined.settled()
    for one_P, other_P in _proposed(contents, index, rule):
        for start in range(0, len(one_P), BLOCK):
            one_B, other_B = one_P[start : start + BLOCK], other_P[start : start + BLOCK]
            # Of a crowd whose members are connected already, no more pairs need be looked at.
            apart_B = joined.labels_U[one_B] != joined.labels_U[other_B]
            one_B, other_B = one_B[apart_B], other_B[apart_B]
            near_B = contents.cosines(one_B, other_B) >= rule.cosine
            joined.add(one_B[near_B], other_B[near_B])
    return joined.settled()


def _proposed(contents: Contents, index: FaissIndex, rule: NearRule) -> Iterator[Pairs]:
    """Pairs that may be near, most of them twice: their hashes are, and so says the index.

    A copy is among the very nearest of its picture, while many that are no copies pass the cosine
    alone. So more neighbours are sought only of those who have a copy in the farther half of what
    was found: that is what a crowd of copies looks like.
    """
    count, hashes_U = len(contents), contents.perceptual_U
    least = rule.cosine - (_SLACK if index.is_lossless else _CODED_SLACK)
    for start in range(0, count, QUERIES):
        rows_B = np.arange(start, min(start + QUERIES, count))
        queries_BL = contents.vectors.take(rows_B)
        wanted = min(FIRST, count)
        while len(rows_B):
            similarities_BK, found_BK = index.search(queries_BL, wanted)
            distance_BK = hash_distance(hashes_U[rows_B][:, None], hashes_U[found_BK])
            may_BK = np.logical_and(similarities_BK >= least, distance_BK <= rule.hash_distance)
            may_BK &= found_BK != rows_B[:, None]
            is_crowd_B = np.logical_and(may_BK[:, wanted // 2 :].any(axis=1), wanted < count)
            query_P, place_P = np.nonzero(may_BK & ~is_crowd_B[:, None])
            yield rows_B[query_P], found_BK[query_P, place_P]
            rows_B, queries_BL = rows_B[is_crowd_B], queries_BL[is_crowd_B]
            if wanted >= MOST:
                break
            wanted = min(TIMES * wanted, MOST, count)
        if len(rows_B):
            yield from _by_hash(contents, rows_B, rule)


def _by_hash(contents: Contents, rows_B: NDArray[np.int64], rule: NearRule) -> Iterator[Pairs]:
    """Some rows and all those whose hashes are near theirs."""
    for row in rows_B:
        distance_U = hash_distance(contents.perceptual_U[row], contents.perceptual_U)
        others_P = np.flatnonzero(distance_U <= rule.hash_distance)
        yield np.full(len(others_P), row), others_P


class _Joined:
    """Connected components that grow, in memory that does not grow with the pairs.

    Attributes:
        labels_U: of each row the least row that it was connected with when it was last settled.
    """

    def __init__(self, count: int) -> None:
        self.labels_U = np.arange(count)
        self._pairs: list[Pairs] = []
        self._held = 0

    def add(self, one_P: NDArray[np.int64], other_P: NDArray[np.int64]) -> None:
        self._pairs.append((one_P, other_P))
        self._held += len(one_P)
        # To settle takes time by the number of rows, so not after every few pairs.
        if self._held > max(BLOCK, len(self.labels_U) // 16):
            self.settled()

    def settled(self) -> NDArray[np.int64]:
        """The labels with all the pairs that were added."""
        if self._held:
            one, other = (np.concatenate(part) for part in zip(*self._pairs, strict=True))
            ends = (self.labels_U[one], self.labels_U[other])
            count = len(self.labels_U)
            graph = sparse.coo_array((np.ones(len(one), np.int8), ends), shape=(count, count))
            _, components_U = csgraph.connected_components(graph.tocsr(), directed=False)
            merged_U = components_U[self.labels_U]
            _, first, inverse_U = np.unique(merged_U, return_index=True, return_inverse=True)
            self.labels_U = first[inverse_U]
        self._pairs, self._held = [], 0
        return self.labels_U


@dataclass(frozen=True)
class Pictures:
    """N pictures of one corpus, or of two, one behind the other.

    Attributes:
        bytes_N: equal for equal files.
        contents_N: row in `Contents`, equal for equal pixels.
        area_N: width times height.
        against_N: whether it is of the second corpus, which stays as it is.
    """

    bytes_N: NDArray[np.int64]
    contents_N: NDArray[np.int64]
    area_N: NDArray[np.int64]
    against_N: NDArray[np.bool_]


@dataclass(frozen=True)
class Groups:
    """M members of the groups of two pictures or more, group by group, the one to keep first.

    Groups are in the order of their first pictures, the others of a group in that of the pictures.

    Attributes:
        rows_M: which picture it is.
        group_M: number of its group, from 0.
        keeper_M: the picture of its group that is to be kept.
        kind_M: what makes it a copy of that one; None for that one itself.
        cosine_M, hash_distance_M: to that one. Pictures that are near by others in between may be
            farther than the rule says.
        leaks_M: whether its group has pictures of both corpora.
    """

    rows_M: NDArray[np.int64]
    group_M: NDArray[np.int64]
    keeper_M: NDArray[np.int64]
    kind_M: tuple[Kind | None, ...]
    cosine_M: NDArray[np.float64]
    hash_distance_M: NDArray[np.int64]
    leaks_M: NDArray[np.bool_]

    @property
    def kept_M(self) -> NDArray[np.bool_]:
        """Whether it is the one to keep."""
        is_kept_M: NDArray[np.bool_] = self.rows_M == self.keeper_M
        return is_kept_M

    def __len__(self) -> int:
        """How many groups there are."""
        return int(self.kept_M.sum())


def group_pictures(pictures: Pictures, contents: Contents, labels_U: NDArray[np.int64]) -> Groups:
    """Put pictures of one label together, and choose which to keep of each group.

    That is one of the second corpus where there is one, then the one with the most pixels, then
    the first: what is to be dropped is then the first corpus's wherever the two overlap.

    Args:
        labels_U: see `join_near`.
    """
    label_N = labels_U[pictures.contents_N]
    is_member_N = np.bincount(label_N, minlength=len(labels_U))[label_N] > 1
    rows_M = np.flatnonzero(is_member_N)
    _, first_G, group_M = np.unique(label_N[rows_M], return_index=True, return_inverse=True)
    # Numbered anew in the order of their first pictures.
    group_M = np.argsort(np.argsort(first_G))[group_M]
    worth = (rows_M, -pictures.area_N[rows_M], ~pictures.against_N[rows_M], group_M)
    order_M = np.lexsort(worth)
    _, best_G = np.unique(group_M[order_M], return_index=True)
    keeper_M = rows_M[order_M][best_G][group_M]
    order_M = np.lexsort((rows_M, rows_M != keeper_M, group_M))
    rows_M, group_M, keeper_M = rows_M[order_M], group_M[order_M], keeper_M[order_M]
    mine_M, keepers_M = pictures.contents_N[rows_M], pictures.contents_N[keeper_M]
    same_bytes_M = pictures.bytes_N[rows_M] == pictures.bytes_N[keeper_M]
    against_M = pictures.against_N[rows_M]
    size_G, against_G = np.bincount(group_M), np.bincount(group_M, against_M).astype(np.int64)
    return Groups(
        rows_M,
        group_M,
        keeper_M,
        tuple(
            None if row == keeper else _kind(is_bytes, mine == theirs)
            for row, keeper, is_bytes, mine, theirs in zip(
                rows_M, keeper_M, same_bytes_M, mine_M, keepers_M, strict=True
            )
        ),
        np.where(mine_M == keepers_M, 1.0, contents.cosines(mine_M, keepers_M)),
        hash_distance(contents.perceptual_U[mine_M], contents.perceptual_U[keepers_M]),
        ((against_G > 0) & (against_G < size_G))[group_M],
    )


def _kind(same_bytes: bool, same_pixels: bool) -> Kind:
    if same_bytes:
        return "exact-bytes"
    return "exact-pixels" if same_pixels else "near"
