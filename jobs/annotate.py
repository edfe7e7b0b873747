"""`tagloom annotate`: pictures and a bundle in, their tags as Parquet out, every row accounted."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from engine import pretrained
from engine.bundle import Bundle, load_bundle
from engine.cut import TopK
from engine.errors import ConfigError, CorpusError
from engine.plan import annotation_plan
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.runner import RunSettings, in_worker, ray_session, run_plan
from jobs.sink import finished_parts
from jobs.source import SCRATCH, take_inventory
from jobs.store import Store, absolute

JOB = "job.json"
MANIFEST = "manifest.json"


class Job(BaseModel):
    """What makes two runs the same job; a run may go on only with the same one's output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str
    fingerprint: str
    rows: int
    bundle: str
    bundle_id: str
    top_k: TopK


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
    if name == pretrained.NAME and not folder.exists():
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
) -> Account:
    """Annotate every picture of an input, going on with an earlier run of the same job.

    Raises:
        TagloomError: the input, the bundle or the output is not as it must be, or more than the
            share `max_failed` of the pictures failed.
    """
    bundle = open_bundle(bundle_name, console)
    plan = annotation_plan(bundle, top_k)
    source = absolute(source)
    store = Store(output)
    _check_apart(source, store)
    earlier = _earlier_job(store)
    started = time.monotonic()
    with ray_session(), _tidy(store):
        with console.waiting("listing the pictures"):
            inventory = in_worker(take_inventory, source, store, is_corpus=False)
        assert isinstance(inventory, Inventory)
        job = Job(
            input=source,
            fingerprint=inventory.fingerprint,
            rows=inventory.rows,
            bundle=str(bundle.folder),
            bundle_id=bundle.id,
            top_k=top_k,
        )
        _check_same(store, earlier, job)
        store.write(JOB, job.model_dump_json(indent=1).encode())
        store.sweep()
        receipts = {receipt.chunk: receipt for receipt in finished_parts(store)}
        if receipts:
            console.say(f"going on: {len(receipts)} of {len(inventory.chunks)} parts are there")
        done_before = sum(receipt.rows for receipt in receipts.values())
        failed = sum(receipt.failed for receipt in receipts.values())
        with console.progress("annotating", inventory.rows) as advance:
            advance(done_before)
            limit = bundle.manifest.limits.max_bytes
            for receipt in run_plan(
                plan, inventory, frozenset(receipts), store, settings or RunSettings(), limit
            ):
                receipts[receipt.chunk] = receipt
                failed += receipt.failed
                if failed > max_failed * inventory.rows:
                    raise CorpusError(
                        f"{source}: {failed:,} of {inventory.rows:,} pictures failed, more than "
                        f"--max-failed {max_failed} allows; the parts written so far are in "
                        f"{output}, and the same command with a higher limit goes on from them"
                    )
                advance(receipt.rows)
        store.remove(SCRATCH)
    errors: Counter[str] = Counter()
    for receipt in receipts.values():
        errors.update(receipt.errors)
    rows = sum(receipt.rows for receipt in receipts.values())
    assert rows == inventory.rows, (rows, inventory.rows)
    seconds = time.monotonic() - started
    account = Account(
        rows=rows,
        tagged=rows - errors.total(),
        failed=errors.total(),
        errors=dict(sorted(errors.items())),
        ignored_files=inventory.ignored,
        parts=len(receipts),
        bundle_id=bundle.id,
        input=source,
        top_k=top_k,
        seconds=round(seconds, 2),
        pictures_per_second=round((rows - done_before) / seconds, 2),
    )
    store.write(MANIFEST, account.model_dump_json(indent=1).encode())
    return account


def _earlier_job(store: Store) -> Job | None:
    """The job whose output is in the store, if any is.

    Raises:
        ConfigError: something else is there.
    """
    if store.is_file(JOB):
        try:
            return Job.model_validate_json(store.read(JOB))
        except ValidationError as error:
            raise ConfigError(
                f"{store.url}: its {JOB} is not of this version; name another output"
            ) from error
    if store.names():
        raise ConfigError(
            f"{store.url}: is not empty and holds no job of this program; name a new or an empty "
            "folder, or the output of an earlier run of the same job"
        )
    return None


def _check_same(store: Store, earlier: Job | None, job: Job) -> None:
    if earlier is None:
        return
    before, now = earlier.model_dump(), job.model_dump()
    changed = {name for name in now if before[name] != now[name]} - {"bundle"}
    if changed:
        listed = ", ".join(
            f"{name} was {json.dumps(before[name])} and is {json.dumps(now[name])}"
            for name in sorted(changed)
        )
        raise ConfigError(
            f"{store.url}: holds the output of a different job ({listed}); name another output, "
            "or run the same job again to go on with it"
        )


def _check_apart(source: str, store: Store) -> None:
    if f"{store.url}/".startswith(f"{source}/"):
        raise ConfigError(
            f"{store.url}: lies within the input {source}, which would change by it; name an "
            "output elsewhere"
        )


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
