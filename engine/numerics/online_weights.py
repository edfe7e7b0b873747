"""Exponentiated gradient: how much to trust each of many scorers, learned online on the simplex."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

WAYPOINTS = 100
"""At most about so many of the weights' values are kept on their way."""


@dataclass(frozen=True)
class Waypoint:
    """The weights, float64 [A], after so many triples."""

    triples: int
    weights_A: NDArray[np.float64]


@dataclass(frozen=True)
class Learned:
    """What one pass found.

    Attributes:
        weights_A: float64 [A] on the simplex: their mean over the pass, which settles what a
            single triple sways. This is what a blend is made with.
        course: from the start (0 triples) to the last triple, at regular intervals.
    """

    weights_A: NDArray[np.float64]
    course: tuple[Waypoint, ...]


class OnlineWeights:
    """The weights of A scorers while triples come in (Sun et al., Eq. 8 to 11, Algorithm 1).

    A triple (x, Γ+, Γ-) is a picture, a tag that it carries and one that it does not; its S, of
    shape [A], is S_j(x, Γ+) - S_j(x, Γ-). Where the hinge max(0, margin - weights·S) of Eq. 9 is
    positive its gradient is -S, and the minimum of Eq. 11 multiplies each weight by exp(rate·S)
    and normalises. (Algorithm 1 writes the hinge without its margin, by a slip.)

    Scorers that have nothing to say of a picture sleep: the others share out among themselves what
    weight they have together (Freund et al. 1997, Using and combining predictors that specialize).

    The logarithms are kept, so that no weight is lost to rounding, however far it falls.
    """

    def __init__(self, start_A: NDArray[np.float64], margin: float, rate: float) -> None:
        """Begin.

        Args:
            start_A: above 0, summing to 1.
            margin: ψ, in score.
            rate: μ, of the multiplicative step; above 0.
        """
        if not (start_A > 0).all() or abs(float(start_A.sum()) - 1) > 1e-6:
            raise ValueError(f"start_A is {start_A}; weights begin above 0 and sum to 1")
        self.margin = margin
        self.rate = rate
        self._log_A = np.log(start_A)
        self._log_A -= _log_sum(self._log_A)

    @property
    def weights_A(self) -> NDArray[np.float64]:
        """As they are now: float64 [A], none negative, summing to 1."""
        weights_A: NDArray[np.float64] = np.exp(self._log_A)
        return weights_A

    def among(self, awake_S: NDArray[np.int64]) -> NDArray[np.float64]:
        """The weights [S] of those that are awake, summing to 1."""
        log_S = self._log_A[awake_S]
        shares_S: NDArray[np.float64] = np.exp(log_S - _log_sum(log_S))
        return shares_S

    def take(self, difference_S: NDArray[np.float64], awake_S: NDArray[np.int64]) -> bool:
        """Learn from one triple; whether its hinge was positive.

        Args:
            difference_S: S of those that are awake.
            awake_S: which these are, at least one.
        """
        if self.margin - self.among(awake_S) @ difference_S <= 0:
            return False
        log_S = self._log_A[awake_S]
        moved_S = log_S + self.rate * difference_S
        self._log_A[awake_S] = moved_S + (_log_sum(log_S) - _log_sum(moved_S))
        return True


def _log_sum(log_S: NDArray[np.float64]) -> float:
    """As scipy.special.logsumexp, without the half millisecond that its generality costs."""
    most = log_S.max()
    return float(most + np.log(np.exp(log_S - most).sum()))


@dataclass(frozen=True)
class Pace:
    """How far weights move.

    Attributes:
        margin: ψ: a triple whose tags lie further apart in score teaches nothing more.
        rate: μ, of each multiplicative step.
    """

    margin: float = 0.1
    rate: float = 0.05


PACES = (Pace(), Pace(0.3, 0.2), Pace(1.0, 0.5))
"""From one that leaves the weights near their start to one that all but picks the best scorer."""

_LEAST_SCORE = 1e-6
_CELLS = 1 << 22
"""Scores that are blended at a time: 32 MiB."""


