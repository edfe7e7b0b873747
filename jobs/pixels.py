"""The pixels of a corpus to learn from, gathered from its parts into one file that is mapped."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.corpus import Pixels
from jobs.store import Store


class PixelSpool:
    """Collects squares part by part, without ever holding more than one part's.

    Args:
        store: a local folder, in which the file `pixels.npy` is made if there are any.
        most: rows that may come.
    """

    def __init__(self, store: Store, most: int) -> None:
        self._path = store.path("pixels.npy")
        self._most = most
        self._rows = 0
        self._squares_MHWC: np.memmap | None = None

    def add(self, part: pa.Table) -> None:
        """Take the pixels of a part; a part without that column has none."""
        if schema.PIXELS not in part.column_names:
            return
        squares_BHWC = schema.tensor_values(part, schema.PIXELS).astype(np.uint8, copy=False)
        if self._squares_MHWC is None:
            # As long as it may become: what is not written takes no room on the disk.
            shape = (self._most, *squares_BHWC.shape[1:])
            self._squares_MHWC = np.lib.format.open_memmap(self._path, "w+", np.uint8, shape)
        stop = self._rows + len(squares_BHWC)
        self._squares_MHWC[self._rows : stop] = squares_BHWC
        self._rows = stop

    def pixels(self, rows_N: NDArray[np.int64], backbone: str) -> Pixels | None:
        """The squares of the rows `rows_N`; None where there were none."""
        if self._squares_MHWC is None:
            return None
        self._squares_MHWC.flush()
        return Pixels(np.load(self._path, mmap_mode="r"), rows_N.astype(np.int64), backbone)
