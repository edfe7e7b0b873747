"""A corpus's embeddings as linear layers learn from them: whitened, and unwhitened again after."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.corpus import Corpus
from engine.group import Group
from engine.numerics.levels import normalised_levels
from engine.numerics.whitening import Whitening
from engine.regression import Head


@dataclass(frozen=True)
class Whitened:
    """Features of this rank's pictures, whitened by the covariance over all the ranks.

    Attributes:
        features_ND: float32, of normalised levels; their squared length is 1 on average.
    """

    features_ND: NDArray[np.float32]
    levels: tuple[int, ...]
    whitening: Whitening

    @classmethod
    def learn(cls, corpus: Corpus, shrinkage: float, group: Group) -> "Whitened":
        """See `engine.numerics.whitening` for `shrinkage`."""
        blocks = (normalised_levels(x_BD, corpus.levels) for x_BD, _ in corpus.blocks())
        whitening = Whitening.learn(blocks, corpus.embeddings_ND.shape[1], shrinkage, group)
        features = [
            whitening(normalised_levels(x_BD, corpus.levels)) for x_BD, _ in corpus.blocks()
        ]
        return cls(np.concatenate(features), corpus.levels, whitening)

    def head(self, weights_DE: NDArray[np.floating], bias_E: NDArray[np.floating]) -> Head:
        """A linear layer on these features as one on the embedding itself."""
        folded_DE = self.whitening.weights_DD @ weights_DE.astype(np.float64)
        folded_E = bias_E - self.whitening.mean_D @ folded_DE
        return Head(
            self.levels,
            np.ascontiguousarray(folded_DE, dtype=np.float32),
            folded_E.astype(np.float32),
        )


@dataclass(frozen=True)
class Scale:
    """Each feature's mean and standard deviation over the pictures of all the ranks.

    Attributes:
        mean_D, deviation_D: float64.
    """

    mean_D: NDArray[np.float64]
    deviation_D: NDArray[np.float64]

    @classmethod
    def learn(cls, corpus: Corpus, group: Group) -> "Scale":
        """In one pass over the embeddings."""
        width = corpus.embeddings_ND.shape[1]
        sum_D, square_D = np.zeros(width), np.zeros(width)
        for x_BD, _ in corpus.blocks():
            sum_D += x_BD.sum(0, dtype=np.float64)
            square_D += np.square(x_BD, dtype=np.float64).sum(0)
        count = float(group.sum(np.array([float(len(corpus))]))[0])
        mean_D = group.sum(sum_D) / count
        variance_D = group.sum(square_D) / count - mean_D**2
        return cls(mean_D, np.sqrt(np.maximum(variance_D, 0)))
