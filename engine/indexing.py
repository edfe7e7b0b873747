"""The index of a corpus: built by those who fit together, where they offer to, or here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.corpus import BLOCK, Corpus
from engine.group import Group
from engine.index import ArrayVectors, FaissIndex, IndexWish, build_index

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

    def build_index(self, vectors: ProjectedCorpus, wish: IndexWish) -> FaissIndex: ...


def index_corpus(vectors: ProjectedCorpus, wish: IndexWish, group: Group) -> FaissIndex:
    """Index the rows of all ranks, in the order of the ranks; every rank gets the index.

    Raises:
        ConfigError: no index fits the memory budget.
    """
    if group.size > 1:
        mine = vectors.take(np.arange(vectors.count))
        gathered = np.concatenate(group.gather(mine)).astype(np.float32, copy=False)
        return build_index(ArrayVectors(gathered), wish)
    if isinstance(group, Indexing):
        return group.build_index(vectors, wish)
    return build_index(vectors, wish)
