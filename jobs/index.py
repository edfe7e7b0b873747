"""Builds a corpus's index with Ray: each task puts a shard of the embedded parts into lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from engine import schema
from engine.group import Solo
from engine.index import (
    FaissIndex,
    IndexWish,
    RunShards,
    ShardedIndex,
    ShardWork,
    build_index,
    build_sharded,
    choose_plan,
)
from engine.index.build import Bounds
from engine.index.exact import Found
from engine.indexing import Project, ProjectedCorpus

LEAST_SHARED = 20_000
"""Pictures below which the shards are built here: handing them out would take longer."""


@dataclass(frozen=True)
class StoredVectors:
    """Vectors projected from embedded Parquet parts that any worker can read.

    Attributes:
        parts: where the parts are.
        part_N, row_N: the part that holds each picture's embedding, and in which row.
    """

    parts: tuple[str, ...]
    part_N: NDArray[np.int32]
    row_N: NDArray[np.int32]
    labels_NV: sparse.csr_matrix
    project: Project
    width: int

    @property
    def count(self) -> int:
        return len(self.part_N)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        return self.take(np.arange(start, stop))

    def take(self, rows_M: NDArray[np.int64]) -> NDArray[np.float32]:
        taken_MD: NDArray[np.float32] | None = None
        parts_M = self.part_N[rows_M]
        for part in np.unique(parts_M):
            embeddings_RD = _embeddings(self.parts[part])
            here_M = parts_M == part
            if taken_MD is None:
                taken_MD = np.empty((len(rows_M), embeddings_RD.shape[1]), np.float32)
            taken_MD[here_M] = embeddings_RD[self.row_N[rows_M[here_M]]]
        assert taken_MD is not None, "no rows were asked for"
        return self.project(taken_MD, self.labels_NV[rows_M])


@lru_cache(maxsize=1)
def _embeddings(path: str) -> NDArray[np.float32]:
    """A part's embeddings; the part that was read last is kept, for blocks end within parts."""
    return schema.float_tensor(pq.read_table(path, columns=[schema.EMBEDDING]), schema.EMBEDDING)


def stored_vectors(parts: Sequence[str], projected: ProjectedCorpus) -> StoredVectors:
    """The same vectors, read from embedded parts instead of this process's memory."""
    ids = [pq.read_table(path, columns=[schema.IMAGE_ID]).column(0) for path in parts]
    ends = np.cumsum([len(one) for one in ids])
    all_ids = pa.chunked_array([chunk for one in ids for chunk in one.chunks], pa.string())
    found = pc.index_in(pa.array(projected.corpus.ids, pa.string()), value_set=all_ids)
    assert found.null_count == 0, "a picture of the corpus is in none of its parts"
    places_N = found.to_numpy(zero_copy_only=False).astype(np.int64)
    part_N = np.searchsorted(ends, places_N, side="right")
    return StoredVectors(
        tuple(parts),
        part_N.astype(np.int32),
        (places_N - np.concatenate([[0], ends])[part_N]).astype(np.int32),
        projected.corpus.labels_NV,
        projected.project,
        projected.width,
    )


class IndexingGroup(Solo):
    """A group of one that has indexes built by Ray's workers, from the parts of a corpus."""

    def __init__(self, parts: Sequence[str], shared_folder: Path) -> None:
        """Take the parts that hold the corpus's pictures, or more.

        Args:
            shared_folder: where shards are written; workers see it under the same name.
        """
        self._parts = parts
        self._folder = shared_folder

    def build_index(self, vectors: ProjectedCorpus, wish: IndexWish) -> FaissIndex | ShardedIndex:
        """See `engine.indexing.Indexing`.

        Raises:
            ConfigError: no index fits the memory budget, or no shard its own.
        """
        build = build_index if wish.shard_bytes is None else build_sharded
        plan = choose_plan(vectors.count, vectors.width, wish)
        is_shared = plan.is_merged or wish.shard_bytes is not None
        if vectors.count < LEAST_SHARED or not is_shared:
            return build(vectors, wish, folder=self._folder)
        stored = stored_vectors(self._parts, vectors)
        few = np.arange(min(4, vectors.count))
        # What workers project must be what the annotator was fitted on.
        np.testing.assert_allclose(stored.take(few), vectors.take(few), atol=1e-4)
        return build(vectors, wish, shards_by_ray(stored), self._folder)


def shards_by_ray(stored: StoredVectors) -> RunShards:
    """Have each shard built by a Ray task that reads and projects its own vectors."""

    def run(_: object, work: ShardWork, bounds: Sequence[Bounds]) -> list[Found]:
        task = ray.remote(num_cpus=1)(_build_shard)
        vectors, shared = ray.put(stored), ray.put(work)
        found: list[Found] = ray.get([task.remote(vectors, shared, span) for span in bounds])
        return found

    return run


def _build_shard(vectors: StoredVectors, work: ShardWork, span: Bounds) -> Found:
    # A worker has one CPU; how many threads share a product decides its last bits.
    with threadpool_limits(1):
        return work.build(vectors, span)
