"""`tagloom annotate`: pictures and a bundle in, their tags as Parquet out, every row accounted."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from engine.bundle import Bundle
from engine.config import load_rules
from engine.cut import TopK
from engine.embed import Compute
from engine.errors import ConfigError, CorpusError
from engine.plan import annotation_plan
from engine.stage import Plan
from engine.storage.bundles import everywhere, place_of
from jobs.beside import GRACE, Beside, listing
from jobs.bundles import open_bundle
from jobs.chunks import Chunk, Inventory
from jobs.console import Console
from jobs.fanout import check_way
from jobs.job import JOB, Job, check_apart, check_same, check_unchanged, noted
from jobs.job_log import Note
from jobs.lease import Lease, held
from jobs.runner import RunSettings, reads_beside, run_plan
from jobs.session import running
from jobs.sink import Receipt
from jobs.source import SCRATCH
from jobs.store import Store, absolute
from jobs.tally import Account, Tally, finished
from jobs.work import Diary

MANIFEST = "manifest.json"


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
    settings = settings or RunSettings()
    with running(preparing(source, bundle_name, output, top_k, console, settings, compute)) as job:
        return job.run(max_failed)


@dataclass(frozen=True)
class Early:
    """A part that is being made while Ray starts."""

    chunk: Chunk
    receipt: Future[Receipt]


@dataclass(frozen=True)
class Prepared:
    """A job that Ray may begin with.

    Attributes:
        beside: lists the input, if that has not come to its end.
        tally: what an earlier run did.
        early: a part that is being made while Ray starts.
        listed: Unix time at which the input was listed, or at which the job need not wait for that.
        lease: says that no other job writes into the store.
        settings: how it is run.
    """

    bundle: Bundle
    plan: Plan
    store: Store
    console: Console
    job: Job
    beside: Beside
    tally: Tally
    early: Early | None
    listed: float
    started: float
    lease: Lease
    settings: RunSettings

    def run(
        self,
        max_failed: float = 1.0,
        diary: Diary | None = None,
        note: Note | None = None,
    ) -> Account:
        """Annotate; see `annotate`.

        Args:
            diary: gets what the job's time went into.
            note: gets each part that is made.
        """
        diary = diary or Diary()
        diary.mark("listing", self.listed)
        diary.mark("starting Ray")
        tally = self.tally
        done_before = tally.rows
        job = self.job
        with self.console.progress("annotating", job.rows, done_before, tally.failed) as advance:
            for receipt in self._receipts():
                self.lease.check()
                tally.add(receipt)
                job = self._completed(job)
                self._check_failed(job, max_failed)
                advance.expect(job.rows)
                advance(receipt.rows, receipt.failed)
                diary.add(receipt.works)
                if note is not None:
                    note(receipt)
        job = self._completed(job)
        self._check_failed(job, max_failed)
        totals = self.beside.totals
        assert totals is not None
        assert tally.rows == totals.rows, (tally.rows, totals.rows)
        self.store.remove(SCRATCH)
        self.store.sweep()
        seconds = time.monotonic() - self.started
        account = Account(
            rows=tally.rows,
            tagged=tally.rows - tally.failed,
            failed=tally.failed,
            errors=dict(sorted(tally.errors.items())),
            ignored_files=totals.ignored,
            parts=len(tally.digests),
            bundle_id=self.bundle.id,
            input=job.input,
            top_k=job.top_k,
            seconds=round(seconds, 2),
            pictures_per_second=round((tally.rows - done_before) / seconds, 2),
        )
        self.store.write(MANIFEST, account.model_dump_json(indent=1).encode())
        diary.mark("closing")
        return account

    def _completed(self, job: Job) -> Job:
        """The job with what is known once its input is listed to the end, and noted down."""
        totals = self.beside.totals
        if totals is None or job.fingerprint is not None:
            return job
        job = job.model_copy(update={"fingerprint": totals.fingerprint, "rows": totals.rows})
        self.store.write(JOB, job.model_dump_json(indent=1).encode())
        return job

    def _check_failed(self, job: Job, max_failed: float) -> None:
        failed = self.tally.failed
        if job.rows is not None and failed > max_failed * job.rows:
            raise CorpusError(
                f"{job.input}: {failed:,} of {job.rows:,} pictures failed, more than --max-failed "
                f"{max_failed} allows; the parts written so far are in {self.store.url}, and the "
                "same command with a higher limit goes on from them"
            )

    def _receipts(self) -> Iterator[Receipt]:
        """Of all the parts that are still to be made, the early one among them."""
        settings, limit = self.settings, self.bundle.manifest.limits.max_bytes
        early = self.early
        skip = frozenset(self.tally.digests) | ({early.chunk.name} if early else set())
        chunks = self.beside.chunks()
        listed = _inventory(tuple(chunks)) if self.beside.totals is not None else chunks
        for receipt in run_plan(self.plan, listed, skip, self.store, settings, limit):
            if early and early.receipt.done() and not early.receipt.exception():
                yield early.receipt.result()
                early = None
            yield receipt
        if early:
            try:
                yield early.receipt.result()
            except BrokenProcessPool:
                # Its process was killed; Ray makes the part as well.
                again = _inventory((early.chunk,))
                yield from run_plan(self.plan, again, frozenset(), self.store, settings, limit)


def _inventory(chunks: tuple[Chunk, ...]) -> Inventory:
    return Inventory(chunks, sum(chunk.rows for chunk in chunks), "")


@contextmanager
def preparing(
    source: str,
    bundle_name: str,
    output: str,
    top_k: TopK,
    console: Console,
    settings: RunSettings,
    compute: str | None = None,
    pictures: int | None = None,
    rules: Path | None = None,
) -> Iterator[Prepared]:
    """Do what a job begins with and needs no Ray; leave nothing behind if it ends in an error.

    A new job begins with what is listed of its input within `beside.GRACE`, and the rest follows.
    One that goes on waits for all of it, to see that what is done is still right.

    Args:
        pictures: only so many of the first, rounded up to whole chunks; None: all.
        rules: a TOML file of vocabulary rules; None: the bundle's own alone.

    Raises:
        TagloomError: the input, the bundle or the output is not as it must be.
    """
    started = time.monotonic()
    way = None if compute is None else _compute(compute)
    source = absolute(source)
    store = Store(output)
    check_apart(source, store)
    # Before anything is written there, and again when no other job can be at it.
    noted(store, JOB, Job)
    with (
        held(store, console) as lease,
        _tidy(store),
        listing(source, store, pictures) as beside,
    ):
        earlier = noted(store, JOB, Job)
        bundle = open_bundle(bundle_name, console)
        check_way(bundle, settings.index)
        if rules is not None:
            bundle = replace(bundle, rules=load_rules(rules))
        plan = everywhere(annotation_plan(bundle, top_k, compute=way), bundle)
        with console.waiting("listing the pictures"):
            chunks = beside.hold(GRACE if earlier is None else None)
        listed = time.time()
        totals = beside.totals
        job = Job(
            input=source,
            fingerprint=totals.fingerprint if totals else None,
            rows=totals.rows if totals else None,
            bundle=place_of(bundle),
            bundle_id=bundle.id,
            top_k=top_k,
            compute=way,
            vocabulary=None if rules is None else bundle.rules.model_dump_json(),
        )
        check_same(store, earlier, job)
        tally = finished(store)
        check_unchanged(store, tally.digests, chunks)
        store.write(JOB, job.model_dump_json(indent=1).encode())
        if tally.digests:
            console.say(f"going on: {len(tally.digests)} of {len(chunks)} parts are there")
        chunk = next((one for one in chunks if one.name not in tally.digests), None)
        early = None
        # Elsewhere the cluster has started already, and torch may want a GPU that Ray gives out.
        # And an index in shards may be too large for its process.
        may = not os.environ.get("RAY_ADDRESS") and not bundle.shard_maps
        if chunk and may and bundle.graph_for(way):
            limit = bundle.manifest.limits.max_bytes
            reads = reads_beside(settings, limit)
            early = Early(chunk, beside.make_part(plan, chunk, reads, store))
        times = (listed, started)
        yield Prepared(
            bundle, plan, store, console, job, beside, tally, early, *times, lease, settings
        )


def _compute(name: str) -> Compute:
    for known in get_args(Compute):
        if known == name:
            way: Compute = known
            return way
    raise ConfigError(f"there is no compute '{name}'; choose one of {', '.join(get_args(Compute))}")


@contextmanager
def _tidy(store: Store) -> Iterator[None]:
    """Leave nothing behind of a job that ends before it has begun; an empty folder goes with the
    lease."""
    try:
        yield
    except BaseException:
        store.remove(SCRATCH)
        raise
