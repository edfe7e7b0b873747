"""The files of an index: one piece, or a folder of shards that are loaded apart or merged."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.errors import BundleError
from engine.index.choice import ALIGNED, FAISS_BLOCK
from engine.index.faiss_index import FaissIndex, empty_like, refined_by, trained_copy
from engine.index.lists import entries, fill_flat, fill_lists, flat_codes
from engine.index.sharded import LocalShards, ShardedIndex, ShardMap

PIECE = "index.faiss"
SHARDS = "shards"
MAP = "map.json"


def save_index(index: FaissIndex | ShardedIndex, folder: Path, shard_bytes: int | None) -> None:
    """Write an index into a folder, in shards if it has any or `shard_bytes` is given.

    Args:
        shard_bytes: of memory that a shard may take, of an index that is in one piece now.
    """
    if isinstance(index, ShardedIndex):
        assert isinstance(index.shards, LocalShards), "its shards are elsewhere"
        if len(index.shards.indexes) == len(index.map.rows):
            _save_shards(index.shards.indexes, index.map, folder)
            return
        index = index.whole()
    if shard_bytes is None:
        index.save(folder / PIECE)
        return
    stored = index.stored
    bounds = _bounds(index, shard_bytes)
    parts = (FaissIndex(_part(stored, *span), on_cpu=True) for span in bounds)
    sizes = _save_parts(parts, folder)
    factor = int(stored.k_factor) if isinstance(stored, faiss.IndexRefine) else 0
    rows = tuple(stop - start for start, stop in bounds)
    _save_map(ShardMap(kind=index.kind, rows=rows, bytes=sizes, factor=factor), folder)


def load_index(folder: Path) -> FaissIndex | ShardedIndex:
    """Read into this process what `save_index` wrote; shards are merged.

    Raises:
        BundleError: the map of the shards is broken.
    """
    shard_map = load_map(folder)
    if shard_map is None:
        return FaissIndex.load(folder / PIECE)
    shards = [load_shard(folder, place, mapped=True).stored for place in range(len(shard_map.rows))]
    whole = FaissIndex(merged(shards, sum(shard_map.rows)), on_cpu=True)
    return ShardedIndex(shard_map, LocalShards((whole,), (0,)))


def load_map(folder: Path) -> ShardMap | None:
    """How the index that was saved into a folder is divided; None: it is one piece.

    Raises:
        BundleError: that is not to be read.
    """
    path = folder / SHARDS / MAP
    if not path.is_file():
        return None
    try:
        return ShardMap.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleError(
            f"{path}: not a map of an index's shards ({error.error_count()} errors); copy the "
            "bundle again, or fit it again"
        ) from error


def load_shard(folder: Path, place: int, mapped: bool = False) -> FaissIndex:
    """One shard, searched on the CPU.

    Args:
        mapped: leave it in its file, of which the system keeps in memory what it has room for.
    """
    flags = faiss.IO_FLAG_MMAP_IFC if mapped else 0
    return FaissIndex(faiss.read_index(str(_path(folder, place)), flags), on_cpu=True)


def merged(shards: Sequence[faiss.Index], total: int) -> faiss.Index:
    """One index of all the shards' vectors, in memory that is exactly as large as it."""
    first = shards[0]
    if isinstance(first, faiss.IndexRefine):
        bases = [faiss.downcast_index(one.base_index) for one in shards]
        stores = [faiss.downcast_index(one.refine_index) for one in shards]
        return refined_by(merged(bases, total), merged(stores, total), int(first.k_factor))
    if isinstance(first, faiss.IndexFlatCodes):
        flat = empty_like(first)
        fill_flat(flat, (flat_codes(one) for one in shards), total)
        return flat
    whole = trained_copy(first)
    starts = np.cumsum([0, *(one.ntotal for one in shards)])
    fill_lists(whole, [_moved(one, start) for one, start in zip(shards, starts, strict=False)])
    return whole


def _moved(
    ivf: faiss.IndexIVF, start: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    for place in range(ivf.nlist):
        ids, codes = entries(ivf, place)
        yield ids + start, codes


def _part(stored: faiss.Index, start: int, stop: int) -> faiss.Index:
    """The index of some rows, counted from 0."""
    if isinstance(stored, faiss.IndexRefine):
        base = _part(faiss.downcast_index(stored.base_index), start, stop)
        store = _part(faiss.downcast_index(stored.refine_index), start, stop)
        return refined_by(base, store, int(stored.k_factor))
    if isinstance(stored, faiss.IndexFlatCodes):
        flat = empty_like(stored)
        fill_flat(flat, [flat_codes(stored)[start:stop]], stop - start)
        return flat
    part = trained_copy(stored)
    fill_lists(part, [_between(stored, start, stop)])
    return part


def _between(
    ivf: faiss.IndexIVF, start: int, stop: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    for place in range(ivf.nlist):
        ids, codes = entries(ivf, place)
        inside = (ids >= start) & (ids < stop)
        yield ids[inside] - start, codes[inside]


def _bounds(index: FaissIndex, shard_bytes: int) -> list[tuple[int, int]]:
    """Rows at which shards begin and end; the fewest that there may be where pictures were added.

    How large a shard may be was checked when the index was built.
    """
    total = len(index)
    fixed = FaissIndex(_part(index.stored, 0, 0), on_cpu=True).bytes
    each = -(-(index.bytes - fixed) // total)
    rows = max(ALIGNED, (shard_bytes - fixed) // each)
    step = FAISS_BLOCK if rows >= FAISS_BLOCK else ALIGNED
    rows = total if rows >= total else rows // step * step
    return [(start, min(start + rows, total)) for start in range(0, total, rows)]


def _save_shards(shards: Sequence[FaissIndex], shard_map: ShardMap, folder: Path) -> None:
    _save_parts(shards, folder)
    _save_map(shard_map, folder)


def _save_parts(
    parts: Iterator[FaissIndex] | Sequence[FaissIndex], folder: Path
) -> tuple[int, ...]:
    (folder / SHARDS).mkdir()
    sizes = []
    for place, part in enumerate(parts):
        part.save(_path(folder, place))
        sizes.append(part.bytes)
    return tuple(sizes)


def _save_map(shard_map: ShardMap, folder: Path) -> None:
    (folder / SHARDS / MAP).write_text(shard_map.model_dump_json(), encoding="utf-8")


def _path(folder: Path, place: int) -> Path:
    return folder / SHARDS / f"{place:05d}.faiss"
