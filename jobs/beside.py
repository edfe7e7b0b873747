"""A process beside the driver, for what a job does while Ray starts: it lists, and makes a part."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa
from threadpoolctl import threadpool_limits

from engine.stage import Plan
from jobs.chunks import Chunk, Inventory
from jobs.reading import read_chunk
from jobs.sink import Receipt, write_part
from jobs.source import take_inventory
from jobs.store import Store
from jobs.work import BESIDE, Work


@dataclass(frozen=True)
class Beside:
    """The process, listing an input.

    The ids of a large input take much memory, which goes with the process.
    """

    _pool: ProcessPoolExecutor
    _listing: Future[Inventory]

    def inventory(self) -> Inventory:
        """Wait for the listing.

        Raises:
            CorpusError: as `take_inventory` does.
        """
        return self._listing.result()

    def make_part(
        self, plan: Plan, chunk: Chunk, batch: int, max_bytes: int, store: Store
    ) -> Future[Receipt]:
        """Begin to work on a chunk, as a worker of Ray's would."""
        return self._pool.submit(_make_part, plan, chunk, batch, max_bytes, store)


@contextmanager
def listing(source: str, store: Store, is_corpus: bool) -> Iterator[Beside]:
    """Begin `take_inventory`, which needs no Ray and would else have to wait for its start."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
        yield Beside(pool, pool.submit(take_inventory, source, store, is_corpus))


def _end_with_parent() -> None:
    """See to it that this process ends when a killed driver cannot tell it to."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _make_part(plan: Plan, chunk: Chunk, batch: int, max_bytes: int, store: Store) -> Receipt:
    began = time.time()
    # As in a worker: how a product is shared out among threads decides its last bits.
    with threadpool_limits(1):
        workers = plan.workers()
        tables = [workers(rows) for rows in read_chunk(chunk, batch, max_bytes)]
        receipt = write_part(store, chunk, pa.concat_tables(tables))
    work = Work(BESIDE, chunk.rows, began, time.time(), workers.seconds)
    return replace(receipt, works=(work,))
