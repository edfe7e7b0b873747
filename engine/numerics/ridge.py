"""Ridge regression of tags on features from additive sums, for several strengths at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from engine.group import Group


@dataclass(frozen=True)
class RidgeSums:
    """What ridge regression needs to know of N pictures, in float64. The sums are additive.

    Attributes:
        count: N.
        sum_x_D, sum_y_V: of the features and of the labels.
        xx_DD, xy_DV: sums of products.
    """

    count: float
    sum_x_D: NDArray[np.float64]
    sum_y_V: NDArray[np.float64]
    xx_DD: NDArray[np.float64]
    xy_DV: NDArray[np.float64]

    @classmethod
    def of(cls, x_ND: NDArray[np.floating], labels_NV: sparse.csr_matrix) -> "RidgeSums":
        """Sums of one block of features and binary labels; N = 0 is allowed."""
        x_ND = x_ND.astype(np.float64)
        xy_DV: NDArray[np.float64] = np.asarray(labels_NV.T.astype(np.float64) @ x_ND).T
        sums_V: NDArray[np.float64] = np.asarray(labels_NV.sum(axis=0), dtype=np.float64).ravel()
        return cls(float(len(x_ND)), x_ND.sum(0), sums_V, x_ND.T @ x_ND, xy_DV)

    def __add__(self, other: "RidgeSums") -> "RidgeSums":
        return RidgeSums(
            self.count + other.count,
            self.sum_x_D + other.sum_x_D,
            self.sum_y_V + other.sum_y_V,
            self.xx_DD + other.xx_DD,
            self.xy_DV + other.xy_DV,
        )

    def over(self, group: Group) -> "RidgeSums":
        """The sums of all the group's pictures together."""
        return RidgeSums(
            float(group.sum(np.array([self.count]))[0]),
            group.sum(self.sum_x_D),
            group.sum(self.sum_y_V),
            group.sum(self.xx_DD),
            group.sum(self.xy_DV),
        )


def solve_ridge(
    sums: RidgeSums, strengths: Sequence[float]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights float32 [D, V] and intercept [V] of labels ≈ x·weights + intercept, by strength.

    Minimises the mean of (y - x·w - b)² plus λ|w|²; the intercept is not penalised. λ is the
    strength times the features' total variance over N, so that it means the same for features of
    any scale or width.

    Args:
        sums: of at least one picture.
        strengths: above zero.
    """
    mean_x_D, mean_y_V = sums.sum_x_D / sums.count, sums.sum_y_V / sums.count
    covariance_DD = sums.xx_DD / sums.count - np.outer(mean_x_D, mean_x_D)
    across_DV = sums.xy_DV / sums.count - np.outer(mean_x_D, mean_y_V)
    values_D, vectors_DD = linalg.eigh((covariance_DD + covariance_DD.T) / 2)
    values_D = np.maximum(values_D, 0)
    # Features that never vary tell nothing: the weights are then zero, not 0 / 0.
    total = max(float(values_D.sum()), 1e-12)
    rotated_DV = vectors_DD.T @ across_DV
    found = []
    for strength in strengths:
        shrunk_D = values_D + strength * total / sums.count
        weights_DV = vectors_DD @ (rotated_DV / shrunk_D[:, None])
        intercept_V = mean_y_V - mean_x_D @ weights_DV
        found.append((weights_DV.astype(np.float32), intercept_V.astype(np.float32)))
    return found
