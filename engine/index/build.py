"""Builds an index in shards, wherever these are built, within a strict memory budget.

Lists and quantisers are trained once, on a sample. Then each shard of the vectors is put into
lists of its own and written to a file, and the files are merged into memory that is exactly as
large as the index. The vectors come in blocks, and are never held whole.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.index.choice import IndexPlan, IndexWish, choose_plan
from engine.index.entry import IndexEntry
from engine.index.exact import Block, Found, best_of, nearest_in_blocks
from engine.index.faiss_index import (
    FaissIndex,
    new_coded_lists,
    new_graph,
    new_lists,
    padded,
    refined_by,
)
from engine.index.lists import all_entries, fill_flat, fill_lists
from engine.index.tuning import QUERIES, Measurable, Sample, recall_at, tune, without_self
from engine.index.vectors import Vectors

BLOCK = 4096
"""Vectors that are looked at together; shards begin at multiples of it."""

SHARD = 16 * BLOCK
"""Vectors of a shard at most: enough to be worth a task, few enough for any worker's memory."""

CODE_SAMPLES = 64
"""Vectors that a quantiser's k-means sees for each of its 256 centroids, at most."""

RECALL_AT = (1, 10, 100)
"""The k's of which recall is noted."""


@dataclass(frozen=True)
class ShardWork:
    """What whoever builds a shard needs besides the vectors.

    Attributes:
        folder: where the trained, empty index lies, and where shards are written.
        queries_QL: of which the nearest `nearest` in the shard are sought exactly.
    """

    plan: IndexPlan
    folder: Path
    queries_QL: NDArray[np.float32]
    nearest: int

    def build(self, vectors: Vectors, span: "Bounds") -> Found:
        """Build the shard of some rows; see `build_shard`."""
        return build_shard(vectors, self, span)


Bounds = tuple[int, int]
"""First row of a shard, and the row behind its last."""

RunShards = Callable[[Vectors, ShardWork, Sequence[Bounds]], list[Found]]
"""Calls `ShardWork.build` for each of the bounds, anywhere; gives what it gave, in their order."""


def build_index(
    vectors: Vectors,
    wish: IndexWish,
    run_shards: RunShards | None = None,
    folder: Path | None = None,
) -> FaissIndex:
    """Choose an index by number, width and budget, build it, and measure how well it finds.

    The index does not depend on who builds the shards.

    Args:
        run_shards: None: one after the other in this process.
        folder: where shards are written, which whoever builds them must see; None: any.

    Raises:
        ConfigError: no index fits the budget.
    """
    plan = choose_plan(vectors.count, vectors.width, wish)
    rng = np.random.default_rng(wish.seed)
    rows_Q = drawn(plan, rng, QUERIES)
    queries_QL = vectors.take(rows_Q)
    nearest = min(max(wish.nearest, *RECALL_AT), plan.count - 1)
    with tempfile.TemporaryDirectory(prefix="index-", dir=folder) as scratch:
        work = ShardWork(plan, Path(scratch), queries_QL, nearest + 1)
        if plan.is_merged:
            train(plan, vectors.take(drawn(plan, rng, plan.sample)), work.folder)
            bounds = shard_bounds(plan, wish.max_bytes)
            found = best_of((run_shards or in_turn)(vectors, work, bounds), work.nearest)
            stored = merge(plan, work.folder, bounds)
        else:
            stored = build_whole(plan, vectors, work.folder)
            blocks = ((np.arange(*span), vectors.block(*span)) for span in spans(0, plan.count))
            found = nearest_in_blocks(queries_QL, blocks, work.nearest)
    sample = Sample(queries_QL, rows_Q, without_self(found, rows_Q, nearest))
    reach = tune([stored], FaissIndex(stored, on_cpu=True), plan, wish, sample)
    index = FaissIndex(stored)
    assert index.bytes <= plan.bytes, (index.bytes, plan)
    index.entry = entry_of(index, plan, wish, reach, sample)
    return index


