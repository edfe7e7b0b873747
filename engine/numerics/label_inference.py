"""Structured inference between layers of labels: correlations, and the pass up and down."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

OBSERVED = 0.01
"""How far from certain a label that was observed is taken to be."""


def correlations(
    together_UV: NDArray[np.float64],
    left_U: NDArray[np.float64],
    right_V: NDArray[np.float64],
    pictures: float,
) -> NDArray[np.float64]:
    """The φ coefficient of each two binary labels, in [-1, 1]; 0 for one that never varies.

    Args:
        together_UV: in how many pictures both are.
        left_U, right_V: in how many each is.
        pictures: of all.
    """
    count = max(pictures, 1.0)
    covariance_UV = together_UV / count - np.outer(left_U, right_V) / count**2
    spread_U, spread_V = ((one / count) * (1 - one / count) for one in (left_U, right_V))
    scale_UV = np.sqrt(np.outer(np.maximum(spread_U, 0), np.maximum(spread_V, 0)))
    found_UV: NDArray[np.float64] = np.clip(covariance_UV / np.maximum(scale_UV, 1e-12), -1, 1)
    return np.where(scale_UV > 1e-12, found_UV, 0)


def observed(words_BW: sparse.csr_matrix) -> NDArray[np.float32]:
    """The reverse sigmoid of observed labels: the activation that says them, float32 [B, W]."""
    certain = float(np.log((1 - OBSERVED) / OBSERVED))
    return np.where(words_BW.toarray() > 0, certain, -certain).astype(np.float32)


def infer(
    activations: Sequence[NDArray[np.float32]], weights: Mapping[str, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Each layer's activations after a pass down and a pass up (Hu et al. 2016, section 3).

    With x of a layer t and [M]±(a) = relu(M+ a) - relu(M- a):
    down, from the first layer on: a_t = [V]±(a_{t-1}) + [H]±(x_t) + b;
    up, from the last one on: a_t = [V]±(a_{t+1}) + [H]±(x_t) + b;
    and at last a_t = u_down · a_t (down) + u_up · a_t (up) + b.

    Args:
        activations: x, float32 [B, V_t] a layer.
        weights: by `<way><layer>.<name>`, as `engine.training.label_inference` gives them.

    Returns:
        float32 [B, V_t] a layer: log-odds.
    """

    def signed(name: str, values_BU: NDArray[np.float32]) -> NDArray[np.float32]:
        helped_BV = np.maximum(values_BU @ weights[f"{name}.plus"], 0)
        found_BV: NDArray[np.float32] = helped_BV - np.maximum(
            values_BU @ weights[f"{name}.minus"], 0
        )
        return found_BV

    count = len(activations)
    passed: dict[str, list[NDArray[np.float32]]] = {}
    for way, order in (("down", range(count)), ("up", range(count - 1, -1, -1))):
        found = list(activations)
        for place, layer in enumerate(order):
            name = f"{way}{layer}"
            found[layer] = signed(f"{name}.within", activations[layer]) + weights[f"{name}.bias"]
            if place:
                found[layer] = found[layer] + signed(f"{name}.between", found[order[place - 1]])
        passed[way] = found
    return [
        weights[f"mix{layer}.down"] * passed["down"][layer]
        + weights[f"mix{layer}.up"] * passed["up"][layer]
        + weights[f"mix{layer}.bias"]
        for layer in range(count)
    ]
