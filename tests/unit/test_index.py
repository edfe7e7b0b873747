"""FAISS against the exact oracle, and where it is run."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from engine import index as index_module
from engine.index import ExactIndex, FaissIndex, to_best_device


def unit_vectors(count: int, seed: int, width: int = 16) -> NDArray[np.float32]:
    """Clustered, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, width))
    vectors = centres[rng.integers(0, 20, count)] + 0.4 * rng.standard_normal((count, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@pytest.mark.parametrize("nearest", [1, 7, 1000])
def test_the_flat_index_equals_the_oracle(nearest: int) -> None:
    vectors_NL = unit_vectors(300, seed=0)
    queries_BL = unit_vectors(20, seed=1)
    similarities, rows = FaissIndex.build(vectors_NL).search(queries_BL, nearest)
    exact_similarities, exact_rows = ExactIndex(vectors_NL).search(queries_BL, nearest)
    assert rows.shape == (20, min(nearest, 300))
    assert rows.dtype == np.int64
    assert similarities.dtype == np.float32
    np.testing.assert_array_equal(rows, exact_rows)
    np.testing.assert_allclose(similarities, exact_similarities, atol=1e-6)


def test_the_oracle_gives_ties_to_the_smaller_row() -> None:
    vectors_NL = np.eye(3, dtype=np.float32)[[0, 1, 0, 2]]
    _, rows = ExactIndex(vectors_NL).search(np.eye(3, dtype=np.float32)[:1], 4)
    assert rows.tolist() == [[0, 2, 1, 3]]


def test_inverted_lists_recall_most_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "EXACT_UP_TO", 1000)
    vectors_NL = unit_vectors(8000, seed=0)
    queries_BL = unit_vectors(50, seed=1)
    built = FaissIndex.build(vectors_NL)
    _, rows_BM = built.search(queries_BL, 10)
    _, exact_BM = ExactIndex(vectors_NL).search(queries_BL, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(rows_BM, exact_BM, strict=True)]
    assert np.mean(shared) / 10 >= 0.8
    similarities_BM, all_BM = built.search(queries_BL, 8000)
    assert (all_BM < 0).any(), "this index looks at every vector, so it is not approximate"
    assert np.isneginf(similarities_BM[all_BM < 0]).all()
    assert np.isfinite(similarities_BM[all_BM >= 0]).all()


@pytest.mark.parametrize("exact_up_to", [10_000, 1000])
def test_saved_and_loaded_it_searches_to_the_bit_as_before(
    exact_up_to: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "EXACT_UP_TO", exact_up_to)
    built = FaissIndex.build(unit_vectors(6500, seed=0))
    built.save(tmp_path / "index.faiss")
    loaded = FaissIndex.load(tmp_path / "index.faiss")
    queries_BL = unit_vectors(30, seed=1)
    for one, other in zip(built.search(queries_BL, 9), loaded.search(queries_BL, 9), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_queries_find_nothing() -> None:
    similarities, rows = FaissIndex.build(unit_vectors(30, seed=0)).search(
        np.zeros((0, 16), np.float32), 5
    )
    assert similarities.shape == rows.shape == (0, 5)


def test_the_stored_vectors_come_out_in_order() -> None:
    vectors_NL = unit_vectors(30, seed=0)
    np.testing.assert_array_equal(FaissIndex.build(vectors_NL).vectors(), vectors_NL)


def test_without_a_gpu_the_index_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    flat = faiss.IndexFlatIP(4)
    assert to_best_device(flat) is flat


def test_a_gpu_that_faiss_counts_searches_and_the_cpu_index_is_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moved: list[tuple[object, int]] = []
    on_gpu = faiss.IndexFlatIP(16)
    on_gpu.add(unit_vectors(3, seed=5))

    def index_cpu_to_gpu(resources: object, device: int, index: faiss.Index) -> faiss.Index:
        moved.append((resources, device))
        return on_gpu

    resources = object()
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: resources, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", index_cpu_to_gpu, raising=False)
    built = FaissIndex.build(unit_vectors(30, seed=0))
    assert moved == [(resources, 0)]
    assert built.search(unit_vectors(2, seed=1), 10)[1].shape == (2, 3)
    assert built.vectors().shape == (30, 16)
    built.save(tmp_path / "index.faiss")
    assert faiss.read_index(str(tmp_path / "index.faiss")).ntotal == 30
