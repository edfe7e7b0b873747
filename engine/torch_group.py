"""The ranks of a torch.distributed process group as a `Group`."""

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray


class Torch:
    """The ranks of the default torch.distributed process group (gloo on CPU, nccl on GPU)."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def size(self) -> int:
        return dist.get_world_size()

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        tensor = torch.tensor(values, device=self.device)
        dist.all_reduce(tensor)
        total: NDArray[np.float64] = tensor.cpu().numpy()
        return total

    def gather(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        parts: list[NDArray[np.generic] | None] = [None] * self.size
        dist.all_gather_object(parts, values)
        return [part for part in parts if part is not None]
