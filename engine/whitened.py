"""A corpus's embeddings as layers learn from them: levels evened out, whitened, side by side."""

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
    """This rank's features, and how a layer that was learned on them reads plain levels.

    Attributes:
        features_ND: float32, of `engine.numerics.levels.normalised_levels`, whitened by the
            covariance over all the ranks.
        levels: widths of the levels.
        scale: the features' root mean squared length.
    """

    features_ND: NDArray[np.float32]
    levels: tuple[int, ...]
    whitening: Whitening
    scale: float

    @classmethod
    def learn(
        cls, corpus: Corpus, shrinkage: float, group: Group, scale: float | None = 1.0
    ) -> "Whitened":
        """Whiten by the covariance over all the ranks.

        Args:
            shrinkage: in units of the mean variance, see `engine.numerics.whitening`.
            scale: the features' root mean squared length; None: √D, so that each has about the
                variance 1.
        """
        width = corpus.embeddings_ND.shape[1]
        blocks = (normalised_levels(x_BD, corpus.levels) for x_BD, _ in corpus.blocks())
        whitening = Whitening.learn(blocks, width, shrinkage, group)
        scale = float(np.sqrt(width)) if scale is None else scale
        features_ND = np.empty((len(corpus), width), dtype=np.float32)
        start = 0
        for x_BD, _ in corpus.blocks():
            white_BD = whitening(normalised_levels(x_BD, corpus.levels))
            features_ND[start : start + len(x_BD)] = white_BD * np.float32(scale)
            start += len(x_BD)
        return cls(features_ND, corpus.levels, whitening, scale)

    def folded(
        self, weights_DH: NDArray[np.floating], bias_H: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A layer on these features as one on the normalised levels: weights [D, H], bias [H]."""
        plain_DH = self.scale * (self.whitening.weights_DD @ weights_DH.astype(np.float64))
        plain_H = bias_H - self.whitening.mean_D @ plain_DH
        return np.ascontiguousarray(plain_DH, dtype=np.float32), plain_H.astype(np.float32)

    def head(self, weights_DH: NDArray[np.floating], bias_H: NDArray[np.floating]) -> Head:
        """A layer on these features as one on the embedding itself."""
        return Head(self.levels, *self.folded(weights_DH, bias_H))


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
