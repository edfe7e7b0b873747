"""The networks of modalities in torch: layers that a machine can teach, and a similarity."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from engine.modalities.settings import DenseSettings, PixelSettings
from engine.numerics.rbm import ConvolutionalRbm, Machine, Rbm
from engine.numerics.similarity import LEAST, SIGMA, Similarity


class Layer(nn.Module, ABC):
    """Units that are rectified in the network, and of which a machine learns the first weights."""

    weights: nn.Parameter
    bias: nn.Parameter

    @abstractmethod
    def machine(self, is_gaussian: bool) -> Machine:
        """A machine of this layer's shape over visible units of its input."""

    @abstractmethod
    def units(self, side: int) -> tuple[int, ...]:
        """Shape of a picture's hidden units in that machine, for maps of such a side."""

    @abstractmethod
    def upward(self, x: torch.Tensor) -> torch.Tensor:
        """The units' inputs."""

    @abstractmethod
    def onward(self, active: torch.Tensor) -> torch.Tensor:
        """From the units' activity to what the next layer sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.onward(functional.relu(self.upward(x)))

    def probabilities(self, x: torch.Tensor) -> torch.Tensor:
        """What the next layer's machine sees: P(h = 1 | x)."""
        return self.onward(torch.sigmoid(self.upward(x)))

    def take(self, machine: Rbm | ConvolutionalRbm) -> None:
        """Begin where a machine ended."""
        with torch.no_grad():
            self.weights.copy_(machine.weights)
            self.bias.copy_(machine.hidden_bias)


class Dense(Layer):
    """Weights float32 [D, H]; maps that come in are laid out as one vector."""

    def __init__(self, visible: int, hidden: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(visible, hidden) * (2 / visible) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(hidden))

    def machine(self, is_gaussian: bool) -> Machine:
        visible, hidden = self.weights.shape
        return Rbm(visible, hidden, is_gaussian)

    def units(self, side: int) -> tuple[int, ...]:
        return (self.weights.shape[1],)

    def upward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weights + self.bias

    def onward(self, active: torch.Tensor) -> torch.Tensor:
        return active


