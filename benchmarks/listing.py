"""Seconds to a job's first written row while the store still lists 200,000 objects.

    python -m benchmarks.listing [--objects 200000]

The store is moto's S3 server on loopback, filled beforehand with drawn pictures, each stored under
many keys. The job runs as the command does, in its own process, and is stopped once its input is
listed to the end. The last line is JSON.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from benchmarks.annotate import make_bundle
from engine.sample import draw_picture

BUCKET = "pictures"
ACCOUNT = "123456789012"
ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


def fill(objects: int) -> None:
    """Put drawn pictures into the store that the server of this process serves."""
    backend = s3_backends[ACCOUNT]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    drawn = [draw_picture(index, seed=1).jpeg for index in range(100)]
    for number in range(objects):
        backend.put_object(BUCKET, f"in/{number:07d}.jpg", drawn[number % len(drawn)])


def main(
    objects: Annotated[int, typer.Option(min=2000, help="Keys below the prefix.")] = 200_000,
    backbone: Annotated[str, typer.Option(help="Of the bundle.")] = "efficientnet-lite0",
    most: Annotated[float, typer.Option(help="Seconds after which to give up.")] = 600.0,
) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    fill(objects)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        bundle = make_bundle(place, backbone)
        host, port = server.get_host_and_port()
        environment = {**os.environ, **ACCESS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        out = place / "out"
        command = [sys.executable, "-m", "jobs", "annotate", "--quiet", "--bundle", str(bundle)]
        command += ["--input", f"s3://{BUCKET}/in", "--output", str(out)]
        began = time.time()
        first = listed = None
        with subprocess.Popen(command, env=environment, start_new_session=True) as job:
            while listed is None and job.poll() is None and time.time() - began < most:
                time.sleep(0.1)
                if first is None and any(out.glob("part-*.parquet")):
                    first = time.time() - began
                if (out / "job.json").exists():
                    is_listed = json.loads((out / "job.json").read_text())["rows"] is not None
                    listed = time.time() - began if is_listed else None
            os.killpg(job.pid, signal.SIGKILL)
        if first is None:
            raise SystemExit("the job wrote no part")
        written = sum(pq.read_metadata(part).num_rows for part in out.glob("part-*.parquet"))
    server.stop()
    print(f"first part after {first:.1f} s, {written:,} rows written when the listing ended")
    print(f"the listing of {objects:,} objects took " + (f"{listed:.1f} s" if listed else "longer"))
    figures = {
        "first_row_seconds": round(first, 1),
        "listed_seconds": listed and round(listed, 1),
        "first_row_over_listing": listed and round(first / listed, 3),
    }
    print(json.dumps({"objects": objects, "backbone": backbone, **figures}))


if __name__ == "__main__":
    typer.run(main)
