"""Folds a plan over an input with Ray Data: the one place where the engine meets the cluster."""

import json
import logging
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
from jobs.reading import ahead, read_chunk
from jobs.sink import Receipt, write_part
from jobs.store import Store
from jobs.work import LOADING, READING, WRITING, Stopwatch, Work, since

BATCH = 32
"""Pictures that go through the stages at a time."""

_CHUNK = "__chunk"
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
    """

    workers: int | None = None
    batch: int = BATCH


def run_plan(
    plan: Plan,
    inventory: Inventory,
    skip: frozenset[str],
    store: Store,
    settings: RunSettings,
    max_bytes: int,
) -> Iterator[Receipt]:
    """Run every chunk that is not in `skip` through the plan and write its part.

    Yields a receipt a chunk as soon as its part is in the store, in no fixed order. Memory does
    not depend on the number of pictures: only names of chunks and receipts pass the driver.

    Raises:
        TagloomError: a worker met what a user can mend, such as input that changed on the way.
    """
    todo = [{"chunk": chunk.to_json()} for chunk in inventory.chunks if chunk.name not in skip]
    if not todo:
        return
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # Here, where Ray Data is imported, for its import sets this anew.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.print_on_execution_start = False
    # A chunk must stay in one block, whole, on its way between workers.
    context.target_max_block_size = None
    segments = plan.segments()
    dataset: ray.data.Dataset = ray.data.from_items(todo, override_num_blocks=len(todo))
    for place, segment in enumerate(segments):
        resources = segment.stages[0].resources
        most = min(settings.workers or _workers(segment, segments), len(todo))
        dataset = dataset.map_batches(
            SegmentWorker,
            fn_constructor_kwargs={
                "segment": segment,
                "reads": ReadSettings(settings.batch, max_bytes),
                "is_first": place == 0,
                "store": store if place == len(segments) - 1 else None,
            },
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
            num_cpus=resources.cpus,
            num_gpus=resources.gpus or None,
        )
    for row in dataset.iter_rows():
        if _FAILURE in row:
            raise _ERRORS[row[_FAILURE]](row["message"])
        yield Receipt.from_row(row)


def _workers(segment: Plan, segments: list[Plan]) -> int:
    """Workers that fit beside at least one worker of every other segment."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    mine = segment.stages[0].resources
    others_cpus = sum(s.stages[0].resources.cpus for s in segments if s is not segment)
    by_cpu = (total.get("CPU", 1.0) - others_cpus) / mine.cpus if mine.cpus else float("inf")
    by_gpu = total.get("GPU", 0.0) / mine.gpus if mine.gpus else float("inf")
    return max(1, int(min(by_cpu, by_gpu, 4096)))


@dataclass(frozen=True)
class ReadSettings:
    """What a first worker needs to read a chunk."""

    batch: int
    max_bytes: int


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
        self._imports = time.process_time()

    @cached_property
    def workers(self) -> Workers:
        return self.segment.workers()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Work on one chunk; an error that the user can mend travels on in place of its rows.

        Raised here it would reach the driver as an error of Ray's, without its own type.
        """
        if _FAILURE in block.column_names:
            return block
        try:
            return self._run(block)
        except TagloomError as error:
            return pa.table({_FAILURE: [type(error).__name__], "message": [str(error)]})

    def _run(self, block: pa.Table) -> pa.Table:
        began = time.time()
        before = self._seconds()
        name = block.column("chunk" if self.is_first else _CHUNK)[0].as_py()
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
        if receipt is not None:
            done = tuple(Work.from_json(text) for text in works)
            return replace(receipt, works=done).to_table()
        for column, value in ((_CHUNK, name), (_WORKS, json.dumps(works))):
            table = table.append_column(column, pa.repeat(value, table.num_rows))
        return table

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
            return ahead(read_chunk(chunk, reads.batch, reads.max_bytes))
        rows = block.drop_columns([_CHUNK, _WORKS])
        starts = range(0, rows.num_rows, self.reads.batch)
        return (rows.slice(start, self.reads.batch) for start in starts)


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
