"""Nearest neighbours by inner product: FAISS, beside an exact oracle in plain NumPy."""

from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 50_000
"""Vectors below which a flat index is used: exact, and fast enough."""


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


class FaissIndex:
    """A FAISS index over inner products, on a GPU where FAISS sees one."""

    def __init__(self, index: faiss.Index) -> None:
        self._stored = index
        self._index = to_best_device(index)

    @classmethod
    def build(cls, vectors_NL: NDArray[np.float32]) -> "FaissIndex":
        """Flat (exact) up to `EXACT_UP_TO` vectors, inverted lists of about sqrt(N) above."""
        count, width = vectors_NL.shape
        vectors = np.ascontiguousarray(vectors_NL, dtype=np.float32)
        if count <= EXACT_UP_TO:
            index: faiss.Index = faiss.IndexFlatIP(width)
        else:
            lists = int(np.sqrt(count)) * 2
            index = faiss.IndexIVFFlat(
                faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT
            )
            index.nprobe = max(8, lists // 16)
            index.train(vectors)
        index.add(vectors)
        return cls(index)

    def search(
        self, queries_BL: NDArray[np.float32], nearest: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        wanted = min(nearest, self._index.ntotal)
        similarities_BM, rows_BM = self._index.search(
            np.ascontiguousarray(queries_BL, dtype=np.float32), wanted
        )
        similarities_BM[rows_BM < 0] = -np.inf
        return similarities_BM, rows_BM

    def vectors(self) -> NDArray[np.float32]:
        """The stored vectors [N, L], in the order they were added."""
        stored: NDArray[np.float32] = self._stored.reconstruct_n(0, self._stored.ntotal)
        return stored

    def save(self, path: Path) -> None:
        """Write the index in FAISS's own format."""
        faiss.write_index(self._stored, str(path))

    @classmethod
    def load(cls, path: Path) -> "FaissIndex":
        """Read what `save` wrote."""
        return cls(faiss.read_index(str(path)))


def to_best_device(index: faiss.Index) -> faiss.Index:
    """Move an index to GPU 0 if FAISS counts one; `StandardGpuResources` alone proves nothing."""
    if faiss.get_num_gpus() == 0:
        return index
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
