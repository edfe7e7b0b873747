"""A million rows that name pictures, most of which are not there: each accounted for, little held.

    python -m benchmarks.uris [--rows 1000000] [--there 0.01]

The addresses are paths on this machine, one in a hundred of them of a drawn picture. The job runs
as the command does, in a process of its own, whose resident memory is looked at five times a
second. The last line is JSON.
"""

import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from benchmarks.annotate import make_bundle
from benchmarks.driver_memory import peak_of_driver
from engine.sample import draw_picture

GROUP = 16_384
DRAWN = 100


def write_rows(work: Path, rows: int, there: float) -> tuple[Path, int]:
    """A Parquet file of addresses, and how many of them lead to a picture."""
    pictures = []
    for index in range(DRAWN):
        pictures.append(str(work / f"{index}.jpg"))
        Path(pictures[-1]).write_bytes(draw_picture(index, seed=1).jpeg)
    is_there = np.random.default_rng(0).random(rows) < there
    path = work / "in.parquet"
    columns = pa.schema([("id", pa.int64()), ("uri", pa.string())])
    with pq.ParquetWriter(path, columns) as writer:
        for start in range(0, rows, GROUP):
            numbers = range(start, min(start + GROUP, rows))
            uris = [
                pictures[number % DRAWN] if is_there[number] else f"{work}/missing/{number}.jpg"
                for number in numbers
            ]
            writer.write_table(pa.table([pa.array(numbers), uris], schema=columns))
    return path, int(is_there.sum())


def main(
    rows: Annotated[int, typer.Option(min=1000, help="Rows of the input.")] = 1_000_000,
    there: Annotated[float, typer.Option(min=0, max=1, help="Share that can be read.")] = 0.01,
    backbone: Annotated[str, typer.Option(help="Of the bundle.")] = "efficientnet-lite0",
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bundle = make_bundle(work, backbone)
        source, readable = write_rows(work, rows, there)
        out = work / "out"
        began = time.monotonic()
        peak = peak_of_driver(source, bundle, out)
        seconds = time.monotonic() - began
        account = json.loads((out / "manifest.json").read_text())
        seen = np.zeros(rows, dtype=np.int64)
        errors: Counter[str] = Counter()
        for part in sorted(out.glob("part-*.parquet")):
            table = pq.read_table(part, columns=["image_id", "error"])
            np.add.at(seen, np.array(table.column("image_id").to_pylist(), dtype=np.int64), 1)
            errors.update(filter(None, table.column("error").to_pylist()))
    is_accounted = bool((seen == 1).all()) and account["errors"] == dict(errors)
    is_accounted &= account["rows"] == rows and account["tagged"] == readable
    print(f"{rows:,} rows in {seconds:.0f} s: {readable:,} tagged, {dict(errors)}")
    print(f"every row once: {is_accounted}; the driver's peak is {peak:,.0f} MiB")
    figures = {
        "every_row_once": is_accounted,
        "driver_peak_mib": round(peak),
        "driver_over_1500_mib": round(peak / 1500, 3),
        "rows_per_second": round(rows / seconds),
    }
    print(json.dumps({"rows": rows, "readable": readable, "backbone": backbone, **figures}))


if __name__ == "__main__":
    typer.run(main)
