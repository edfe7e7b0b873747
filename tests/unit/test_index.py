"""FAISS against the exact oracle: what is found, what is stored, and where it is run."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.index import (
    ArrayVectors,
    ExactIndex,
    FaissIndex,
    IndexWish,
    build_index,
    choice,
    to_best_device,
)
from engine.index.exact import nearest_in_blocks
from engine.index.tuning import Sample, recall_at, without_self

BOUNDED = settings(max_examples=40, derandomize=True, deadline=None, database=None)
WIDTH = 16
KINDS = ("flat", "ivf-flat", "ivf-pq", "hnsw")


def unit_vectors(count: int, seed: int, width: int = WIDTH) -> NDArray[np.float32]:
    """Clustered, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((20, width))
    vectors = centres[rng.integers(0, 20, count)] + 0.4 * rng.standard_normal((count, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def build(vectors_NL: NDArray[np.float32], kind: str = "auto", **wish: object) -> FaissIndex:
    return build_index(ArrayVectors(vectors_NL), IndexWish(kind=kind, **wish))


@pytest.fixture(autouse=True)
def _quantisers_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "PQ_LEAST", 500)


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest) -> FaissIndex:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "PQ_LEAST", 500)
        return build(unit_vectors(1500, seed=0), request.param)


def nearest_of(index: FaissIndex, nearest: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return index.search(unit_vectors(30, seed=1), nearest)


@pytest.mark.parametrize("nearest", [1, 7, 1000])
def test_the_flat_index_equals_the_oracle(nearest: int) -> None:
    vectors_NL = unit_vectors(300, seed=0)
    queries_BL = unit_vectors(20, seed=1)
    similarities, rows = build(vectors_NL).search(queries_BL, nearest)
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


@BOUNDED
@given(
    count=st.integers(1, 60),
    block=st.integers(1, 20),
    nearest=st.integers(1, 70),
    levels=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_the_oracle_block_by_block_is_the_oracle(
    count: int, block: int, nearest: int, levels: int, seed: int
) -> None:
    # Small whole numbers, so that sums are exact and many vectors are equally near.
    rng = np.random.default_rng(seed)
    vectors_NL = rng.integers(-levels, levels, (count, 3)).astype(np.float32)
    queries_QL = rng.integers(-2, 2, (5, 3)).astype(np.float32)
    order = rng.permutation(count)
    rows = [order[start : start + block] for start in range(0, count, block)]
    blocks = [(rows_B, vectors_NL[rows_B]) for rows_B in rows]
    similarities, rows = nearest_in_blocks(queries_QL, blocks, nearest)
    exact_similarities, _ = ExactIndex(vectors_NL).search(queries_QL, nearest)
    np.testing.assert_array_equal(similarities, exact_similarities)
    np.testing.assert_array_equal(
        similarities, np.take_along_axis(queries_QL @ vectors_NL.T, rows, axis=1)
    )
    assert all(len(set(row)) == len(row) for row in rows.tolist())


def test_each_kind_finds_what_was_wished_for(built: FaissIndex) -> None:
    entry = built.entry
    assert entry is not None
    assert entry.kind == built.kind
    assert entry.vectors == len(built) == 1500
    assert entry.recall["100"] >= 0.98
    assert entry.queries == 200
    # And not on the stored vectors alone.
    _, rows_BM = nearest_of(built, 100)
    _, exact_BM = ExactIndex(unit_vectors(1500, seed=0)).search(unit_vectors(30, seed=1), 100)
    shared = [len(set(a) & set(b)) for a, b in zip(rows_BM, exact_BM, strict=True)]
    assert np.mean(shared) / 100 >= 0.93


def test_recall_counts_the_rows_found() -> None:
    """Three of the four nearest are found; the query itself is no neighbour."""
    vectors_NL = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], np.float32)

    class Forgetful:
        is_lossless = False

        def search(self, queries: NDArray[np.float32], nearest: int) -> object:
            similarities, rows = ExactIndex(vectors_NL).search(queries, nearest)
            similarities[rows == 2], rows[rows == 2] = -np.inf, -1
            return similarities, rows

    rows_Q = np.array([0])
    found = ExactIndex(vectors_NL).search(vectors_NL[:1], 5)
    sample = Sample(vectors_NL[:1], rows_Q, without_self(found, rows_Q, 4))
    assert sample.truth[1].tolist() == [[1, 2, 3, 4]]
    index = Forgetful()
    assert recall_at(index, sample, 4) == 0.75  # type: ignore[arg-type]
    assert recall_at(index, sample, 1) == 1.0  # type: ignore[arg-type]
    index.is_lossless = True
    assert recall_at(index, sample, 2) == 0.5  # type: ignore[arg-type]


