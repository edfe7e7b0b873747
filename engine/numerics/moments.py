"""Second moments of two views, merged block by block: all that linear CCA needs to know."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorpusError
from engine.group import Group


class Mergeable(Protocol):
    """What is known of some rows, and what is known of others, make what is known of both."""

    def __add__(self: "M", other: "M", /) -> "M": ...


M = TypeVar("M", bound=Mergeable)


def merged(parts: Iterable[M]) -> M:
    """Add parts up pairwise, as the leaves of a binary tree, holding log2 of them at a time.

    Additions in different branches may then run side by side. At least one part is needed.
    """
    forest: list[tuple[int, M]] = []
    for part in parts:
        level = 0
        while forest and forest[-1][0] == level:
            part = forest.pop()[1] + part
            level += 1
        forest.append((level, part))
    total = forest.pop()[1]
    while forest:
        total = forest.pop()[1] + total
    return total


def accumulated(parts: Iterable[M]) -> M:
    """Add parts up one after the other, holding the sum and one part; at least one is needed."""
    return reduce(operator.add, parts)


@dataclass(frozen=True)
class Moments:
    """Count, means and co-moments of paired rows x [D] and y [E], in float64.

    A co-moment is the sum of products of deviations from the means. Two blocks' moments merge by
    the update of Chan, Golub and LeVeque 1979 ("Updating formulae and a pairwise algorithm for
    computing sample variances"), which subtracts no large numbers: a mean that is huge beside the
    spread does no harm. Memory is O((D+E)²) whatever the number of rows, and blocks may be merged
    in any order, on any worker.
    """

    count: float
    mean_x_D: NDArray[np.float64]
    mean_y_E: NDArray[np.float64]
    xx_DD: NDArray[np.float64]
    xy_DE: NDArray[np.float64]
    yy_EE: NDArray[np.float64]

    @classmethod
    def of(cls, x_ND: NDArray[np.floating], y_NE: NDArray[np.floating]) -> "Moments":
        """Moments of one block of N paired rows; N = 0 is allowed.

        A NaN or infinite value makes the moments that it enters NaN, without a warning;
        `engine.numerics.cca.solve_cca` then names its feature.

        Raises:
            CorpusError: the views differ in length.
        """
        if len(x_ND) != len(y_NE):
            raise CorpusError(
                f"the two views of a block differ in length: {len(x_ND)} rows of x and "
                f"{len(y_NE)} of y; give each picture one row in both"
            )
        with np.errstate(invalid="ignore", over="ignore"):
            mean_x_D, x_ND = _centred(x_ND)
            mean_y_E, y_NE = _centred(y_NE)
            return cls(
                float(len(x_ND)), mean_x_D, mean_y_E, x_ND.T @ x_ND, x_ND.T @ y_NE, y_NE.T @ y_NE
            )

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        share = other.count / max(count, 1.0)
        weight = self.count * share
        with np.errstate(invalid="ignore", over="ignore"):
            apart_x_D = other.mean_x_D - self.mean_x_D
            apart_y_E = other.mean_y_E - self.mean_y_E
            return Moments(
                count,
                self.mean_x_D + share * apart_x_D,
                self.mean_y_E + share * apart_y_E,
                _updated(self.xx_DD, other.xx_DD, weight, apart_x_D, apart_x_D),
                _updated(self.xy_DE, other.xy_DE, weight, apart_x_D, apart_y_E),
                _updated(self.yy_EE, other.yy_EE, weight, apart_y_E, apart_y_E),
            )

    def over(self, group: Group) -> "Moments":
        """The moments of all the group's rows together: first their means, then about these."""
        count = float(group.sum(np.array([self.count]))[0])
        share = self.count / max(count, 1.0)
        with np.errstate(invalid="ignore", over="ignore"):
            mean_x_D = _common_mean(self.mean_x_D, share, group)
            mean_y_E = _common_mean(self.mean_y_E, share, group)
            apart_x_D, apart_y_E = self.mean_x_D - mean_x_D, self.mean_y_E - mean_y_E
            return Moments(
                count,
                mean_x_D,
                mean_y_E,
                group.sum(self.xx_DD + self.count * np.outer(apart_x_D, apart_x_D)),
                group.sum(self.xy_DE + self.count * np.outer(apart_x_D, apart_y_E)),
                group.sum(self.yy_EE + self.count * np.outer(apart_y_E, apart_y_E)),
            )


def _centred(
    values_ND: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D], and the deviations from it [N, D]."""
    if not len(values_ND):
        return np.zeros(values_ND.shape[1]), values_ND.astype(np.float64)
    # About the first row: a feature that never varies then has a deviation of exactly zero.
    first_D = values_ND[0].astype(np.float64)
    apart_ND: NDArray[np.float64] = np.subtract(values_ND, first_D, dtype=np.float64)
    mean_D = apart_ND.mean(axis=0)
    apart_ND -= mean_D
    return first_D + mean_D, apart_ND


def _updated(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    weight: float,
    apart_rows: NDArray[np.float64],
    apart_columns: NDArray[np.float64],
) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.outer(weight * apart_rows, apart_columns)
    total += ours
    total += theirs
    return total


def _common_mean(mean_D: NDArray[np.float64], share: float, group: Group) -> NDArray[np.float64]:
    """Mean over the ranks, whose own means weigh by their share of the rows.

    Twice over: the second sum is of what rounding left in the first, which a mean that is huge
    beside the spread would otherwise carry into the co-moments.
    """
    common_D = group.sum(share * mean_D)
    return common_D + group.sum(share * (mean_D - common_D))


def stream_moments(
    blocks: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]],
) -> Moments:
    """Merge the moments of (x [B, D], y [B, E]) blocks in one pass; at least one is needed."""
    return accumulated(Moments.of(*block) for block in blocks)
