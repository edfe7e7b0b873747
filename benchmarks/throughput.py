"""The annotate job beside a plain loop over the same files: pictures a second, in one run.

    python benchmarks/throughput.py --pictures 1500 --rounds 3

Both decode, resize and embed with the same backbone and compute; the job also scores, fuses and
writes. The loop is one process with as many threads as the job has workers, and with one thread.
Start-up is reported by itself. The last line is JSON, its ratios by name.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from engine.bundle import Bundle, load_bundle
from engine.config import load_config
from engine.embed import backbone, load_embedder
from engine.geometry import fit_to
from engine.image import decode
from engine.plan import annotation_plan
from jobs.console import Console
from jobs.corpus import draw_corpus
from jobs.fit import fit
from jobs.runner import RunSettings, run_plan
from jobs.session import ray_session
from jobs.source import take_inventory
from jobs.store import Store

BATCH = 32


def plain_loop(folder: Path, bundle: Bundle, threads: int) -> float:
    """Pictures a second of the loop that one would write first."""
    entry, limits = bundle.manifest.backbone, bundle.manifest.limits
    embedder = load_embedder(backbone(entry.name), entry.compute, threads)
    size = entry.geometry.size
    embedder(np.zeros((BATCH, size, size, 3), dtype=np.uint8))
    paths = sorted(folder.glob("*.jpg"))
    started = time.perf_counter()
    for start in range(0, len(paths), BATCH):
        pictures = [
            fit_to(decode(path.read_bytes(), limits), entry.geometry)
            for path in paths[start : start + BATCH]
        ]
        embedder(np.stack(pictures))
    return len(paths) / (time.perf_counter() - started)


def whole_job(folder: Path, bundle: Bundle, out: Path, workers: int) -> tuple[float, float]:
    """Pictures a second from the first written part to the last, and seconds to the first."""
    store = Store(str(out))
    plan = annotation_plan(bundle, 5)
    started = time.perf_counter()
    inventory = take_inventory(str(folder), store, is_corpus=False)
    times, rows = [], []
    settings = RunSettings(workers=workers)
    limit = bundle.manifest.limits.max_bytes
    for receipt in run_plan(plan, inventory, frozenset(), store, settings, limit):
        times.append(time.perf_counter())
        rows.append(receipt.rows)
    # The first part of every worker holds its start-up.
    steady = sum(rows[workers:]) / (times[-1] - times[workers - 1])
    return steady, times[0] - started


def main(
    pictures: Annotated[int, typer.Option(help="Pictures to annotate.")] = 1500,
    rounds: Annotated[int, typer.Option(help="Times that each way is measured, in turn.")] = 3,
    name: Annotated[str, typer.Option(help="The backbone.")] = "efficientnet-lite0",
) -> None:
    workers = len(os.sched_getaffinity(0))
    quiet = Console(quiet=True)
    found: dict[str, list[float]] = {"job": [], "loop": [], "loop, one thread": [], "start": []}
    with tempfile.TemporaryDirectory() as work, ray_session():
        place = Path(work)
        draw_corpus(place / "corpus", 300, 1, quiet)
        draw_corpus(place / "pictures", pictures, 2, quiet)
        fit(
            str(place / "corpus"),
            place / "bundle",
            load_config(None, [f"embed.backbone={name}"]),
            quiet,
        )
        bundle = load_bundle(place / "bundle")
        images = place / "pictures" / "images"
        for number in range(rounds):
            found["loop"].append(plain_loop(images, bundle, workers))
            found["loop, one thread"].append(plain_loop(images, bundle, 1))
            steady, start = whole_job(images, bundle, place / f"out{number}", workers)
            found["job"].append(steady)
            found["start"].append(start)
    for way, values in found.items():
        unit = "s to the first part" if way == "start" else "pictures/s"
        print(
            f"{way:18s} median {statistics.median(values):7.1f} "
            f"({min(values):.1f} to {max(values):.1f}) {unit}"
        )
    best = max(statistics.median(found["loop"]), statistics.median(found["loop, one thread"]))
    ratios = {
        "job_over_loop": round(statistics.median(found["job"]) / best, 3),
        "pictures": pictures,
        "backbone": name,
        "workers": workers,
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    typer.run(main)
