"""An index in shards, merged in one process and fanned out over actors, in one run.

    python -m benchmarks.index_fanout --vectors 1000000 --shards 8 --actors 2

The vectors are those of `benchmarks.index`. They lie in Parquet parts, from which Ray's workers
build the shards; the process that starts them looks at the shards in their files. Then one actor
that merges the shards and one that asks others answer the same queries in turn. Memory is each
process's peak, what the system says it shares taken in part (PSS), and of that what no file stands
behind. The last line is JSON, its ratios by name.
"""

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import typer
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.index import Mixture, as_kind
from engine import schema
from engine.corpus import Corpus
from engine.index import IndexWish, ShardedIndex, load_index, load_map, save_index, spell_memory
from engine.index.exact import Found, nearest_in_blocks
from engine.indexing import ProjectedCorpus
from jobs.fanout import RayShards, hold_shards, wait_for
from jobs.index import IndexingGroup
from jobs.session import ray_session

PART = 25_000
NEAREST = 1000


def as_it_is(embeddings_BD: NDArray[np.float32], _: sparse.csr_matrix) -> NDArray[np.float32]:
    """The embeddings are the vectors."""
    return embeddings_BD


@dataclass
class Peaks:
    """The largest memory of this process and of Ray's workers, by what they do; in bytes."""

    pss: dict[str, int] = field(default_factory=dict)
    anonymous: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            try:
                name = "driver" if process == me else process.name().partition(".")[0]
                if name != "driver" and not name.startswith("ray::"):
                    continue
                memory, rollup = process.memory_full_info().pss, 0
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss_Anon:"):
                        rollup = int(line.split()[1]) * 1024
            except (psutil.Error, OSError):
                continue
            self.pss[name] = max(self.pss.get(name, 0), memory)
            self.anonymous[name] = max(self.anonymous.get(name, 0), rollup)


@contextmanager
def watched() -> Iterator[Peaks]:
    """Look at all the processes ten times a second."""
    peaks, done = Peaks(), threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peaks.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


class Asker:
    """A worker that has an index merged, or asks those who hold its shards."""

    def __init__(self, folder: Path, shards: RayShards | None) -> None:
        threadpool_limits(1)
        if shards is None:
            self._index = load_index(folder)
        else:
            shard_map = load_map(folder)
            assert shard_map is not None
            self._index = ShardedIndex(shard_map, shards)

    def ask(self, queries_QL: NDArray[np.float32], batch: int) -> tuple[Found, float]:
        """What is found for all the queries, a batch at a time, and the seconds it took."""
        began = time.perf_counter()
        found = [
            self._index.search(queries_QL[start : start + batch], NEAREST)
            for start in range(0, len(queries_QL), batch)
        ]
        seconds = time.perf_counter() - began
        similarities, rows = zip(*found, strict=True)
        return (np.concatenate(similarities), np.concatenate(rows)), seconds


class MergedAsker(Asker):
    """By its own name, so that its memory can be told apart."""


class FannedOutAsker(Asker):
    """The same."""


def written(folder: Path, vectors: int, width: int, mixture: Mixture) -> Corpus:
    """A corpus whose embeddings lie in a file, and in Parquet parts beside it."""
    path = folder / "vectors.npy"
    stored_NL = np.lib.format.open_memmap(path, "w+", np.float32, (vectors, width))
    mixture.fill(stored_NL, 2)
    stored_NL.flush()
    del stored_NL
    embeddings_NL = np.load(path, mmap_mode="r")
    ids = tuple(f"{row:09d}" for row in range(vectors))
    for start in range(0, vectors, PART):
        block_BL = np.ascontiguousarray(embeddings_NL[start : start + PART])
        columns = {
            schema.IMAGE_ID: list(ids[start : start + PART]),
            schema.EMBEDDING: schema.tensor_column(block_BL),
        }
        pq.write_table(pa.table(columns), folder / f"part-{start:09d}.parquet")
    labels_NV = sparse.csr_matrix(np.ones((vectors, 1), np.float32))
    return Corpus(ids, embeddings_NL, labels_NV, (width,))


def spelled(peaks: dict[str, int]) -> str:
    return ", ".join(f"{name} {spell_memory(taken)}" for name, taken in sorted(peaks.items()))


