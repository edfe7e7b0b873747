"""The recurrent peers of JVSP in NumPy, step by step: what fitted ones need.

START is the last tag V, END the column V of what comes next. The weights are those of the modules
of the same names in `engine.training.propagation`; what their layer `image` makes of a picture is
given.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax

from engine.numerics.lstm import Lstm

Weights = Mapping[str, NDArray[np.float32]]
State = tuple[NDArray[np.float32], ...]
Said = tuple[NDArray[np.float32], State]
"""Log-probabilities float32 [B, V + 1] of the next tag, and the next state."""


class CnnRnn:
    """Wang et al. 2016, for rows that are all at the same step."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.lstm = Lstm.of(weights, "lstm.")

    def start(self, image_BE: NDArray[np.float32]) -> State:
        """Before the first step: what the image adds in the projected space, h_0 and c_0."""
        return image_BE, *self.lstm.start(len(image_BE))

    def step(self, state: State, last_B: NDArray[np.int64]) -> Said:
        """One step."""
        image_BE, hidden_BH, cell_BH = state
        words = self.weights["words.weight"]
        hidden_BH, cell_BH = self.lstm.step(self.lstm.read(words[last_B]), hidden_BH, cell_BH)
        joined_BE = np.maximum(hidden_BH @ self.weights["project.weight"].T + image_BE, 0)
        log_BO: NDArray[np.float32] = log_softmax(joined_BE @ words.T, axis=1)
        return log_BO, (image_BE, hidden_BH, cell_BH)


class Ria:
    """Jin and Nakayama 2016, for rows that are all at the same step."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.lstm = Lstm.of(weights, "lstm.")

    def start(self, image_BX: NDArray[np.float32]) -> State:
        """Before the first step: h_0 and c_0."""
        return image_BX, np.zeros_like(image_BX)

    def step(self, state: State, last_B: NDArray[np.int64]) -> Said:
        """One step."""
        read_BG = self.lstm.read(self.weights["words.weight"][last_B])
        state = self.lstm.step(read_BG, *state)
        log_BO: NDArray[np.float32] = log_softmax(_linear(state[0], self.weights, "out"), axis=1)
        return log_BO, state


class SrCnnRnn(Ria):
    """Liu et al. 2017: as `Ria`, from the probabilities of the tags."""

    def start(self, image_BX: NDArray[np.float32]) -> State:
        """Before the first step: h_0 and c_0, from the log-odds of the tags."""
        return super().start(_linear(expit(image_BX), self.weights, "state"))


def _linear(x_BX: NDArray[np.float32], weights: Weights, name: str) -> NDArray[np.float32]:
    return x_BX @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
