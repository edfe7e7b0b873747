"""A chunk's part carries its own account, and is the same file whoever writes it how often."""

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.chunks import Chunk
from jobs.sink import Receipt, finished_parts, part_name, write_part
from jobs.store import Store
from jobs.work import Work

CHUNK = Chunk("00000-00001", "parquet", "/x.parquet", 0, 3)
TABLE = pa.table({"image_id": ["a", "b", "c"], "error": ["empty", None, "empty"]})


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    fsspec.filesystem("memory").store.clear()
    return Store(str(tmp_path) if request.param == "local" else "memory://bucket/out")


def test_receipts_are_found_again_in_the_store(store: Store) -> None:
    receipt = write_part(store, CHUNK, TABLE)
    assert receipt == Receipt(CHUNK.name, 3, {"empty": 2})
    assert receipt.failed == 2
    write_part(store, CHUNK, TABLE)
    store.write("job.json", b"{}")
    store.write("_job/listing.arrow", b"")
    assert list(finished_parts(store)) == [receipt]
    assert store.names() == ["_job", "job.json", part_name(CHUNK.name)]


def test_a_part_holds_the_rows(store: Store) -> None:
    write_part(store, CHUNK, TABLE)
    with store.open(part_name(CHUNK.name)) as file:
        assert pq.read_table(file).equals(TABLE)


def test_a_receipt_survives_its_way_to_the_driver() -> None:
    works = (Work("a", 3, 1.5, 2.5, {"embed": 0.5}), Work("b", 3, 2.5, 3.0, {}))
    receipt = Receipt(CHUNK.name, 3, {"empty": 1, "truncated": 1}, works)
    (row,) = receipt.to_table().to_pylist()
    found = Receipt.from_row(row)
    assert (found, found.works) == (receipt, works)