def main(
    vectors: Annotated[int, typer.Option(help="Stored vectors.")] = 1_000_000,
    width: Annotated[int, typer.Option(help="Of the vectors.")] = 128,
    shards: Annotated[int, typer.Option(help="That the index is divided into, about.")] = 8,
    actors: Annotated[int, typer.Option(help="That hold them.")] = 2,
    kind: Annotated[str, typer.Option(help="Of the index; 'auto': chosen.")] = "auto",
    queries: Annotated[int, typer.Option(help="Queries a round.")] = 640,
    batch: Annotated[int, typer.Option(help="Queries that are asked together.")] = 32,
    rounds: Annotated[int, typer.Option(help="Times that both are measured, in turn.")] = 3,
) -> None:
    mixture = Mixture.draw(5000, width, 0.6)
    queries_QL = np.empty((queries, width), np.float32)
    mixture.fill(queries_QL, 3)
    limit = int(vectors * (4 * width + 8) * 1.1) // shards
    wish = IndexWish(as_kind(kind), shard_bytes=limit)
    with tempfile.TemporaryDirectory() as work, ray_session(cpus=2):
        folder = Path(work)
        corpus = written(folder, vectors, width, mixture)
        parts = [str(path) for path in sorted(folder.glob("part-*.parquet"))]
        before = Peaks()
        before.look()
        with watched() as building:
            began = time.perf_counter()
            group = IndexingGroup(parts, folder)
            index = group.build_index(ProjectedCorpus(corpus, as_it_is, width), wish)
            built = time.perf_counter() - began
            assert index.entry is not None
            save_index(index, folder, None)
        shard_map = load_map(folder)
        assert shard_map is not None
        print(f"built in {built:.0f} s: {index.entry.reason}; recall {index.entry.recall}")
        print(f"the index takes {spell_memory(index.bytes)}, its shards up to ", end="")
        print(f"{spell_memory(max(shard_map.bytes))}; before, {spelled(before.anonymous)}")
        print(f"building, PSS: {spelled(building.pss)}")
        print(f"building, anonymous: {spelled(building.anonymous)}")
        recall, kinds = index.entry.recall, index.entry.kind
        del index
        with watched() as searching:
            held = hold_shards(folder, shard_map, sum(shard_map.bytes), actors)
            wait_for(held.actors)
            asked: dict[str, list[float]] = {"merged": [], "fan-out": []}
            makers = {"merged": (MergedAsker, None), "fan-out": (FannedOutAsker, held)}
            askers = {
                name: ray.remote(maker).options(num_cpus=0).remote(folder, given)
                for name, (maker, given) in makers.items()
            }
            answers: dict[str, Found] = {}
            for _ in range(rounds):
                for name, asker in askers.items():
                    answers[name], seconds = ray.get(asker.ask.remote(queries_QL, batch))
                    asked[name].append(queries / seconds)
        print(f"searching, PSS: {spelled(searching.pss)}")
        print(f"searching, anonymous: {spelled(searching.anonymous)}")
        few = queries_QL[:200]
        spans = ((start, min(start + PART, vectors)) for start in range(0, vectors, PART))
        blocks = ((np.arange(*span), corpus.embeddings_ND[slice(*span)]) for span in spans)
        _, exact_QK = nearest_in_blocks(few, blocks, 100)
    rows_QK = answers["fan-out"][1][:200, :100]
    hits = (rows_QK[:, :, None] == exact_QK[:, None, :]).any(axis=2)
    for name, values in asked.items():
        print(
            f"{name:8s} median {statistics.median(values):8.1f} queries/s "
            f"({min(values):.1f} to {max(values):.1f}), {NEAREST} nearest, batches of {batch}"
        )
    same = all(
        np.array_equal(one, other)
        for one, other in zip(answers["merged"], answers["fan-out"], strict=True)
    )
    holders = searching.anonymous["ray::ShardHolder"]
    rates = {name: statistics.median(values) for name, values in asked.items()}
    ratios = {
        "answers_equal": same,
        "fan_out_over_merged_queries_per_second": round(rates["fan-out"] / rates["merged"], 2),
        "actor_over_merged_memory": round(holders / searching.anonymous["ray::MergedAsker"], 2),
        "asker_over_merged_memory": round(
            searching.anonymous["ray::FannedOutAsker"] / searching.anonymous["ray::MergedAsker"], 2
        ),
        "driver_growth_over_index": round(
            (building.anonymous["driver"] - before.anonymous["driver"]) / sum(shard_map.bytes), 2
        ),
        "recall_at_100": round(float(hits.mean()), 4),
        "recall_at_build": recall["100"],
        "vectors": vectors,
        "kind": kinds,
        "shards": len(shard_map.rows),
        "actors": len(held.actors),
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    typer.run(main)
