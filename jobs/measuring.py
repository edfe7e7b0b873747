"""Measures what annotating costs: real jobs on a sample, by all workers and by one alone."""

import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.beginning import beginning
from jobs.console import Console
from jobs.measured import Measured, timing
from jobs.options import run_settings
from jobs.scratch import scratch_beside
from jobs.store import Store, absolute, open_fs
from jobs.work import BESIDE, Diary

if TYPE_CHECKING:
    from jobs.chunks import Chunk

A_PICTURE = 2
"""Requests for a picture that is an object of its own: s3fs asks for its size, then for it."""

A_CHUNK = 5
"""Requests for a chunk of a large file, estimated: size, footer, two reads, and one to write."""

LISTED = 20_000
"""Rows of the input that are listed, at least, to see how long that takes."""

_FEW, _MANY = 40, 200
"""Chunks of which nothing is done but to hand them out: the driver's share is the difference."""


@dataclass(frozen=True)
class _Run:
    """What a job on the sample left to be looked at."""

    diary: Diary
    bundle_id: str
    pixels: int
    max_bytes: int


def measure(
    source: str, bundle: str, pictures: int, workers: int, console: Console, began: float
) -> Measured:
    """Annotate a sample, into a folder that is removed again.

    Args:
        pictures: of the first, rounded up to whole chunks.
        workers: at most; then it is done again by one.
        began: Unix time at which the command began.

    Raises:
        TagloomError: as `jobs.annotate.annotate` does.
    """
    from jobs.session import ray_session

    with scratch_beside(Path("annotated")) as work:
        console.say(f"measuring on some {pictures:,} pictures, {workers} workers at the most")
        first = _annotate(source, bundle, f"{work}/first", pictures, workers, began, console)
        ended = time.time()
        diaries = [first.diary]
        with ray_session():
            if workers > 1:
                console.say("measuring one worker alone")
                again = _annotate(source, bundle, f"{work}/alone", pictures, 1, None, console)
                diaries.append(again.diary)
            driver = _driver_seconds()
        listed, chunk = _listing(source, Store(f"{work}/listing"))
        read, requests = _reading(chunk, first.max_bytes)
        parts = list((Path(work) / "first").glob("part-*.parquet"))
        rows = sum(pq.read_metadata(part).num_rows for part in parts)
        written = sum(part.stat().st_size for part in parts) / rows
    marks = dict(first.diary.marks)
    asked = marks["starting Ray"]
    works = first.diary.works
    found = timing(asked, diaries)
    return Measured(
        input=absolute(source),
        bundle_id=first.bundle_id,
        pictures=found.pictures,
        workers=found.workers,
        parts=found.parts,
        contention=found.contention,
        spread=found.spread,
        gap=found.gap,
        driver=driver,
        before=_idle_command_seconds() + asked - began,
        waiting=found.waiting,
        start=found.start,
        after=max(0.0, ended - max(one.ended for one in works)),
        early=sum(one.rows for one in works if one.worker == BESIDE),
        read=read,
        written=written,
        requests=requests,
        requests_a_chunk=1 if requests else A_CHUNK,
        pixels=first.pixels,
        listed=listed,
    )


def _annotate(
    source: str,
    bundle: str,
    output: str,
    pictures: int,
    workers: int,
    began: float | None,
    console: Console,
) -> _Run:
    diary = Diary(began, keeps=True)
    settings = partial(run_settings, workers)
    # As the command that is measured begins.
    with beginning(source, bundle, output, "5", console, settings, pictures=pictures) as job:
        job.run(diary=diary)
        manifest = job.bundle.manifest
        return _Run(
            diary,
            job.bundle.id,
            manifest.backbone.geometry.size**2 * 3,
            manifest.limits.max_bytes,
        )


def _idle_command_seconds() -> float:
    """Of a command that does nothing: the interpreter's start and end, and imports between them.

    The command that measures begins to count behind its own start, and cannot see its end.
    """
    began = time.perf_counter()
    command = [sys.executable, "-m", "jobs", "plan", "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _driver_seconds() -> float:
    """CPU seconds of this process for a chunk, of which nothing is done but to hand it out."""
    few, many = _handing_out(_FEW), _handing_out(_MANY)
    return max(1e-6, (many - few) / (_MANY - _FEW))


def _handing_out(chunks: int) -> float:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    from jobs.datasets import be_quiet

    be_quiet(DataContext.get_current())
    began = time.process_time()
    rows = [{"chunk": str(number)} for number in range(chunks)]
    dataset = ray.data.from_items(rows, override_num_blocks=chunks).map_batches(
        _Idle,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=1),
        num_cpus=1,
    )
    assert sum(1 for _ in dataset.iter_rows()) == chunks
    return time.process_time() - began


class _Idle:
    def __call__(self, block: pa.Table) -> pa.Table:
        return block


def _listing(source: str, store: Store) -> tuple[float, "Chunk"]:
    """Pictures a second that an input is listed at, judged by its first, and its first chunk."""
    from jobs.chunks import Chunk, Totals
    from jobs.source import list_chunks

    began = time.perf_counter()
    *chunks, totals = list_chunks(source, store, is_corpus=False, most=LISTED)
    assert isinstance(chunks[0], Chunk)
    assert isinstance(totals, Totals)
    return totals.rows / (time.perf_counter() - began), chunks[0]


def _reading(chunk: "Chunk", max_bytes: int) -> tuple[float, float]:
    """Bytes a picture, and how many requests it takes to have one."""
    from engine import schema
    from jobs.columns import parquet_roles
    from jobs.reading import read_chunk

    table = pa.concat_tables(list(read_chunk(chunk, chunk.rows, max_bytes)))
    sizes = pc.binary_length(table.column(schema.BYTES))
    read = (pc.sum(sizes).as_py() or 0) / chunk.rows
    is_apart = chunk.form == "listing"
    if chunk.form == "parquet":
        fs, path = open_fs(chunk.shard)
        with fs.open(path, "rb") as file:
            roles = parquet_roles(chunk.shard, pq.read_schema(file))
        is_apart = not roles.data and not roles.image
    return read, A_PICTURE if is_apart else 0
