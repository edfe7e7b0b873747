"""Joint visual-semantic propagation in NumPy, step by step: what a fitted one needs."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from engine.numerics.lstm import Lstm

Transfer = Literal["softmax", "scaled-softmax", "sigmoid", "tanh"]
"""Φ of Eq. 4 and 6. The paper's is the softmax; 'scaled-softmax' is M times that, whose mean is 1
whatever the width M, so that it weighs against a hidden state in Eq. 9."""

Weights = Mapping[str, NDArray[np.float32]]
State = tuple[NDArray[np.float32], ...]


def transferred(x_BM: NDArray[np.float32], transfer: Transfer) -> NDArray[np.float32]:
    """Φ(x), float32 [B, M]; a softmax is over the last axis."""
    if transfer == "sigmoid":
        sigmoid_BM: NDArray[np.float32] = expit(x_BM)
        return sigmoid_BM
    if transfer == "tanh":
        return np.tanh(x_BM)
    share_BM: NDArray[np.float32] = softmax(x_BM, axis=1)
    return share_BM * np.float32(x_BM.shape[1]) if transfer == "scaled-softmax" else share_BM


class Jvsp:
    """Ma et al., Eq. 1 to 9, for rows that are all at the same step.

    Args:
        weights: of `engine.training.jvsp.Jvsp`, but for those of its layer `image`.
        transfer: Φ.
    """

    def __init__(self, weights: Weights, transfer: Transfer) -> None:
        self.weights = weights
        self.transfer: Transfer = transfer
        none_G = np.zeros(len(weights["cell.weight_ih"]), dtype=np.float32)
        self.lstm = Lstm(weights["cell.weight_ih"], weights["cell.weight_hh"], none_G, none_G)

    def start(self, image_BM: NDArray[np.float32]) -> State:
        """Before the first step: C(I), h_0, c_0, the sum of Eq. 2 and how many it is of."""
        hidden_BM, cell_BM = self.lstm.start(len(image_BM))
        guidance_BM, count_B1 = np.zeros_like(image_BM), np.zeros_like(image_BM[:, :1])
        return image_BM, hidden_BM, cell_BM, guidance_BM, count_B1

    def step(self, state: State, last_B: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        """Log-probabilities float32 [B, V + 1] of the next tag, END the last, and the next state.

        Args:
            last_B: the tag before it; V is START.
        """
        weights = self.weights
        image_BM, hidden_BM, cell_BM, guidance_BM, count_B1 = state
        # No guidance at the first step, so that what it is divided by does not matter (K_1 = 0).
        divisor_B1 = np.maximum(count_B1, 1).astype(np.float32)
        knowledge_BM: NDArray[np.float32] = guidance_BM @ weights["knowledge.weight"].T
        semantic_BM: NDArray[np.float32] = weights["guide.weight"][last_B] + (
            knowledge_BM / divisor_B1
        )
        visual_BM = transferred(image_BM * semantic_BM, self.transfer)
        refine_BM = weights["refine.weight"][last_B]
        mixed_BM: NDArray[np.float32] = np.tanh(refine_BM + visual_BM @ weights["visual.weight"].T)
        weighed_BM: NDArray[np.float32] = mixed_BM @ weights["weigh.weight"].T
        refined_BM = transferred(refine_BM * weighed_BM, self.transfer)
        joined_BX = np.concatenate([visual_BM, refined_BM], axis=1)
        next_BM, cell_BM = self.lstm.step(self.lstm.read(joined_BX), hidden_BM, cell_BM)
        seen_BM: NDArray[np.float32] = next_BM + visual_BM
        logits_BO: NDArray[np.float32] = seen_BM @ weights["out.weight"].T
        log_BO: NDArray[np.float32] = log_softmax(logits_BO, axis=1)
        largest_B1 = np.exp(log_BO.max(axis=1, keepdims=True)).astype(np.float32)
        heard_BM = (guidance_BM + largest_B1 * next_BM).astype(np.float32, copy=False)
        return log_BO, (image_BM, next_BM, cell_BM, heard_BM, count_B1 + np.float32(1))
