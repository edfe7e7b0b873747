"""What goes in: tells the form of an input, counts it, and divides it into chunks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from numpy.typing import NDArray

from engine import schema
from engine.errors import CorpusError
from jobs.chunks import Chunk, Form, Inventory, first_bounds, rows_a_chunk
from jobs.columns import check_social_tags, check_tagged, parquet_roles, row_ids
from jobs.listing import ANNOTATIONS, PICTURE_SUFFIXES, list_annotations, list_folder
from jobs.store import Store, address, open_fs
from jobs.tars import SampleStart, scan_tar

MOST_PASSES = 16
"""A row group is never read from its start more often than this, whatever the chunk's size."""

SCRATCH = "_job"
"""What a job keeps in its store while it runs."""

LISTING = f"{SCRATCH}/listing.arrow"


@dataclass(frozen=True)
class _Shard:
    """One shard with the ids of its rows and the rows at which a chunk may begin."""

    form: Form
    path: str
    state: str
    ids: pa.Array
    label: str = ""
    row_groups: tuple[int, ...] = ()
    samples: tuple[SampleStart, ...] = ()


def take_inventory(url: str, store: Store, is_corpus: bool) -> Inventory:
    """Look at an input and divide it into chunks, writing a listing into `store` where needed.

    Args:
        url: a path or fsspec URL: a folder of pictures, of annotations, of Parquet files or of
            tars, or one such file.
        is_corpus: a corpus to learn from must be right: missing pictures, missing `tags` and
            double ids are errors now. Otherwise the first and the last are errors of their rows.

    Raises:
        CorpusError: nothing is there, or it cannot be read.
    """
    fs, root = open_fs(url)
    if not fs.exists(root):
        raise CorpusError(f"{url}: there is nothing at that path; check the spelling")
    ignored = 0
    if fs.isfile(root):
        shards = _file_shards(fs, root, store, is_corpus)
    else:
        shards, ignored = _folder_shards(fs, root, store, is_corpus)
    rows = sum(len(shard.ids) for shard in shards)
    if rows == 0:
        raise CorpusError(f"{url}: has no rows; give at least one picture")
    duplicates = _duplicates([shard.ids for shard in shards])
    if is_corpus and any(len(places) for places in duplicates):
        _refuse_duplicates(url, shards, duplicates)
    chunks = [
        chunk
        for number, shard in enumerate(shards)
        for chunk in _chunks(number, shard, rows_a_chunk(rows), duplicates[number])
    ]
    state = hashlib.sha256("\n".join(shard.state for shard in shards).encode()).hexdigest()
    return Inventory(tuple(chunks), rows, state, ignored)


def _folder_shards(
    fs: AbstractFileSystem, root: str, store: Store, is_corpus: bool
) -> tuple[list[_Shard], int]:
    for name in ANNOTATIONS:
        if fs.isfile(f"{root}/{name}"):
            return _file_shards(fs, f"{root}/{name}", store, is_corpus), 0
    files = sorted(
        path
        for path in fs.find(root)
        if not any(p.startswith((".", "_")) for p in PurePosixPath(path).relative_to(root).parts)
    )
    # Tars first: img2dataset writes a Parquet file without pictures beside each of them.
    for suffix in (".tar", ".parquet"):
        paths = [path for path in files if path.endswith(suffix)]
        if paths:
            return [_shard(fs, path, root, is_corpus) for path in paths], len(files) - len(paths)
    table, ignored = list_folder(fs, root)
    return [_listing_shard(fs, root, table, store, is_corpus)], ignored


def _file_shards(fs: AbstractFileSystem, path: str, store: Store, is_corpus: bool) -> list[_Shard]:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in (".tar", ".parquet"):
        return [_shard(fs, path, str(PurePosixPath(path).parent), is_corpus)]
    if suffix in (".jsonl", ".csv"):
        table = list_annotations(fs, path, is_corpus)
        return [_listing_shard(fs, path, table, store, is_corpus)]
    if suffix in PICTURE_SUFFIXES:
        columns = {schema.IMAGE_ID: [PurePosixPath(path).name], schema.URI: [address(fs, path)]}
        return [_listing_shard(fs, path, pa.table(columns), store, is_corpus)]
    raise CorpusError(
        f"{path}: not a kind of file that holds pictures here; name a folder, or a .parquet, "
        ".tar, .jsonl, .csv or picture file"
    )


def _listing_shard(
    fs: AbstractFileSystem, path: str, table: pa.Table, store: Store, is_corpus: bool
) -> _Shard:
    if is_corpus:
        check_tagged(path, table.schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1024)
    data = sink.getvalue().to_pybytes()
    store.write(LISTING, data)
    sizes = "\n".join(_state(fs, uri) for uri in table.column(schema.URI).to_pylist())
    state = hashlib.sha256(data + sizes.encode()).hexdigest()
    ids = table.column(schema.IMAGE_ID).combine_chunks()
    return _Shard("listing", store.address(LISTING), state, ids)


