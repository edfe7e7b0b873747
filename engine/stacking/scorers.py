"""Scores of tags that are worth combining: ridge regression, and votes of neighbours in CCA spaces.

All of them learn from additive sums of blocks of pictures, so one that has not seen a fold of the
corpus is had by leaving the fold's sums out.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.group import Group
from engine.index import EXACT_UP_TO, ArrayVectors, FaissIndex, IndexWish, build_index
from engine.numerics.cca import solve_cca
from engine.numerics.moments import Moments
from engine.numerics.ridge import RidgeSums, solve_ridge
from engine.numerics.semantic import Candidates, SemanticNeighbours

VOTES_FLOOR = 1e-3
"""Added to votes before their logarithm: a carrier 0.35 away, by temperature 0.05."""

SCORE_FLOOR = 3e-3
"""Ridge scores below it are told apart no more in the logarithm."""


@dataclass(frozen=True)
class ScorerSettings:
    """What the scores are made with.

    Attributes:
        strengths: of the ridge regressions, see `engine.numerics.ridge`.
        regulariser: of the CCA, relative to the mean eigenvalue.
        votes: (K, temperature) of the neighbours' votes in each CCA space.
        shortlist: above `EXACT_UP_TO` pictures, neighbours are sought among so many.
    """

    strengths: tuple[float, ...]
    regulariser: float
    votes: tuple[tuple[int, float], ...]
    shortlist: int


@dataclass(frozen=True)
class FoldSums:
    """All that the scorers' projections are solved from: of the labels, and of each text view."""

    ridge: RidgeSums
    views: tuple[Moments, ...]

    @classmethod
    def of(
        cls,
        x_BL: NDArray[np.floating],
        labels_BV: sparse.csr_matrix,
        text: Sequence[NDArray[np.float32]],
    ) -> "FoldSums":
        """Of one block; `text` has the vectors [V, E] of each view's tags."""
        views = tuple(Moments.of(x_BL, mean_vectors(labels_BV, text_VE)) for text_VE in text)
        return cls(RidgeSums.of(x_BL, labels_BV), views)

    def __add__(self, other: "FoldSums") -> "FoldSums":
        views = tuple(a + b for a, b in zip(self.views, other.views, strict=True))
        return FoldSums(self.ridge + other.ridge, views)

    def over(self, group: Group) -> "FoldSums":
        """The sums of all the group's pictures together."""
        return FoldSums(self.ridge.over(group), tuple(view.over(group) for view in self.views))


