"""An index in shards: whoever holds them, the answers of the merged index, to the bit."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.annotators.cca_knn import CcaKnnRecipe
from engine.config import FitConfig, limit_shard_memory, load_config
from engine.errors import BundleError, ConfigError
from engine.index import (
    ArrayVectors,
    ExactIndex,
    FaissIndex,
    IndexWish,
    LocalShards,
    ShardedIndex,
    ShardMap,
    build_index,
    build_sharded,
    choice,
    load_index,
    load_map,
    load_shard,
    save_index,
    shortlist,
)
from jobs import fanout
from jobs.fanout import RayShards, groups, hold_shards, wait_for
from tests.unit.test_index import unit_vectors

KINDS = ("flat", "ivf-flat", "ivf-pq")
LIMIT, SMALLER = 110_000, 60_000
BOUNDED = settings(max_examples=12, derandomize=True, deadline=None, database=None)


def with_twins() -> NDArray[np.float32]:
    """Vectors of which a third is there twice, in different shards."""
    vectors_NL = unit_vectors(3000, seed=0, width=32)
    vectors_NL[2000:] = vectors_NL[:1000]
    return vectors_NL


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest) -> ShardedIndex:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "PQ_LEAST", 500)
        wish = IndexWish(request.param, shard_bytes=LIMIT)
        return build_sharded(ArrayVectors(with_twins()), wish)


def assert_same_answers(one: ShardedIndex, other: ShardedIndex) -> None:
    queries_BL = unit_vectors(25, seed=1, width=32)
    for nearest in (1, 10, 101, 700, 5000):
        found, expected = (index.search(queries_BL, nearest) for index in (one, other))
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


def test_shards_answer_as_the_merged_index(built: ShardedIndex, tmp_path: Path) -> None:
    assert isinstance(built.shards, LocalShards)
    assert len(built.shards.indexes) == len(built.map.rows) >= 3
    save_index(built, tmp_path, None)
    merged = load_index(tmp_path)
    assert isinstance(merged, ShardedIndex)
    assert len(merged.whole()) == 3000
    assert_same_answers(built, merged)
    similarities_BM, rows_BM = merged.search(unit_vectors(25, seed=1, width=32), 700)
    tied = similarities_BM[:, 1:] == similarities_BM[:, :-1]
    assert (tied | (similarities_BM[:, 1:] < similarities_BM[:, :-1])).all()
    tied &= rows_BM[:, 1:] >= 0
    assert tied.any()
    assert (rows_BM[:, 1:] > rows_BM[:, :-1])[tied].all(), "a larger row comes first"


def test_the_merged_index_is_that_of_one_piece(built: ShardedIndex, tmp_path: Path) -> None:
    save_index(built, tmp_path, None)
    merged = load_index(tmp_path)
    assert isinstance(merged, ShardedIndex)
    if merged.is_lossless:
        np.testing.assert_array_equal(merged.whole().vectors(), with_twins())
    entry = built.entry
    assert entry is not None
    assert entry.recall["100"] >= 0.98
    assert entry.bytes == built.bytes == sum(built.map.bytes)
    assert max(built.map.bytes) <= LIMIT
    assert entry.reason.endswith("shards of at most 110.0 KB")


def test_one_piece_is_divided_into_shards_with_the_same_answers(
    built: ShardedIndex, tmp_path: Path
) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "divided").mkdir()
    save_index(built, tmp_path / "built", None)
    merged = load_index(tmp_path / "built")
    assert isinstance(merged, ShardedIndex)
    save_index(merged.whole(), tmp_path / "divided", SMALLER)
    again = load_map(tmp_path / "divided")
    assert again is not None
    assert len(again.rows) > len(built.map.rows)
    assert max(again.bytes) <= SMALLER
    shards = tuple(load_shard(tmp_path / "divided", place) for place in range(len(again.rows)))
    assert_same_answers(ShardedIndex(again, LocalShards(shards, again.first)), built)


def test_shards_that_pictures_came_into_are_divided_anew(
    built: ShardedIndex, tmp_path: Path
) -> None:
    save_index(built, tmp_path, None)
    merged = load_index(tmp_path)
    assert isinstance(merged, ShardedIndex)
    changed = merged.whole().added(unit_vectors(900, seed=5, width=32)).without(np.arange(100))
    (tmp_path / "changed").mkdir()
    save_index(changed, tmp_path / "changed", LIMIT)
    shard_map = load_map(tmp_path / "changed")
    assert shard_map is not None
    assert sum(shard_map.rows) == 3800
    assert all(rows % 256 == 0 for rows in shard_map.rows[:-1])
    assert max(shard_map.bytes) <= LIMIT
    again = load_index(tmp_path / "changed")
    assert isinstance(again, ShardedIndex)
    np.testing.assert_array_equal(again.whole().vectors(), changed.vectors())


def test_all_similarities_are_those_of_the_merged_index() -> None:
    vectors_NL = with_twins()
    built = build_sharded(ArrayVectors(vectors_NL), IndexWish("flat", shard_bytes=40_000))
    whole = build_index(ArrayVectors(vectors_NL), IndexWish("flat"))
    for kind in (np.float32, np.float64):
        queries_BL = unit_vectors(9, seed=1, width=32).astype(kind)
        found_BN = built.similarities(queries_BL)
        assert found_BN.dtype == kind
        np.testing.assert_array_equal(found_BN, whole.similarities(queries_BL))
        np.testing.assert_allclose(found_BN, queries_BL @ vectors_NL.T, atol=1e-6)


@BOUNDED
@given(
    levels=st.integers(1, 3),
    nearest=st.integers(1, 700),
    queries=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_however_many_are_equally_near_shards_find_what_the_oracle_finds(
    levels: int, nearest: int, queries: int, seed: int
) -> None:
    # Small whole numbers, so that sums are exact and hundreds of vectors are equally near.
    rng = np.random.default_rng(seed)
    vectors_NL = rng.integers(-levels, levels, (600, 4)).astype(np.float32)
    queries_QL = rng.integers(-2, 2, (queries, 4)).astype(np.float32)
    index = build_sharded(ArrayVectors(vectors_NL), IndexWish("flat", shard_bytes=8300))
    assert index.map.rows == (256, 256, 88)
    found, exact = (one.search(queries_QL, nearest) for one in (index, ExactIndex(vectors_NL)))
    np.testing.assert_array_equal(found[1], exact[1])
    np.testing.assert_array_equal(found[0], exact[0])


def test_looking_for_equally_near_vectors_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortlist, "WIDEST", 4)
    widths: list[int] = []
    search = FaissIndex(
        build_index(ArrayVectors(np.ones((900, 4), np.float32)), IndexWish()).stored
    )

    class Counted:
        ntotal = 900

        def search(self, queries: NDArray[np.float32], width: int) -> object:
            widths.append(width)
            return search.stored.search(queries, width)

    similarities_BM, _ = shortlist._nearest(Counted(), np.ones((2, 4), np.float32), 10)
    assert similarities_BM.shape == (2, 10)
    assert widths == [11, 22, 44]


def test_limits_that_cannot_be_kept_are_refused() -> None:
    vectors = ArrayVectors(unit_vectors(600, seed=0, width=32))
    with pytest.raises(
        ConfigError, match=r"least that would do is 36,864 bytes .*max-shard-memory"
    ):
        build_sharded(vectors, IndexWish("flat", shard_bytes=30_000))
    build_sharded(vectors, IndexWish("flat", shard_bytes=36_864))
    with pytest.raises(ConfigError, match="cannot be divided"):
        build_sharded(vectors, IndexWish("hnsw", shard_bytes=10**6))
    graph = load_config(None, ["annotators.cca-knn.index=hnsw"])
    with pytest.raises(ConfigError, match="cannot be divided into shards"):
        limit_shard_memory(graph, "1MB")
    limited = limit_shard_memory(FitConfig(), "1MB").annotators["cca-knn"]
    assert isinstance(limited, CcaKnnRecipe)
    assert limited.shard_memory == 10**6


def test_a_broken_map_is_told(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "map.json").write_text('{"kind": "flat"}')
    with pytest.raises(BundleError, match=r"map.json: not a map of an index's shards"):
        load_map(tmp_path)


def test_actors_share_the_shards_evenly_within_their_limit() -> None:
    assert groups([5, 5, 5, 2], 100, 2) == [range(2), range(2, 4)]
    assert groups([5, 5, 5, 2], 100, 9) == [range(1), range(1, 2), range(2, 3), range(3, 4)]
    assert groups([5, 5, 5, 2], 7, 1) == [range(1), range(1, 2), range(2, 4)]
    assert groups([5, 5, 5, 2], 100, 1) == [range(4)]
    with pytest.raises(ConfigError, match="a shard of the index takes 5 bytes, and an actor may"):
        groups([5, 2], 4, 2)


@pytest.mark.usefixtures("cluster")
def test_actors_without_room_end_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "READY_SECONDS", 0.2)
    shard_map = ShardMap(kind="flat", rows=(1,), bytes=(2**45,))
    shards = hold_shards(tmp_path, shard_map, 2**45, 1)
    with pytest.raises(ConfigError, match="1 of 1 actors that hold the index's shards did not"):
        wait_for(shards.actors)


LIMITED = """
import json, resource, sys
from pathlib import Path
import faiss, numpy as np
from engine.index import ArrayVectors, IndexWish, build_sharded, load_index, save_index
faiss.omp_set_num_threads(1)
path, out, limit, scratch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
vectors = ArrayVectors(np.load(path, mmap_mode="r"))
wish = IndexWish("ivf-flat", recall=0.3, nearest=10, shard_bytes=limit)
# The libraries take what they keep for good when they are first used.
build_sharded(ArrayVectors(vectors.vectors_NL[:10_000]), wish)
held = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + 2 * limit + scratch,) * 2)
index = build_sharded(vectors, wish)
save_index(index, out, None)
try:
    load_index(out)
