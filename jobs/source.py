"""What goes in: tells the form of an input, and lists it as chunks, the first before the last."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from engine import schema
from engine.errors import CorpusError
from jobs.chunks import Chunk, Inventory, Totals
from jobs.columns import check_social_tags, check_tagged, parquet_roles, row_ids
from jobs.cutting import Shard, cut
from jobs.listing import ANNOTATIONS, PICTURE_SUFFIXES, list_annotations
from jobs.seen import Seen
from jobs.store import Store, address, open_fs
from jobs.tars import scan_tar
from jobs.walking import File, state, walk

SCRATCH = "_job"
"""What a job keeps in its store while it runs."""

PEEK = 1000
"""Files of a folder that are looked at before its form is told: Parquet, tars or pictures."""

_LISTED_LEAST, _LISTED_MOST = 512, 65_536


@dataclass
class _Counts:
    """Of what is listed so far."""

    rows: int = 0
    ignored: int = 0
    chunks: int = 0
    repeated: int = 0
    first_repeated: str = ""
    state: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def totals(self) -> Totals:
        return Totals(self.rows, self.state.hexdigest(), self.ignored)


def take_inventory(url: str, store: Store, is_corpus: bool) -> Inventory:
    """List an input to its end; see `list_chunks`.

    Raises:
        CorpusError: as `list_chunks` does.
    """
    *chunks, totals = list_chunks(url, store, is_corpus)
    assert isinstance(totals, Totals)
    listed = tuple(chunk for chunk in chunks if isinstance(chunk, Chunk))
    return Inventory(listed, totals.rows, totals.fingerprint, totals.ignored)


def list_chunks(
    url: str, store: Store, is_corpus: bool, most: int | None = None
) -> Iterator[Chunk | Totals]:
    """Look at an input and divide it into chunks, writing listings into `store` where needed.

    Every chunk is given as soon as it is known; the `Totals` come last. An input that has not
    changed gives the same chunks.

    Args:
        url: a path or fsspec URL: a folder of pictures, of annotations, of Parquet files or of
            tars, or one such file.
        is_corpus: a corpus to learn from must be right: missing pictures, missing `tags` and
            double ids are errors now. Otherwise the first and the last are errors of their rows.
        most: rows, rounded up to whole chunks, after which the rest is left out; None: all.

    Raises:
        CorpusError: nothing is there, or it cannot be read.
    """
    fs, root = open_fs(url)
    try:
        if not fs.exists(root):
            raise CorpusError(f"{url}: there is nothing at that path; check the spelling")
        yield from _list_chunks(url, fs, root, store, is_corpus, most)
    except OSError as error:
        raise CorpusError(
            f"{url}: cannot be listed ({error}); see that all of it is there and may be read"
        ) from error


def _list_chunks(
    url: str,
    fs: AbstractFileSystem,
    root: str,
    store: Store,
    is_corpus: bool,
    most: int | None,
) -> Iterator[Chunk | Totals]:
    counts, seen = _Counts(), Seen()
    list_shards = _file_shards if fs.isfile(root) else _folder_shards
    for number, shard in enumerate(list_shards(fs, root, store, is_corpus, counts)):
        repeated = np.empty(0, np.int64) if shard.is_distinct else seen.add(shard.ids.to_pylist())
        if len(repeated) and not counts.repeated:
            row = int(repeated[0])
            counts.first_repeated = f"'{shard.ids[row].as_py()}' in row {row + 1} of {shard.path}"
        counts.repeated += len(repeated)
        for chunk in cut(number, shard, counts.chunks, repeated):
            counts.state.update(chunk.digest.encode())
            counts.chunks += 1
            counts.rows += chunk.rows
            yield chunk
            if most is not None and counts.rows >= most:
                yield counts.totals()
                return
    if counts.rows == 0:
        raise CorpusError(f"{url}: has no rows; give at least one picture")
    if is_corpus and counts.repeated:
        raise CorpusError(
            f"{url}: {counts.repeated} rows have an id that an earlier row has; the first is "
            f"{counts.first_repeated}; give every picture its own id"
        )
    yield counts.totals()


def _folder_shards(
    fs: AbstractFileSystem, root: str, store: Store, is_corpus: bool, counts: _Counts
) -> Iterator[Shard]:
    for name in ANNOTATIONS:
        if fs.isfile(f"{root}/{name}"):
            yield from _file_shards(fs, f"{root}/{name}", store, is_corpus, counts)
            return
    pages = walk(fs, root)
    first: list[File] = []
    for page in pages:
        first.extend(page)
        if len(first) >= PEEK:
            break
    files = chain(first, chain.from_iterable(pages))
    # Tars first: img2dataset writes a Parquet file without pictures beside each of them.
    for suffix in (".tar", ".parquet"):
        if any(file.path.endswith(suffix) and not _is_private(file) for file in first):
            for file in files:
                if file.path.endswith(suffix) and not _is_private(file):
                    yield _shard(fs, file.path, root, is_corpus)
                elif not _is_private(file):
                    counts.ignored += 1
            return
    yield from _picture_shards(fs, root, files, store, is_corpus, counts)


def _is_private(file: File) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(file.name).parts)


def _picture_shards(
    fs: AbstractFileSystem,
    root: str,
    files: Iterator[File],
    store: Store,
    is_corpus: bool,
    counts: _Counts,
) -> Iterator[Shard]:
    """Listings of picture files, small ones first; an id is a path within the folder."""
    listed: list[File] = []
    number = 0
    for file in files:
        if file.is_hidden:
            continue
        if file.suffix not in PICTURE_SUFFIXES:
            counts.ignored += 1
            continue
        listed.append(file)
        if len(listed) == min(_LISTED_LEAST << number // 4, _LISTED_MOST):
            yield _file_listing(fs, root, listed, number, store, is_corpus)
            listed, number = [], number + 1
    if listed:
        yield _file_listing(fs, root, listed, number, store, is_corpus)
    elif not number:
        raise CorpusError(
            f"{root}: no pictures there ({counts.ignored} other files); name a folder with picture "
            "files, with images/ and annotations.jsonl, with Parquet files, or with .tar files"
        )


def _file_listing(
    fs: AbstractFileSystem,
    root: str,
    files: Sequence[File],
    number: int,
    store: Store,
    is_corpus: bool,
) -> Shard:
    columns = {
        schema.IMAGE_ID: pa.array([file.name for file in files], pa.string()),
        schema.URI: pa.array([address(fs, file.path) for file in files], pa.string()),
    }
    shard = _listing_shard(root, pa.table(columns), number, store, is_corpus)
    return replace(shard, row_states=[file.state for file in files], is_distinct=True)


def _file_shards(
    fs: AbstractFileSystem, path: str, store: Store, is_corpus: bool, counts: _Counts
) -> Iterator[Shard]:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in (".tar", ".parquet"):
        yield _shard(fs, path, str(PurePosixPath(path).parent), is_corpus)
    elif suffix in (".jsonl", ".csv"):
        table = list_annotations(fs, path, is_corpus)
        shard = _listing_shard(path, table, 0, store, is_corpus)
        uris = table.column(schema.URI).to_pylist()
        yield replace(shard, row_states=[_state(fs, uri) for uri in uris])
    elif suffix in PICTURE_SUFFIXES:
        file = File(path, PurePosixPath(path).name, f"{path}:{state(fs.info(path))}")
        yield _file_listing(fs, str(PurePosixPath(path).parent), [file], 0, store, is_corpus)
    else:
        raise CorpusError(
            f"{path}: not a kind of file that holds pictures here; name a folder, or a .parquet, "
            ".tar, .jsonl, .csv or picture file"
        )


def _listing_name(number: int) -> str:
    return f"{SCRATCH}/listing-{number:05d}.arrow"


def _listing_shard(path: str, table: pa.Table, number: int, store: Store, is_corpus: bool) -> Shard:
    if is_corpus:
        check_tagged(path, table.schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1024)
    data = sink.getvalue().to_pybytes()
    store.write(_listing_name(number), data)
    ids = table.column(schema.IMAGE_ID).combine_chunks()
    digest = hashlib.sha256(data).hexdigest()
    return Shard("listing", store.address(_listing_name(number)), digest, ids)


def _state(fs: AbstractFileSystem, uri: str) -> str:
    """What changes when a named file does; for remote ones the name alone."""
    if "file" not in fs.protocol or not fs.exists(uri):
        return uri
    return f"{uri}:{state(fs.info(uri))}"


def _shard(fs: AbstractFileSystem, path: str, root: str, is_corpus: bool) -> Shard:
    looks = f"{path}:{state(fs.info(path))}"
    if path.endswith(".tar"):
        samples = tuple(scan_tar(fs, path))
        keys = pa.array([sample.key for sample in samples], pa.string())
        return Shard("tar", address(fs, path), looks, keys, samples=samples)
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
    return Shard("parquet", address(fs, path), looks, ids, label, row_groups=groups)
