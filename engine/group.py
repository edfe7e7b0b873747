"""The workers that fit together; `engine.torch_group` has the ranks of torch.distributed."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Group(Protocol):
    """What a `fit` may ask of its fellow workers; every rank must make the same calls."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Element-wise sum over the ranks; every rank gets it."""
        ...

    def gather(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        """Every rank's array, in rank order; the first axes may differ in length."""
        ...


class Solo:
    """A group of one: sums and gathers are what went in."""

    rank = 0
    size = 1

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values

    def gather(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        return [values]