def test_a_wish_for_less_looks_into_fewer_lists() -> None:
    vectors_NL = unit_vectors(3000, seed=0)
    easy, strict = (build(vectors_NL, "ivf-flat", recall=recall).entry for recall in (0.5, 0.999))
    assert easy is not None
    assert strict is not None
    assert easy.probes < strict.probes
    assert 0.5 <= easy.recall["100"] < strict.recall["100"]
    assert strict.recall["100"] >= 0.999
    similarities_BM, rows_BM = nearest_of(build(vectors_NL, "ivf-flat", recall=0.5), 3000)
    assert (rows_BM < 0).any(), "this index looks at every vector, so it is not approximate"
    assert np.isneginf(similarities_BM[rows_BM < 0]).all()
    assert np.isfinite(similarities_BM[rows_BM >= 0]).all()


def test_equally_near_vectors_do_not_count_as_missed() -> None:
    vectors_NL = np.repeat(unit_vectors(8, seed=0), 100, axis=0)
    entry = build(vectors_NL, "ivf-flat", nearest=50).entry
    assert entry is not None
    assert entry.recall == {"1": 1.0, "10": 1.0, "100": entry.recall["100"]}


def test_the_same_vectors_make_the_same_index(built: FaissIndex) -> None:
    again = build(unit_vectors(1500, seed=0), built.kind)
    for one, other in zip(nearest_of(built, 50), nearest_of(again, 50), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.entry == built.entry


def test_saved_and_loaded_it_searches_to_the_bit_as_before(
    built: FaissIndex, tmp_path: Path
) -> None:
    built.save(tmp_path / "index.faiss")
    loaded = FaissIndex.load(tmp_path / "index.faiss")
    for one, other in zip(nearest_of(built, 9), nearest_of(loaded, 9), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.kind == built.kind


def test_what_it_takes_is_what_was_counted(built: FaissIndex, tmp_path: Path) -> None:
    built.save(tmp_path / "index.faiss")
    on_disk = (tmp_path / "index.faiss").stat().st_size
    assert built.entry is not None
    assert built.entry.bytes == built.bytes
    # A list's two C++ vectors are not on disk, and FAISS's headers not in memory.
    assert built.bytes - 48 * built.entry.lists == pytest.approx(on_disk, abs=4096)


def test_the_stored_vectors_come_out_in_order(built: FaissIndex) -> None:
    vectors_NL = unit_vectors(1500, seed=0)
    if built.is_lossless:
        np.testing.assert_array_equal(built.vectors(), vectors_NL)
    else:
        np.testing.assert_allclose(built.vectors()[:, :WIDTH], vectors_NL, atol=1e-3)


@pytest.mark.parametrize("bits", [("fp16", 0.0002), ("sq8", 0.003), ("none", 0.06)])
def test_codes_alone_and_beside_a_store(bits: tuple[str, float]) -> None:
    """Each form is built, says which it is, and gives vectors as exact as it keeps them."""
    store, tolerance = bits
    vectors_NL = unit_vectors(1500, seed=0, width=20)
    options = choice._options(1500, 20, IndexWish("ivf-pq"))
    plan = next(one for one in options if one.kind == "ivf-pq" and one.store == store)
    built = build(vectors_NL, "ivf-pq", max_bytes=plan.bytes)
    assert built.entry is not None
    assert built.entry.store == store
    assert built.entry.bytes <= plan.bytes
    assert np.abs(built.vectors()[:, :20] - vectors_NL).mean() < tolerance
    assert (built.entry.factor > 0) == (store != "none")


def test_no_queries_find_nothing(built: FaissIndex) -> None:
    similarities, rows = built.search(np.zeros((0, WIDTH), np.float32), 5)
    assert similarities.shape == rows.shape == (0, 5)


def test_added_and_removed_again_it_is_the_same(built: FaissIndex) -> None:
    grown = built.added(unit_vectors(40, seed=5))
    assert (len(grown), len(built)) == (1540, 1500)
    shrunk = grown.without(np.arange(1500, 1540))
    for one, other in zip(nearest_of(built, 60), nearest_of(shrunk, 60), strict=True):
        np.testing.assert_array_equal(one, other)
    assert grown.kind == shrunk.kind == built.kind


def test_an_added_vector_is_found_in_its_row(built: FaissIndex) -> None:
    more = unit_vectors(40, seed=5)
    _, rows = built.added(more).search(more, 1)
    assert (rows[:, 0] == np.arange(1500, 1540)).mean() >= 0.95


def test_rows_behind_a_removed_one_move_up(built: FaissIndex) -> None:
    vectors_NL = unit_vectors(1500, seed=0)
    gone = np.array([0, 3, 700, 1499])
    rest_NL = np.delete(vectors_NL, gone, axis=0)
    shrunk = built.without(gone)
    assert len(shrunk) == 1496
    tolerance = 0 if shrunk.is_lossless else 1e-3
    np.testing.assert_allclose(shrunk.vectors()[:, :WIDTH], rest_NL, atol=tolerance)
    _, rows = shrunk.search(rest_NL[::50], 1)
    assert (rows[:, 0] == np.arange(0, 1496, 50)).mean() >= 0.9


def test_more_vectors_than_the_budget_has_room_for_are_refused(built: FaissIndex) -> None:
    built.check_room(10, built.bytes * 2)
    built.check_room(10**9, None)
    with pytest.raises(ConfigError, match="with 1,000 more vectors the index would take up to"):
        built.check_room(1000, built.bytes + 1000)


def test_without_a_gpu_the_index_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    flat = faiss.IndexFlatIP(4)
    assert to_best_device(flat) is flat


def test_a_gpu_that_faiss_counts_searches_and_the_cpu_index_is_saved(
    built: FaissIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Flat indexes and lists move; a graph stays; a store ranks anew on the CPU."""
    built.save(tmp_path / "index.faiss")
    moved: list[tuple[object, int, faiss.Index]] = []
    resources = object()

    def index_cpu_to_gpu(given: object, device: int, index: faiss.Index) -> faiss.Index:
        moved.append((given, device, index))
        on_gpu = faiss.IndexFlatIP(index.d)
        on_gpu.add(unit_vectors(index.ntotal, seed=5))
        return on_gpu

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: resources, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", index_cpu_to_gpu, raising=False)
    loaded = FaissIndex.load(tmp_path / "index.faiss")
    _, rows = nearest_of(loaded, 3)
    _, stored_rows = nearest_of(built, 3)
    _, gpu_rows = ExactIndex(unit_vectors(1500, seed=5)).search(unit_vectors(30, seed=1), 3)
    if built.kind == "hnsw":
        assert moved == []
        np.testing.assert_array_equal(rows, stored_rows)
    else:
        ((given, device, index),) = moved
        assert (given, device) == (resources, 0)
        assert not isinstance(index, faiss.IndexRefine)
        assert (rows != stored_rows).any()
    if built.kind in ("flat", "ivf-flat"):
        np.testing.assert_array_equal(rows, gpu_rows)
    loaded.save(tmp_path / "again.faiss")
    assert (tmp_path / "again.faiss").read_bytes() == (tmp_path / "index.faiss").read_bytes()
    assert loaded.vectors().shape[0] == 1500


def test_parameters_are_chosen_on_the_index_that_is_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU, too: a copy there would not see them change."""
    copies: list[int] = []

    def index_cpu_to_gpu(given: object, device: int, index: faiss.Index) -> faiss.Index:
        copies.append(index.nprobe)
        return index

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", index_cpu_to_gpu, raising=False)
    entry = build(unit_vectors(1500, seed=0), "ivf-flat").entry
    assert entry is not None
    assert copies == [entry.probes]


def test_vectors_outlive_their_index() -> None:
    vectors_NL = np.random.default_rng(0).standard_normal((3000, 64)).astype(np.float32)
    views = [build_index(ArrayVectors(vectors_NL), IndexWish("flat")).vectors() for _ in range(3)]
    for view in views:
        np.testing.assert_array_equal(view, vectors_NL)
