"""A corpus to learn from as blocks on shared storage, and a worker's share of them read back."""

import tempfile
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
from engine.corpus import Corpus, Pixels

MOST, MOST_WITH_PIXELS = 1024, 64
"""Pictures in a block: with their pixels it is a dozen megabytes."""

_ROW, _LABELS, _SOCIAL, _PLACES = "row", "labels", "social", "places"


@dataclass(frozen=True)
class Block:
    """Some of the corpus's pictures.

    Attributes:
        path: Parquet with all but their pixels.
        squares: the `.npy` file with the squares of all pictures; empty: there are none.
        tags: V; levels, backbone: as in `Corpus` and `Pixels`.
    """

    path: str
    squares: str
    tags: int
    levels: tuple[int, ...]
    backbone: str


def write_shards(corpus: Corpus, folder: Path, workers: int) -> "ray.data.Dataset":
    """Write the corpus into a folder that all workers share; a data set of its blocks' names.

    Pixels are not written again: they are read from the file that they are mapped from.
    """
    most = MOST if corpus.pixels is None else MOST_WITH_PIXELS
    rows = max(1, min(most, -(-len(corpus) // (2 * workers))))
    squares = "" if corpus.pixels is None else _file_of(corpus.pixels, folder)
    backbone = "" if corpus.pixels is None else corpus.pixels.backbone
    blocks = []
    for number, start in enumerate(range(0, len(corpus), rows)):
        path = folder / f"block-{number:06d}.parquet"
        pq.write_table(_table(corpus, start, min(start + rows, len(corpus))), path)
        tags = corpus.labels_NV.shape[1]
        blocks.append(asdict(Block(str(path), squares, tags, corpus.levels, backbone)))
    return ray.data.from_items(blocks, override_num_blocks=len(blocks))


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
    """The pictures of one block, with their pixels where there are any."""
    table = pq.read_table(str(names["path"][0]))
    path = str(names["squares"][0])
    if path:
        squares_MHWC = np.load(path, mmap_mode="r")
        places_B = table.column(schema.PIXELS).to_numpy()
        place = table.column_names.index(schema.PIXELS)
        column = schema.tensor_column(squares_MHWC[places_B])
        table = table.set_column(place, schema.PIXELS, column)
    about = {name: names[name][0] for name in ("tags", "levels", "backbone")}
    for name, value in about.items():
        plain = [int(one) for one in value] if name == "levels" else value
        table = table.append_column(f"about/{name}", pa.array([plain] * len(table)))
    return table


def gather_shard(shard: "ray.data.DataIterator") -> Corpus:
    """A worker's share as a corpus, in the order of the whole; its pixels go to its own disk."""
    parts: list[pa.Table] = []
    squares = _Spool()
    # None is a whole block, which the signature does not know.
    batches = shard.iter_batches(batch_size=None, batch_format="pyarrow")  # type: ignore[arg-type]
    for part in batches:
        assert isinstance(part, pa.Table)
        if part.num_rows == 0:
            continue
        if part.column("about/backbone")[0].as_py():
            squares.add(schema.tensor_values(part, schema.PIXELS).astype(np.uint8, copy=False))
            part = part.drop_columns([schema.PIXELS])
        parts.append(part)
    table = pa.concat_tables(parts)
    order = np.argsort(table.column(_ROW).to_numpy(), kind="stable")
    backbone = table.column("about/backbone")[0].as_py()
    pixels = Pixels(squares.mapped(), order, backbone) if backbone else None
    squares.close()
    table = table.take(pa.array(order))
    labels = table.column(_LABELS).combine_chunks()
    indptr = labels.offsets.to_numpy()
    indices = labels.flatten().to_numpy()
    shape = (len(table), int(table.column("about/tags")[0].as_py()))
    ones = np.ones(len(indices), dtype=np.float32)
    labels_NV = sparse.csr_matrix((ones, indices, indptr - indptr[0]), shape=shape)
    social = table.column(_SOCIAL).to_pylist()
    return Corpus(
        tuple(table.column(schema.IMAGE_ID).to_pylist()),
        schema.float_tensor(table, schema.EMBEDDING),
        labels_NV,
        tuple(table.column("about/levels")[0].as_py()),
        tuple(tuple(one) for one in social) if social[0] is not None else None,
        pixels=pixels,
        places_NV=_places(table, labels_NV),
    )


def _places(table: pa.Table, labels_NV: sparse.csr_matrix) -> sparse.csr_matrix | None:
    column = table.column(_PLACES)
    if column.null_count:
        return None
    values = column.combine_chunks().flatten().to_numpy()
    found = (values, labels_NV.indices, labels_NV.indptr)
    return sparse.csr_matrix(found, shape=labels_NV.shape)


class _Spool:
    """Squares one after another in a file without a name, so that nobody has to remove it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._shape: tuple[int, ...] = ()
        self._rows = 0

    def add(self, squares_BHWC: NDArray[np.uint8]) -> None:
        self._file.write(np.ascontiguousarray(squares_BHWC).tobytes())
        self._shape = squares_BHWC.shape[1:]
        self._rows += len(squares_BHWC)

    def close(self) -> None:
        """Close the file; what is mapped of it stays."""
        self._file.close()

    def mapped(self) -> NDArray[np.uint8]:
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r", shape=(self._rows, *self._shape))


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
    if corpus.pixels is not None:
        columns[schema.PIXELS] = pa.array(corpus.pixels.rows_N[start:stop])
    return pa.table(columns)


def _file_of(pixels: Pixels, folder: Path) -> str:
    """The `.npy` file of the squares; squares that are in memory are written to one."""
    squares = pixels.squares_MHWC
    if isinstance(squares, np.memmap) and str(squares.filename).endswith(".npy"):
        return str(squares.filename)
    path = folder / "squares.npy"
    np.save(path, squares)
    return str(path)
