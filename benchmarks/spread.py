"""The moments of an embedded corpus on Ray Data: memory as the corpus grows, and the same sum.

    python -m benchmarks.spread --small 20000 --large 200000

Writes parts as `tagloom fit` embeds them (numbers drawn with a seed instead of pictures), and adds
the moments of CCA's two views up from them, as that job does. Each size has a process of its own;
memory is the proportional set size of that driver and of all that Ray started, looked at ten times
a second, less what they held before. The sum is compared with a plain loop over the same numbers,
whose time is that of one thread. The last line is JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from scipy import sparse

from benchmarks.scaling import pss
from engine import schema
from engine.cca_space import Views
from engine.corpus import Corpus
from jobs.chunks import Chunk, Inventory
from jobs.session import ray_session
from jobs.sink import write_part
from jobs.spread import EmbeddingFile, PartSpread
from jobs.store import Store

PART = 1024
TAGS = 100


def written(store: Store, rows: int, d: int) -> Corpus:
    """Parts on disk, and the corpus that is made of them."""
    rng = np.random.default_rng(0)
    embeddings = EmbeddingFile(store.path("embeddings.float32"))
    chunks, ids, tags = [], [], []
    for number, start in enumerate(range(0, rows, PART)):
        size = min(PART, rows - start)
        values_BD = rng.standard_normal((size, d), dtype=np.float32)
        names = [str(row) for row in range(start, start + size)]
        table = pa.table(
            {
                schema.IMAGE_ID: names,
                schema.ERROR: pa.nulls(size, pa.string()),
                schema.EMBEDDING: schema.tensor_column(values_BD),
            }
        )
        chunks.append(Chunk(f"{number:06d}", "listing", "x", start, size))
        write_part(store, chunks[-1], table)
        embeddings.append(values_BD)
        ids += names
        tags.append(rng.integers(0, TAGS, size))
    ones = np.ones(rows, dtype=np.float32)
    labels_NV = sparse.csr_matrix(
        (ones, np.concatenate(tags), np.arange(rows + 1)), shape=(rows, TAGS)
    )
    spread = PartSpread(store, Inventory(tuple(chunks), rows, "made up"))
    return Corpus(tuple(ids), embeddings.mapped(), labels_NV, (d,), None, spread)


def child(rows: int, d: int, e: int) -> None:
    vectors_VE = np.random.default_rng(1).standard_normal((TAGS, e)).astype(np.float32)
    views = Views((d,), vectors_VE)
    with tempfile.TemporaryDirectory() as work, ray_session():
        corpus = written(Store(work), rows, d)
        corpus.subset(np.arange(64)).add_up(views)
        held = pss(os.getpid())
        peak = held
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.1):
                peak = max(peak, pss(os.getpid()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        spread = corpus.add_up(views)
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
        alone = Corpus(corpus.ids, corpus.embeddings_ND, corpus.labels_NV, corpus.levels)
        started = time.perf_counter()
        looped = alone.add_up(views)
        loop = time.perf_counter() - started
    apart = np.abs(spread.xx_DD - looped.xx_DD).max() / np.abs(looped.xx_DD).max()
    found = {"seconds": seconds, "loop": loop, "mib": peak - held, "apart": float(apart)}
    print(json.dumps(found))


def main(
    small: Annotated[int, typer.Option(help="Pictures of the smaller corpus.")] = 20_000,
    large: Annotated[int, typer.Option(help="Pictures of the larger corpus.")] = 200_000,
    d: Annotated[int, typer.Option(help="Features of a picture.")] = 1280,
    e: Annotated[int, typer.Option(help="Width of the tag vectors.")] = 300,
) -> None:
    found = {}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for rows in (small, large):
        command = [sys.executable, "-m", "benchmarks.spread", "--child", *map(str, (rows, d, e))]
        text = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout
        found[rows] = json.loads(text.splitlines()[-1])
        one = found[rows]
        print(
            f"{rows:9,} x {d}: {one['seconds']:.1f} s on Ray Data, {one['loop']:.1f} s in a loop; "
            f"{one['mib']:.0f} MiB more than before; apart by {one['apart']:.1e}",
            flush=True,
        )
    ratios = {
        "memory_large_over_small": round(found[large]["mib"] / found[small]["mib"], 3),
        "memory_over_embeddings": round(found[large]["mib"] / (large * d * 4 / 2**20), 3),
        "loop_over_ray": round(found[large]["loop"] / found[large]["seconds"], 3),
        "sums_apart": found[large]["apart"],
        "small": small,
        "large": large,
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*map(int, sys.argv[2:]))
    else:
        typer.run(main)
