"""A picture's way through the levels of a topology, with a bound on how many may be under way."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from engine import schema
from engine.answer import Ask
from engine.bundle import Bundle
from engine.config import load_rules
from engine.storage.bundles import FetchedBundle, open_at
from serve.batching import Job
from serve.config import Settings
from serve.errors import RequestError
from serve.metrics import Metrics
from serve.stages import (
    INPUT,
    WANTS,
    BundleRef,
    Folded,
    Want,
    join,
    layout,
    reads_of,
    sliced,
    wanted_plan,
)

Run = Callable[[Job], Awaitable[Folded]]
"""Folds a slice: here, or in another deployment."""


@dataclass(frozen=True)
class Picture:
    """One picture of a request; `data` None where it could not be had, with the error it gets."""

    name: str
    data: bytes | None
    social_tags: tuple[str, ...] = ()
    error: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Step:
    name: str
    run: Run
    reads: tuple[str, ...]


class Queue:
    """How many pictures are waiting or being folded, and a word for those that would be too many.

    A request larger than the whole queue is let in while the queue is empty.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._metrics = metrics
        self.length = 0
        self._pace = 0.05

    @contextmanager
    def room(self, pictures: int) -> Iterator[None]:
        """Hold places for pictures.

        Raises:
            RequestError: 503 with Retry-After; the queue is full.
        """
        if self.length and self.length + pictures > self._most:
            raise self.full()
        self._change(pictures)
        started = time.perf_counter()
        try:
            yield
            # Seconds a picture, as the present load has it; what Retry-After is reckoned from.
            spent = (time.perf_counter() - started) / max(self.length, 1)
            self._pace += 0.1 * (spent - self._pace)
        finally:
            self._change(-pictures)

    def full(self) -> RequestError:
        """What a request is told that finds no room."""
        seconds = min(30, max(1, math.ceil(self.length * self._pace)))
        reason = f"{self.length} pictures are waiting already; try again in {seconds} s"
        return RequestError(503, "overloaded", reason, retry_after=seconds)

    def _change(self, pictures: int) -> None:
        self.length += pictures
        self._metrics.queue(self.length)


class Pipeline:
    """One bundle's answers, whatever the topology."""

    def __init__(
        self,
        settings: Settings,
        ref: BundleRef,
        bundle: Bundle,
        runs: Mapping[str, Run],
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.bundle = bundle
        self.metrics = metrics
        self.queue = Queue(settings.queue, metrics)
        self._ref = ref
        self._probe = _probe_picture()
        self._levels: dict[Want, tuple[tuple[_Step, ...], ...]] = {}
        for want in WANTS:
            plan = wanted_plan(bundle, want)
            levels = []
            for level in layout(bundle, settings.topology):
                parts = [(part.name, sliced(plan, part.stages)) for part in level]
                levels.append(
                    tuple(_Step(n, runs[n], reads_of(part)) for n, part in parts if part.stages)
                )
            self._levels[want] = tuple(level for level in levels if level)

    async def fold(self, want: Want, pictures: list[Picture], ask: Ask) -> pa.Table:
        """The wanted columns of pictures, in their order, with `error` and `reason`.

        Raises:
            RequestError: the queue is full.
        """
        with self.queue.room(len(pictures)):
            table = await self._fold(want, pictures, ask)
        self.metrics.pictures(len(pictures))
        for code in table.column(schema.ERROR).to_pylist():
            if code is not None:
                self.metrics.error(code)
        return table

    async def _fold(self, want: Want, pictures: list[Picture], ask: Ask) -> pa.Table:
        table = _to_table(pictures, ask)
        for level in self._levels[want]:
            table = join(table, await asyncio.gather(*(self._step(s, want, table) for s in level)))
        return table

    async def _step(self, step: _Step, want: Want, table: pa.Table) -> pa.Table:
        folded = await step.run(Job(self._ref, want, table.select(step.reads)))
        self.metrics.batches(step.name, folded.batches)
        return folded.table

    async def probe(self) -> None:
        """Tag a real picture, past the queue's bound.

        Raises:
            RuntimeError: it got no tags.
        """
        table = await self._fold("tags", [Picture("probe", self._probe)], Ask(1))
        error = table.column(schema.ERROR)[0].as_py()
        if error is not None or not table.column(schema.TAGS)[0].as_py():
            raise RuntimeError(f"the health check's picture got no tags (error: {error})")


def open_bundle(settings: Settings) -> tuple[BundleRef, Bundle]:
    """The bundle that the settings name.

    Raises:
        BundleError: there is none, or it is damaged.
        ConfigError: the vocabulary rules are not as they must be, or not of this bundle.
    """
    bundle = open_at(settings.bundle)
    if settings.vocabulary is not None:
        bundle = replace(bundle, rules=load_rules(Path(settings.vocabulary)))
    _ = bundle.tagging
    url = bundle.url if isinstance(bundle, FetchedBundle) else ""
    return BundleRef(str(bundle.folder), bundle.id, bundle.rules, url), bundle


def _to_table(pictures: list[Picture], ask: Ask) -> pa.Table:
    row = ask.to_row()
    columns = [
        pa.array([str(place) for place in range(len(pictures))], pa.string()),
        pa.array([picture.data for picture in pictures], pa.binary()),
        pa.array([list(p.social_tags) for p in pictures], pa.list_(pa.string())),
        pa.array([row] * len(pictures), schema.ASKS),
        pa.array([picture.error for picture in pictures], pa.string()),
        pa.array([picture.reason for picture in pictures], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=INPUT)


def _probe_picture() -> bytes:
    """A JPEG of two gradients: what the decoder and the models do with it is all that counts."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels_HW3 = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[::-1, None]), 2)
    out = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels_HW3)).save(out, "JPEG")
    return out.getvalue()
