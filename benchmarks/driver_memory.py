"""The driver's memory with 20,000 pictures beside 2,000: it must not grow with their number.

    python benchmarks/driver_memory.py

Each job runs in a process of its own, with the seeded test backbone, for the pictures' number is
what counts here. The last line is JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer

from engine.config import load_config
from jobs.console import Console
from jobs.corpus import draw_corpus
from jobs.fit import fit
from jobs.session import ray_session


def peak_of_driver(pictures: Path, bundle: Path, out: Path) -> float:
    """Largest resident memory of the job's own process, in MiB."""
    command = [sys.executable, "-m", "jobs", "annotate", "--quiet"]
    command += ["--input", str(pictures), "--bundle", str(bundle), "--output", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        driver = psutil.Process(process.pid)
        peak = 0
        finished = threading.Event()
        threading.Thread(target=lambda: (process.wait(), finished.set()), daemon=True).start()
        while not finished.wait(0.2):
            try:
                peak = max(peak, driver.memory_info().rss)
            except psutil.NoSuchProcess:
                break
    if process.returncode:
        raise SystemExit(f"the job failed with exit code {process.returncode}")
    return peak / 2**20


def main(
    small: Annotated[int, typer.Option(help="Pictures of the smaller job.")] = 2_000,
    large: Annotated[int, typer.Option(help="Pictures of the larger job.")] = 20_000,
) -> None:
    quiet = Console(quiet=True)
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        draw_corpus(place / "corpus", 200, 1, quiet)
        config = load_config(None, ["embed.backbone=random"])
        with ray_session():
            fit(str(place / "corpus"), place / "bundle", config, quiet)
        drawn = sorted((place / "corpus" / "images").iterdir())
        peaks = {}
        for count in (small, large):
            folder = place / f"pictures{count}"
            folder.mkdir()
            for number in range(count):
                os.link(drawn[number % len(drawn)], folder / f"{number:06d}.jpg")
            started = time.monotonic()
            peaks[count] = peak_of_driver(folder, place / "bundle", place / f"out{count}")
            seconds = time.monotonic() - started
            print(f"{count:7,} pictures: driver's peak {peaks[count]:.0f} MiB, {seconds:.0f} s")
    ratio = round(peaks[large] / peaks[small], 3)
    print(json.dumps({"driver_memory_large_over_small": ratio, "small": small, "large": large}))


if __name__ == "__main__":
    typer.run(main)
