"""Restricted Boltzmann machines, dense and convolutional, and contrastive divergence as a loss."""

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional


class Machine(nn.Module, ABC):
    """Binary hidden units over visible ones that are binary, or Gaussian with unit variance.

    Attributes:
        is_gaussian: of the visible units; binary ones also take values between 0 and 1, which
            count as probabilities.
    """

    def __init__(self, is_gaussian: bool) -> None:
        super().__init__()
        self.is_gaussian = is_gaussian

    @abstractmethod
    def upward(self, visible: torch.Tensor) -> torch.Tensor:
        """The hidden units' inputs, before the logistic function."""

    @abstractmethod
    def downward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The visible units' inputs."""

    @abstractmethod
    def field(self, visible: torch.Tensor) -> torch.Tensor:
        """The energy of the visible units by themselves: [B]."""

    def hidden(self, visible: torch.Tensor) -> torch.Tensor:
        """P(h = 1 | v): what the next machine sees (Sun et al., section 3.2)."""
        return torch.sigmoid(self.upward(visible))

    def reconstruct(self, visible: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """One step of Gibbs sampling: hidden units drawn, then the mean of the visible ones.

        Args:
            draws: uniform in [0, 1), one a hidden unit.
        """
        drawn = (draws < self.hidden(visible)).to(visible.dtype)
        found = self.downward(drawn)
        return found if self.is_gaussian else torch.sigmoid(found)

    def free_energy(self, visible: torch.Tensor) -> torch.Tensor:
        """-log of the unnormalised probability of what is visible: [B]."""
        return self.field(visible) - functional.softplus(self.upward(visible)).flatten(1).sum(1)

    def forward(self, visible: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """A loss [B] whose gradient is the negative of CD-1's step (Hinton 2002).

        It is the free energy of the data less that of their reconstruction, which is held fixed:
        -∂/∂W = v p(h|v)ᵀ - v' p(h|v')ᵀ, and so for the biases.
        """
        with torch.no_grad():
            reconstruction = self.reconstruct(visible, draws)
        return self.free_energy(visible) - self.free_energy(reconstruction)


class Rbm(Machine):
    """Every visible unit joined to every hidden one.

    Attributes:
        weights: float32 [D, H], of the size that keeps a signal's from layer to layer: a network
            that begins with smaller ones, for a machine was hardly taught, has lost it at its end.
        hidden_bias: [H]; visible_bias: [D].
    """

    def __init__(self, visible: int, hidden: int, is_gaussian: bool) -> None:
        super().__init__(is_gaussian)
        self.weights = nn.Parameter(torch.randn(visible, hidden) / visible**0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))

    def upward(self, visible: torch.Tensor) -> torch.Tensor:
        return visible @ self.weights + self.hidden_bias

    def downward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.weights.T + self.visible_bias

    def field(self, visible: torch.Tensor) -> torch.Tensor:
        if self.is_gaussian:
            return 0.5 * (visible - self.visible_bias).square().sum(1)
        return -(visible @ self.visible_bias)


class ConvolutionalRbm(Machine):
    """Hidden maps whose units see a window each, with the same weights (Lee et al. 2009).

    Attributes:
        weights: float32 [K, C, k, k]; hidden_bias: [K]; visible_bias: [C].
    """

    def __init__(
        self, channels: int, filters: int, width: int, stride: int, is_gaussian: bool
    ) -> None:
        super().__init__(is_gaussian)
        self.stride = stride
        self.padding = width // 2
        spread = (channels * width**2) ** -0.5
        self.weights = nn.Parameter(spread * torch.randn(filters, channels, width, width))
        self.hidden_bias = nn.Parameter(torch.zeros(filters))
        self.visible_bias = nn.Parameter(torch.zeros(channels))

    def upward(self, visible: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(visible, self.weights, self.hidden_bias, self.stride, self.padding)

    def downward(self, hidden: torch.Tensor) -> torch.Tensor:
        found = functional.conv_transpose2d(
            hidden,
            self.weights,
            self.visible_bias,
            self.stride,
            self.padding,
            # What a stride rounds off an even side.
            output_padding=self.stride - 1,
        )
        return found

    def field(self, visible: torch.Tensor) -> torch.Tensor:
        bias = self.visible_bias[:, None, None]
        if self.is_gaussian:
            return 0.5 * (visible - bias).square().flatten(1).sum(1)
        return -(visible * bias).flatten(1).sum(1)

    def forward(self, visible: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """CD-1's loss a hidden position: shared weights add up over all of them."""
        side = visible.shape[-1]
        if side % self.stride:
            raise ValueError(
                f"side is {side} and stride is {self.stride}; make one divide the other"
            )
        positions = (side // self.stride) ** 2
        loss: torch.Tensor = super().forward(visible, draws) / positions
        return loss
