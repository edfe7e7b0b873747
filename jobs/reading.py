"""Reads a chunk: rows with `image_id`, `bytes`, the caller's columns, and what went wrong."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import aiohttp
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from engine import schema
from engine.errors import CorpusError
from engine.image import ImageErrorCode
from jobs.chunks import Chunk
from jobs.source import row_ids
from jobs.tars import read_samples

FETCHES = 16
"""URIs that one worker fetches at a time: their latency, not the processor, is what counts."""

_Row = tuple[bytes | None, str | None, str | None]
"""A picture's bytes, or None with an error code and a reason."""


def read_chunk(
    chunk: Chunk, id_column: str, batch_rows: int, max_bytes: int
) -> Iterator[pa.Table]:
    """Yield a chunk's rows in batches of `batch_rows`, each with one schema.

    Args:
        max_bytes: a picture of more bytes is not fetched; its row gets `too_large`.

    A caller's column of a name that the engine writes comes as `input_<name>`.
    """
    done = 0
    for rows in _RAW[chunk.form](chunk, batch_rows):
        inside = [row - done for row in chunk.duplicates if done <= row < done + rows.num_rows]
        yield _standard(rows, chunk, done, id_column, inside, max_bytes)
        done += rows.num_rows
    if done != chunk.rows:
        raise CorpusError(
            f"{chunk.shard}: held {chunk.rows} rows from {chunk.start} on when the job began, and "
            f"{done} now; do not change the input of a running job"
        )


def ahead(batches: Iterator[pa.Table], depth: int = 2) -> Iterator[pa.Table]:
    """Read in a thread of its own, `depth` batches ahead of whoever takes them."""
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(next, batches, None) for _ in range(depth))
        while (batch := pending.popleft().result()) is not None:
            pending.append(pool.submit(next, batches, None))
            yield batch


def _read_listing(chunk: Chunk, batch_rows: int) -> Iterator[pa.Table]:
    with fsspec.open(chunk.shard, "rb") as handle:
        reader = pa.ipc.open_file(handle)
        first = 0
        wanted = []
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            begin, end = max(chunk.start, first), min(chunk.start + chunk.rows, first + len(batch))
            if begin < end:
                wanted.append(batch.slice(begin - first, end - begin))
            first += len(batch)
        table = pa.Table.from_batches(wanted, reader.schema)
    for start in range(0, table.num_rows, batch_rows):
        yield table.slice(start, batch_rows)


def _read_parquet(chunk: Chunk, batch_rows: int) -> Iterator[pa.Table]:
    with fsspec.open(chunk.shard, "rb") as handle:
        file = pq.ParquetFile(handle)
        groups, first = [], 0
        skip = chunk.start
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first + rows <= chunk.start:
                skip -= rows
            elif first < chunk.start + chunk.rows:
                groups.append(group)
            first += rows
        left = chunk.rows
        for batch in file.iter_batches(batch_rows, row_groups=groups, use_threads=False):
            part = pa.Table.from_batches([batch]).slice(min(skip, len(batch)), left)
            skip -= min(skip, len(batch))
            left -= part.num_rows
            if part.num_rows:
                yield part
            if left == 0:
                return


def _read_tar(chunk: Chunk, batch_rows: int) -> Iterator[pa.Table]:
    fs, path = fsspec.core.url_to_fs(chunk.shard)
    samples = read_samples(fs, path, chunk.start, chunk.rows)
    types = pa.schema(
        [
            ("__key__", pa.string()),
            (schema.BYTES, pa.binary()),
            (schema.TAGS, pa.list_(pa.string())),
            ("json", pa.string()),
        ]
    )
    while rows := list(islice(samples, batch_rows)):
        yield pa.Table.from_pylist(rows, types)


_RAW = {"listing": _read_listing, "parquet": _read_parquet, "tar": _read_tar}


def _standard(
    rows: pa.Table,
    chunk: Chunk,
    done: int,
    id_column: str,
    duplicates: list[int],
    max_bytes: int,
) -> pa.Table:
    """Give rows the columns that stages read, and keep the caller's."""
    names = rows.column_names
    if chunk.form == "listing":
        ids = rows.column(schema.IMAGE_ID)
    elif id_column:
        ids = rows.column(id_column).cast(pa.string())
    elif schema.URI in names:
        ids = rows.column(schema.URI).cast(pa.string())
    else:
        ids = row_ids(chunk.shard, chunk.start + done, rows.num_rows)
    pictures = _pictures(rows, max_bytes)
    for row in duplicates:
        reason = f"an earlier row of the input has the id '{ids[row].as_py()}' too"
        pictures[row] = (None, str(ImageErrorCode.DUPLICATE_ID), reason)
    data, errors, reasons = zip(*pictures, strict=True)
    columns = {schema.IMAGE_ID: ids}
    for name in names:
        if name in (schema.IMAGE_ID, schema.BYTES):
            continue
        column = rows.column(name)
        if name == "image" and pa.types.is_struct(column.type):
            if "path" in [field.name for field in column.type]:
                columns["image_path"] = pa.array(
                    [value and value["path"] for value in column.to_pylist()], pa.string()
                )
            continue
        columns[f"input_{name}" if name in schema.RESERVED else name] = column
    columns[schema.BYTES] = pa.array(data, pa.binary())
    columns[schema.ERROR] = pa.array(errors, pa.string())
    columns[schema.REASON] = pa.array(reasons, pa.string())
    return pa.table(columns)


def _pictures(rows: pa.Table, max_bytes: int) -> list[_Row]:
    names = rows.column_names
    data: list[bytes | None] = [None] * rows.num_rows
    uris: list[str | None] = [None] * rows.num_rows
    if schema.BYTES in names:
        data = rows.column(schema.BYTES).to_pylist()
    elif "image" in names:
        values = rows.column("image").to_pylist()
        if pa.types.is_struct(rows.column("image").type):
            data = [value and value.get("bytes") for value in values]
            uris = [value and value.get("path") for value in values]
        else:
            data = values
    if schema.URI in names:
        uris = rows.column(schema.URI).to_pylist()
    missing = [row for row, value in enumerate(data) if value is None and uris[row]]
    pictures: list[_Row] = [
        (value, None, None)
        if value is not None
        else (None, str(ImageErrorCode.EMPTY), "the row has neither bytes nor an address")
        for value in data
    ]
    if missing:
        with ThreadPoolExecutor(min(FETCHES, len(missing))) as pool:
            wanted = [str(uris[row]) for row in missing]
            fetched = list(pool.map(lambda uri: _fetch(uri, max_bytes), wanted))
        for row, picture in zip(missing, fetched, strict=True):
            pictures[row] = picture
    return pictures


def _fetch(uri: str, max_bytes: int) -> _Row:
    try:
        with fsspec.open(uri, "rb") as file:
            data: bytes = file.read(max_bytes + 1)
    except (OSError, ValueError, ImportError, aiohttp.ClientError) as error:
        reason = f"{uri}: {str(error) or type(error).__name__}"
        return None, str(ImageErrorCode.UNREADABLE_URI), reason
    if len(data) > max_bytes:
        reason = f"{uri}: more than {max_bytes:,} bytes"
        return None, str(ImageErrorCode.TOO_LARGE), reason
    return data, None, None
