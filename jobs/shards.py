"""A corpus to learn from as blocks on shared storage, and a worker's share of them read back."""

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from numpy.typing import NDArray
from scipy import sparse

from engine import schema
from engine.corpus import Corpus
from engine.tensors import Pixels, Tensors

MOST, MOST_WITH_TENSORS = 1024, 64
"""Pictures in a block: with their pixels it is a dozen megabytes."""

_ROW, _LABELS, _SOCIAL, _PLACES = "row", "labels", "social", "places"


@dataclass(frozen=True)
class Block:
    """Some of the corpus's pictures.

    Attributes:
        path: Parquet with all but their pixels and further columns.
        columns, files: names of these, and the `.npy` file of each with the tensors of all the
            pictures.
        tags: V; levels, backbone: as in `Corpus` and `Pixels`.
    """

    path: str
    columns: tuple[str, ...]
    files: tuple[str, ...]
    tags: int
    levels: tuple[int, ...]
    backbone: str


def write_shards(corpus: Corpus, folder: Path, workers: int) -> "ray.data.Dataset":
    """Write the corpus into a folder that all workers share; a data set of its blocks' names."""
    blocks = write_blocks(corpus, folder, workers)
    return ray.data.from_items(blocks, override_num_blocks=len(blocks))


def write_blocks(corpus: Corpus, folder: Path, workers: int) -> list[dict[str, object]]:
    """Write the corpus into a folder that all workers share; its blocks, see `Block`.

    Tensors are not written again: they are read from the file that they are mapped from.
    """
    tensors = _tensors(corpus)
    most = MOST_WITH_TENSORS if tensors else MOST
    rows = max(1, min(most, -(-len(corpus) // (2 * workers))))
    files = tuple(
        _file_of(column, folder / f"column-{place}.npy")
        for place, column in enumerate(tensors.values())
    )
    backbone = "" if corpus.pixels is None else corpus.pixels.backbone
    blocks = []
    for number, start in enumerate(range(0, len(corpus), rows)):
        path = folder / f"block-{number:06d}.parquet"
        pq.write_table(_table(corpus, start, min(start + rows, len(corpus))), path)
        tags = corpus.labels_NV.shape[1]
        block = Block(str(path), tuple(tensors), files, tags, corpus.levels, backbone)
        blocks.append({name: _plain(value) for name, value in asdict(block).items()})
    return blocks


def read_blocks(blocks: Sequence[Mapping[str, object]]) -> Corpus:
    """The whole corpus again; its tensors are mapped where they lie."""
    table = pa.concat_tables(pq.read_table(str(block["path"])) for block in blocks)
    about = Block(**blocks[0])  # type: ignore[arg-type]
    columns = {
        name: Tensors(np.load(path, mmap_mode="r"), table.column(name).to_numpy())
        for name, path in zip(about.columns, about.files, strict=True)
    }
    return _assembled(table, columns, about.tags, tuple(about.levels), about.backbone)


def deal(blocks: "ray.data.Dataset", workers: int) -> list["ray.data.Dataset"]:
    """The blocks shared out one by one, as a data set of pictures a worker."""
    listed = sorted(blocks.take_all(), key=lambda block: str(block["path"]))
    parts = []
    for rank in range(workers):
        mine = listed[rank::workers]
        names = ray.data.from_items(mine, override_num_blocks=max(1, len(mine)))
        parts.append(names.map_batches(read_block, batch_size=1, num_cpus=0.05))
    return parts


def read_block(names: dict[str, NDArray[np.object_]]) -> pa.Table:
    """The pictures of one block, with their pixels and further columns where there are any."""
    table = pq.read_table(str(names["path"][0]))
    for column, path in zip(names["columns"][0], names["files"][0], strict=True):
        values_MX = np.load(str(path), mmap_mode="r")
        place = table.column_names.index(column)
        rows_B = table.column(column).to_numpy()
        table = table.set_column(place, column, schema.tensor_column(values_MX[rows_B]))
    about = {
        "tags": int(names["tags"][0]),
        "levels": [int(one) for one in names["levels"][0]],
        "backbone": str(names["backbone"][0]),
        "columns": pa.array([str(one) for one in names["columns"][0]], pa.string()).to_pylist(),
    }
    for name, value in about.items():
        kind = pa.list_(pa.string()) if name == "columns" else None
        table = table.append_column(f"about/{name}", pa.array([value] * len(table), kind))
    return table


def gather_shard(shard: "ray.data.DataIterator") -> Corpus:
    """A worker's share as a corpus, in the order of the whole; its tensors go to its own disk."""
    parts: list[pa.Table] = []
    spools: defaultdict[str, _Spool] = defaultdict(_Spool)
    # None is a whole block, which the signature does not know.
    batches = shard.iter_batches(batch_size=None, batch_format="pyarrow")  # type: ignore[arg-type]
    for part in batches:
        assert isinstance(part, pa.Table)
        if part.num_rows == 0:
            continue
        names = part.column("about/columns")[0].as_py()
        for name in names:
            spools[name].add(schema.tensor_values(part, name))
        parts.append(part.drop_columns(names))
    table = pa.concat_tables(parts)
    order = np.argsort(table.column(_ROW).to_numpy(), kind="stable")
    columns = {name: Tensors(spool.mapped(), order) for name, spool in spools.items()}
    for spool in spools.values():
        spool.close()
    return _assembled(
        table.take(pa.array(order)),
        columns,
        int(table.column("about/tags")[0].as_py()),
        tuple(table.column("about/levels")[0].as_py()),
        table.column("about/backbone")[0].as_py(),
    )


def _assembled(
    table: pa.Table,
    columns: Mapping[str, Tensors],
    tags: int,
    levels: tuple[int, ...],
    backbone: str,
) -> Corpus:
    """A corpus from what `_table` made, and its tensors."""
    squares = columns.get(schema.PIXELS)
    labels = table.column(_LABELS).combine_chunks()
    indptr = labels.offsets.to_numpy()
    indices = labels.flatten().to_numpy()
    ones = np.ones(len(indices), dtype=np.float32)
    labels_NV = sparse.csr_matrix((ones, indices, indptr - indptr[0]), shape=(len(table), tags))
    social = table.column(_SOCIAL).to_pylist()
    return Corpus(
        tuple(table.column(schema.IMAGE_ID).to_pylist()),
        schema.float_tensor(table, schema.EMBEDDING),
        labels_NV,
        levels,
        tuple(tuple(one) for one in social) if social[0] is not None else None,
        pixels=None if squares is None else Pixels(squares.values_MX, squares.rows_N, backbone),
        places_NV=_places(table, labels_NV),
        columns={name: one for name, one in columns.items() if name != schema.PIXELS},
    )


def _places(table: pa.Table, labels_NV: sparse.csr_matrix) -> sparse.csr_matrix | None:
    column = table.column(_PLACES)
    if column.null_count:
        return None
    values = column.combine_chunks().flatten().to_numpy()
    found = (values, labels_NV.indices, labels_NV.indptr)
    return sparse.csr_matrix(found, shape=labels_NV.shape)


class _Spool:
    """Tensors one after another in a file without a name, so that nobody has to remove it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._shape: tuple[int, ...] = ()
        self._type: np.dtype[np.generic] = np.dtype(np.uint8)
        self._rows = 0

    def add(self, values_BX: NDArray[np.generic]) -> None:
        self._file.write(np.ascontiguousarray(values_BX).tobytes())
        self._shape, self._type = values_BX.shape[1:], values_BX.dtype
        self._rows += len(values_BX)

    def close(self) -> None:
        """Close the file; what is mapped of it stays."""
        self._file.close()

    def mapped(self) -> NDArray[np.generic]:
        self._file.flush()
        return np.memmap(self._file, self._type, "r", shape=(self._rows, *self._shape))


def _table(corpus: Corpus, start: int, stop: int) -> pa.Table:
    labels = corpus.labels_NV[start:stop]
    social = corpus.social_tags
    places = corpus.places_NV
    listed = pa.list_(pa.float32())
    columns = {
        _ROW: pa.array(np.arange(start, stop)),
        schema.IMAGE_ID: pa.array(corpus.ids[start:stop], pa.string()),
        schema.EMBEDDING: schema.tensor_column(np.asarray(corpus.embeddings_ND[start:stop])),
        _LABELS: pa.ListArray.from_arrays(
            pa.array(labels.indptr, pa.int32()), pa.array(labels.indices, pa.int32())
        ),
        _SOCIAL: pa.nulls(stop - start, pa.list_(pa.string()))
        if social is None
        else pa.array(social[start:stop], pa.list_(pa.string())),
        _PLACES: pa.nulls(stop - start, listed)
        if places is None
        else pa.ListArray.from_arrays(
            pa.array(labels.indptr, pa.int32()), pa.array(places[start:stop].data, pa.float32())
        ),
    }
    for name, column in _tensors(corpus).items():
        columns[name] = pa.array(column.rows_N[start:stop])
    return pa.table(columns)


def _tensors(corpus: Corpus) -> dict[str, Tensors]:
    """The pixels and the further columns, by name."""
    pixels = {} if corpus.pixels is None else {schema.PIXELS: corpus.pixels}
    return {**pixels, **corpus.columns}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _file_of(column: Tensors, path: Path) -> str:
    """The `.npy` file of the tensors; those that are in memory are written to `path`."""
    values = column.values_MX
    if isinstance(values, np.memmap) and str(values.filename).endswith(".npy"):
        return str(values.filename)
    np.save(path, values)
    return str(path)