def choose_pace(
    scores_ANV: NDArray[np.float32],
    labels_NV: sparse.csr_matrix,
    seed: int,
    start_A: NDArray[np.float64] | None = None,
) -> Pace:
    """The one of `PACES` whose weights blend pictures best that they were not learned from.

    Weights of one half of the pictures blend the other half, and the other way round; the least
    mean log loss of the tags is taken, and the first of equals.

    Args:
        scores_ANV, labels_NV, start_A: see `learn_weights`; each picture has a scorer that speaks.
    """
    order_N = np.random.default_rng(seed).permutation(len(labels_NV.indptr) - 1)
    halves = order_N[::2], order_N[1::2]
    if len(scores_ANV) < 2 or not len(halves[1]):
        return PACES[0]

    def loss(pace: Pace) -> float:
        total = 0.0
        for learned, told in (halves, halves[::-1]):
            part = scores_ANV[:, learned]
            weights_A = learn_weights(part, labels_NV[learned], seed, pace, start_A).weights_A
            for rows_M in np.array_split(told, -(-len(told) * scores_ANV.shape[2] // _CELLS)):
                blended_MV = blend(weights_A, scores_ANV[:, rows_M])
                total += _log_loss(blended_MV, labels_NV[rows_M].toarray() > 0)
        return total

    return min(PACES, key=loss)


def blend(weights_A: NDArray[np.float64], scores_ANV: NDArray[np.float32]) -> NDArray[np.float64]:
    """The scores [N, V] together; of each picture, by the weights of the scorers that speak."""
    shares_AN = weights_A[:, None] * ~np.isnan(scores_ANV[:, :, 0])
    shares_AN /= shares_AN.sum(axis=0)
    blended_NV = np.zeros(scores_ANV.shape[1:])
    for shares_N, scores_NV in zip(shares_AN, scores_ANV, strict=True):
        blended_NV += shares_N[:, None] * np.nan_to_num(scores_NV)
    return blended_NV


def _log_loss(scores_NV: NDArray[np.float64], carries_NV: NDArray[np.bool_]) -> float:
    told_NV = np.where(carries_NV, scores_NV, 1 - scores_NV)
    return float(-np.log(np.maximum(told_NV, _LEAST_SCORE)).sum())


def learn_weights(
    scores_ANV: NDArray[np.float32],
    labels_NV: sparse.csr_matrix,
    seed: int,
    pace: Pace = PACES[0],
    start_A: NDArray[np.float64] | None = None,
) -> Learned:
    """Learn the weights of A scorers in one pass over N pictures in an order drawn from the seed.

    From each picture comes one triple for each of its tags: Γ+ is the tag, Γ- the tag that it does
    not carry and that the present combination ranks highest. Pictures without a tag or with every
    tag, and those of which fewer than two scorers speak, give none.

    An ensemble by name calls it with `np.stack(list(scores.values()))` and zips the names with
    `weights_A`; `course` is what a report shows.

    Args:
        scores_ANV: float32, all on one scale, such as calibrated ones in [0, 1]. A row of NaN: that
            scorer sleeps for that picture.
        labels_NV: binary, [N, V].
        start_A: the weights at first; None: all the same.
    """
    scorers = len(scores_ANV)
    if start_A is None:
        start_A = np.full(scorers, 1 / scorers)
    weights = OnlineWeights(start_A, pace.margin, pace.rate)
    course = [Waypoint(0, weights.weights_A)]
    awake_AN = ~np.isnan(scores_ANV[:, :, 0])
    carried_N = np.diff(labels_NV.indptr)
    gives_N = (carried_N > 0) & (carried_N < labels_NV.shape[1]) & (awake_AN.sum(axis=0) >= 2)
    triples = int(carried_N[gives_N].sum())
    every = -(-triples // WAYPOINTS) or 1
    total_A, taken = np.zeros(scorers), 0
    order_N = np.random.default_rng(seed).permutation(len(carried_N))
    for row in order_N[gives_N[order_N]]:
        carried = labels_NV.indices[labels_NV.indptr[row] : labels_NV.indptr[row + 1]]
        awake_S = np.flatnonzero(awake_AN[:, row])
        scores_SV = scores_ANV[awake_S, row].astype(np.float64)
        for tag in carried:
            combined_V = weights.among(awake_S) @ scores_SV
            combined_V[carried] = -np.inf
            wrong = int(np.argmax(combined_V))
            weights.take(scores_SV[:, tag] - scores_SV[:, wrong], awake_S)
            total_A += weights.weights_A
            taken += 1
            if taken % every == 0 or taken == triples:
                course.append(Waypoint(taken, weights.weights_A))
    return Learned(total_A / taken if taken else weights.weights_A, tuple(course))
