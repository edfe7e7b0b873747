"""A tensor for each picture of a corpus, which may lie on disk: read as it is asked for."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tensors:
    """Tensors of N pictures.

    Attributes:
        values_MX: [M, ...], possibly memory-mapped.
        rows_N: int64, where in `values_MX` that of each of the N pictures is.
    """

    values_MX: NDArray[np.generic]
    rows_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows_N)

    def take(self, rows_B: NDArray[np.int64]) -> NDArray[np.generic]:
        """Read the tensors [B, ...] of some pictures."""
        return np.asarray(self.values_MX[self.rows_N[rows_B]])

    def subset(self, rows_M: NDArray[np.int64]) -> Self:
        """The pictures at `rows_M`, in that order; nothing is read."""
        return replace(self, rows_N=self.rows_N[rows_M])


@dataclass(frozen=True)
class Pixels(Tensors):
    """Squares of pictures, uint8 RGB [M, S, S, 3].

    Attributes:
        backbone: whose input they are.
    """

    backbone: str

    def take(self, rows_B: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the squares [B, S, S, 3] of some pictures."""
        return super().take(rows_B).astype(np.uint8, copy=False)
