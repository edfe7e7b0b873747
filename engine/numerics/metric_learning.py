"""Large-margin learning of a distance for two-pass nearest neighbours: weights of its parts.

Verma and Jawahar 2012 ("Image annotation using metric learning in semantic neighbourhoods"): the
weights of the base distances, and of the dimensions under each, so that pictures which share a
picture's tags come nearer than those which do not, by stochastic projected subgradient descent.
Weights are no less than 0, and the sum of them stays what it is: the pull would else shrink every
distance, and what exp(-D) calls near is for the method's temperature to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.numerics.distances import (
    Distance,
    dimension_terms,
    level_distances,
    weigh_dimensions,
)
from engine.numerics.semantic import Candidates, SemanticNeighbours
from engine.numerics.simplex import project_to_simplex

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MarginSettings:
    """How the metric is learned.

    Attributes:
        push: μ, the weight of the margin violations against the pull.
        rate: the length of the first step, relative to that of the weights it changes; step t is
            shorter by the root of t. The subgradient gives a step its direction alone.
        steps, anchors: how many steps, and pictures a step.
        dimensions: learn the dimensions' weights too, in every other step.
        seed: of the pictures' order.
    """

    push: float
    rate: float
    steps: int
    anchors: int
    dimensions: bool
    seed: int


@dataclass
class Metric:
    """D(a, b) = Σ_m w_m d_m(a, b) with the dimensions of d_m weighted by v_m.

    Attributes:
        levels_M: w, no less than 0.
        dimensions: v, M arrays [D_m], no less than 0.
    """

    levels_M: Array
    dimensions: tuple[Array, ...] = field(default_factory=tuple)


def margin_loss(
    targets_T: Array, impostors_C: Array, strangeness_C: Array, push: float
) -> tuple[float, Array, Array]:
    """One picture's share of the objective, and its subgradient by the distances.

    The mean over targets B of D(A, B) + `push` · Σ_C (1 - λ) max(0, 1 + D(A, B) - D(A, C)). The
    paper has a sum over targets where this has a mean, so that a picture counts the same whatever
    the number of its tags.

    Args:
        targets_T: distances to the targets, at least one.
        strangeness_C: 1 - λ, the share of the picture's tags that the impostor lacks.
    """
    count = len(targets_T)
    excess_TC = 1 + targets_T[:, None] - impostors_C
    violated_TC = (excess_TC > 0) * strangeness_C
    share = push / count
    loss = float(targets_T.mean() + share * (violated_TC * excess_TC).sum())
    return loss, 1 / count + share * violated_TC.sum(axis=1), -share * violated_TC.sum(axis=0)


def targets_and_impostors(
    tags: NDArray[np.integer],
    semantic: SemanticNeighbours,
    candidates: Candidates,
    query: int,
    carriers: sparse.csc_matrix,
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """A training picture's semantic neighbourhood, parted.

    Targets are the nearest carriers of each of its own tags; impostors are the other semantic
    neighbours that lack some of its tags.

    Returns the targets [T], the impostors [C], and 1 - λ of these [C].

    Args:
        tags: that the picture carries.
        candidates: from `SemanticNeighbours.among_all`, the picture itself at -inf.
    """
    similarities_N = candidates.similarities_BM[query]
    chosen_N = np.zeros(len(similarities_N), dtype=np.bool_)
    for tag in tags:
        own = carriers.indices[carriers.indptr[tag] : carriers.indptr[tag + 1]]
        near = similarities_N[own] >= candidates.bar_BV[query, tag]
        chosen_N[own[near]] = True
    chosen_N &= np.isfinite(similarities_N)
    shared_N = np.asarray(semantic.labels_NV[:, tags].sum(axis=1)).ravel()
    strangeness_N = 1 - shared_N / len(tags)
    others = np.flatnonzero(np.isfinite(similarities_N) & ~chosen_N & (strangeness_N > 0))
    return np.flatnonzero(chosen_N), others, strangeness_N[others].astype(np.float64)


class MarginLearner:
    """The training pictures as the learner sees them; `objective` is what it descends on."""

    def __init__(
        self,
        features: Sequence[NDArray[np.float32]],
        scales_M: Array,
        distance: Distance,
        labels_NV: sparse.csr_matrix,
        neighbours: int,
    ) -> None:
        """Take the features of `comparable_levels`, and what their distances are divided by."""
        self.features = tuple(features)
        self.scales_M = scales_M
        self.distance: Distance = distance
        self.semantic = SemanticNeighbours(labels_NV, neighbours)
        self.carriers = sparse.csc_matrix(labels_NV)

    def learn(self, start_M: Array, settings: MarginSettings) -> Metric:
        """Descend from weights `start_M` of the levels; returns the mean of the later half."""
        rng = np.random.default_rng(settings.seed)
        count = len(self.features[0])
        anchors = min(settings.anchors, count)
        metric = Metric(start_M.copy(), tuple(np.ones(part.shape[1]) for part in self.features))
        mean = Metric(np.zeros_like(start_M), tuple(np.zeros_like(v) for v in metric.dimensions))
        order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        averaged = 0
        for step in range(settings.steps):
            if len(order) < anchors:
                order = rng.permutation(count)
            rows_R, order = np.sort(order[:anchors]), order[anchors:]
            by_dimension = settings.dimensions and step % 2 == 1
            _, slopes = self.objective(rows_R, metric, settings.push, by_dimension)
            rate = settings.rate / np.sqrt(step + 1)
            if by_dimension:
                metric.dimensions = tuple(
                    _stepped(old, slope, rate)
                    for old, slope in zip(metric.dimensions, slopes.dimensions, strict=True)
                )
            else:
                metric.levels_M = _stepped(metric.levels_M, slopes.levels_M, rate)
            if step >= settings.steps // 2:
                averaged += 1
                mean.levels_M += (metric.levels_M - mean.levels_M) / averaged
                mean.dimensions = tuple(
                    old + (new - old) / averaged
                    for old, new in zip(mean.dimensions, metric.dimensions, strict=True)
                )
        return mean

    def objective(
        self, rows_R: NDArray[np.int64], metric: Metric, push: float, by_dimension: bool
    ) -> tuple[float, Metric]:
        """Mean `margin_loss` of some training pictures, and its subgradient by the weights.

        The neighbourhoods are those of `metric` itself, and count as fixed in the subgradient. A
        picture none of whose tags is on another one has no targets and no share.

        Args:
            by_dimension: also by the dimensions' weights; otherwise those slopes are empty.
        """
        weighted = weigh_dimensions(self.features, metric.dimensions, self.distance)
        some = tuple(part[rows_R] for part in weighted)
        far_MRN = level_distances(some, weighted, self.distance).astype(np.float64)
        far_MRN /= self.scales_M[:, None, None]
        combined_RN = np.einsum("m,mrn->rn", metric.levels_M, far_MRN)
        similarities_RN = (1 - combined_RN).astype(np.float32)
        similarities_RN[np.arange(len(rows_R)), rows_R] = -np.inf
        candidates = self.semantic.among_all(similarities_RN)
        slope_RN = np.zeros_like(combined_RN)
        total = 0.0
        labels_NV = self.semantic.labels_NV
        for place, row in enumerate(rows_R):
            tags = labels_NV.indices[labels_NV.indptr[row] : labels_NV.indptr[row + 1]]
            targets, impostors, strangeness_C = targets_and_impostors(
                tags, self.semantic, candidates, place, self.carriers
            )
            if not len(targets):
                continue
            loss, slope_T, slope_C = margin_loss(
                combined_RN[place, targets], combined_RN[place, impostors], strangeness_C, push
            )
            total += loss
            slope_RN[place, targets] += slope_T
            slope_RN[place, impostors] += slope_C
        slope_RN /= len(rows_R)
        levels_M = np.einsum("rn,mrn->m", slope_RN, far_MRN)
        dimensions = (
            self._dimension_slopes(rows_R, slope_RN, metric, far_MRN) if by_dimension else ()
        )
        return total / len(rows_R), Metric(levels_M, dimensions)

    def _dimension_slopes(
        self, rows_R: NDArray[np.int64], slope_RN: Array, metric: Metric, far_MRN: Array
    ) -> tuple[Array, ...]:
        slopes = []
        for level, part in enumerate(self.features):
            factor = metric.levels_M[level] / self.scales_M[level]
            total_D = np.zeros(part.shape[1])
            for place, row in enumerate(rows_R):
                members = np.flatnonzero(slope_RN[place])
                pull_X = slope_RN[place, members] * factor
                if self.distance == "l2":
                    # The distance is the root of twice the sum of the terms.
                    far_X = far_MRN[level, place, members] * self.scales_M[level]
                    pull_X = np.where(far_X > 0, pull_X / np.maximum(far_X, 1e-12), 0)
                terms_XD = dimension_terms(
                    part[row].astype(np.float64), part[members].astype(np.float64), self.distance
                )
                total_D += pull_X @ terms_XD
            slopes.append(total_D)
        return tuple(slopes)


def _stepped(weights: Array, slope: Array, rate: float) -> Array:
    """A step against the slope, and back to weights no less than 0 of the same sum."""
    along = slope - slope.mean()
    length = rate * np.linalg.norm(weights) / max(float(np.linalg.norm(along)), 1e-12)
    return project_to_simplex(weights - length * along, float(weights.sum()))
