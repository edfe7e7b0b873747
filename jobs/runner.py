"""Folds a plan over an input with Ray Data: the one place where the engine meets the cluster."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayTaskError
from threadpoolctl import threadpool_limits

from engine.errors import TagloomError
from engine.stage import Plan, Workers
from jobs.chunks import Chunk, Inventory
from jobs.datasets import be_quiet
from jobs.fanout import IndexWay, fanned_out
from jobs.feed import CHUNK, Feed
from jobs.job_log import worker_note
from jobs.metrics import JobMetrics
from jobs.reading import FETCHES, ReadSettings, ahead, read_chunk
from jobs.session import cluster_resources
from jobs.sink import Receipt, write_part
from jobs.store import Store
from jobs.work import LOADING, READING, WRITING, Stopwatch, Work, since

BATCH = 32
"""Pictures that go through the stages at a time."""

CONNECTIONS = 64
"""Pictures that a node fetches at a time."""

_ROWS = "__rows"
_WORKS = "__works"
_FAILURE = "__failure"
_ERRORS = {kind.__name__: kind for kind in TagloomError.__subclasses__()}


@dataclass(frozen=True)
class RunSettings:
    """How a plan is run; none of it changes what comes out.

    Attributes:
        workers: actors for each segment of the plan, at most; None: as many as the cluster has
            CPUs or GPUs for.
        batch: pictures that go through the stages at a time.
        connections: pictures that the workers of a node fetch at a time, together, from where
            their rows point; each worker fetches at least one.
        index, max_index_memory: see `jobs.fanout.fanned_out`.
    """

    workers: int | None = None
    batch: int = BATCH
    connections: int = CONNECTIONS
    index: IndexWay = "auto"
    max_index_memory: int | None = None


def run_plan(
    plan: Plan,
    listed: Inventory | Iterator[Chunk],
    skip: frozenset[str],
    store: Store,
    settings: RunSettings,
    max_bytes: int,
) -> Iterator[Receipt]:
    """Run every chunk that is not in `skip` through the plan and write its part.

    Yields a receipt a chunk as soon as its part is in the store, in no fixed order. Memory does
    not depend on the number of pictures: only names of chunks and receipts pass the driver.

    Args:
        listed: whole, or chunk by chunk while the first of them are worked on already.

    Raises:
        TagloomError: a worker met what a user can mend, such as input that changed on the way; or
            `listed` raised it.
    """
    be_quiet(DataContext.get_current())
    if isinstance(listed, Inventory):
        todo = [{CHUNK: one.to_json()} for one in listed.chunks if one.name not in skip]
        if todo:
            blocks = ray.data.from_items(todo, override_num_blocks=len(todo))
            yield from _receipts(_mapped(blocks, plan, store, settings, max_bytes, len(todo)))
        return
    feed = Feed(one for one in listed if one.name not in skip)
    try:
        yield from _receipts(_mapped(feed.dataset(), plan, store, settings, max_bytes, None))
        feed.finish()
    finally:
        feed.close()


def _mapped(
    chunks: ray.data.Dataset,
    plan: Plan,
    store: Store,
    settings: RunSettings,
    max_bytes: int,
    count: int | None,
) -> ray.data.Dataset:
    """The chunks, mapped by the plan's segments, the last of which writes them."""
    segments = fanned_out(plan, settings.index, settings.max_index_memory).segments()
    for place, segment in enumerate(segments):
        resources = segment.stages[0].resources
        most = settings.workers or _workers(segment, segments)
        most = most if count is None else min(most, count)
        chunks = chunks.map_batches(
            SegmentWorker,
            fn_constructor_kwargs={
                "segment": segment,
                "reads": _reads(settings, max_bytes, segment, most),
                "is_first": place == 0,
                "store": store if place == len(segments) - 1 else None,
            },
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
            num_cpus=resources.cpus,
            num_gpus=resources.gpus or None,
        )
    # Every row is a block of its own: a chunk, what a segment made of it, or its receipt.
    chunks.context.target_max_block_size = 1
    # Or Ray Data reads each worker's memory map once a second, for figures that nobody sees.
    chunks.context.memory_usage_poll_interval_s = None
    return chunks


def _receipts(mapped: ray.data.Dataset) -> Iterator[Receipt]:
    # Fetching ahead would hold each receipt back until the next is there.
    for block in mapped.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        assert isinstance(block, pa.Table)
        for row in block.to_pylist():
            if _FAILURE in row:
                raise _ERRORS[row[_FAILURE]](row["message"])
            yield Receipt.from_row(row)


def _workers(segment: Plan, segments: list[Plan]) -> int:
    """Workers that fit beside at least one worker of every other segment."""
    total = cluster_resources()
    mine = segment.stages[0].resources
    others_cpus = sum(s.stages[0].resources.cpus for s in segments if s is not segment)
    by_cpu = (total.get("CPU", 1.0) - others_cpus) / mine.cpus if mine.cpus else float("inf")
    by_gpu = total.get("GPU", 0.0) / mine.gpus if mine.gpus else float("inf")
    return max(1, int(min(by_cpu, by_gpu, 4096)))


