"""Builds an index that stays in shards: nobody ever holds more of it than one of them."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.index.build import (
    RECALL_AT,
    Bounds,
    RunShards,
    ShardWork,
    drawn,
    entry_of,
    in_turn,
    read_store,
    spans,
    train,
)
from engine.index.choice import IndexWish, choose_plan, shard_rows, spell_memory
from engine.index.exact import Block, Found, best_of, nearest_in_blocks
from engine.index.faiss_index import FaissIndex, padded, refined_by
from engine.index.lists import flat_codes
from engine.index.sharded import LocalShards, ShardedIndex, ShardMap
from engine.index.tuning import QUERIES, Sample, tune, without_self
from engine.index.vectors import Vectors


@dataclass(frozen=True)
class LastingShards(ShardWork):
    """Work on shards that are not merged: each is written as an index of its own."""

    def build(self, vectors: Vectors, span: Bounds) -> Found:
        """Index rows [start, stop), write that, and seek the queries' nearest among them.

        Lists grow as they are filled, and may take twice their size meanwhile.
        """
        start, stop = span
        is_flat = self.plan.kind == "flat"
        lists = None if is_flat else faiss.read_index(str(self.folder / "trained.faiss"))
        store = faiss.IndexFlatIP(self.plan.width) if is_flat else read_store(self)
        if store is not None:
            store.codes.resize((stop - start) * store.code_size)
            store.ntotal = stop - start

        def blocks() -> Iterator[Block]:
            for begin, end in spans(start, stop):
                block_BL = vectors.block(begin, end)
                whole_BL = padded(block_BL, self.plan.stored_width)
                if lists is not None:
                    lists.add(whole_BL)
                if store is not None:
                    flat_codes(store)[begin - start : end - start] = store.sa_encode(whole_BL)
                yield np.arange(begin, end), block_BL

        found = nearest_in_blocks(self.queries_QL, blocks(), self.nearest)
        both = lists is not None and store is not None
        index = refined_by(lists, store, 1) if both else lists or store
        faiss.write_index(index, str(_path(self.folder, span)))
        return found


@dataclass(frozen=True)
class _BeingTuned:
    """Shards whose factor is still sought."""

    index: ShardedIndex

    @property
    def is_lossless(self) -> bool:
        return self.index.is_lossless

    @property
    def bytes(self) -> int:
        return self.index.bytes

    def search(self, queries_BL: NDArray[np.float32], nearest: int) -> Found:
        now = _mapped(self.index)
        return ShardedIndex(now, self.index.shards).search(queries_BL, nearest)


def build_sharded(
    vectors: Vectors,
    wish: IndexWish,
    run_shards: RunShards | None = None,
    folder: Path | None = None,
) -> ShardedIndex:
    """Choose an index as `build_index` does, build its shards, and measure how well it finds.

    The shards stay in their files, and are looked at there. The index does not depend on who
    builds them.

    Args:
        run_shards: None: one after the other in this process.
        folder: where shards are written, which whoever builds them must see; the caller removes
            it when the index is no longer needed. None: any, whose files go with the index.

    Raises:
        ConfigError: no index fits the budget, the kind has no shards, or none fits its limit.
    """
    assert wish.shard_bytes is not None, "no limit for a shard is given"
    plan = choose_plan(vectors.count, vectors.width, wish)
    if plan.kind == "hnsw":
        raise ConfigError("a graph ('hnsw') cannot be divided; choose another kind of index")
    rows = shard_rows(plan, wish.shard_bytes)
    bounds = [(start, min(start + rows, plan.count)) for start in range(0, plan.count, rows)]
    rng = np.random.default_rng(wish.seed)
    rows_Q = drawn(plan, rng, QUERIES)
    nearest = min(max(wish.nearest, *RECALL_AT), plan.count - 1)
    with _scratch(folder) as scratch:
        work = LastingShards(plan, Path(scratch), vectors.take(rows_Q), nearest + 1)
        if plan.lists:
            train(plan, vectors.take(drawn(plan, rng, plan.sample)), work.folder)
        found = best_of((run_shards or in_turn)(vectors, work, bounds), work.nearest)
        # Once mapped, the files live as long as the index, whether or not they have a name.
        flags = faiss.IO_FLAG_MMAP_IFC
        stored = [faiss.read_index(str(_path(work.folder, span)), flags) for span in bounds]
    indexes = tuple(FaissIndex(one, on_cpu=True) for one in stored)
    sizes = tuple(index.bytes for index in indexes)
    assert max(sizes) <= wish.shard_bytes, (sizes, plan)
    lengths = tuple(stop - start for start, stop in bounds)
    shard_map = ShardMap(kind=plan.kind, rows=lengths, bytes=sizes)
    shards = LocalShards(indexes, (0, *accumulate(lengths[:-1])))
    untuned = ShardedIndex(shard_map, shards)
    sample = Sample(work.queries_QL, rows_Q, without_self(found, rows_Q, nearest))
    reach = tune(stored, _BeingTuned(untuned), plan, wish, sample)
    index = ShardedIndex(_mapped(untuned), shards)
    entry = entry_of(index, plan, wish, reach, sample)
    limit = spell_memory(wish.shard_bytes)
    divided = f"{plan.reason}; in {len(bounds)} shards of at most {limit}"
    index.entry = entry.model_copy(update={"reason": divided})
    return index


def _mapped(index: ShardedIndex) -> ShardMap:
    """The map with the factor that the shards have now."""
    assert isinstance(index.shards, LocalShards)
    stored = index.shards.indexes[0].stored
    factor = int(stored.k_factor) if isinstance(stored, faiss.IndexRefine) else 0
    return index.map.model_copy(update={"factor": factor})


def _scratch(folder: Path | None) -> AbstractContextManager[str]:
    """A folder that stays where a file that is looked at cannot be removed: on a shared disk."""
    if folder is None:
        return tempfile.TemporaryDirectory(prefix="index-")
    return nullcontext(tempfile.mkdtemp(prefix="shards-", dir=folder))


def _path(folder: Path, span: Bounds) -> Path:
    return folder / f"shard-{span[0]:012d}.faiss"
