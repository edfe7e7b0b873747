"""Adds up over an embedded corpus on Ray Data: its parts are measured in parallel, sums merged.

What is added up, such as the second moments that CCA is solved from, is of one size however many
pictures there are; neither a worker nor the driver ever holds more of the corpus than a block.
"""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from engine import schema
from engine.corpus import BLOCK, Corpus, Measure
from engine.errors import TagloomError
from engine.numerics.moments import Mergeable, accumulated, merged
from jobs.chunks import Inventory
from jobs.datasets import be_quiet
from jobs.sink import part_name
from jobs.store import Store

SHARE = 2 * BLOCK
"""Pictures that one task measures. Not a matter of how many workers there are: how the corpus is
cut decides the last bits of a sum."""

# Pickled: they go from one of Ray's workers to the next, as all that Ray moves. No file has them.
_SUM = "sum"
_FAILURE = "failure"

M = TypeVar("M", bound=Mergeable)


class EmbeddingFile:
    """Embeddings one after the other in a file on this machine, which is then mapped, not read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._shape = (0, 0)
        # What a run left that was stopped.
        Path(path).unlink(missing_ok=True)

    def append(self, values_BD: NDArray[np.float32]) -> None:
        """Add rows; all blocks have the same width."""
        with open(self.path, "ab") as file:
            np.ascontiguousarray(values_BD, dtype=np.float32).tofile(file)
        self._shape = (self._shape[0] + len(values_BD), values_BD.shape[1])

    def mapped(self) -> NDArray[np.float32]:
        """All rows [N, D]; memory holds those that are looked at, as long as there is room."""
        if not self._shape[0]:
            return np.empty(self._shape, dtype=np.float32)
        # Copy-on-write: what maps it may be written to, but the file stays as it is.
        return np.memmap(self.path, np.float32, "c", shape=self._shape)


@dataclass(frozen=True)
class PartSpread:
    """The `Spread` of a corpus that lies in parts, embedded, in a store that every worker sees."""

    store: Store
    inventory: Inventory

    def add_up(self, corpus: Corpus, measure: Measure[M]) -> M:
        """The sum over the pictures of `corpus`, each of which is a healthy row of some part.

        Raises:
            TagloomError: `measure` raised it in a worker.
        """
        found = pc.index_in(pa.array(corpus.ids), value_set=self._ids)
        assert not found.null_count, "the corpus has pictures that no part has"
        places_N = found.to_numpy().astype(np.int64)
        order_N = np.argsort(places_N)
        starts = np.cumsum([0, *(chunk.rows for chunk in self.inventory.chunks)])
        task = _Task(
            self.store,
            tuple(part_name(chunk.name) for chunk in self.inventory.chunks),
            starts,
            places_N[order_N],
            corpus.labels_NV[order_N],
            measure,
        )
        first_1D = task.embeddings(int(np.searchsorted(starts, places_N.min(), "right")) - 1, 0, 1)
        assert np.array_equal(first_1D[0], corpus.embeddings_ND[order_N[0]], equal_nan=True), (
            "the corpus has other embeddings than its parts; give it `spread=None`"
        )
        held = ray.put(task)
        shares = [{"first": first, "last": last} for first, last in task.shares()]
        dataset = ray.data.from_items(shares, override_num_blocks=len(shares)).map_batches(
            partial(_measure_share, held=held), batch_size=None, batch_format="pyarrow"
        )
        be_quiet(dataset.context)
        dataset.context.target_max_block_size = None
        # In order, for merging in another order would give other last bits.
        dataset.context.execution_options.preserve_order = True
        refs = (
            entry.ref for bundle in dataset.iter_internal_ref_bundles() for entry in bundle.blocks
        )
        total = ray.get(merged(_Remote(ref) for ref in refs).ref)
        if isinstance(total, pa.Table) and _FAILURE in total.column_names:
            raise pickle.loads(total.column(_FAILURE)[0].as_py())
        return cast(M, _unpacked(total))

    @cached_property
    def _ids(self) -> pa.Array:
        """The ids of all the rows of all the parts, in order; null where a row failed."""
        columns = [schema.IMAGE_ID, schema.ERROR]
        ids = []
        for chunk in self.inventory.chunks:
            with self.store.open(part_name(chunk.name)) as file:
                rows = pq.read_table(file, columns=columns)
            healthy = pc.is_null(rows.column(schema.ERROR))
            ids.append(pc.if_else(healthy, rows.column(schema.IMAGE_ID), None).combine_chunks())
        return pa.concat_arrays(ids)


@dataclass(frozen=True)
class _Task:
    """All that a worker needs; it is put once where all of them can read it.

    Attributes:
        starts: place of each part's first row, and one past the last part's last.
        places_N: of the corpus's pictures among all rows, ascending.
        labels_NV: in the order of `places_N`.
    """

    store: Store
    files: tuple[str, ...]
    starts: NDArray[np.int64]
    places_N: NDArray[np.int64]
    labels_NV: sparse.csr_matrix
    measure: Measure[Mergeable]

    def shares(self) -> Iterator[tuple[int, int]]:
        """Runs of parts (first, one past the last) with some `SHARE` of the pictures each."""
        ends_P = np.searchsorted(self.places_N, self.starts[1:])
        first = taken = 0
        for number, end in enumerate(ends_P.tolist(), 1):
            if end - taken >= SHARE or (number == len(ends_P) and end > taken):
                yield first, number
                first, taken = number, end

    def embeddings(self, part: int, begin: int, end: int) -> NDArray[np.float32]:
        """Those of the pictures `places_N[begin:end]`, all of which lie in one part."""
        with self.store.open(self.files[part]) as file:
            rows = pq.read_table(file, columns=[schema.EMBEDDING])
        wanted = self.places_N[begin:end] - self.starts[part]
        return schema.float_tensor(rows.take(wanted), schema.EMBEDDING)

    def blocks(self, first: int, last: int) -> Iterator[tuple[NDArray[np.float32], slice]]:
        """Embeddings [B, D] of the pictures in those parts, and where they are in `places_N`."""
        begin = end = int(np.searchsorted(self.places_N, self.starts[first]))
        held: list[NDArray[np.float32]] = []
        for part in range(first, last):
            upto = int(np.searchsorted(self.places_N, self.starts[part + 1]))
            if upto > end:
                held.append(self.embeddings(part, end, upto))
                end = upto
            if end - begin >= BLOCK or (part == last - 1 and end > begin):
                yield np.concatenate(held), slice(begin, end)
                held, begin = [], end


def _measure_share(batch: pa.Table, held: "ray.ObjectRef[_Task]") -> pa.Table:
    """What `measure` finds in one share, as a table of one row."""
    task: _Task = ray.get(held)
    first, last = (int(batch.column(name)[0].as_py()) for name in ("first", "last"))
    try:
        # With one thread: the cores are shared out among the tasks already.
        with threadpool_limits(1):
            return _packed(
                accumulated(
                    task.measure(x_BD, task.labels_NV[rows])
                    for x_BD, rows in task.blocks(first, last)
                )
            )
    except TagloomError as error:
        # Raised here it would reach the driver as an error of Ray's.
        return pa.table({_FAILURE: [pickle.dumps(error)]})


@dataclass(frozen=True)
class _Remote:
    """A sum that some worker holds; adding two of them is a task, too."""

    ref: "ray.ObjectRef[pa.Table]"

    def __add__(self, other: "_Remote") -> "_Remote":
        return _Remote(ray.remote(num_cpus=1)(_sum_of_two).remote(self.ref, other.ref))


def _sum_of_two(one: pa.Table, other: pa.Table) -> pa.Table:
    for table in (one, other):
        if _FAILURE in table.column_names:
            return table
    return _packed(_unpacked(one) + _unpacked(other))


def _packed(total: Mergeable) -> pa.Table:
    data = pickle.dumps(total, protocol=pickle.HIGHEST_PROTOCOL)
    return pa.table({_SUM: pa.array([data], pa.large_binary())})


def _unpacked(table: pa.Table) -> Mergeable:
    total: Mergeable = pickle.loads(table.column(_SUM)[0].as_buffer())
    return total
