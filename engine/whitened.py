"""A corpus's embeddings as networks learn from them: levels evened out, whitened, side by side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.corpus import Corpus
from engine.group import Group
from engine.numerics.levels import normalised_levels
from engine.numerics.whitening import Whitening


@dataclass(frozen=True)
class Whitened:
    """This rank's features, and how a layer that was learned on them reads plain levels.

    Attributes:
        features_ND: float32, of `engine.numerics.levels.normalised_levels`, whitened.
        scale: the features' root mean squared length.
    """

    features_ND: NDArray[np.float32]
    whitening: Whitening
    scale: float

    @classmethod
    def learn(
        cls, corpus: Corpus, shrinkage: float, group: Group, scale: float | None = None
    ) -> "Whitened":
        """Whiten by the covariance over all the ranks.

        Args:
            shrinkage: in units of the mean variance.
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
        return cls(features_ND, whitening, scale)

    def folded(
        self, weights_DH: NDArray[np.float32], bias_H: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A layer on these features as one on the normalised levels: weights [D, H], bias [H]."""
        plain_DH = self.scale * (self.whitening.weights_DD @ weights_DH.astype(np.float64))
        plain_H = bias_H - self.whitening.mean_D @ plain_DH
        return np.ascontiguousarray(plain_DH, dtype=np.float32), plain_H.astype(np.float32)