def mean_vectors(labels_BV: sparse.csr_matrix, text_VE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean word vector of each picture's tags (Murthy et al. 2015, section 3.2)."""
    counts_B1 = np.maximum(np.asarray(labels_BV.sum(axis=1)), 1)
    means: NDArray[np.float32] = np.divide(labels_BV @ text_VE, counts_B1, dtype=np.float32)
    return means


def unit_rows(x_NL: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each row centred and scaled to unit length: inner products are then correlations."""
    centred_NL = x_NL - x_NL.mean(axis=1, keepdims=True)
    lengths_N1 = np.maximum(np.linalg.norm(centred_NL, axis=1, keepdims=True), 1e-12)
    found: NDArray[np.float32] = np.divide(centred_NL, lengths_N1, dtype=np.float32)
    return found


@dataclass(frozen=True)
class Projection:
    """One view's CCA: U = (x - mean) · weights (Murthy et al. 2015, Eq. 4)."""

    mean_L: NDArray[np.float32]
    weights_LC: NDArray[np.float32]

    def __call__(self, x_BL: NDArray[np.float32]) -> NDArray[np.float32]:
        return unit_rows((x_BL - self.mean_L) @ self.weights_LC)


@dataclass(frozen=True)
class Projections:
    """What is solved from the sums alone.

    Attributes:
        ridges: weights [L, V] and intercept [V] of each strength.
        views: the CCA of each text view.
    """

    ridges: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    views: tuple[Projection, ...]

    @classmethod
    def solve(cls, sums: FoldSums, settings: ScorerSettings) -> "Projections":
        """Fit ridge regressions and CCA.

        Raises:
            CorpusError: a view never varies.
        """
        views = []
        for moments in sums.views:
            cca = solve_cca(moments, settings.regulariser, constant="drop")
            views.append(
                Projection(cca.mean_x_D.astype(np.float32), cca.weights_x_DL.astype(np.float32))
            )
        return cls(tuple(solve_ridge(sums.ridge, settings.strengths)), tuple(views))


class TagScorers:
    """Projections beside the pictures that vote; gives each pair of picture and tag its signals.

    Attributes:
        labels_NV: tags of the pictures that vote.
        spread_SV: standard deviation of each ridge's score of each tag over unseen pictures.
        log_frequency_V: of each tag among the pictures that vote.
    """

    def __init__(
        self,
        settings: ScorerSettings,
        projections: Projections,
        indexes: Sequence[FaissIndex],
        labels_NV: sparse.csr_matrix,
        spread_SV: NDArray[np.float32],
    ) -> None:
        self.settings = settings
        self.projections = projections
        self.indexes = tuple(indexes)
        self.labels_NV = labels_NV
        self.spread_SV = spread_SV
        pictures = labels_NV.shape[0]
        carriers_V = np.asarray(labels_NV.sum(axis=0), dtype=np.float64).ravel()
        self.log_frequency_V = np.log((carriers_V + 0.5) / pictures).astype(np.float32)
        self._semantic = {
            neighbours: SemanticNeighbours(labels_NV, neighbours)
            for neighbours, _ in settings.votes
        }
        is_small = pictures <= EXACT_UP_TO
        self._vectors = [
            index.vectors() if is_small and index.kind == "flat" else None for index in self.indexes
        ]

    @classmethod
    def build(
        cls,
        settings: ScorerSettings,
        projections: Projections,
        blocks: Iterable[NDArray[np.float32]],
        labels_NV: sparse.csr_matrix,
        spread_SV: NDArray[np.float32],
    ) -> "TagScorers":
        """Project the pictures that vote, given block by block, and index them."""
        parts: list[list[NDArray[np.float32]]] = [[] for _ in projections.views]
        for x_BL in blocks:
            for view, part in zip(projections.views, parts, strict=True):
                part.append(view(x_BL))
        indexes = [build_index(ArrayVectors(np.concatenate(part)), IndexWish()) for part in parts]
        return cls(settings, projections, indexes, labels_NV, spread_SV)

    def signals(self, x_BL: NDArray[np.float32]) -> tuple[NDArray[np.float32], Candidates]:
        """Signals [B, V, F] for `TagNetwork`, and the nearest candidates of the first view.

        They are, for each ridge, its score in standard deviations and its logarithm; for each
        view and each way of voting the logarithm of the votes; the logarithm of the tag's
        frequency; and how far the first ridge's score and the first votes lie below those of the
        picture's best tag.
        """
        found: list[NDArray[np.float32]] = []
        ridges = [x_BL @ weights_LV + bias_V for weights_LV, bias_V in self.projections.ridges]
        for scores_BV, spread_V in zip(ridges, self.spread_SV, strict=True):
            found.append(scores_BV / (spread_V + 0.01))
            found.append(np.log(np.maximum(scores_BV, 0) + SCORE_FLOOR))
        witnesses: Candidates | None = None
        first_votes_BV: NDArray[np.float32] | None = None
        for place, view in enumerate(self.projections.views):
            queries_BC = view(x_BL)
            candidates = self._candidates(place, queries_BC)
            for neighbours, temperature in self.settings.votes:
                near = candidates(neighbours)
                votes_BV = self._semantic[neighbours].votes(near, temperature, pooled=False)
                log_votes_BV = np.log(votes_BV + np.float32(VOTES_FLOOR))
                found.append(log_votes_BV)
                if first_votes_BV is None:
                    first_votes_BV, witnesses = log_votes_BV, near
        assert first_votes_BV is not None
        assert witnesses is not None
        found.append(np.broadcast_to(self.log_frequency_V, first_votes_BV.shape))
        best_B1 = np.maximum(ridges[0].max(axis=1, keepdims=True, initial=0), SCORE_FLOOR)
        found.append(ridges[0] / best_B1)
        most_B1 = first_votes_BV.max(axis=1, keepdims=True, initial=np.log(VOTES_FLOOR))
        found.append(first_votes_BV - most_B1)
        return np.stack(found, axis=-1, dtype=np.float32), witnesses

    def _candidates(
        self, place: int, queries_BC: NDArray[np.float32]
    ) -> Callable[[int], Candidates]:
        """Candidate sets of the queries in one view, by K."""
        vectors_NC = self._vectors[place]
        if vectors_NC is not None:
            similarities_BN = queries_BC @ vectors_NC.T
            return lambda neighbours: self._semantic[neighbours].among_all(similarities_BN)
        found = self.indexes[place].search(queries_BC, self.settings.shortlist)
        return lambda neighbours: self._semantic[neighbours].among(*found)
