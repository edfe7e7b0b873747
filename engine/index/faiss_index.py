"""A FAISS index over inner products: searched on a GPU where there is one, saved from the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.index.choice import ALIGNED, Kind, spell_memory
from engine.index.entry import IndexEntry
from engine.index.exact import Block
from engine.index.lists import (
    all_entries,
    entries,
    fill_flat,
    fill_lists,
    flat_codes,
    kept_entries,
)
from engine.index.shortlist import Shortlist, shortlist

F = TypeVar("F", np.float32, np.float64)

BLOCK = 4096
"""Vectors that come out together."""

_KINDS: tuple[tuple[type, Kind], ...] = (
    (faiss.IndexIVFFlat, "ivf-flat"),
    (faiss.IndexIVFPQ, "ivf-pq"),
    (faiss.IndexRefine, "ivf-pq"),
    (faiss.IndexHNSW, "hnsw"),
    (faiss.IndexFlat, "flat"),
)


class FaissIndex:
    """An immutable index of N vectors, whose rows are counted from 0 in the order they came.

    Attributes:
        entry: what is known of how it was built; None once loaded: the manifest has it then.
    """

    def __init__(
        self, index: faiss.Index, entry: IndexEntry | None = None, on_cpu: bool = False
    ) -> None:
        """Take over a FAISS index.

        Args:
            on_cpu: search it there, GPU or not.
        """
        self._stored = index
        self._index = index if on_cpu else to_best_device(index)
        self.entry = entry

    def __len__(self) -> int:
        count: int = self._stored.ntotal
        return count

    @property
    def stored(self) -> faiss.Index:
        """FAISS's own object on the CPU."""
        return self._stored

    @property
    def kind(self) -> Kind:
        """Which of FAISS's kinds it is."""
        return next(kind for form, kind in _KINDS if isinstance(self._stored, form))

    @property
    def is_lossless(self) -> bool:
        """Whether the vectors come out as they went in, so that similarities are exact."""
        return self.kind != "ivf-pq"

    @property
    def bytes(self) -> int:
        """Of memory that the stored index takes, scratch space of a search aside."""
        return _bytes(self._stored)

    def search(
        self, queries_BL: NDArray[np.float32], nearest: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Index.search`."""
        wanted = min(nearest, len(self))
        similarities_BM, rows_BM = self._index.search(padded(queries_BL, self._index.d), wanted)
        similarities_BM[rows_BM < 0] = -np.inf
        return similarities_BM, rows_BM

    def shortlist(self, queries_BL: NDArray[np.float32], most: int) -> Shortlist:
        """The `most` candidates of each query, searched on the CPU; not of a graph."""
        return shortlist(self._stored, padded(queries_BL, self._stored.d), most)

    def similarities(self, queries_BL: NDArray[F]) -> NDArray[F]:
        """The inner products [B, N] with all the vectors of a flat index, in the queries' type.

        To the bit the same in one piece and in shards: these begin at multiples of `ALIGNED`.
        """
        similarities_BN = np.empty((len(queries_BL), len(self)), queries_BL.dtype)
        vectors_NL = self.vectors()
        for start in range(0, len(self), ALIGNED):
            # In memory of its own: where a factor lies, as in a file, may decide the last bits.
            block_RL = np.array(vectors_NL[start : start + ALIGNED], queries_BL.dtype)
            similarities_BN[:, start : start + ALIGNED] = queries_BL @ block_RL.T
        return similarities_BN

    def blocks(self) -> Iterator[Block]:
        """The stored vectors with their rows, some at a time, in no order that means anything.

        Codes of a product quantiser come out as what they stand for, not as what went in.
        """
        stored = self._stored
        if isinstance(stored, faiss.IndexIVF):
            for place in range(stored.nlist):
                ids, codes = entries(stored, place)
                if len(ids):
                    yield ids, stored.sa_decode(_with_list(stored, place, codes))
            return
        if isinstance(stored, faiss.IndexHNSW):
            stored = faiss.downcast_index(stored.storage)
        if isinstance(stored, faiss.IndexRefine):
            stored = faiss.downcast_index(stored.refine_index)
        for start in range(0, len(self), BLOCK):
            rows_B = np.arange(start, min(start + BLOCK, len(self)))
            yield rows_B, stored.sa_decode(flat_codes(stored)[start : start + BLOCK])

    def vectors(self) -> NDArray[np.float32]:
        """The stored vectors [N, L], in the order they were added; of a flat index, a view."""
        if isinstance(self._stored, faiss.IndexFlat):
            return flat_codes(self._stored).view(np.float32)
        vectors_NL = np.empty((len(self), self._stored.d), np.float32)
        for rows_B, block_BL in self.blocks():
            vectors_NL[rows_B] = block_BL
        return vectors_NL

    def added(self, vectors_ML: NDArray[np.float32]) -> "FaissIndex":
        """The index with more vectors in the rows after its last.

        Lists and quantisers stay as they were trained.
        """
        vectors = padded(vectors_ML, self._stored.d)
        stored = self._stored
        total = len(self) + len(vectors)
        if isinstance(stored, faiss.IndexHNSW):
            grown = faiss.clone_index(stored)
            grown.add(vectors)
            return FaissIndex(grown)
        if isinstance(stored, faiss.IndexFlatCodes):
            return FaissIndex(_grown_flat(stored, vectors, total))
        if isinstance(stored, faiss.IndexRefine):
            base = _grown_lists(faiss.downcast_index(stored.base_index), vectors, len(self))
            refine = _grown_flat(faiss.downcast_index(stored.refine_index), vectors, total)
            return FaissIndex(refined_by(base, refine, int(stored.k_factor)))
        return FaissIndex(_grown_lists(stored, vectors, len(self)))

    def without(self, rows_M: NDArray[np.int64]) -> "FaissIndex":
        """The index without some rows; those behind them move up.

        A graph is built anew, for its vectors are what it goes from and to.
        """
        kept_N = np.ones(len(self), dtype=np.bool_)
        kept_N[rows_M] = False
        stored = self._stored
        if isinstance(stored, faiss.IndexHNSW):
            graph = new_graph(stored.d, stored.hnsw.nb_neighbors(1), stored.hnsw.efConstruction)
            graph.hnsw.efSearch = stored.hnsw.efSearch
            graph.add(self.vectors()[kept_N])
            return FaissIndex(graph)
        if isinstance(stored, faiss.IndexFlatCodes):
            return FaissIndex(_thinned_flat(stored, kept_N))
        if isinstance(stored, faiss.IndexRefine):
            base = _thinned_lists(faiss.downcast_index(stored.base_index), kept_N)
            refine = _thinned_flat(faiss.downcast_index(stored.refine_index), kept_N)
            return FaissIndex(refined_by(base, refine, int(stored.k_factor)))
        return FaissIndex(_thinned_lists(stored, kept_N))

    def check_room(self, more: int, max_bytes: int | None) -> None:
        """See that so many more vectors stay within a budget.

        Raises:
            ConfigError: they do not; it names what would be needed.
        """
        if max_bytes is None or len(self) == 0:
            return
        needed = self.bytes + more * -(-self.bytes // len(self))
        if needed > max_bytes:
            raise ConfigError(
                f"with {more:,} more vectors the index would take up to {needed:,} bytes, and its "
                f"memory budget is {max_bytes:,} ({spell_memory(max_bytes)}); add fewer, or fit "
                f"again with --max-index-memory {needed}"
            )

    def save(self, path: Path) -> None:
        """Write the index in FAISS's own format."""
        faiss.write_index(self._stored, str(path))

    @classmethod
    def load(cls, path: Path) -> "FaissIndex":
        """Read what `save` wrote."""
        return cls(faiss.read_index(str(path)))


def padded(vectors_BL: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Vectors with zeros behind them up to `width`, which change no inner product."""
    vectors = np.ascontiguousarray(vectors_BL, dtype=np.float32)
    missing = width - vectors.shape[1]
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors


def new_graph(width: int, links: int, effort: int = 100) -> faiss.IndexHNSWFlat:
    """An empty graph over inner products; `effort` is efConstruction."""
    graph = faiss.IndexHNSWFlat(width, links, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = effort
    return graph


def refined_by(base: faiss.Index, refine: faiss.IndexFlatCodes, factor: int) -> faiss.IndexRefine:
    """`base`, of whose results `factor` times as many as are wanted are ranked anew by `refine`."""
    index = faiss.IndexRefine(base, refine)
    index.k_factor = factor
    return index


def to_best_device(index: faiss.Index) -> faiss.Index:
    """Move an index to GPU 0 if FAISS counts one; `StandardGpuResources` alone proves nothing.

    A graph has no form there and stays. Of codes with a store beside them, the lists are moved,
    and the few that they find are ranked anew on the CPU.
    """
    if faiss.get_num_gpus() == 0 or isinstance(index, faiss.IndexHNSW):
        return index
    if isinstance(index, faiss.IndexRefine):
        moved = to_best_device(faiss.downcast_index(index.base_index))
        return refined_by(moved, faiss.downcast_index(index.refine_index), int(index.k_factor))
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def _bytes(index: faiss.Index) -> int:
    if isinstance(index, faiss.IndexRefine):
        parts = (index.base_index, index.refine_index)
        return sum(_bytes(faiss.downcast_index(part)) for part in parts)
    if isinstance(index, faiss.IndexHNSW):
        graph = index.hnsw
        links = 4 * graph.neighbors.size() + 8 * graph.offsets.size() + 4 * graph.levels.size()
        return int(links) + _bytes(faiss.downcast_index(index.storage))
    if isinstance(index, faiss.IndexFlatCodes):
        ranges = index.sq.trained.size() if isinstance(index, faiss.IndexScalarQuantizer) else 0
        return int(index.ntotal * index.code_size + 4 * ranges)
    codebook = 4 * index.pq.centroids.size() if isinstance(index, faiss.IndexIVFPQ) else 0
    centroids = _bytes(faiss.downcast_index(index.quantizer))
    # 48 bytes: the C++ vectors of ids and of codes that a list is.
    return int(index.ntotal * (index.code_size + 8) + index.nlist * 48 + centroids + codebook)


def _with_list(ivf: faiss.IndexIVF, place: int, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes as FAISS's `sa_decode` reads them: behind the number of their list."""
    number = np.frombuffer(place.to_bytes(8, "little"), np.uint8)[: ivf.coarse_code_size()]
    return np.concatenate([np.tile(number, (len(codes), 1)), codes], axis=1)


def _grown_flat(
    flat: faiss.IndexFlatCodes, vectors_ML: NDArray[np.float32], total: int
) -> faiss.IndexFlatCodes:
    grown = empty_like(flat)
    fill_flat(grown, [flat_codes(flat), flat.sa_encode(vectors_ML)], total)
    return grown


def _thinned_flat(flat: faiss.IndexFlatCodes, kept_N: NDArray[np.bool_]) -> faiss.IndexFlatCodes:
    thinned = empty_like(flat)
    fill_flat(thinned, [flat_codes(flat)[kept_N]], int(kept_N.sum()))
    return thinned


def empty_like(index: faiss.IndexFlatCodes) -> faiss.IndexFlatCodes:
    """The same quantiser over no vectors."""
    if not isinstance(index, faiss.IndexScalarQuantizer):
        return faiss.IndexFlatIP(index.d)
    empty = faiss.IndexScalarQuantizer(index.d, index.sq.qtype, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(faiss.vector_to_array(index.sq.trained), empty.sq.trained)
    empty.is_trained = True
    return empty


def trained_copy(ivf: faiss.IndexIVF) -> faiss.IndexIVF:
    """The same lists and quantisers, with nothing in the lists."""
    quantizer = faiss.clone_index(ivf.quantizer)
    if isinstance(ivf, faiss.IndexIVFPQ):
        copy = new_coded_lists(quantizer, ivf.nlist, ivf.pq.M)
        faiss.copy_array_to_vector(faiss.vector_to_array(ivf.pq.centroids), copy.pq.centroids)
    else:
        copy = new_lists(quantizer, ivf.nlist)
    copy.nprobe = ivf.nprobe
    copy.is_trained = True
    return copy


def new_lists(quantizer: faiss.Index, lists: int) -> faiss.IndexIVFFlat:
    """Empty inverted lists of whole vectors, over inner products."""
    return faiss.IndexIVFFlat(quantizer, quantizer.d, lists, faiss.METRIC_INNER_PRODUCT)


def new_coded_lists(quantizer: faiss.Index, lists: int, subspaces: int) -> faiss.IndexIVFPQ:
    """Empty inverted lists of codes of a byte for each subspace, over inner products."""
    return faiss.IndexIVFPQ(quantizer, quantizer.d, lists, subspaces, 8, faiss.METRIC_INNER_PRODUCT)


def _grown_lists(
    ivf: faiss.IndexIVF, vectors_ML: NDArray[np.float32], first: int
) -> faiss.IndexIVF:
    newcomers = trained_copy(ivf)
    newcomers.add_with_ids(vectors_ML, np.arange(first, first + len(vectors_ML)))
    grown = trained_copy(ivf)
    fill_lists(grown, [all_entries(ivf), all_entries(newcomers)])
    return grown


def _thinned_lists(ivf: faiss.IndexIVF, kept_N: NDArray[np.bool_]) -> faiss.IndexIVF:
    thinned = trained_copy(ivf)
    fill_lists(thinned, [kept_entries(ivf, kept_N)])
    return thinned
