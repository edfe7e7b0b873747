"""Sparse kernel learning: a greedy choice of kernels over features, by F1 on held-out pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.numerics.density import KernelName
from engine.numerics.metrics import word_metrics
from engine.numerics.relevance import multinomial_words, posterior


@dataclass(frozen=True)
class Choice:
    """One kernel on one level of the embedding, its divergence divided by `scale` · `bandwidth`.

    Attributes:
        scale: mean of the divergence over pairs of different pictures, less the least of each row.
    """

    level: int
    kernel: KernelName
    bandwidth: float
    scale: float


@dataclass(frozen=True)
class Candidate:
    """Divergences [B, N] of held-out pictures from training ones by one kernel on one level."""

    level: int
    kernel: KernelName
    divergences_BN: NDArray[np.float32]

    @property
    def scale(self) -> float:
        least_B1 = self.divergences_BN.min(axis=1, keepdims=True)
        return max(float((self.divergences_BN - least_B1).mean(dtype=np.float64)), 1e-6)


def select_kernels(
    candidates: Sequence[Candidate],
    bandwidths: Sequence[float],
    f1: Callable[[NDArray[np.float32]], float],
    most: int,
) -> tuple[tuple[Choice, ...], float]:
    """Add the kernel that raises F1 most, and again, until none does (Moran and Lavrenko 2014).

    A kernel multiplies the density, so its log adds to that of those chosen before it. A level is
    used once: a feature has one kernel. Ties go to the candidate that comes first.

    Args:
        f1: of log densities [B, N].
        most: kernels at the most; the first is taken whatever its F1 is.

    Returns:
        The choices in the order in which they were made, and the F1 that they reach.
    """
    chosen: list[Choice] = []
    density_BN = np.zeros_like(candidates[0].divergences_BN)
    best = -1.0
    scales = [candidate.scale for candidate in candidates]
    while len(chosen) < most:
        used = {choice.level for choice in chosen}
        found: tuple[Choice, NDArray[np.float32]] | None = None
        for candidate, scale in zip(candidates, scales, strict=True):
            if candidate.level in used:
                continue
            for bandwidth in bandwidths:
                factor = np.float32(1 / (bandwidth * scale))
                together_BN = density_BN - candidate.divergences_BN * factor
                value = f1(together_BN)
                if value > best:
                    best = value
                    choice = Choice(candidate.level, candidate.kernel, bandwidth, scale)
                    found = choice, together_BN
        if found is None:
            break
        chosen.append(found[0])
        density_BN = found[1]
    return tuple(chosen), best


def annotation_f1(
    log_density_BN: NDArray[np.float32],
    labels_NV: sparse.csr_matrix,
    truth_BV: NDArray[np.bool_],
    mu: float,
    k: int,
) -> float:
    """F1 of the mean precision and recall of all words when each picture gets its k best."""
    scores_BV = multinomial_words(posterior(log_density_BN), labels_NV, mu)
    width = min(k, scores_BV.shape[1])
    places_BK = np.argpartition(-scores_BV, width - 1, axis=1)[:, :width]
    given_BV = np.zeros(scores_BV.shape, dtype=np.bool_)
    np.put_along_axis(given_BV, places_BK, True, axis=1)
    return word_metrics(given_BV, truth_BV).f1
