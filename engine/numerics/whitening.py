"""Whitening: an affine map after which features have no correlation and one scale."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from engine.group import Group

_NO_LENGTH = 1e-4
"""Rows that differ at all have a length of about 1/√(1 + shrinkage) or more; less is rounding."""


@dataclass(frozen=True)
class Whitening:
    """(x - mean) @ weights.

    Attributes:
        mean_D: float64 [D].
        weights_DD: float64 [D, D].
    """

    mean_D: NDArray[np.float64]
    weights_DD: NDArray[np.float64]

    @classmethod
    def learn(
        cls,
        blocks: Iterable[NDArray[np.floating]],
        width: int,
        shrinkage: float,
        group: Group,
    ) -> "Whitening":
        """From the rows of all the ranks, by the eigenvectors of their covariance.

        A direction of variance v is divided by √(v + shrinkage · mean variance), then all of them
        by one number, so that the squared length of a row is 1 on average. A feature that is the
        same in every row becomes 0.

        Args:
            blocks: float [B, D], this rank's rows.
            width: D.
        """
        count, sum_D, square_DD = 0.0, np.zeros(width), np.zeros((width, width))
        for block in blocks:
            rows_BD = np.asarray(block, dtype=np.float64)
            count += len(rows_BD)
            sum_D += rows_BD.sum(0)
            square_DD += rows_BD.T @ rows_BD
        total = max(float(group.sum(np.array([count]))[0]), 1.0)
        mean_D = group.sum(sum_D) / total
        covariance_DD = group.sum(square_DD) / total - np.outer(mean_D, mean_D)
        values_D, vectors_DD = linalg.eigh(covariance_DD)
        values_D = np.maximum(values_D, 0)
        spread = max(float(values_D.mean()), 1e-12)
        scales_D = np.sqrt(values_D + shrinkage * spread)
        length = float(np.sqrt((values_D / scales_D**2).sum()))
        # Turned back: which eigenvectors span equal eigenvalues is a matter of rounding, and what
        # Adam learns depends on the axes.
        weights_DD = (vectors_DD / scales_D) @ vectors_DD.T
        if length < _NO_LENGTH:
            return cls(mean_D, np.zeros_like(weights_DD))
        return cls(mean_D, weights_DD / length)

    def in_float32(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean [D] and weights [D, D]."""
        return self.mean_D.astype(np.float32), self.weights_DD.astype(np.float32)

    def __call__(self, rows_BD: NDArray[np.floating]) -> NDArray[np.float32]:
        """Whiten rows [B, D] into float32 [B, D]."""
        whitened: NDArray[np.float32] = ((rows_BD - self.mean_D) @ self.weights_DD).astype("f4")
        return whitened
