"""Second moments of two views, added up block by block: all that linear CCA needs to know."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.group import Group


@dataclass(frozen=True)
class Moments:
    """Count, sums and second moments of paired rows x [D] and y [E], in float64.

    They are additive, so blocks may be summed in any order, on any worker: memory is O((D+E)²)
    whatever the number of rows.
    """

    count: float
    sum_x_D: NDArray[np.float64]
    sum_y_E: NDArray[np.float64]
    xx_DD: NDArray[np.float64]
    xy_DE: NDArray[np.float64]
    yy_EE: NDArray[np.float64]

    @classmethod
    def of(cls, x_ND: NDArray[np.floating], y_NE: NDArray[np.floating]) -> "Moments":
        """Moments of one block of N paired rows."""
        x_ND = x_ND.astype(np.float64)
        y_NE = y_NE.astype(np.float64)
        return cls(
            float(len(x_ND)), x_ND.sum(0), y_NE.sum(0), x_ND.T @ x_ND, x_ND.T @ y_NE, y_NE.T @ y_NE
        )

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count,
            self.sum_x_D + other.sum_x_D,
            self.sum_y_E + other.sum_y_E,
            self.xx_DD + other.xx_DD,
            self.xy_DE + other.xy_DE,
            self.yy_EE + other.yy_EE,
        )

    def over(self, group: Group) -> "Moments":
        """The moments of all the group's rows together."""
        return Moments(
            float(group.sum(np.array([self.count]))[0]),
            group.sum(self.sum_x_D),
            group.sum(self.sum_y_E),
            group.sum(self.xx_DD),
            group.sum(self.xy_DE),
            group.sum(self.yy_EE),
        )


def stream_moments(
    blocks: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]],
) -> Moments:
    """Sum the moments of (x [B, D], y [B, E]) blocks in one pass; at least one block is needed."""
    iterator = iter(blocks)
    total = Moments.of(*next(iterator))
    for x_BD, y_BE in iterator:
        total = total + Moments.of(x_BD, y_BE)
    return total
