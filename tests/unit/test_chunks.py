"""However an input is laid out, its chunks give every row once and in order."""

import tempfile
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.chunks import chunk_runs, first_bounds, rows_of_chunk
from jobs.cutting import MOST_PASSES
from tests.inputs import column, inventory_of, rows_of, write_files, write_tar


def test_chunks_grow_with_what_is_listed_and_stay_in_bounds() -> None:
    assert [rows_of_chunk(number) for number in (0, 63, 64, 255, 256)] == [64, 64, 128, 512, 1024]
    assert [rows_of_chunk(number) for number in (8191, 8192, 10**6)] == [1024, 2048, 16_384]


def test_a_billion_rows_make_less_than_a_hundred_thousand_chunks() -> None:
    assert 80_000 < sum(count for _, count in chunk_runs(10**9)) < 100_000


@given(rows=st.integers(0, 200_000))
def test_runs_of_chunks_are_the_chunks_one_by_one(rows: int) -> None:
    sizes = []
    while sum(sizes) < rows:
        sizes.append(min(rows_of_chunk(len(sizes)), rows - sum(sizes)))
    assert [size for size, count in chunk_runs(rows) for _ in range(count)] == sizes


def test_a_job_begins_with_small_chunks() -> None:
    assert first_bounds(64) == []
    assert first_bounds(1024) == [64, 128, 256, 512]


FILES = st.lists(st.lists(st.integers(0, 60), max_size=8), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(files=FILES, size=st.integers(1, 50), batch=st.integers(1, 40), has_ids=st.booleans())
def test_any_layout_of_row_groups_gives_every_row_once_in_order(
    files: list[list[int]], size: int, batch: int, has_ids: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected: list[str] = []
        for number, groups in enumerate(files):
            columns = pa.schema([("bytes", pa.binary()), *([("id", pa.int64())] * has_ids)])
            row = 0
            with pq.ParquetWriter(f"{folder}/{number}.parquet", columns) as writer:
                for rows in groups:
                    names = [f"{number}:{row + place}" for place in range(rows)]
                    table = {"bytes": [name.encode() for name in names]}
                    ids = range(len(expected), len(expected) + rows)
                    writer.write_table(pa.table(table | ({"id": ids} if has_ids else {}), columns))
                    expected += names
                    row += rows
        if not expected:
            return
        with patch("jobs.cutting.rows_of_chunk", lambda _: size):
            inventory = inventory_of(folder, Path(folder) / "_work")
        rows = rows_of(inventory, batch)
    assert [bytes(row["bytes"]).decode() for row in rows] == expected
    ids = [str(place) for place in range(len(expected))] if has_ids else expected
    assert column(rows, "image_id") == ids
    assert all(chunk.rows > 0 for chunk in inventory.chunks)
    assert len({chunk.name for chunk in inventory.chunks}) == len(inventory.chunks)
    largest = max((rows for groups in files for rows in groups), default=0)
    # A tail of small groups may come before a step into a large one.
    assert max(chunk.rows for chunk in inventory.chunks) < 2 * max(size, -(-largest // MOST_PASSES))


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=3), size=st.integers(1, 30))
def test_any_number_of_samples_in_tars_gives_each_once_in_order(
    counts: list[int], size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = []
        for number, count in enumerate(counts):
            keys = [f"{number}/{place}" for place in range(count)]
            write_tar(Path(folder) / f"{number}.tar", {f"{key}.jpg": key.encode() for key in keys})
            expected += keys
        if not expected:
            return
        with patch("jobs.cutting.rows_of_chunk", lambda _: size):
            rows = rows_of(inventory_of(folder, Path(folder) / "_work"), 7)
    assert column(rows, "image_id") == expected
    assert column(rows, "bytes") == [key.encode() for key in expected]


def test_a_long_listing_gives_each_line_once_in_order(tmp_path: Path) -> None:
    lines = "".join(f'{{"file": "{row}.jpg"}}\n' for row in range(2500))
    write_files(tmp_path, {"annotations.jsonl": lines})
    with patch("jobs.cutting.rows_of_chunk", lambda _: 300):
        inventory = inventory_of(tmp_path / "annotations.jsonl", tmp_path)
    assert [chunk.rows for chunk in inventory.chunks] == [64, 64, 128, 44, *[300] * 7, 100]
    rows = rows_of(inventory)
    assert column(rows, "image_id") == [f"{row}.jpg" for row in range(2500)]
    assert set(column(rows, "error")) == {"unreadable_uri"}
