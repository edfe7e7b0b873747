"""One step of a long short-term memory for a whole batch, in NumPy: a fitted one needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


@dataclass(frozen=True)
class Lstm:
    """The weights of one layer in the layout of `torch.nn.LSTMCell`, and what they compute.

    Yan et al. 2016, Eq. 4 to 9, with the biases that torch has. The G = 4·H rows are those of the
    input gate, the forget gate, the new content and the output gate, H of each.

    Attributes:
        weight_ih_GD, weight_hh_GH, bias_ih_G, bias_hh_G: float32.
    """

    weight_ih_GD: NDArray[np.float32]
    weight_hh_GH: NDArray[np.float32]
    bias_ih_G: NDArray[np.float32]
    bias_hh_G: NDArray[np.float32]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]], prefix: str = "") -> "Lstm":
        """From a state dict's `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`, each after `prefix`.

        The names of the first layer of a `torch.nn.LSTM`, which end in `_l0`, will do as well.
        """
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        layer = "" if f"{prefix}weight_ih" in arrays else "_l0"
        return cls(*(arrays[f"{prefix}{name}{layer}"] for name in names))

    @property
    def width(self) -> int:
        """H, of the hidden state."""
        return int(self.weight_hh_GH.shape[1])

    def start(self, batch: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Hidden state and cell [B, H] before the first step: zeros."""
        zeros_BH = np.zeros((batch, self.width), dtype=np.float32)
        return zeros_BH, zeros_BH.copy()

    def read(self, x_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """What an input adds to the gates, float32 [B, G]: once for an input of several steps."""
        return x_BD @ self.weight_ih_GD.T + (self.bias_ih_G + self.bias_hh_G)

    def step(
        self,
        read_BG: NDArray[np.float32],
        hidden_BH: NDArray[np.float32],
        cell_BH: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The next hidden state and cell, float32 [B, H] each.

        Args:
            read_BG: what `read` made of this step's input.
        """
        gates_BG = read_BG + hidden_BH @ self.weight_hh_GH.T
        enter_BH, forget_BH, content_BH, leave_BH = np.split(gates_BG, 4, axis=1)
        next_BH = expit(forget_BH) * cell_BH + expit(enter_BH) * np.tanh(content_BH)
        return expit(leave_BH) * np.tanh(next_BH), next_BH
