"""How rate and memory hold as jobs, vocabularies and indexes grow.

    python -m benchmarks.scaling --pictures 1000,10000,100000 --vocabularies 100,1000,20000 \\
        --indexes 10000,100000,1000000

The pictures are drawn once, and repeated under ids of their own in one Parquet file. Jobs run as
the command does, each in its own process; memory is the proportional set size (PSS) summed over
that process and all its children, looked at every half a second. Bundles of a given vocabulary or
index are made of random numbers around a real one's backbone: what they answer means nothing, what
it costs does. Prints Markdown; the last line is JSON.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from benchmarks.annotate import make_bundle
from benchmarks.events import Run, measure
from benchmarks.made_up import bundle_with
from engine import schema
from engine.bundle import load_bundle
from engine.plan import annotation_plan
from engine.sample import draw_picture

DRAWN = 200
BATCH = 32


def write_pictures(file: Path, rows: int, drawn: Sequence[bytes]) -> None:
    """`rows` rows of drawn pictures in row groups of 1,024."""
    columns = pa.schema([(schema.IMAGE_ID, pa.string()), (schema.BYTES, pa.binary())])
    with pq.ParquetWriter(file, columns, compression="none") as writer:
        for start in range(0, rows, 1024):
            numbers = range(start, min(start + 1024, rows))
            data = [drawn[number % len(drawn)] for number in numbers]
            ids = [f"{number:09d}" for number in numbers]
            writer.write_table(pa.table([ids, data], schema=columns))


def job(source: Path, bundle: Path, out: Path, workers: int) -> tuple[Run, float]:
    """Run the command; its rate, and the peak of all its processes' memory in MiB."""
    command = [sys.executable, "-m", "jobs", "annotate", "--quiet", "--workers", str(workers)]
    command += ["--input", str(source), "--bundle", str(bundle), "--output", str(out)]
    began = time.time()
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        finished = threading.Event()
        threading.Thread(target=lambda: (process.wait(), finished.set()), daemon=True).start()
        while not finished.wait(0.5):
            peak = max(peak, pss(process.pid))
    if process.returncode:
        raise SystemExit(f"the job failed with exit code {process.returncode}")
    parts = list(out.glob("part-*.parquet"))
    run = measure(
        [(p.stat().st_mtime, pq.read_metadata(p).num_rows) for p in parts], began, workers
    )
    return run, peak


def pss(pid: int) -> float:
    """Proportional set size of a process and all below it, in MiB."""
    total = 0
    try:
        root = psutil.Process(pid)
        crew = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in crew:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


def cost_of_stages(bundle: Path, drawn: Sequence[bytes], batches: int) -> tuple[float, float]:
    """Milliseconds a picture: of the whole way in one process, and of what follows embedding."""
    workers = annotation_plan(load_bundle(bundle), 5).workers()
    data = [drawn[number % len(drawn)] for number in range(BATCH)]
    ids = [str(number) for number in range(BATCH)]
    batch = pa.table({schema.IMAGE_ID: ids, schema.BYTES: data})
    workers(batch)
    before = workers.seconds
    for _ in range(batches):
        workers(batch)
    spent = {name: seconds - before[name] for name, seconds in workers.seconds.items()}
    after = sum(s for name, s in spent.items() if name not in ("decode", "resize", "embed"))
    each = 1000 / (batches * BATCH)
    return sum(spent.values()) * each, after * each


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def scale_jobs(
    counts: Sequence[int], workers: Sequence[int], bundle: Path, work: Path, drawn: Sequence[bytes]
) -> dict[str, float]:
    """Rate and memory by the number of pictures and of workers."""
    rows, found = [], {}
    for count in counts:
        source = work / f"{count}.parquet"
        write_pictures(source, count, drawn)
        for crew in workers:
            run, peak = job(source, bundle, work / f"out-{count}-{crew}", crew)
            rows.append(
                (f"{count:,}", crew, f"{run.steady:.1f}", f"{run.first:.1f}", f"{peak:.0f}")
            )
            found[f"rate_{count}_{crew}"] = run.steady
            found[f"peak_{count}_{crew}"] = peak
        source.unlink()
    headings = ("pictures", "workers", "pictures/s, steady", "s to the first row", "peak PSS, MiB")
    print(table(headings, rows))
    return found | job_ratios(found, counts, workers)


def job_ratios(
    found: Mapping[str, float], counts: Sequence[int], workers: Sequence[int]
) -> dict[str, float]:
    """The largest job over the next smaller one, with the most workers."""
    if len(counts) < 2:
        return {}
    (small, large), crew = sorted(counts)[-2:], max(workers)
    return {
        "rate_largest_over_next": found[f"rate_{large}_{crew}"] / found[f"rate_{small}_{crew}"],
        "peak_largest_over_next": found[f"peak_{large}_{crew}"] / found[f"peak_{small}_{crew}"],
    }


def scale_bundles(
    what: str,
    counts: Sequence[int],
    make: Callable[[int], Path],
    drawn: Sequence[bytes],
    batches: int,
) -> dict[str, float]:
    """Cost of a picture by the size of something in the bundle."""
    found, rows = {}, []
    for count in counts:
        whole, after = cost_of_stages(make(count), drawn, batches)
        rows.append((f"{count:,}", f"{whole:.2f}", f"{after:.2f}"))
        found[f"{what}_{count}_ms"] = whole
        found[f"{what}_{count}_after_embedding_ms"] = after
    print(table((what, "ms a picture", "of it after embedding"), rows))
    if len(counts) > 1:
        least, most = min(counts), max(counts)
        found[f"{what}_{most}_over_{least}"] = (
            found[f"{what}_{most}_ms"] / found[f"{what}_{least}_ms"]
        )
    return found


def main(
    pictures: Annotated[str, typer.Option(help="Sizes of jobs.")] = "1000,10000,100000",
    workers: Annotated[str, typer.Option(help="Workers of each.")] = "1,2",
    vocabularies: Annotated[str, typer.Option(help="Tags.")] = "100,1000,20000",
    indexes: Annotated[str, typer.Option(help="Training pictures.")] = "10000,100000,1000000",
    batches: Annotated[int, typer.Option(help="Timed batches a bundle.")] = 20,
    backbone: Annotated[str, typer.Option(help="Of all the bundles.")] = "efficientnet-lite0",
    bundle: Annotated[Path | None, typer.Option(help="A fitted one; without: one is.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        real = make_bundle(work, backbone) if bundle is None else bundle.absolute()
        drawn = [draw_picture(number, seed=5).jpeg for number in range(DRAWN)]
        found = scale_jobs(sizes(pictures), sizes(workers), real, work, drawn)
        found |= scale_bundles(
            "vocabulary",
            sizes(vocabularies),
            lambda tags: bundle_with(real, work / f"v{tags}", tags=tags, pictures=20_000),
            drawn,
            batches,
        )
        found |= scale_bundles(
            "index",
            sizes(indexes),
            lambda count: bundle_with(real, work / f"i{count}", tags=260, pictures=count),
            drawn,
            batches,
        )
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    typer.run(main)
