"""Dynamic batching: pictures that come at about the same time are folded together."""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import pyarrow as pa
from ray import serve as ray_serve

from serve.config import Scaling
from serve.stages import BundleRef, Fold, Folded, Want

BUNDLES_KEPT = 2
"""Old requests end on the old bundle while new ones begin on the new."""

BATCHES_AT_ONCE = 2
"""One is decoded or scored while the backbone computes another."""


@dataclass(frozen=True)
class Job:
    """Rows of one request on their way through one slice."""

    ref: BundleRef
    want: Want
    table: pa.Table


class Batcher:
    """One slice's models behind a batching queue."""

    def __init__(self, stages: tuple[str, ...], scaling: Scaling, max_pixels: int | None) -> None:
        self._stages = stages
        self._max_pixels = max_pixels
        self._folds: OrderedDict[BundleRef, Fold] = OrderedDict()
        self._loading = Lock()
        # Threads of their own, so that the event loop stays free.
        self._threads = ThreadPoolExecutor(BATCHES_AT_ONCE, thread_name_prefix="fold")
        self.batch = scaling.batch
        self._submit: Callable[[Job], Awaitable[Folded]] = ray_serve.batch(
            max_batch_size=scaling.batch,
            batch_wait_timeout_s=scaling.wait,
            batch_size_fn=_rows,
            max_concurrent_batches=BATCHES_AT_ONCE,
        )(self._run)
        self.last_success = -float("inf")

    def load(self, ref: BundleRef) -> None:
        """Load a bundle's models before the first picture asks for them.

        Raises:
            TagloomError: the bundle cannot be used here.
        """
        self._fold(ref)

    async def __call__(self, job: Job) -> Folded:
        """Fold a job's rows; many rows go in pieces, so that none is larger than a batch."""
        if job.table.num_rows <= self.batch:
            return await self._submit(job)
        starts = range(0, job.table.num_rows, self.batch)
        pieces = [Job(job.ref, job.want, job.table.slice(s, self.batch)) for s in starts]
        folded = await asyncio.gather(*(self._submit(piece) for piece in pieces))
        batches = tuple(batch for part in folded for batch in part.batches)
        return Folded(pa.concat_tables([part.table for part in folded]), batches)

    async def _run(self, jobs: list[Job]) -> list[Folded]:
        loop = asyncio.get_running_loop()
        folded = await loop.run_in_executor(self._threads, self._fold_all, jobs)
        self.last_success = time.monotonic()
        return folded

    def _fold_all(self, jobs: list[Job]) -> list[Folded]:
        alike: dict[tuple[BundleRef, Want], list[int]] = defaultdict(list)
        for place, job in enumerate(jobs):
            alike[job.ref, job.want].append(place)
        results: dict[int, Folded] = {}
        for (ref, want), places in alike.items():
            tables = [jobs[place].table for place in places]
            folded = self._fold(ref)(want, pa.concat_tables(tables).combine_chunks())
            start = 0
            for place, table in zip(places, tables, strict=True):
                rows = folded.table.slice(start, table.num_rows)
                results[place] = Folded(rows, folded.batches if start == 0 else ())
                start += table.num_rows
        return [results[place] for place in range(len(jobs))]

    def _fold(self, ref: BundleRef) -> Fold:
        with self._loading:
            if ref not in self._folds:
                self._folds[ref] = Fold(ref, self._stages, self._max_pixels)
                while len(self._folds) > BUNDLES_KEPT:
                    self._folds.popitem(last=False)
            self._folds.move_to_end(ref)
            return self._folds[ref]


def _rows(jobs: list[Job]) -> int:
    return sum(job.table.num_rows for job in jobs)
