"""`tagloom annotate`: pictures and a bundle in, their tags as Parquet out, every row accounted."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict

from engine.bundle import Bundle, load_bundle
from engine.config import load_rules
from engine.cut import TopK
from engine.embed import Compute
from engine.errors import ConfigError, CorpusError
from engine.plan import annotation_plan
from engine.stage import Plan
from jobs.beside import listing
from jobs.chunks import Chunk, Inventory
from jobs.console import Console
from jobs.fanout import IndexWay, check_way
from jobs.job import JOB, Job, check_apart, check_same, earlier_job
from jobs.runner import BATCH, RunSettings, run_plan
from jobs.session import running
from jobs.sink import Receipt, finished_parts
from jobs.source import SCRATCH
from jobs.store import Store, absolute
from jobs.work import Diary

MANIFEST = "manifest.json"


class Account(BaseModel):
    """The job's manifest: rows in = tagged + failed, and how many failed by code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    tagged: int
    failed: int
    errors: dict[str, int]
    ignored_files: int
    parts: int
    bundle_id: str
    input: str
    top_k: TopK
    seconds: float
    pictures_per_second: float


def open_bundle(name: str, console: Console) -> Bundle:
    """Open a bundle's folder, or make the bundle of ImageNet's classes where that is asked for.

    Raises:
        BundleError: it cannot be used here.
    """
    folder = Path(name)
    if not folder.exists():
        # Here, not above: it imports what makes bundles, torch and all.
        from engine import pretrained

        if name == pretrained.NAME:
            folder = Path.home() / ".cache" / "tagloom" / "bundles" / name
            with console.waiting("preparing the ImageNet bundle"):
                pretrained.write_imagenet_bundle(folder)
    bundle = load_bundle(folder.absolute())
    bundle.check_backbone()
    return bundle


def annotate(
    source: str,
    bundle_name: str,
    output: str,
    top_k: TopK,
    console: Console,
    max_failed: float = 1.0,
    settings: RunSettings | None = None,
    compute: str | None = None,
) -> Account:
    """Annotate every picture of an input, going on with an earlier run of the same job.

    Args:
        compute: what embeds the pictures; None: what the bundle was fitted for.

    Raises:
        TagloomError: the input, the bundle or the output is not as it must be, or more than the
            share `max_failed` of the pictures failed.
    """
    way = (settings or RunSettings()).index
    begun = preparing(source, bundle_name, output, top_k, console, compute, index=way)
    with running(begun) as job:
        return job.run(max_failed, settings)


@dataclass(frozen=True)
class Prepared:
    """A job that Ray may begin with.

    Attributes:
        tally: what an earlier run did.
        early: a part that is being made while Ray starts.
        listed: Unix time at which the input was listed.
    """

    bundle: Bundle
    plan: Plan
    store: Store
    console: Console
    job: Job
    inventory: Inventory
    tally: "_Tally"
    early: Future[Receipt] | None
    listed: float
    started: float

    def run(
        self,
        max_failed: float = 1.0,
        settings: RunSettings | None = None,
        diary: Diary | None = None,
    ) -> Account:
        """Annotate; see `annotate`.

        Args:
            diary: gets what the job's time went into.
        """
        settings, diary = settings or RunSettings(), diary or Diary()
        diary.mark("listing", self.listed)
        diary.mark("starting Ray")
        tally, rows = self.tally, self.inventory.rows
        done_before = tally.rows
        with self.console.progress("annotating", rows) as advance:
            advance(done_before)
            for receipt in self._receipts(settings):
                tally.add(receipt)
                if tally.failed > max_failed * rows:
                    raise CorpusError(
                        f"{self.job.input}: {tally.failed:,} of {rows:,} pictures failed, "
                        f"more than --max-failed {max_failed} allows; the parts written so far "
                        f"are in {self.store.url}, and the same command with a higher limit goes "
                        "on from them"
                    )
                advance(receipt.rows)
                diary.add(receipt.works)
        self.store.remove(SCRATCH)
        assert tally.rows == rows, (tally.rows, rows)
        seconds = time.monotonic() - self.started
        account = Account(
            rows=tally.rows,
            tagged=tally.rows - tally.failed,
            failed=tally.failed,
            errors=dict(sorted(tally.errors.items())),
            ignored_files=self.inventory.ignored,
            parts=len(tally.parts),
            bundle_id=self.bundle.id,
            input=self.job.input,
            top_k=self.job.top_k,
            seconds=round(seconds, 2),
            pictures_per_second=round((tally.rows - done_before) / seconds, 2),
        )
        self.store.write(MANIFEST, account.model_dump_json(indent=1).encode())
        diary.mark("closing")
        return account

    def _receipts(self, settings: RunSettings) -> Iterator[Receipt]:
        """Of all the parts that are still to be made, the early one among them."""
        limit = self.bundle.manifest.limits.max_bytes
        done = frozenset(self.tally.parts)
        early = next(_undone(self.inventory, done)) if self.early else None
        skip = done | {early.name} if early else done
        for receipt in run_plan(self.plan, self.inventory, skip, self.store, settings, limit):
            if early and self.early and self.early.done() and not self.early.exception():
                yield self.early.result()
                early = None
            yield receipt
        if early and self.early:
            try:
                yield self.early.result()
            except BrokenProcessPool:
                # Its process was killed; Ray makes the part as well.
                rest = frozenset(chunk.name for chunk in self.inventory.chunks) - {early.name}
                yield from run_plan(self.plan, self.inventory, rest, self.store, settings, limit)


