"""The vectors that an index is built of, wherever they lie: given out block by block."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Vectors(Protocol):
    """N vectors of one width; who has them decides where they lie."""

    @property
    def count(self) -> int: ...

    @property
    def width(self) -> int: ...

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """The vectors of rows [start, stop)."""
        ...

    def take(self, rows_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, in their order."""
        ...


@dataclass(frozen=True)
class ArrayVectors:
    """Vectors that lie in an array, which may be memory-mapped."""

    vectors_NL: NDArray[np.float32]

    @property
    def count(self) -> int:
        return len(self.vectors_NL)

    @property
    def width(self) -> int:
        return int(self.vectors_NL.shape[1])

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.vectors_NL[start:stop], dtype=np.float32)

    def take(self, rows_M: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.vectors_NL[rows_M], dtype=np.float32)
