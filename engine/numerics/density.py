"""Kernel densities over one level of an embedding: how likely a picture is under a training one.

The kernels are of the kinds that Moran and Lavrenko 2014 (SKL-CRM) choose from: generalised
Gaussians of shape two and one, χ², Hellinger and the smoothed multinomial. Each is
exp(-divergence / bandwidth); the constant that would make it a density is left out, for relevance
models divide by it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.numerics.distances import Distance, comparable_levels, level_distances

KernelName = Literal["gaussian", "laplace", "chi2", "hellinger", "multinomial"]

KERNELS: tuple[KernelName, ...] = get_args(KernelName)

SMOOTHING = 0.8
"""Weight of a picture's own histogram beside the corpus's in the multinomial kernel."""

_DISTANCES: dict[KernelName, Distance] = {"laplace": "l1", "chi2": "chi2", "hellinger": "cosine"}

_TINY = 1e-12


def histogram(x_ND: NDArray[np.floating]) -> NDArray[np.float64]:
    """Positive and negative parts side by side, the 2·D of a row adding up to 1; float64 [N, 2·D].

    Rows of zeros stay.
    """
    parts = np.concatenate([np.maximum(x_ND, 0), np.maximum(-x_ND, 0)], axis=1, dtype=np.float64)
    histogram_NF: NDArray[np.float64] = parts / np.maximum(parts.sum(1, keepdims=True), _TINY)
    return histogram_NF


@dataclass(frozen=True)
class Density:
    """One kernel around each of N training vectors.

    Attributes:
        kernel: 'gaussian' is of half the squared distance of vectors of unit length, 'hellinger'
            the same of their signed square roots; 'laplace' is of the city-block distance and
            'chi2' of ½ Σ (x-y)² / (x+y) of histograms; 'multinomial' is of
            -Σ x log((λ y + (1-λ) p) / p), with p the mean training histogram: the words of x are
            drawn from a smoothed y.
        training_ND: float32, of either sign, as they came.
    """

    kernel: KernelName
    training_ND: NDArray[np.float32]

    def divergences(self, x_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far each row is from each training vector, float32 [B, N].

        At least zero, but for the multinomial, of which only differences within a row matter.
        """
        if self.kernel == "gaussian":
            unit_BD = _unit_length(x_BD)
            return np.maximum(_halved(unit_BD, self._unit_ND), 0).astype(np.float32)
        if self.kernel == "multinomial":
            return (-(histogram(x_BD) @ self._log_ratio_NF.T)).astype(np.float32)
        distance = _DISTANCES[self.kernel]
        widths = (self.training_ND.shape[1],)
        queries = comparable_levels(x_BD, widths, distance)
        found_BN: NDArray[np.float32] = level_distances(queries, self._comparable, distance)[0]
        return found_BN

    @cached_property
    def _comparable(self) -> tuple[NDArray[np.float32], ...]:
        widths = (self.training_ND.shape[1],)
        return comparable_levels(self.training_ND, widths, _DISTANCES[self.kernel])

    @cached_property
    def _unit_ND(self) -> NDArray[np.float64]:
        return _unit_length(self.training_ND)

    @cached_property
    def _log_ratio_NF(self) -> NDArray[np.float64]:
        """log((λ y + (1-λ) p) / p) of the training histograms; 0 where no picture has anything."""
        training_NF = histogram(self.training_ND)
        mean_F = training_NF.mean(axis=0)
        ratio_NF = training_NF / np.where(mean_F > 0, mean_F, 1)
        log_NF = np.log(SMOOTHING * ratio_NF + (1 - SMOOTHING))
        return np.where(mean_F > 0, log_NF, 0.0)


def _unit_length(x_ND: NDArray[np.floating]) -> NDArray[np.float64]:
    lengths_N1 = np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), _TINY)
    unit_ND: NDArray[np.float64] = np.divide(x_ND, lengths_N1, dtype=np.float64)
    return unit_ND


def _halved(x_BD: NDArray[np.float64], y_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    squares_BN: NDArray[np.float64] = (
        np.einsum("bd,bd->b", x_BD, x_BD)[:, None] + np.einsum("nd,nd->n", y_ND, y_ND)
    ) / 2 - x_BD @ y_ND.T
    return squares_BN
