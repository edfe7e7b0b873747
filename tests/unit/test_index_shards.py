"""An index built in shards: the same as in one piece, and never more in memory than allowed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from engine import schema
from engine.annotators.cca_knn import CcaKnnRecipe
from engine.corpus import Corpus
from engine.fitting import Material, score_corpus
from engine.group import Solo
from engine.index import (
    ArrayVectors,
    IndexWish,
    Vectors,
    build,
    build_index,
    build_shard,
    choice,
)
from engine.index.build import Bounds, Found, ShardWork, shard_bounds
from engine.index.choice import choose_plan
from engine.indexing import ProjectedCorpus
from jobs import index as index_job
from jobs.index import IndexingGroup, stored_vectors
from tests.unit.test_index import unit_vectors

KINDS = ("ivf-flat", "ivf-pq")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "PQ_LEAST", 500)


@pytest.mark.parametrize("kind", KINDS)
def test_shards_anywhere_give_the_index_of_one_piece(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors_NL = unit_vectors(1500, seed=0)
    queries_BL = unit_vectors(20, seed=1)
    wish = IndexWish(kind)
    monkeypatch.setattr(build, "BLOCK", 128)
    whole = build_index(ArrayVectors(vectors_NL), wish)
    monkeypatch.setattr(build, "SHARD", 384)
    order: list[Bounds] = []

    def backwards(vectors: Vectors, work: ShardWork, bounds: Sequence[Bounds]) -> list[Found]:
        order.extend(bounds)
        return [build_shard(vectors, work, span) for span in reversed(bounds)][::-1]

    shared = build_index(ArrayVectors(vectors_NL), wish, backwards)
    assert order == [(0, 384), (384, 768), (768, 1152), (1152, 1500)]
    for one, other in zip(whole.search(queries_BL, 30), shared.search(queries_BL, 30), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(whole.vectors(), shared.vectors())
    assert shared.entry == whole.entry


def test_shards_are_smaller_than_half_the_budget() -> None:
    for budget in (700 * 10**6, 100 * 10**6, 40 * 10**6):
        plan = choose_plan(1_000_000, 128, IndexWish(max_bytes=budget))
        bounds = shard_bounds(plan, budget)
        assert bounds[0][0] == 0
        assert bounds[-1][1] == 1_000_000
        assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))
        each = plan.bytes / plan.count
        assert max(stop - start for start, stop in bounds) * each <= budget / 2


@dataclass(frozen=True)
class Parts:
    """A corpus and the files that hold its pictures, shuffled and among others."""

    paths: list[str]
    corpus: Corpus


@pytest.fixture
def parts(material: Material, tmp_path: Path) -> Parts:
    corpus = material.corpus
    order = np.random.default_rng(0).permutation(len(corpus))
    paths = []
    for number, rows in enumerate(np.array_split(order, 5)):
        table = pa.table(
            {
                schema.IMAGE_ID: [corpus.ids[row] for row in rows],
                schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND[rows]),
            }
        )
        paths.append(str(tmp_path / f"part-{number}.parquet"))
        pq.write_table(table, paths[-1])
    return Parts(paths, corpus.subset(np.arange(30, 280)))


def left_half(embeddings_BD: NDArray[np.float32], labels_BV: object) -> NDArray[np.float32]:
    """A projection that needs both."""
    return embeddings_BD[:, :20] + np.asarray(labels_BV.sum(axis=1))  # type: ignore[attr-defined]


def test_parts_give_the_vectors_of_the_corpus(parts: Parts) -> None:
    projected = ProjectedCorpus(parts.corpus, left_half, 20)
    stored = stored_vectors(parts.paths, projected)
    assert (stored.count, stored.width) == (250, 20)
    np.testing.assert_array_equal(stored.block(17, 190), projected.block(17, 190))
    rows = np.array([3, 249, 0, 100])
    np.testing.assert_array_equal(stored.take(rows), projected.take(rows))


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("match", ["image", "text"])
def test_ray_builds_the_index_that_one_process_builds(
    match: str, material: Material, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_job, "LEAST_SHARED", 0)
    monkeypatch.setattr(build, "SHARD", 100)
    recipe = CcaKnnRecipe.model_validate(
        {"index": "ivf-flat", "match": match, "tag_vectors": "binary"}
    )
    alone = recipe.fit(parts.corpus, material.vocabulary, Solo())
    shared = recipe.fit(parts.corpus, material.vocabulary, IndexingGroup(parts.paths, tmp_path))
    np.testing.assert_allclose(shared.index.vectors(), alone.index.vectors(), atol=1e-5)
    np.testing.assert_allclose(
        score_corpus(shared, material.corpus), score_corpus(alone, material.corpus), atol=2e-5
    )
    assert shared.index_entry == alone.index_entry
    assert not list(tmp_path.glob("index-*"))


LIMITED = """
import json, resource, sys
from pathlib import Path
import faiss, numpy as np
from engine.index import ArrayVectors, IndexWish, build_index
from engine.index import build
faiss.omp_set_num_threads(1)
build.CODE_SAMPLES = 4
path, budget, scratch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
vectors = ArrayVectors(np.load(path, mmap_mode="r"))
# The libraries take what they keep for good when they are first used.
build_index(ArrayVectors(vectors.vectors_NL[:10_000]), IndexWish("ivf-pq", recall=0.3, nearest=10))
held = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + budget + scratch, held + budget + scratch))
entry = build_index(vectors, IndexWish(max_bytes=budget, recall=0.3, nearest=10)).entry
print(json.dumps([entry.kind, entry.bytes]))
"""

SCRATCH = 48 * 1024**2
"""What FAISS and NumPy take to multiply blocks, whatever is indexed."""


def test_more_vectors_than_a_process_may_hold_are_indexed(tmp_path: Path) -> None:
    """72 MB of vectors, where the kernel refuses 12 MB of index and 50 MB of scratch space more."""
    path = tmp_path / "vectors.npy"
    vectors_NL = np.lib.format.open_memmap(path, "w+", np.float32, (140_000, 128))
    for start in range(0, len(vectors_NL), 20_000):
        vectors_NL[start : start + 20_000] = unit_vectors(20_000, seed=start, width=128)
    vectors_NL.flush()
    budget = 12 * 10**6
    assert vectors_NL.nbytes > budget + SCRATCH
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(budget), str(SCRATCH)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kind, taken = json.loads(done.stdout)
    assert kind == "ivf-pq"
    assert taken <= budget


def test_the_limit_of_that_test_is_one(tmp_path: Path) -> None:
    """The same vectors with a budget that is said to be larger than the process may have."""
    path = tmp_path / "vectors.npy"
    np.save(path, unit_vectors(200_000, seed=0, width=128))
    limit = str(20 * 10**6)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            LIMITED.replace("IndexWish(max_bytes=budget,", "IndexWish('flat',"),
            str(path),
            limit,
            limit,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "bad_alloc" in done.stderr or "MemoryError" in done.stderr