def reads_beside(settings: RunSettings, max_bytes: int) -> ReadSettings:
    """How the process beside the driver reads: with a share of its node's connections."""
    fetches = max(1, min(FETCHES, settings.connections // 4))
    return ReadSettings(settings.batch, max_bytes, fetches)


def _reads(settings: RunSettings, max_bytes: int, segment: Plan, most: int) -> ReadSettings:
    """How one worker reads, if as many are on one node as it has room for."""
    mine = segment.stages[0].resources
    room = 1
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        has = node["Resources"] if node["Alive"] else {}
        by_cpu = has.get("CPU", 0.0) / mine.cpus if mine.cpus else float("inf")
        by_gpu = has.get("GPU", 0.0) / mine.gpus if mine.gpus else float("inf")
        room = max(room, int(min(by_cpu, by_gpu, most)))
    beside = reads_beside(settings, max_bytes)
    return replace(beside, fetches=max(1, (settings.connections - beside.fetches) // room))


@dataclass
class SegmentWorker:
    """One actor: stages that share resources, with reading before and writing after them.

    A chunk streams through the stages batch by batch, so that only what is kept of it is ever
    held whole.
    """

    segment: Plan
    reads: ReadSettings
    is_first: bool
    store: Store | None

    def __post_init__(self) -> None:
        threadpool_limits(1)
        self._name = ray.get_runtime_context().get_worker_id()
        self._watch = Stopwatch()
        self._metrics, self._note = JobMetrics(), worker_note()
        self._imports = time.process_time()

    @cached_property
    def workers(self) -> Workers:
        return self.segment.workers()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Work on one chunk; an error that the user can mend travels on in place of its rows.

        Raised here it would reach the driver as an error of Ray's, without its own type.
        """
        if _FAILURE in block.column_names or block.num_rows == 0:
            return block
        try:
            return self._run(block)
        except TagloomError as error:
            return pa.table({_FAILURE: [type(error).__name__], "message": [str(error)]})

    def _run(self, block: pa.Table) -> pa.Table:
        began = time.time()
        before = self._seconds()
        name = block.column(CHUNK)[0].as_py()
        chunk = Chunk.from_json(name)
        table = pa.concat_tables(self._tables(chunk, block))
        assert table.num_rows == chunk.rows, (chunk, table.num_rows)
        receipt = None
        if self.store is not None:
            with self._watch.on(WRITING):
                receipt = write_part(self.store, chunk, table)
        spent = since(before, self._seconds())
        work = Work(self._name, chunk.rows, began, time.time(), spent, self._imports)
        works = [] if self.is_first else json.loads(block.column(_WORKS)[0].as_py())
        works.append(work.to_json())
        self._metrics.add(work, receipt)
        if receipt is not None:
            receipt = replace(receipt, works=tuple(Work.from_json(text) for text in works))
            self._note(receipt)
            return receipt.to_table()
        columns = {CHUNK: [name], _WORKS: [json.dumps(works)], _ROWS: _packed(table)}
        return pa.table(columns)

    def _seconds(self) -> dict[str, float]:
        made = vars(self).get("workers")
        return {**self._watch.seconds, **(made.seconds if made else {})}

    def _tables(self, chunk: Chunk, block: pa.Table) -> Iterator[pa.Table]:
        with self._watch.on(LOADING):
            workers = self.workers
        batches = self._batches(chunk, block)
        while True:
            with self._watch.on(READING):
                batch = next(batches, None)
            if batch is None:
                return
            yield workers(batch)

    def _batches(self, chunk: Chunk, block: pa.Table) -> Iterator[pa.Table]:
        if self.is_first:
            reads = self.reads
            return ahead(read_chunk(chunk, reads.batch, reads.max_bytes, reads.fetches))
        with pa.ipc.open_stream(block.column(_ROWS)[0].as_buffer()) as reader:
            rows = reader.read_all()
        starts = range(0, rows.num_rows, self.reads.batch)
        return (rows.slice(start, self.reads.batch) for start in starts)


def _packed(table: pa.Table) -> pa.LargeBinaryArray:
    """A chunk's rows as one value, which nothing divides on its way to the next worker."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    ends = pa.array([0, data.size], pa.int64()).buffers()[1]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, ends, data])


def loop_plan(
    plan: Plan, inventory: Inventory, settings: RunSettings, max_bytes: int
) -> Iterator[pa.Table]:
    """The same fold in this process, without Ray: a table a chunk, in order."""
    workers = plan.workers()
    for chunk in inventory.chunks:
        # With one thread, as in a worker: how a product is shared out decides its last bits.
        with threadpool_limits(1):
            batches = read_chunk(chunk, settings.batch, max_bytes)
            table = pa.concat_tables([workers(batch) for batch in batches])
        yield table


def in_worker(function: Callable[..., object], *arguments: object, **named: object) -> object:
    """Run a function in a Ray worker, so that what it holds is not the driver's memory.

    Raises:
        TagloomError: the function raised it there.
    """
    try:
        return ray.get(ray.remote(num_cpus=1)(function).remote(*arguments, **named))
    except RayTaskError as error:
        if isinstance(error.cause, TagloomError):
            # Ray's own error would tell the worker's whole trace.
            raise error.cause from None
        raise
