"""Gives Ray Data chunks while they are still being listed.

A thread of the driver hands what is listed to an actor beside it, from which one streaming task
takes it: each chunk becomes a block of its own as soon as it is there. The actor keeps what it
was given, so that a task which is run anew, on another node perhaps, gives the same blocks.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.chunks import Chunk

CHUNK = "chunk"
"""The one column of what a feed gives: a chunk as JSON."""


class _Queue:
    """The actor: chunks in order, and whether there will be more."""

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._is_over = False
        self._news = asyncio.Event()

    @ray.method
    async def put(self, chunks: list[str], is_over: bool) -> None:
        self._chunks.extend(chunks)
        self._is_over |= is_over
        self._news.set()
        self._news = asyncio.Event()

    @ray.method
    async def since(self, place: int) -> list[str]:
        """The chunks from a place on, once there are any; none if none will come."""
        while len(self._chunks) <= place and not self._is_over:
            await self._news.wait()
        return self._chunks[place:]


class Feed:
    """What takes chunks from an iterator, for as long as that gives any."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        node = ray.get_runtime_context().get_node_id()
        # Where the driver is: were it elsewhere, the job would not outlive that node.
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        queue = ray.remote(num_cpus=0)(_Queue).options(scheduling_strategy=here).remote()
        assert isinstance(queue, ActorHandle)
        self._queue = queue
        self._chunks = chunks
        self._is_wanted = True
        self._pool = ThreadPoolExecutor(1)
        self._filling = self._pool.submit(self._fill)

    def dataset(self) -> "ray.data.Dataset":
        """A row a chunk, each in a block of its own."""
        return ray.data.from_items([{"from": 0}]).map_batches(
            partial(_drain, queue=self._queue),
            batch_size=None,
            batch_format="pyarrow",
            # Unlike the stages', or Ray Data would run it within one of their workers.
            num_cpus=0,
        )

    def finish(self) -> None:
        """Once all was taken, raise what the iterator raised, if it did."""
        self._filling.result()

    def close(self) -> None:
        """Take no more chunks."""
        self._is_wanted = False
        ray.kill(self._queue)
        self._pool.shutdown(wait=False)

    def _fill(self) -> None:
        try:
            for chunk in self._chunks:
                if not self._is_wanted:
                    return
                ray.get(self._queue.put.remote([chunk.to_json()], False))
        finally:
            ray.get(self._queue.put.remote([], True))


def _drain(_: pa.Table, queue: ActorHandle[_Queue]) -> Iterator[pa.Table]:
    place = 0
    chunks: list[str]
    while chunks := ray.get(queue.since.remote(place)):
        for chunk in chunks:
            yield pa.table({CHUNK: [chunk]})
        place += len(chunks)