def drawn(plan: IndexPlan, rng: np.random.Generator, most: int) -> NDArray[np.int64]:
    """Some rows, ascending."""
    return np.sort(rng.choice(plan.count, min(most, plan.count), replace=False))


def entry_of(
    index: Measurable, plan: IndexPlan, wish: IndexWish, reach: dict[str, int], sample: Sample
) -> IndexEntry:
    """What the manifest is to say of an index that was built by a plan."""
    return IndexEntry(
        kind=plan.kind,
        vectors=plan.count,
        width=plan.width,
        bytes=index.bytes,
        max_bytes=wish.max_bytes,
        lists=plan.lists,
        subspaces=plan.subspaces,
        store=plan.store,
        links=plan.links,
        **reach,
        recall=measured_recall(index, sample),
        queries=len(sample.rows_Q),
        reason=plan.reason,
    )


def entry_after_change(index: FaissIndex, before: IndexEntry, seed: int = 0) -> IndexEntry:
    """What is to be said of an index that vectors were added to or removed from.

    Recall is measured anew where the index keeps whole vectors; of codes it is what it was when
    they were made, since what they were made of is gone.
    """
    changes: dict[str, object] = {"vectors": len(index), "bytes": index.bytes}
    if index.is_lossless and len(index) > 1:
        rng = np.random.default_rng(seed)
        rows_Q = np.sort(rng.choice(len(index), min(QUERIES, len(index)), replace=False))
        queries_QL = np.empty((len(rows_Q), before.width), np.float32)
        for rows_B, block_BL in index.blocks():
            _, here, there = np.intersect1d(rows_B, rows_Q, return_indices=True)
            queries_QL[there] = block_BL[here]
        nearest = min(max(RECALL_AT), len(index) - 1)
        found = nearest_in_blocks(queries_QL, index.blocks(), nearest + 1)
        sample = Sample(queries_QL, rows_Q, without_self(found, rows_Q, nearest))
        changes |= {"recall": measured_recall(index, sample), "queries": len(rows_Q)}
    return before.model_copy(update=changes)


def measured_recall(index: Measurable, sample: Sample) -> dict[str, float]:
    """Recall by k, four digits."""
    width = sample.truth[1].shape[1]
    return {str(k): round(recall_at(index, sample, k), 4) for k in RECALL_AT if k <= width}


def in_turn(vectors: Vectors, work: ShardWork, bounds: Sequence[Bounds]) -> list[Found]:
    """Build the shards in this process, one after the other."""
    return [work.build(vectors, span) for span in bounds]


