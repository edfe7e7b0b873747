"""The workers that fit together: one process, or the ranks of a torch.distributed group."""

from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
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


class Torch:
    """The ranks of the default torch.distributed process group (gloo on CPU, nccl on GPU)."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def size(self) -> int:
        return dist.get_world_size()

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        tensor = torch.tensor(values, device=self._device)
        dist.all_reduce(tensor)
        total: NDArray[np.float64] = tensor.cpu().numpy()
        return total

    def gather(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        parts: list[NDArray[np.generic] | None] = [None] * self.size
        dist.all_gather_object(parts, values)
        return [part for part in parts if part is not None]
