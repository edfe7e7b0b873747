"""The loop and Ray Data give the same rows, to the bit on the same batches, however it is run."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data import DataContext

from engine.bundle import Bundle, load_bundle
from engine.errors import CorpusError
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from engine.stage import Plan, Resources
from jobs.chunks import Chunk, Inventory
from jobs.runner import RunSettings, loop_plan, run_plan
from jobs.sink import part_name
from jobs.source import take_inventory
from jobs.store import Store

LIMIT = 10_000_000
PATIENCE = 280
SEGMENTS = {
    "decode": Resources(cpus=0.5),
    "embed": Resources(cpus=0.25),
    "score/cca-knn": Resources(cpus=0.25),
    "score/linear": Resources(cpus=0.25),
    "fuse": Resources(cpus=0.1),
}


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory, pictures: list[SamplePicture]) -> Path:
    """Pictures in row groups that fit no chunk, some of them broken, with a caller's columns."""
    path = tmp_path_factory.mktemp("parity") / "in.parquet"
    data = [picture.jpeg for picture in pictures[:150]]
    data[0], data[70], data[149] = b"", b"<html>", data[149][:900]
    table = pa.table(
        {
            "id": [picture.image_id for picture in pictures[:150]],
            "bytes": data,
            "tags": [picture.tags for picture in pictures[:150]],
        }
    )
    pq.write_table(table, path, row_group_size=47)
    return path


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def inventory(parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    inventory = take_inventory(str(parquet), Store(str(tmp_path_factory.mktemp("w"))), True)
    assert len(inventory.chunks) > 1
    return inventory


@pytest.fixture(scope="module")
def looped(bundle: Bundle, inventory: Inventory) -> pa.Table:
    return _looped(annotation_plan(bundle, 5), inventory, RunSettings())


def _looped(plan: Plan, inventory: Inventory, settings: RunSettings) -> pa.Table:
    return pa.concat_tables(loop_plan(plan, inventory, settings, LIMIT)).combine_chunks()


def _run(plan: Plan, inventory: Inventory, store: Store, settings: RunSettings) -> pa.Table:
    receipts = list(run_plan(plan, inventory, frozenset(), store, settings, LIMIT))
    assert sorted(receipt.chunk for receipt in receipts) == [c.name for c in inventory.chunks]
    parts = [pq.read_table(store.path(part_name(c.name))) for c in inventory.chunks]
    return pa.concat_tables(parts).combine_chunks()


def test_the_loop_gives_every_row_its_tags_or_its_error(looped: pa.Table, bundle: Bundle) -> None:
    rows = looped.to_pylist()
    assert len({row["image_id"] for row in rows}) == 150
    assert [(n, row["error"]) for n, row in enumerate(rows) if row["error"]] == [
        (0, "empty"),
        (70, "not_an_image"),
        (149, "truncated"),
    ]
    assert all((row["tags"] is None) == (row["error"] is not None) for row in rows)
    assert {row["bundle_id"] for row in rows} == {bundle.id}
    assert all(row["input_tags"] for row in rows)


@pytest.mark.parametrize("workers", [1, None])
def test_ray_data_equals_the_loop_to_the_bit(
    cluster: None,
    bundle: Bundle,
    inventory: Inventory,
    looped: pa.Table,
    tmp_path: Path,
    workers: int | None,
) -> None:
    plan = annotation_plan(bundle, 5)
    found = _run(plan, inventory, Store(str(tmp_path)), RunSettings(workers=workers))
    assert found.equals(looped)


def test_chunks_that_are_still_being_listed_give_the_same_parts(
    cluster: None, bundle: Bundle, inventory: Inventory, looped: pa.Table, tmp_path: Path
) -> None:
    """The listing ends only when the first part is there, and then in an error."""
    store = Store(str(tmp_path))
    is_written = threading.Event()

    def listed() -> Iterator[Chunk]:
        first, *rest = inventory.chunks
        yield first
        assert is_written.wait(PATIENCE)
        yield from rest
        raise CorpusError("no more of it can be listed")

    receipts = []

    def run() -> None:
        plan, settings = annotation_plan(bundle, 5), RunSettings()
        for receipt in run_plan(plan, listed(), frozenset(), store, settings, LIMIT):
            receipts.append(receipt.chunk)
            is_written.set()

    with pytest.raises(CorpusError, match="no more of it can be listed"):
        run()
    # A block a row is for this data set alone: others of the process have many rows in each.
    assert DataContext.get_current().target_max_block_size != 1
    assert receipts[0] == inventory.chunks[0].name
    assert sorted(receipts) == [chunk.name for chunk in inventory.chunks]
    parts = [pq.read_table(store.path(part_name(name))) for name in sorted(receipts)]
    assert pa.concat_tables(parts).combine_chunks().equals(looped)


def assert_alike(found: pa.Table, looped: pa.Table) -> None:
    """The same rows, tags and neighbours, and scores that differ by rounding alone."""
    assert found.column_names == looped.column_names
    for row, expected in zip(found.to_pylist(), looped.to_pylist(), strict=True):
        assert row["image_id"] == expected["image_id"]
        assert row["error"] == expected["error"]
        if row["error"] is None:
            assert [tag["tag"] for tag in row["tags"]] == [tag["tag"] for tag in expected["tags"]]
            assert [tag["score"] for tag in row["tags"]] == pytest.approx(
                [tag["score"] for tag in expected["tags"]], abs=1e-5
            )
            assert [item["image_id"] for item in row["neighbours"]] == [
                item["image_id"] for item in expected["neighbours"]
            ]


def test_a_plan_in_several_segments_gives_the_same_rows(
    cluster: None, bundle: Bundle, inventory: Inventory, looped: pa.Table, tmp_path: Path
) -> None:
    plan = annotation_plan(bundle, 5, resources=SEGMENTS)
    assert len(plan.segments()) == 3
    found = _run(plan, inventory, Store(str(tmp_path)), RunSettings(workers=1))
    # On their way rows are packed, and some processors' BLAS sums by where they lie then.
    assert_alike(found, looped)


@pytest.mark.parametrize("batch", [1, 7, 150])
def test_other_batches_give_the_same_tags(
    bundle: Bundle, inventory: Inventory, looped: pa.Table, batch: int
) -> None:
    assert_alike(_looped(annotation_plan(bundle, 5), inventory, RunSettings(batch=batch)), looped)


JOB = """
import sys
from pathlib import Path
from jobs.annotate import annotate
from jobs.console import Console
from jobs.session import ray_session
with ray_session(int(sys.argv[1])):
    account = annotate(*sys.argv[2:5], 5, Console(quiet=True))
print(account.rows, account.tagged)
"""


@pytest.mark.parametrize("cpus", [1, 4])
def test_a_job_never_stalls_whatever_cpus_are_declared(
    cpus: int, parquet: Path, bundle_folder: Path, looped: pa.Table, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", JOB, cpus, parquet, bundle_folder, tmp_path / "out"]
    run = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=240, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["150", "147"]
    parts = [pq.read_table(part) for part in sorted((tmp_path / "out").glob("*.parquet"))]
    assert pa.concat_tables(parts).combine_chunks().equals(looped)
