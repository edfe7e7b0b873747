"""The index of a corpus: built by those who fit together, where they offer to, or here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.corpus import BLOCK, Corpus
from engine.group import Group
from engine.index import (
    ArrayVectors,
    FaissIndex,
    IndexEntry,
    IndexWish,
    ShardedIndex,
    build_index,
    build_sharded,
    entry_after_change,
)

Project = Callable[[NDArray[np.float32], sparse.csr_matrix], NDArray[np.float32]]
"""(embeddings [B, D], labels [B, V]) -> vectors [B, L]; it must survive pickling."""


@dataclass(frozen=True)
class ProjectedCorpus:
    """The vectors that a projection makes of a corpus, block by block; see `index.Vectors`."""

    corpus: Corpus
    project: Project
    width: int

    @property
    def count(self) -> int:
        return len(self.corpus)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        embeddings_BD = np.asarray(self.corpus.embeddings_ND[start:stop])
        return self.project(embeddings_BD, self.corpus.labels_NV[start:stop])

    def take(self, rows_M: NDArray[np.int64]) -> NDArray[np.float32]:
        taken_ML = np.empty((len(rows_M), self.width), np.float32)
        for start in range(0, len(rows_M), BLOCK):
            rows_B = rows_M[start : start + BLOCK]
            embeddings_BD = np.asarray(self.corpus.embeddings_ND[rows_B])
            taken_ML[start : start + BLOCK] = self.project(
                embeddings_BD, self.corpus.labels_NV[rows_B]
            )
        return taken_ML


@runtime_checkable
class Indexing(Protocol):
    """A group that has its own way of building an index, with the same outcome."""

    def build_index(
        self, vectors: ProjectedCorpus, wish: IndexWish
    ) -> FaissIndex | ShardedIndex: ...


def index_corpus(
    vectors: ProjectedCorpus, wish: IndexWish, group: Group
) -> FaissIndex | ShardedIndex:
    """Index the rows of all ranks, in the order of the ranks; every rank gets the index.

    Raises:
        ConfigError: no index fits the memory budget, or no shard its own.
    """
    build = build_index if wish.shard_bytes is None else build_sharded
    if group.size > 1:
        mine = vectors.take(np.arange(vectors.count))
        gathered = np.concatenate(group.gather(mine)).astype(np.float32, copy=False)
        return build(ArrayVectors(gathered), wish)
    if isinstance(group, Indexing):
        return group.build_index(vectors, wish)
    return build(vectors, wish)


@dataclass(frozen=True)
class Indexed:
    """The pictures that tags are transferred from: vectors, tags and ids of a row belong together.

    Immutable: what is added or removed makes another.
    """

    index: FaissIndex
    labels_NV: sparse.csr_matrix
    ids: tuple[str, ...]

    def added(
        self,
        ids: Sequence[str],
        vectors_ML: NDArray[np.float32],
        labels_MV: sparse.csr_matrix,
        entry: IndexEntry,
    ) -> "Indexed":
        """With M more pictures in the rows behind the last.

        Args:
            entry: what is known of the index as it is.

        Raises:
            ConfigError: the index would outgrow its memory budget.
        """
        self.index.check_room(len(ids), entry.max_bytes)
        index = self.index.added(vectors_ML)
        index.entry = entry_after_change(index, entry)
        labels_NV = sparse.vstack([self.labels_NV, labels_MV], format="csr")
        return Indexed(index, labels_NV, (*self.ids, *ids))

    def without(self, rows_M: NDArray[np.int64], entry: IndexEntry) -> "Indexed":
        """Without some rows; those behind them move up."""
        kept = np.setdiff1d(np.arange(len(self.ids)), rows_M)
        index = self.index.without(rows_M)
        index.entry = entry_after_change(index, entry)
        return Indexed(index, self.labels_NV[kept], tuple(self.ids[row] for row in kept))