@contextmanager
def preparing(
    source: str,
    bundle_name: str,
    output: str,
    top_k: TopK,
    console: Console,
    compute: str | None = None,
    pictures: int | None = None,
    rules: Path | None = None,
    index: IndexWay = "auto",
) -> Iterator[Prepared]:
    """Do what a job begins with and needs no Ray; leave nothing behind if it ends in an error.

    Args:
        pictures: only so many of the first, rounded up to whole chunks; None: all.
        rules: a TOML file of vocabulary rules; None: the bundle's own alone.
        index: how it is searched, see `RunSettings`.

    Raises:
        TagloomError: the input, the bundle or the output is not as it must be.
    """
    started = time.monotonic()
    way = None if compute is None else _compute(compute)
    source = absolute(source)
    store = Store(output)
    check_apart(source, store)
    earlier = earlier_job(store)
    with _tidy(store), listing(source, store, is_corpus=False) as beside:
        bundle = open_bundle(bundle_name, console)
        check_way(bundle, index)
        if rules is not None:
            bundle = replace(bundle, rules=load_rules(rules))
        plan = annotation_plan(bundle, top_k, compute=way)
        with console.waiting("listing the pictures"):
            inventory = beside.inventory().first(pictures)
        listed = time.time()
        job = Job(
            input=source,
            fingerprint=inventory.fingerprint,
            rows=inventory.rows,
            bundle=str(bundle.folder),
            bundle_id=bundle.id,
            top_k=top_k,
            compute=way,
            vocabulary=None if rules is None else bundle.rules.model_dump_json(),
        )
        check_same(store, earlier, job)
        store.write(JOB, job.model_dump_json(indent=1).encode())
        tally = _finished(store)
        if tally.parts:
            console.say(f"going on: {len(tally.parts)} of {len(inventory.chunks)} parts are there")
        chunk = next(_undone(inventory, frozenset(tally.parts)), None)
        early = None
        # Elsewhere the cluster has started already, and torch may want a GPU that Ray gives out.
        # And an index in shards may be too large for its process.
        may = not os.environ.get("RAY_ADDRESS") and not bundle.shard_maps
        if chunk and may and bundle.graph_for(way):
            early = beside.make_part(plan, chunk, BATCH, bundle.manifest.limits.max_bytes, store)
        yield Prepared(bundle, plan, store, console, job, inventory, tally, early, listed, started)


def _undone(inventory: Inventory, done: frozenset[str]) -> Iterator[Chunk]:
    return (chunk for chunk in inventory.chunks if chunk.name not in done)


def _finished(store: Store) -> "_Tally":
    """What an earlier run of the job did."""
    store.sweep()
    tally = _Tally()
    for receipt in finished_parts(store):
        tally.add(receipt)
    return tally


@dataclass
class _Tally:
    """Parts that are in the store, and their sums."""

    parts: set[str] = field(default_factory=set)
    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        return self.errors.total()

    def add(self, receipt: Receipt) -> None:
        self.parts.add(receipt.chunk)
        self.rows += receipt.rows
        self.errors.update(receipt.errors)


def _compute(name: str) -> Compute:
    for known in get_args(Compute):
        if known == name:
            way: Compute = known
            return way
    raise ConfigError(f"there is no compute '{name}'; choose one of {', '.join(get_args(Compute))}")


@contextmanager
def _tidy(store: Store) -> Iterator[None]:
    """Leave nothing behind of a job that ends before it has begun."""
    existed = store.exists()
    try:
        yield
    except BaseException:
        store.remove(SCRATCH)
        if not existed:
            store.remove_if_empty()
        raise