except MemoryError:
    print(json.dumps([index.bytes, max(index.map.bytes), len(index.map.bytes)]))
"""

SCRATCH = 48 * 1024**2
"""What FAISS and NumPy take to multiply blocks, whatever is indexed."""


@pytest.mark.usefixtures("cluster")
def test_an_index_that_no_process_may_hold_is_built_and_answers(tmp_path: Path) -> None:
    """A process may take two shards and 50 MB; one that asks, 50 MB; the index takes 104 MB.

    The kernel refuses more. What they answer is what the merged index does in this process.
    """
    path = tmp_path / "vectors.npy"
    vectors_NL = np.lib.format.open_memmap(path, "w+", np.float32, (200_000, 128))
    for start in range(0, len(vectors_NL), 20_000):
        vectors_NL[start : start + 20_000] = unit_vectors(20_000, seed=start, width=128)
    vectors_NL.flush()
    limit = 12 * 10**6
    command = [sys.executable, "-c", LIMITED, str(path), str(tmp_path), str(limit), str(SCRATCH)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    taken, largest, shards = json.loads(done.stdout)
    assert taken > 2 * limit + SCRATCH
    assert largest <= limit
    assert shards >= 8

    def ask(folder: Path, shards: RayShards, queries_QL: NDArray[np.float32]) -> object:
        few = ShardedIndex(load_map(folder), shards)
        few.search(queries_QL, 5)
        status = Path("/proc/self/status").read_text().split()
        held = int(status[status.index("VmData:") + 1]) * 1024
        before = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (held + SCRATCH, before[1]))
        is_refused = False
        try:
            load_index(folder)
        except MemoryError:
            is_refused = True
        try:
            # Not in the handler above, whose traceback holds what was loaded.
            return is_refused, few.search(queries_QL, 200)
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)

    queries_QL = unit_vectors(40, seed=3, width=128)
    shard_map = load_map(tmp_path)
    assert shard_map is not None
    held = hold_shards(tmp_path, shard_map, 60 * 10**6, 2)
    assert len(held.actors) == 2
    task = ray.remote(num_cpus=0)(ask).remote(tmp_path, held, queries_QL)
    is_refused, found = ray.get(task)
    assert is_refused
    expected = load_index(tmp_path).search(queries_QL, 200)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
