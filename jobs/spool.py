"""Tensors of a corpus to learn from, gathered from its parts into one file that is mapped."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.tensors import Tensors
from jobs.store import Store


class TensorSpool:
    """Collects a column part by part, without ever holding more than one part's.

    Args:
        store: a local folder, in which a file is made if the column is there.
        column: whose tensors they are.
        most: rows that may come.
    """

    def __init__(self, store: Store, column: str, most: int) -> None:
        self._path = store.path(f"spool-{column.replace('/', '-')}.npy")
        self._column = column
        self._most = most
        self._rows = 0
        self._values_MX: np.memmap | None = None

    def add(self, part: pa.Table) -> None:
        """Take the column of a part; a part may be without it."""
        if self._column not in part.column_names:
            return
        values_BX = schema.tensor_values(part, self._column)
        if self._values_MX is None:
            # As long as it may become: what is not written takes no room on the disk.
            shape = (self._most, *values_BX.shape[1:])
            self._values_MX = np.lib.format.open_memmap(self._path, "w+", values_BX.dtype, shape)
        stop = self._rows + len(values_BX)
        self._values_MX[self._rows : stop] = values_BX
        self._rows = stop

    def tensors(self, rows_N: NDArray[np.int64]) -> Tensors | None:
        """Those of the rows `rows_N`; None where no part had the column."""
        if self._values_MX is None:
            return None
        self._values_MX.flush()
        return Tensors(np.load(self._path, mmap_mode="r"), rows_N.astype(np.int64))