class Convolution(Layer):
    """Filters float32 [K, C, k, k]; where it pools, it normalises too (Sun et al., section 2)."""

    def __init__(self, channels: int, filters: int, width: int, stride: int, pools: bool) -> None:
        super().__init__()
        spread = (2 / (channels * width**2)) ** 0.5
        self.weights = nn.Parameter(torch.randn(filters, channels, width, width) * spread)
        self.bias = nn.Parameter(torch.zeros(filters))
        self.stride = stride
        self.pools = pools

    def machine(self, is_gaussian: bool) -> Machine:
        filters, channels, width, _ = self.weights.shape
        return ConvolutionalRbm(channels, filters, width, self.stride, is_gaussian)

    def units(self, side: int) -> tuple[int, ...]:
        return (len(self.weights), side // self.stride, side // self.stride)

    def upward(self, x: torch.Tensor) -> torch.Tensor:
        padding = self.weights.shape[-1] // 2
        return functional.conv2d(x, self.weights, self.bias, self.stride, padding)

    def onward(self, active: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(active, 2) if self.pools else active

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = functional.relu(self.upward(x))
        if self.pools:
            active = functional.local_response_norm(active, 5)
        return self.onward(active)


class Trunk(nn.Module):
    """From a view of a picture to its representation.

    Attributes:
        layers: in order.
        is_gaussian: of what the first layer sees.
        dropout: of the dense layers' units.
    """

    def __init__(self, layers: Sequence[Layer], is_gaussian: bool, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.is_gaussian = is_gaussian
        self.dropout = dropout

    @property
    def width(self) -> int:
        """H, of the representation."""
        last = self.layers[-1]
        assert isinstance(last, Dense)
        return last.weights.shape[1]

    def prepare(self, x: torch.Tensor) -> torch.Tensor:
        """What the first layer sees."""
        return x

    def dropped(self) -> int:
        """How many units may be dropped, over all the layers."""
        return sum(layer.weights.shape[1] for layer in self.layers if isinstance(layer, Dense))

    def forward(self, x: torch.Tensor, draws_BU: torch.Tensor | None) -> torch.Tensor:
        """The representation [B, H].

        Args:
            draws_BU: uniform in [0, 1), one for each of `dropped` units; None: none is dropped.
        """
        found, start = self.prepare(x), 0
        for layer in self.layers:
            found = layer(found)
            if draws_BU is not None and isinstance(layer, Dense):
                stop = start + found.shape[1]
                stays = draws_BU[:, start:stop] >= self.dropout
                found, start = found * stays / (1 - self.dropout), stop
        return found


class PixelTrunk(Trunk):
    """The eight-layer network's first seven, on squares uint8 [B, S, S, 3]."""

    def __init__(self, settings: PixelSettings) -> None:
        widths, pools = (7, 5, 3, 3, 3), (True, True, False, False, True)
        strides, channels = (2, 2, 1, 1, 1), (3, *settings.filters[:-1])
        layers: list[Layer] = [
            Convolution(*shape)
            for shape in zip(channels, settings.filters, widths, strides, pools, strict=True)
        ]
        flat = settings.filters[-1] * (settings.side // 32) ** 2
        layers += [Dense(flat, settings.widths[0]), Dense(*settings.widths)]
        super().__init__(layers, True, settings.dropout)
        self.side = settings.side

    def prepare(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, side, side], of about zero mean and unit variance."""
        found = x.permute(0, 3, 1, 2).float() / 64 - 2
        if not len(x):
            # Which no interpolation takes.
            return found.new_zeros(0, 3, self.side, self.side)
        size = (self.side, self.side)
        return functional.interpolate(
            found, size, mode="bilinear", antialias=True, align_corners=False
        )


def dense_trunk(visible: int, is_gaussian: bool, settings: DenseSettings) -> Trunk:
    """The network of a feature vector [D]."""
    sizes = (visible, *settings.widths)
    layers = [Dense(*pair) for pair in itertools.pairwise(sizes)]
    return Trunk(layers, is_gaussian, settings.dropout)


class Comparison(nn.Module):
    """A trunk of its own and the tags' weights W [V, H], compared by one similarity (Eq. 4)."""

    def __init__(self, trunk: Trunk, tags: int, similarity: Similarity) -> None:
        super().__init__()
        self.trunk = trunk
        self.tags = nn.Parameter(torch.randn(tags, trunk.width) / trunk.width**0.5)
        self.similarity = similarity

    def forward(self, x: torch.Tensor, draws_BU: torch.Tensor | None) -> torch.Tensor:
        """S of every tag, [B, V]."""
        return similarities(self.trunk(x, draws_BU), self.tags, self.similarity)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights by name, the layers' as weights0, bias0 and so on."""
        found = {"tags": self.tags}
        for place, layer in enumerate(self.trunk.layers):
            assert isinstance(layer, Layer)
            found |= {f"weights{place}": layer.weights, f"bias{place}": layer.bias}
        return {name: one.detach().numpy().copy() for name, one in found.items()}

    def fill(self, arrays: Mapping[str, NDArray[np.float32]]) -> "Comparison":
        """Take what `arrays` gave."""
        with torch.no_grad():
            self.tags.copy_(torch.from_numpy(arrays["tags"]))
            for place, layer in enumerate(self.trunk.layers):
                assert isinstance(layer, Layer)
                layer.weights.copy_(torch.from_numpy(arrays[f"weights{place}"]))
                layer.bias.copy_(torch.from_numpy(arrays[f"bias{place}"]))
        return self.eval()


def similarities(found_BH: torch.Tensor, tags_VH: torch.Tensor, kind: Similarity) -> torch.Tensor:
    """As `engine.numerics.similarity.similarities`, with a gradient."""
    if kind == "linear":
        return found_BH @ tags_VH.T
    directions_BH = functional.normalize(found_BH, dim=1, eps=LEAST)
    if kind == "cosine":
        return directions_BH @ functional.normalize(tags_VH, dim=1, eps=LEAST).T
    squares_BV = (
        directions_BH.square().sum(1, keepdim=True)
        + tags_VH.square().sum(1)
        - 2 * directions_BH @ tags_VH.T
    )
    return torch.exp(-squares_BV / (2 * SIGMA))
