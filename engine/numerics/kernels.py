"""The χ² kernel as a feature map: exact on as many pictures as landmarks, Nyström's above.

Kernel CCA (Murthy et al. 2015, Eq. 3) is linear CCA on features whose inner products are the
kernel: with K = Φ Φᵀ and w = Φᵀ a, aᵀK²a + r aᵀKa = wᵀ(ΦᵀΦ + rI)w. What comes after the map
therefore need not know of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from engine.errors import CorpusError

AT_ONCE = 65_536
"""Features (of some pictures) that are compared with a landmark's at a time: they stay in cache."""


def chi2_distances(x_ND: NDArray[np.floating], y_MD: NDArray[np.floating]) -> NDArray[np.floating]:
    """Σ (x - y)² / (x + y) of each pair of rows, [N, M] in x's own dtype; 0/0 counts as 0.

    A pair's distance does not depend on what else is in the batch. Beside the result memory is
    O(D).

    Raises:
        CorpusError: a feature is negative or not finite.
    """
    for values in (x_ND, y_MD):
        broken = np.argwhere(~((values >= 0) & (values < np.inf)))[:1]
        if len(broken):
            row, feature = broken[0]
            raise CorpusError(
                f"feature {feature} of row {row} is {values[row, feature]:g}, and the χ² kernel "
                "needs finite features that are not negative, such as those behind a ReLU; choose "
                "kernel 'linear' for signed ones"
            )
    distances_NM = np.empty((len(x_ND), len(y_MD)), dtype=x_ND.dtype)
    # 0/0 becomes 0/tiny; a sum that is not zero does not change by so little.
    tiny = np.finfo(x_ND.dtype).tiny
    rows = max(1, AT_ONCE // x_ND.shape[1])
    for start in range(0, len(x_ND), rows):
        x_RD = x_ND[start : start + rows]
        apart_RD, sum_RD = np.empty_like(x_RD), np.empty_like(x_RD)
        for landmark, y_D in enumerate(y_MD.astype(x_ND.dtype, copy=False)):
            np.subtract(x_RD, y_D, out=apart_RD)
            np.multiply(apart_RD, apart_RD, out=apart_RD)
            np.add(x_RD, y_D, out=sum_RD)
            np.maximum(sum_RD, tiny, out=sum_RD)
            np.divide(apart_RD, sum_RD, out=apart_RD)
            np.einsum("rd->r", apart_RD, out=distances_NM[start : start + rows, landmark])
    return distances_NM


@dataclass(frozen=True)
class Chi2Map:
    """x [D] -> features [R] whose inner products are, or approach, exp(-D_χ²(x, y) / (2 P)).

    The exponential χ² kernel with P the mean χ² distance of the training pictures, after Ballan et
    al. 2014 ("A cross-media model for automatic image annotation"), the source that Murthy et al.
    2015 take their kernel CCA's setting from without writing the kernel out. φ(x) = k(x, Z) U Λ^-½
    with the landmarks' own kernel K_ZZ = U Λ Uᵀ (Williams and Seeger 2001, "Using the Nyström
    method to speed up kernel machines"). Inner products of landmarks are exact, so with every
    training picture a landmark it is exact kernel CCA.

    Attributes:
        landmarks_MD: float32 (or float64), not negative.
        distance: P, the mean over pairs of different landmarks.
        whiten_MR: U Λ^-½ in float64, R ≤ M: directions that rounding drowns are left out.
    """

    landmarks_MD: NDArray[np.floating]
    distance: float
    whiten_MR: NDArray[np.float64]

    @classmethod
    def of(cls, landmarks_MD: NDArray[np.floating]) -> "Chi2Map":
        """Make the map of M landmarks: O(M² D + M³) time, O(M²) memory.

        Raises:
            CorpusError: a feature is negative or not finite.
        """
        distances_MM = chi2_distances(landmarks_MD, landmarks_MD).astype(np.float64)
        count = len(landmarks_MD)
        distance = float(distances_MM.sum()) / max(count * (count - 1), 1)
        # All of them alike: any positive number makes the kernel 1 everywhere.
        distance = distance if distance > 0 else 1.0
        kernel_MM = np.exp(distances_MM / (-2 * distance))
        values, vectors = linalg.eigh((kernel_MM + kernel_MM.T) / 2)
        floor = 1e-12 if landmarks_MD.dtype == np.float64 else 1e-6
        kept = values > floor * values[-1]
        return cls(landmarks_MD, distance, vectors[:, kept] / np.sqrt(values[kept]))

    def __call__(self, x_BD: NDArray[np.floating]) -> NDArray[np.floating]:
        """Features [B, R] in the landmarks' dtype; B = 0 is allowed.

        Raises:
            CorpusError: a feature is negative or not finite.
        """
        x_BD = x_BD.astype(self.landmarks_MD.dtype, copy=False)
        kernel_BM = np.exp(chi2_distances(x_BD, self.landmarks_MD) / (-2 * self.distance))
        features_BR = kernel_BM.astype(np.float64) @ self.whiten_MR
        features: NDArray[np.floating] = features_BR.astype(self.landmarks_MD.dtype, copy=False)
        return features

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """What `from_arrays` reads, under names of their own for a safetensors file."""
        return {
            f"{prefix}_landmarks": self.landmarks_MD,
            f"{prefix}_distance": np.array([self.distance]),
            f"{prefix}_whitening": self.whiten_MR,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]], prefix: str) -> "Chi2Map | None":
        """The map that `arrays` gave, to the bit; None where there is none of that prefix."""
        if f"{prefix}_landmarks" not in arrays:
            return None
        return cls(
            np.asarray(arrays[f"{prefix}_landmarks"], dtype=np.float32),
            float(arrays[f"{prefix}_distance"][0]),
            np.asarray(arrays[f"{prefix}_whitening"], dtype=np.float64),
        )
