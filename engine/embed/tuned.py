"""A backbone whose last layer is replaced by a new one, all of it to be trained on pixels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from engine.embed.eager import Preprocessed
from engine.embed.networks import SOURCES
from engine.embed.zoo import Backbone, backbone

BATCH = 32
"""Pictures in one pass of a network that is done with training."""


class Regressor(nn.Module):
    """Pixels to E numbers: the backbone, its embedding scaled, and a linear layer.

    Batch normalisation keeps the statistics of the weights it came with: those of a small batch
    are poor, and would make the ranks' shares of a batch matter.
    """

    def __init__(self, spec: Backbone, network: nn.Module, outputs: int) -> None:
        super().__init__()
        self.backbone = Preprocessed(spec, network)
        self.mean = nn.Buffer(torch.zeros(spec.width))
        self.scale = nn.Buffer(torch.ones(spec.width))
        self.head = nn.Linear(spec.width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        features_BD = (self.backbone(pixels_BHWC) - self.mean) * self.scale
        outputs_BE: torch.Tensor = self.head(features_BD)
        return outputs_BE

    def train(self, mode: bool = True) -> "Regressor":
        super().train(mode)
        self.backbone.eval()
        return self

    def freeze_unused(self, size: int) -> None:
        """Take the parameters that no output depends on, such as the classifier's, off training."""
        pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        self(pixels).sum().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None


def new_regressor(
    name: str,
    outputs: int,
    mean_D: NDArray[np.float64],
    deviation_D: NDArray[np.float64],
) -> Regressor:
    """A backbone with the weights it is known by, under a new layer of zeros.

    Args:
        mean_D, deviation_D: of the embedding's features over the pictures to train on.

    Raises:
        BackboneError: the weights cannot be had.
    """
    spec = backbone(name)
    network = Regressor(spec, spec.network(), outputs)
    scale_D = 1 / np.maximum(deviation_D, 1e-3 * max(float(deviation_D.mean()), 1e-12))
    # The squared length of a picture's features is then 1 on average.
    scale_D /= np.sqrt(spec.width)
    network.mean.copy_(torch.from_numpy(mean_D))
    network.scale.copy_(torch.from_numpy(scale_D))
    network.freeze_unused(spec.geometry.size)
    return network.eval()


def save_regressor(network: Regressor, path: Path) -> None:
    """Write all the weights as safetensors."""
    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, path)


def load_regressor(name: str, outputs: int, path: Path) -> Regressor:
    """Read what `save_regressor` wrote; the backbone's own weights are not needed."""
    with torch.random.fork_rng(devices=[]):
        network = Regressor(backbone(name), SOURCES[name].build(), outputs)
    network.load_state_dict(load_file(path))
    return network.eval()


def outputs(network: Regressor, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a trained network says of uint8 pixels [B, S, S, 3]: float32 [B, E]."""
    device = next(network.parameters()).device
    found = [np.zeros((0, network.head.out_features), dtype=np.float32)]
    with torch.inference_mode():
        for batch in _batches(pixels_BHWC):
            found.append(network(batch.to(device)).float().cpu().numpy())
    return np.concatenate(found)


def _batches(pixels_BHWC: NDArray[np.uint8]) -> Iterator[torch.Tensor]:
    for start in range(0, len(pixels_BHWC), BATCH):
        # Copied: a column's memory is read-only, which torch does not take.
        yield torch.from_numpy(np.array(pixels_BHWC[start : start + BATCH], order="C"))
