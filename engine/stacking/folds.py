"""What scorers say of pictures they have not seen, fold by fold, and what is learned from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.group import Group
from engine.stacking.network import TagNetwork, fit_tag_network
from engine.stacking.scorers import FoldSums, Projections, ScorerSettings, TagScorers

PAIRS_HELD = 4_000_000
"""Pairs of a held-out picture and a tag whose signals are held at once."""

BLOCK = 4096
"""Pictures whose text vectors are held at once while sums are added up."""

PAIRS_A_BLOCK = 100_000
"""Pairs that are scored at a time."""


@dataclass(frozen=True)
class NetworkSettings:
    """How the network is learned.

    Attributes:
        held_out: pictures that it learns from, at most.
        pairs: of a picture and a tag that the picture lacks, about so many are drawn.
        hidden, weight_decay, iterations, seed: see `fit_tag_network`.
    """

    held_out: int
    pairs: int
    hidden: int
    weight_decay: float
    iterations: int
    seed: int


@dataclass(frozen=True)
class Folds:
    """This rank's pictures in folds, and every fold's sums over the group.

    Attributes:
        x_NL: features of this rank's pictures.
        members: the rows of each fold.
    """

    group: Group
    x_NL: NDArray[np.float32]
    labels_NV: sparse.csr_matrix
    members: tuple[NDArray[np.int64], ...]
    sums: tuple[FoldSums, ...]

    @classmethod
    def of(
        cls,
        group: Group,
        x_NL: NDArray[np.float32],
        labels_NV: sparse.csr_matrix,
        places_N: NDArray[np.int64],
        folds: int,
        text: Sequence[NDArray[np.float32]],
    ) -> "Folds":
        """Deal the rows out to the folds, and add up each fold's sums.

        Args:
            places_N: this rank's rows' places in an order of all the group's, by which the rows
                are dealt out in turn.
        """
        order_N = np.argsort(places_N, kind="stable")
        turns_N = places_N[order_N] % folds
        members = tuple(order_N[turns_N == fold] for fold in range(folds))
        sums = []
        for rows in members:
            # A rank may have no picture of a fold; its sums are then those of no row.
            starts = range(0, max(len(rows), 1), BLOCK)
            parts = (rows[start : start + BLOCK] for start in starts)
            total = reduce(add, (FoldSums.of(x_NL[r], labels_NV[r], text) for r in parts))
            sums.append(total.over(group))
        return cls(group, x_NL, labels_NV, members, tuple(sums))

    def sums_without(self, fold: int | None) -> FoldSums:
        """The sums of all the folds but one; None: of all."""
        return reduce(add, (one for number, one in enumerate(self.sums) if number != fold))

    def scorers_without(
        self,
        fold: int | None,
        projections: Projections,
        settings: ScorerSettings,
        spread_SV: NDArray[np.float32],
    ) -> TagScorers:
        """Scorers whose neighbours are the pictures of all the ranks and all folds but one."""
        if fold is None:
            rows_M = np.arange(len(self.x_NL))
        else:
            rows_M = np.concatenate([m for n, m in enumerate(self.members) if n != fold])
        labels_MV = self.labels_NV[rows_M]
        indices = np.concatenate(self.group.gather(labels_MV.indices))
        lengths = np.concatenate(self.group.gather(np.diff(labels_MV.indptr)))
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        ones = np.ones(len(indices), dtype=np.float32)
        gathered = sparse.csr_matrix((ones, indices, indptr), (len(lengths), labels_MV.shape[1]))
        parts = [part.astype(np.float32) for part in self.group.gather(self.x_NL[rows_M])]
        return TagScorers.build(settings, projections, parts, gathered, spread_SV)

    def learn(
        self, settings: ScorerSettings, learning: NetworkSettings
    ) -> tuple[NDArray[np.float32], TagNetwork, NDArray[np.float32]]:
        """Score each fold by what was learned from the others, and learn how far to believe it.

        Returns:
            Each ridge's spread [S, V] over pictures it has not seen, the network, and the
            network's probabilities [M, V] of all the ranks' held-out pictures.
        """
        tags = self.labels_NV.shape[1]
        most = min(learning.held_out, PAIRS_HELD // tags) // (len(self.members) * self.group.size)
        held = [rows[: max(1, most)] for rows in self.members]
        projections = [
            Projections.solve(self.sums_without(fold), settings)
            for fold in range(len(self.members))
        ]
        spread_SV = self._spread(held, projections)
        kept: list[NDArray[np.float32]] = []
        for fold, rows in enumerate(held):
            scorers = self.scorers_without(fold, projections[fold], settings, spread_SV)
            kept += [scorers.signals(self.x_NL[part])[0] for part in row_blocks(rows, tags)]
        signals_MVF = np.concatenate(kept)
        carried_MV = self.labels_NV[np.concatenate(held)].toarray() > 0
        # Pairs that are not there are many and alike: some of them stand for all.
        pairs = float(self.group.sum(np.array([float(carried_MV.size)]))[0])
        share = min(1.0, learning.pairs / max(pairs, 1.0))
        rng = np.random.default_rng(learning.seed + self.group.rank)
        taken_MV = carried_MV | (rng.random(carried_MV.shape) < share)
        network = fit_tag_network(
            signals_MVF[taken_MV],
            carried_MV[taken_MV],
            np.where(carried_MV, 1.0, 1 / share)[taken_MV].astype(np.float32),
            learning.hidden,
            learning.weight_decay,
            learning.iterations,
            learning.seed,
            self.group,
        )
        every = np.arange(len(signals_MVF))
        own_MV = np.concatenate([network(signals_MVF[part]) for part in row_blocks(every, tags)])
        together = [part.astype(np.float32) for part in self.group.gather(own_MV)]
        return spread_SV, network, np.concatenate(together)

    def _spread(
        self, held: Sequence[NDArray[np.int64]], projections: Sequence[Projections]
    ) -> NDArray[np.float32]:
        """Standard deviation [S, V] of each ridge's scores over pictures that it has not seen."""
        shape = (len(projections[0].ridges), self.labels_NV.shape[1])
        count, sum_SV, square_SV = 0.0, np.zeros(shape), np.zeros(shape)
        for rows, projection in zip(held, projections, strict=True):
            count += len(rows)
            for place, (weights_LV, bias_V) in enumerate(projection.ridges):
                scores_BV = (self.x_NL[rows] @ weights_LV + bias_V).astype(np.float64)
                sum_SV[place] += scores_BV.sum(0)
                square_SV[place] += np.square(scores_BV).sum(0)
        count = float(self.group.sum(np.array([count]))[0])
        mean_SV = self.group.sum(sum_SV) / count
        variance_SV = self.group.sum(square_SV) / count - mean_SV**2
        spread_SV: NDArray[np.float32] = np.sqrt(np.maximum(variance_SV, 0)).astype(np.float32)
        return spread_SV


def row_blocks(rows_N: NDArray[np.int64], tags: int) -> Iterator[NDArray[np.int64]]:
    """The rows in parts whose pairs with all the tags are few enough to be scored at once."""
    size = max(1, PAIRS_A_BLOCK // max(tags, 1))
    for start in range(0, len(rows_N), size):
        yield rows_N[start : start + size]
