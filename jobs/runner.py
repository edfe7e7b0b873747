"""Folds a plan over an input with Ray Data: the one place where the engine meets the cluster."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from threadpoolctl import threadpool_limits

from engine.stage import Plan, Workers
from jobs.chunks import Chunk, Inventory
from jobs.reading import ahead, read_chunk
from jobs.sink import Receipt, write_part
from jobs.store import Store

BATCH = 32
"""Pictures that go through the stages at a time."""

_CHUNK = "__chunk"


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


@contextmanager
def ray_session(cpus: int | None = None) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, or start Ray here; stop what was started.

    A Ray that this process is connected to already is used and left as it is.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level="warning", log_to_driver=False)
    else:
        ray.init(
            "local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=512 * 1024**2,
            logging_level="warning",
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    try:
        yield
    finally:
        ray.shutdown()


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
    """
    todo = [{"chunk": chunk.to_json()} for chunk in inventory.chunks if chunk.name not in skip]
    if not todo:
        return
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A chunk must stay in one block, whole, on its way between workers.
    context.target_max_block_size = None
    segments = plan.segments()
    dataset = ray.data.from_items(todo, override_num_blocks=len(todo))
    for place, segment in enumerate(segments):
        resources = segment.stages[0].resources
        most = min(settings.workers or _workers(segment, segments), len(todo))
        dataset = dataset.map_batches(
            SegmentWorker,
            fn_constructor_kwargs={
                "segment": segment,
                "reads": ReadSettings(inventory.id_column, settings.batch, max_bytes),
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
        yield Receipt.from_row(row)


def _workers(segment: Plan, segments: list[Plan]) -> int:
    """Workers that fit beside at least one worker of every other segment."""
    total = ray.cluster_resources()
    mine = segment.stages[0].resources
    others_cpus = sum(s.stages[0].resources.cpus for s in segments if s is not segment)
    by_cpu = (total.get("CPU", 1.0) - others_cpus) / mine.cpus if mine.cpus else float("inf")
    by_gpu = total.get("GPU", 0.0) / mine.gpus if mine.gpus else float("inf")
    return max(1, int(min(by_cpu, by_gpu, 4096)))


@dataclass(frozen=True)
class ReadSettings:
    """What a first worker needs to read a chunk."""

    id_column: str
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
    workers: Workers = field(init=False)

    def __post_init__(self) -> None:
        threadpool_limits(1)
        self.workers = self.segment.workers()

    def __call__(self, block: pa.Table) -> pa.Table:
        name = block.column("chunk" if self.is_first else _CHUNK)[0].as_py()
        chunk = Chunk.from_json(name)
        table = pa.concat_tables([self.workers(batch) for batch in self._batches(chunk, block)])
        if self.store is None:
            return table.append_column(_CHUNK, pa.repeat(name, table.num_rows))
        return write_part(self.store, chunk, table).to_table()

    def _batches(self, chunk: Chunk, block: pa.Table) -> Iterator[pa.Table]:
        if self.is_first:
            reads = self.reads
            return ahead(read_chunk(chunk, reads.id_column, reads.batch, reads.max_bytes))
        rows = block.drop_columns([_CHUNK])
        starts = range(0, rows.num_rows, self.reads.batch)
        return (rows.slice(start, self.reads.batch) for start in starts)


def loop_plan(
    plan: Plan, inventory: Inventory, settings: RunSettings, max_bytes: int
) -> Iterator[pa.Table]:
    """The same fold in this process, without Ray: a table a chunk, in order."""
    workers = plan.workers()
    for chunk in inventory.chunks:
        batches = read_chunk(chunk, inventory.id_column, settings.batch, max_bytes)
        yield pa.concat_tables([workers(batch) for batch in batches])


def in_worker(function: Callable[..., object], *arguments: object, **named: object) -> object:
    """Run a function in a Ray worker, so that what it holds is not the driver's memory."""
    return ray.get(ray.remote(num_cpus=1)(function).remote(*arguments, **named))
