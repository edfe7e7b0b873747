"""Reads a chunk: rows with `image_id`, `bytes`, the caller's columns, and what went wrong."""

import posixpath
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError

from engine import schema
from engine.errors import ConfigError, CorpusError
from engine.image import ImageErrorCode
from engine.storage.files import open_fs, read_most
from engine.storage.patience import TRIES, is_passing, persist
from jobs.chunks import Chunk
from jobs.columns import (
    KEY,
    LISTING_ROLES,
    TAR_ROLES,
    Roles,
    callers_columns,
    parquet_roles,
    row_ids,
)
from jobs.tars import read_samples

FETCHES = 16
"""URIs that are fetched at a time: their latency, not the processor, is what counts."""

# What fsspec's file systems were seen to raise for a URL that is wrong or out of reach.
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    ImportError,
    EOFError,
    aiohttp.ClientError,
    BotoCoreError,
    ConfigError,
)


@dataclass(frozen=True)
class ReadSettings:
    """How whoever works on chunks reads them: the arguments of `read_chunk`."""

    batch: int
    max_bytes: int
    fetches: int


_Row = tuple[bytes | None, str | None, str | None]
"""A picture's bytes, or None with an error code and a reason."""


def read_chunk(
    chunk: Chunk, batch_rows: int, max_bytes: int, fetches: int = FETCHES
) -> Iterator[pa.Table]:
    """Yield a chunk's rows in batches of `batch_rows`, each with one schema.

    Args:
        max_bytes: a picture of more bytes is not fetched; its row gets `too_large`.
        fetches: pictures that are fetched at a time from where their rows point.

    A caller's column of a name that the engine writes comes as `input_<name>`.

    Raises:
        CorpusError: the shard cannot be read, or is not what it was when the job began.
    """
    done = 0
    try:
        for rows in _RAW[chunk.form](chunk, batch_rows):
            yield _standard(rows, chunk, done, max_bytes, fetches)
            done += rows.num_rows
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"{chunk.shard}: cannot be read ({str(error).splitlines()[0]}); fetch or write it "
            "again, and leave the input of a running job as it is"
        ) from error
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
    fs, path = open_fs(chunk.shard)
    with fs.open(path, "rb") as handle:
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
    fs, path = open_fs(chunk.shard)
    with fs.open(path, "rb") as handle:
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
    fs, path = open_fs(chunk.shard)
    samples = read_samples(fs, path, chunk.start, chunk.rows)
    types = pa.schema(
        [
            (KEY, pa.string()),
            (schema.BYTES, pa.binary()),
            (schema.TAGS, pa.list_(pa.string())),
            (schema.SOCIAL_TAGS, pa.list_(pa.string())),
            ("json", pa.string()),
        ]
    )
    while rows := list(islice(samples, batch_rows)):
        yield pa.Table.from_pylist(rows, types)


_RAW = {"listing": _read_listing, "parquet": _read_parquet, "tar": _read_tar}


def _standard(rows: pa.Table, chunk: Chunk, done: int, max_bytes: int, fetches: int) -> pa.Table:
    """Give rows the columns that stages read, and keep the caller's."""
    roles = _roles(chunk, rows)
    # In a tar, where rows are counted from its beginning alone, each has its key.
    ids = row_ids(rows, roles, chunk.label, chunk.start + done)
    pictures = _pictures(rows, roles, chunk.shard, max_bytes, fetches)
    for row in (row - done for row in chunk.duplicates):
        if 0 <= row < rows.num_rows:
            reason = f"an earlier row of the input has the id '{ids[row].as_py()}' too"
            pictures[row] = (None, str(ImageErrorCode.DUPLICATE_ID), reason)
    data, errors, reasons = zip(*pictures, strict=True)
    return pa.table(
        {
            schema.IMAGE_ID: ids,
            **callers_columns(rows, roles),
            schema.BYTES: pa.array(data, pa.binary()),
            schema.ERROR: pa.array(errors, pa.string()),
            schema.REASON: pa.array(reasons, pa.string()),
        }
    )


def _roles(chunk: Chunk, rows: pa.Table) -> Roles:
    if chunk.form == "listing":
        return LISTING_ROLES
    return TAR_ROLES if chunk.form == "tar" else parquet_roles(chunk.shard, rows.schema)


def _pictures(rows: pa.Table, roles: Roles, shard: str, max_bytes: int, fetches: int) -> list[_Row]:
    data: list[bytes | None] = [None] * rows.num_rows
    uris: list[str | None] = [None] * rows.num_rows
    if roles.data:
        data = rows.column(roles.data).to_pylist()
    if roles.image:
        values = rows.column(roles.image).to_pylist()
        data = [value and value.get("bytes") for value in values]
        uris = [value and value.get("path") for value in values]
    if roles.uri:
        given = rows.column(roles.uri).cast(pa.string()).to_pylist()
        uris = [uri or path for uri, path in zip(given, uris, strict=True)]
    pictures: list[_Row] = [
        (value, None, None)
        if value is not None
        else (None, str(ImageErrorCode.EMPTY), "the row has neither bytes nor an address")
        for value in data
    ]
    missing = {row: uris[row] for row, value in enumerate(data) if value is None and uris[row]}
    if missing:
        folder = posixpath.dirname(shard)
        with ThreadPoolExecutor(min(fetches, len(missing))) as pool:
            wanted = [_whole(str(uri), folder) for uri in missing.values()]
            fetched = list(pool.map(lambda uri: _fetch(uri, max_bytes), wanted))
        for row, picture in zip(missing, fetched, strict=True):
            pictures[row] = picture
    return pictures


def _whole(uri: str, folder: str) -> str:
    """A relative path is one from the file that names it."""
    if "://" in uri or "::" in uri or uri.startswith(("/", "~")):
        return uri
    return f"{folder}/{uri}"


def _fetch(uri: str, max_bytes: int) -> _Row:
    try:
        read = partial(read_most, uri, max_bytes + 1)
        data = read() if uri.startswith("/") else persist(read, is_passing, TRIES)
    except _UNREADABLE as error:
        tried = " (tried again, in vain)" if is_passing(error) else ""
        reason = f"{uri}: {str(error) or type(error).__name__}{tried}"
        return None, str(ImageErrorCode.UNREADABLE_URI), reason
    if len(data) > max_bytes:
        reason = f"{uri}: more than {max_bytes:,} bytes"
        return None, str(ImageErrorCode.TOO_LARGE), reason
    return data, None, None
