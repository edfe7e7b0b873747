"""A process beside the driver, for what a job does while Ray starts: it lists, and makes a part."""

import atexit
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection

import pyarrow as pa
from threadpoolctl import threadpool_limits

from engine.errors import CorpusError, TagloomError
from engine.stage import Plan
from jobs.chunks import Chunk, Totals
from jobs.reading import ReadSettings, read_chunk
from jobs.sink import Receipt, write_part
from jobs.source import list_chunks
from jobs.store import Store
from jobs.work import BESIDE, Work

GRACE = 3.0
"""Seconds from an input's first chunk on in which its listing may end before the job begins."""


@dataclass
class Beside:
    """The process, listing an input.

    The ids of a large input take much memory, which goes with the process.

    Attributes:
        totals: once the listing has come to its end.
    """

    source: str
    totals: Totals | None = None
    _pool: ProcessPoolExecutor = field(kw_only=True)
    _listed: Connection = field(kw_only=True)
    _held: deque[Chunk] = field(default_factory=deque)

    def hold(self, seconds: float | None) -> tuple[Chunk, ...]:
        """Wait for the first chunk, then so many seconds for the end of the listing; what came.

        Args:
            seconds: None: until it ends.

        Raises:
            CorpusError: as `list_chunks` does.
        """
        deadline = None
        while self.totals is None:
            if deadline is not None and not self._listed.poll(deadline - time.monotonic()):
                break
            self._receive()
            if deadline is None and seconds is not None:
                deadline = time.monotonic() + seconds
        return tuple(self._held)

    def chunks(self) -> Iterator[Chunk]:
        """All the chunks in order, each as soon as it is listed.

        Raises:
            CorpusError: as `list_chunks` does.
        """
        while self._held or self.totals is None:
            if self._held:
                yield self._held.popleft()
            else:
                self._receive()

    def _receive(self) -> None:
        try:
            news = self._listed.recv()
        except EOFError as error:
            raise CorpusError(
                f"{self.source}: the process that lists it was killed; run the same command again"
            ) from error
        if isinstance(news, TagloomError):
            raise news
        if isinstance(news, Totals):
            self.totals = news
        else:
            self._held.append(news)

    def make_part(
        self, plan: Plan, chunk: Chunk, reads: ReadSettings, store: Store
    ) -> Future[Receipt]:
        """Begin to work on a chunk, as a worker of Ray's would."""
        return self._pool.submit(_make_part, plan, chunk, reads, store)


@contextmanager
def listing(source: str, store: Store, most: int | None = None) -> Iterator[Beside]:
    """Begin `list_chunks`, which needs no Ray and would else have to wait for its start."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(1, context, _begin, (source, store, most, there))
    try:
        pool.submit(time.monotonic)
        # The process has its own; with this one open, its death would not be noticed.
        there.close()
        yield Beside(source, _pool=pool, _listed=here)
    finally:
        here.close()
        pool.shutdown(cancel_futures=True)


def _begin(source: str, store: Store, most: int | None, listed: Connection) -> None:
    """List in a thread, so that the process may make a part meanwhile."""
    _end_with_parent()
    # Without the ends that Arrow has registered: it would wait, for ever at times, for the threads
    # of a read that the interpreter's own end has broken off.
    atexit.register(os._exit, 0)
    arguments = (source, store, most, listed)
    threading.Thread(target=_list, args=arguments, daemon=True).start()


def _list(source: str, store: Store, most: int | None, listed: Connection) -> None:
    with listed:
        try:
            for news in list_chunks(source, store, is_corpus=False, most=most):
                listed.send(news)
        except TagloomError as error:
            listed.send(error)
        except BrokenPipeError:
            # The job has ended in an error, or has seen enough.
            return


def _end_with_parent() -> None:
    """See to it that this process ends when a killed driver cannot tell it to."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _make_part(plan: Plan, chunk: Chunk, reads: ReadSettings, store: Store) -> Receipt:
    began = time.time()
    # As in a worker: how a product is shared out among threads decides its last bits.
    with threadpool_limits(1):
        workers = plan.workers()
        batches = read_chunk(chunk, reads.batch, reads.max_bytes, reads.fetches)
        tables = [workers(rows) for rows in batches]
        receipt = write_part(store, chunk, pa.concat_tables(tables))
    work = Work(BESIDE, chunk.rows, began, time.time(), workers.seconds)
    return replace(receipt, works=(work,))
