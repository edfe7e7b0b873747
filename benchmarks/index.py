"""The index that is chosen at a million vectors beside FAISS's flat one, in one run.

    python -m benchmarks.index --vectors 1000000 --budget 600MB

The vectors are made up: a mixture of clusters whose directions matter less and less, as those of
CCA do, centred and of unit length; the queries are drawn from the same mixture and are not among
them. Both indexes answer the same queries in turn with the same threads. Recall is measured against
the flat index. The index is built in shards within the budget, from a file that is never read
whole. The last line is JSON, its ratios by name.
"""

import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import faiss
import numpy as np
import psutil
import typer
from numpy.typing import NDArray

from engine.cca_space import correlation_normalised
from engine.index import (
    ArrayVectors,
    FaissIndex,
    IndexWish,
    build_index,
    parse_memory,
    spell_memory,
)
from engine.index.choice import Kind

NEAREST = 100
STEP = 50_000


@dataclass(frozen=True)
class Mixture:
    """Clusters about centres, the spread of both falling with the direction's number."""

    centres_CL: NDArray[np.float32]
    spread_L: NDArray[np.float32]

    @classmethod
    def draw(cls, clusters: int, width: int, noise: float) -> "Mixture":
        falling_L = (np.arange(1, width + 1) ** -0.35).astype(np.float32)
        rng = np.random.default_rng(1)
        centres_CL = rng.standard_normal((clusters, width), dtype=np.float32) * falling_L
        return cls(centres_CL, noise * falling_L)

    def fill(self, out_NL: NDArray[np.float32], seed: int) -> None:
        """Draw vectors into an array, some at a time."""
        rng = np.random.default_rng(seed)
        for start in range(0, len(out_NL), STEP):
            rows = len(out_NL[start : start + STEP])
            noise_BL = rng.standard_normal((rows, out_NL.shape[1]), dtype=np.float32)
            centres_BL = self.centres_CL[rng.integers(0, len(self.centres_CL), rows)]
            out_NL[start : start + rows] = correlation_normalised(
                centres_BL + noise_BL * self.spread_L
            )


def queries_a_second(index: faiss.Index | FaissIndex, queries_QL: NDArray[np.float32]) -> float:
    began = time.perf_counter()
    index.search(queries_QL, NEAREST)
    return len(queries_QL) / (time.perf_counter() - began)


def main(
    vectors: Annotated[int, typer.Option(help="Stored vectors.")] = 1_000_000,
    width: Annotated[int, typer.Option(help="Of the vectors.")] = 128,
    clusters: Annotated[int, typer.Option(help="Of the mixture.")] = 5000,
    noise: Annotated[float, typer.Option(help="Spread within a cluster over that of them.")] = 0.6,
    queries: Annotated[int, typer.Option(help="Queries a round.")] = 1000,
    budget: Annotated[str, typer.Option(help="Memory for the index.")] = "600MB",
    kind: Annotated[str, typer.Option(help="Of the index; 'auto': chosen.")] = "auto",
    rounds: Annotated[int, typer.Option(help="Times that both are measured, in turn.")] = 3,
    threads: Annotated[int, typer.Option(help="Of either index.")] = 1,
) -> None:
    faiss.omp_set_num_threads(threads)
    mixture = Mixture.draw(clusters, width, noise)
    queries_QL = np.empty((queries, width), np.float32)
    mixture.fill(queries_QL, 3)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "vectors.npy"
        stored_NL = np.lib.format.open_memmap(path, "w+", np.float32, (vectors, width))
        mixture.fill(stored_NL, 2)
        stored_NL.flush()
        del stored_NL
        source = ArrayVectors(np.load(path, mmap_mode="r"))
        limit = parse_memory(budget)
        held = anonymous_bytes()
        began = time.perf_counter()
        index = build_index(source, IndexWish(as_kind(kind), limit))
        built = time.perf_counter() - began
        entry = index.entry
        assert entry is not None
        grown = anonymous_bytes() - held
        print(f"built in {built:.0f} s: {entry.reason}")
        print(f"takes {spell_memory(entry.bytes)} by count, {spell_memory(grown)} by the system")
        flat = faiss.IndexFlatIP(width)
        for start in range(0, vectors, STEP):
            flat.add(source.block(start, start + STEP))
    _, exact_QK = flat.search(queries_QL, NEAREST)
    _, found_QK = index.search(queries_QL, NEAREST)
    hits = (found_QK[:, :, None] == exact_QK[:, None, :]).any(axis=2)
    speeds: dict[str, list[float]] = {"flat": [], "index": []}
    for _ in range(rounds):
        speeds["flat"].append(queries_a_second(flat, queries_QL))
        speeds["index"].append(queries_a_second(index, queries_QL))
    for name, values in speeds.items():
        print(
            f"{name:6s} median {statistics.median(values):9.1f} queries/s "
            f"({min(values):.1f} to {max(values):.1f}), {threads} thread(s)"
        )
    ratios = {
        "index_over_flat": round(
            statistics.median(speeds["index"]) / statistics.median(speeds["flat"]), 2
        ),
        "recall_at_100": round(float(hits.mean()), 4),
        "recall_at_build": entry.recall["100"],
        "bytes_over_budget": round(entry.bytes / limit, 3),
        "vectors": vectors,
        "kind": entry.kind,
        "store": entry.store,
        "probes": entry.probes,
        "lists": entry.lists,
    }
    print(json.dumps(ratios))


def as_kind(name: str) -> Literal["auto"] | Kind:
    """The kind of that name."""
    kinds: tuple[Literal["auto"] | Kind, ...] = ("auto", "flat", "ivf-flat", "ivf-pq", "hnsw")
    return next(kind for kind in kinds if kind == name)


def anonymous_bytes() -> int:
    """Of this process, what no file stands behind."""
    memory = psutil.Process().memory_full_info()
    return int(memory.rss - memory.shared)


if __name__ == "__main__":
    typer.run(main)
