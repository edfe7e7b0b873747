"""A backbone computed by torch itself, on the CPU or on a GPU."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.embed.graphs import Run
from engine.embed.zoo import Backbone


class Preprocessed(nn.Module):
    """A backbone's network behind its own normalisation: takes uint8 [B, H, W, 3]."""

    def __init__(self, backbone: Backbone, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.mean = nn.Buffer(torch.tensor(backbone.mean).reshape(1, 3, 1, 1))
        self.std = nn.Buffer(torch.tensor(backbone.std).reshape(1, 3, 1, 1))

    def forward(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(self.normalised(pixels_BHWC))
        return found

    def normalised(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """Pixels as the network takes them, [B, 3, H, W]."""
        pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(self.mean.dtype)
        scaled: torch.Tensor = (pixels_BCHW - self.mean) / self.std
        return scaled


def half_type(has_gpu: bool) -> torch.dtype:
    """bfloat16, or float16 on a GPU that has no bfloat16."""
    return torch.float16 if has_gpu and not torch.cuda.is_bf16_supported() else torch.bfloat16


def load_network(backbone: Backbone, half: bool, threads: int) -> Run:
    """The backbone on the GPU, compiled, where there is one, else on the CPU.

    Raises:
        BackboneError: the weights cannot be had.
    """
    has_gpu = torch.cuda.device_count() > 0
    device = torch.device("cuda" if has_gpu else "cpu")
    torch.set_num_threads(threads)
    dtype = half_type(has_gpu) if half else torch.float32
    network: nn.Module = Preprocessed(backbone, backbone.network()).eval()
    network = network.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
    if has_gpu:
        # Dynamic, for the last batch of a chunk is a short one.
        network.compile(dynamic=True)

    def run(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            # Copied: a column's memory is read-only, which torch does not take.
            batch = torch.from_numpy(np.array(pixels_BHWC, order="C")).to(device)
            embeddings_BD: NDArray[np.float32] = network(batch).float().cpu().numpy()
            return embeddings_BD

    return run