def _state(fs: AbstractFileSystem, uri: str) -> str:
    """What changes when a file does; for remote listings the names alone."""
    if "file" not in fs.protocol or not fs.exists(uri):
        return uri
    info = fs.info(uri)
    return f"{uri}:{info['size']}:{info['mtime']}"


def _shard(fs: AbstractFileSystem, path: str, root: str, is_corpus: bool) -> _Shard:
    info = fs.info(path)
    stamp = info.get("mtime") or info.get("ETag") or info.get("LastModified")
    state = f"{path}:{info['size']}:{stamp}"
    if path.endswith(".tar"):
        samples = tuple(scan_tar(fs, path))
        keys = pa.array([sample.key for sample in samples], pa.string())
        return _Shard("tar", address(fs, path), state, keys, samples=samples)
    # Two files of one name in two folders are told apart.
    label = str(PurePosixPath(path).relative_to(root).with_suffix(""))
    try:
        with fs.open(path, "rb") as handle:
            file = pq.ParquetFile(handle)
            roles = parquet_roles(path, file.schema_arrow)
            check_social_tags(path, file.schema_arrow)
            if is_corpus:
                check_tagged(path, file.schema_arrow)
            groups = tuple(
                file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)
            )
            rows = file.read(columns=[roles.image_id] if roles.image_id else [])
            ids = row_ids(rows, roles, label, 0)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"{path}: not a Parquet file that can be read ({str(error).splitlines()[0]}); fetch "
            "or write it again"
        ) from error
    return _Shard("parquet", address(fs, path), state, ids, label, row_groups=groups)


def _duplicates(ids_by_shard: Sequence[pa.Array]) -> list[NDArray[np.int64]]:
    """Rows of each shard whose id occurred before, in the order of the job.

    Ids are compared by 64 bits of a hash first (8 bytes a row), and only suspects in full.
    """
    hashes = [
        np.array(
            [
                int.from_bytes(hashlib.blake2b(str(i).encode(), digest_size=8).digest(), "little")
                for i in ids.to_pylist()
            ],
            dtype=np.uint64,
        )
        for ids in ids_by_shard
    ]
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    repeated = values[counts > 1]
    seen: set[str] = set()
    places = []
    for ids, codes in zip(ids_by_shard, hashes, strict=True):
        rows = []
        for row in np.flatnonzero(np.isin(codes, repeated)):
            image_id = ids[int(row)].as_py()
            if image_id in seen:
                rows.append(int(row))
            seen.add(image_id)
        places.append(np.array(rows, dtype=np.int64))
    return places


def _refuse_duplicates(
    url: str, shards: Sequence[_Shard], duplicates: Sequence[NDArray[np.int64]]
) -> None:
    total = sum(len(places) for places in duplicates)
    shard, places = next((s, p) for s, p in zip(shards, duplicates, strict=True) if len(p))
    raise CorpusError(
        f"{url}: {total} rows have an id that an earlier row has; the first is "
        f"'{shard.ids[int(places[0])].as_py()}' in row {int(places[0]) + 1} of {shard.path}; "
        "give every picture its own id"
    )


def _chunks(number: int, shard: _Shard, size: int, duplicates: NDArray[np.int64]) -> list[Chunk]:
    bounds = _bounds(shard, size)
    if number == 0:
        bounds = sorted({*bounds, *first_bounds(min(size, len(shard.ids)))})
    chunks = []
    for place, (start, stop) in enumerate(pairwise(bounds)):
        inside = duplicates[(duplicates >= start) & (duplicates < stop)] - start
        chunk = Chunk(
            f"{number:05d}-{place:05d}",
            shard.form,
            shard.path,
            start,
            stop - start,
            shard.label,
            tuple(inside.tolist()),
        )
        if shard.samples:
            chunk = replace(chunk, start=shard.samples[start].offset)
        chunks.append(chunk)
    return chunks


def _bounds(shard: _Shard, size: int) -> list[int]:
    """Rows at which chunks begin, and the end.

    To begin within a row group means to read it from its start, so large ones are divided into
    `MOST_PASSES` at the most.
    """
    total = len(shard.ids)
    if not shard.row_groups:
        return [*range(0, total, size), total]
    bounds = [0]
    begin = 0
    for rows in shard.row_groups:
        step = max(size, -(-rows // MOST_PASSES))
        bounds.extend(range(begin + step, begin + rows, step))
        begin += rows
        if begin - bounds[-1] >= size or begin == total:
            bounds.append(begin)
    return [bound for place, bound in enumerate(bounds) if place == 0 or bound > bounds[place - 1]]
