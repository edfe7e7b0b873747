"""What `tagloom plan` foretells beside real jobs: by number of workers and of pictures.

    python -m benchmarks.plan --pictures 2000,6000,20000 --workers 1,2,4

The plan is measured once, by the command, on the middle size; nothing is fitted to the jobs that
follow. These run each in a process of its own, as the command does, on drawn pictures that are
repeated under ids of their own; their time is from the start of the process to its end. For more
workers than there are processors, Ray is told of as many CPUs as workers. Needs an idle machine:
the plan cannot know of other work on it. Prints Markdown; the last line is JSON, its ratios by
name.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.annotate import make_bundle
from benchmarks.scaling import sizes, table, write_pictures
from engine.sample import draw_picture
from jobs.forecast import Cluster, Plan
from jobs.measured import Measured
from jobs.plan import read_measured

DRAWN = 200
CORES = len(os.sched_getaffinity(0))
TARGET = 0.2

CHILD = """
import sys
from functools import partial
from jobs.beginning import beginning
from jobs.console import Console
from jobs.options import run_settings

source, bundle, output, workers, cpus = sys.argv[1:]

if __name__ == "__main__":
    settings = partial(run_settings, int(workers))
    asked = (source, bundle, output, "5", Console(quiet=True), settings)
    with beginning(*asked, cpus=int(cpus)) as job:
        job.run()
"""


def measure(source: Path, bundle: Path, sample: int, work: Path) -> Measured:
    """By the command, in a process of its own."""
    command = [sys.executable, "-m", "jobs", "plan", "--nodes", "1", "--quiet", "--pictures", "1e4"]
    command += ["--input", str(source), "--bundle", str(bundle), "--sample", str(sample)]
    command += ["--cpus-per-node", str(CORES)]
    text = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=work).stdout
    file = work / "plan.json"
    file.write_bytes(text)
    return read_measured(file)


def run_job(source: Path, bundle: Path, out: Path, workers: int) -> float:
    """Seconds of a real job."""
    script = out.with_suffix(".py")
    script.write_text(CHILD)
    numbers = (workers, max(workers, CORES))
    command = [sys.executable, *map(str, (script, source, bundle, out, *numbers))]
    path = os.pathsep.join((str(Path.cwd()), os.environ.get("PYTHONPATH", "")))
    began = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
    return time.perf_counter() - began


def main(
    pictures: Annotated[str, typer.Option(help="Sizes of jobs.")] = "2000,6000,20000",
    workers: Annotated[str, typer.Option(help="Workers of each.")] = "1,2,4",
    sample: Annotated[int, typer.Option(help="Pictures that the plan is measured on.")] = 1000,
    backbone: Annotated[str, typer.Option(help="Of the bundle.")] = "efficientnet-lite0",
    bundle: Annotated[Path | None, typer.Option(help="A fitted one; without: one is.")] = None,
) -> None:
    counts = sorted(sizes(pictures))
    rows, ratios = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        real = make_bundle(work, backbone) if bundle is None else bundle.absolute()
        drawn = [draw_picture(number, seed=5).jpeg for number in range(DRAWN)]
        for count in counts:
            write_pictures(work / f"{count}.parquet", count, drawn)
        measured = measure(work / f"{counts[len(counts) // 2]}.parquet", real, sample, work)
        print(measured.model_dump_json(), flush=True)
        for count in counts:
            for crew in sizes(workers):
                source, out = work / f"{count}.parquet", work / f"out-{count}-{crew}"
                seconds = run_job(source, real, out, crew)
                foretold = Plan(measured, Cluster(cpus=crew, cores=CORES)).forecast(count, 1)
                ratio = foretold.seconds / seconds
                ratios[f"foretold_over_real_{count}_{crew}"] = round(ratio, 3)
                rows.append(
                    (
                        f"{count:,}",
                        crew,
                        f"{foretold.seconds:.1f}",
                        f"{seconds:.1f}",
                        f"{ratio:.2f}",
                    )
                )
                print(rows[-1], file=sys.stderr, flush=True)
    print(table(("pictures", "workers", "foretold, s", "real, s", "foretold / real"), rows))
    apart = [abs(ratio - 1) for ratio in ratios.values()]
    found = ratios | {
        "median_apart": round(statistics.median(apart), 3),
        "most_apart": round(max(apart), 3),
        "within_20_per_cent": sum(one <= TARGET for one in apart),
        "jobs": len(apart),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