def shard_bounds(plan: IndexPlan, max_bytes: int | None) -> list[Bounds]:
    """Rows at which shards begin and end, so that one of them takes half the budget at the most.

    While it grows, FAISS may hold it twice.
    """
    rows = SHARD
    if max_bytes is not None:
        each = max(1, plan.bytes // max(1, plan.count))
        rows = min(rows, max(1, max_bytes // (2 * each) // BLOCK) * BLOCK)
    return [(start, min(start + rows, plan.count)) for start in range(0, plan.count, rows)]


def train(plan: IndexPlan, sample_SL: NDArray[np.float32], folder: Path) -> None:
    """Place the lists, train the quantisers, and write the empty index into `folder`."""
    sample = padded(sample_SL, plan.stored_width)
    quantizer = faiss.IndexFlatIP(plan.stored_width)
    if plan.kind == "ivf-flat":
        ivf = new_lists(quantizer, plan.lists)
    else:
        ivf = new_coded_lists(quantizer, plan.lists, plan.subspaces)
    # What is given is the sample already: none of it is left out, and few are not warned about.
    ivf.cp.max_points_per_centroid = len(sample)
    ivf.cp.min_points_per_centroid = 1
    if plan.kind == "ivf-pq":
        ivf.pq.cp.min_points_per_centroid = 1
        ivf.pq.cp.max_points_per_centroid = CODE_SAMPLES
        ivf.pq.cp.niter = ivf.cp.niter
    ivf.train(sample)
    faiss.write_index(ivf, str(folder / "trained.faiss"))
    if plan.store == "sq8":
        store = faiss.IndexScalarQuantizer(
            plan.stored_width, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        # The sample's range, and a tenth more on either side: others may lie beyond it.
        store.sq.rangestat_arg = 0.1
        store.train(sample)
        faiss.write_index(store, str(folder / "store.faiss"))
    elif plan.store == "fp16":
        store = faiss.IndexScalarQuantizer(
            plan.stored_width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        faiss.write_index(store, str(folder / "store.faiss"))


def build_shard(vectors: Vectors, work: ShardWork, span: Bounds) -> Found:
    """Put rows [start, stop) into lists, write them, and seek the queries' nearest among them."""
    trained = faiss.read_index(str(work.folder / "trained.faiss"))
    store = read_store(work)

    def blocks() -> Iterator[Block]:
        with _codes_path(work.folder, span).open("wb") as codes:
            for begin, end in spans(*span):
                block_BL, rows_B = vectors.block(begin, end), np.arange(begin, end)
                whole_BL = padded(block_BL, trained.d)
                trained.add_with_ids(whole_BL, rows_B)
                if store is not None:
                    codes.write(store.sa_encode(whole_BL).tobytes())
                yield rows_B, block_BL

    found = nearest_in_blocks(work.queries_QL, blocks(), work.nearest)
    faiss.write_index(trained, str(_lists_path(work.folder, span)))
    return found


def merge(plan: IndexPlan, folder: Path, bounds: Sequence[Bounds]) -> faiss.Index:
    """Put the shards together in the order of their rows; they are read from disk as needed."""
    ivf = faiss.read_index(str(folder / "trained.faiss"))
    shards = [
        faiss.read_index(str(_lists_path(folder, span)), faiss.IO_FLAG_MMAP) for span in bounds
    ]
    fill_lists(ivf, [all_entries(shard) for shard in shards])
    if plan.store == "none":
        return ivf
    store = faiss.read_index(str(folder / "store.faiss"))
    parts = (
        np.memmap(_codes_path(folder, span), np.uint8, "r").reshape(-1, store.code_size)
        for span in bounds
    )
    fill_flat(store, parts, plan.count)
    return refined_by(ivf, store, 1)


def build_whole(plan: IndexPlan, vectors: Vectors, folder: Path) -> faiss.Index:
    """Build what cannot be merged: a flat index in its place, a graph from a file of its vectors.

    A graph is built by one thread, for in which order threads link vectors is left to chance.
    """
    if plan.kind == "flat":
        flat = faiss.IndexFlatIP(plan.width)
        codes = (vectors.block(*span).view(np.uint8) for span in spans(0, plan.count))
        fill_flat(flat, codes, plan.count)
        return flat
    shape = (plan.count, plan.width)
    stored_NL = np.memmap(folder / "vectors", np.float32, "w+", shape=shape)
    for begin, end in spans(0, plan.count):
        stored_NL[begin:end] = vectors.block(begin, end)
    graph = new_graph(plan.width, plan.links)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    graph.add(stored_NL)
    faiss.omp_set_num_threads(threads)
    return graph


def read_store(work: ShardWork) -> faiss.IndexFlatCodes | None:
    """The quantiser of the vectors that are kept beside their codes, empty; None: there is none."""
    if work.plan.store == "none":
        return None
    return faiss.read_index(str(work.folder / "store.faiss"))


def spans(start: int, stop: int) -> Iterator[Bounds]:
    """Blocks of rows, one after the other."""
    return ((begin, min(begin + BLOCK, stop)) for begin in range(start, stop, BLOCK))


def _lists_path(folder: Path, span: Bounds) -> Path:
    return folder / f"shard-{span[0]:012d}.faiss"


def _codes_path(folder: Path, span: Bounds) -> Path:
    return folder / f"shard-{span[0]:012d}.codes"
