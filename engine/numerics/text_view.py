"""The text view as a target of regression: mean word vectors, centred, and without correlation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.errors import ConfigError, CorpusError
from engine.group import Group
from engine.numerics.whitening import Whitening

WIDEST = 4096
"""Word vectors of more numbers are not decorrelated: that takes memory of their square."""


def mean_word_vectors(
    labels_NV: sparse.csr_matrix, vectors_VE: NDArray[np.float32], known_V: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the vectors of each picture's tags (Murthy et al. 2015, section 3.2).

    Tags without a vector of their own are left out.

    Returns:
        float32 [N, E], and boolean [N]: which pictures have a tag with a vector; the others' rows
        are 0.
    """
    spoken_NV = labels_NV @ sparse.diags(known_V.astype(np.float32), format="csr")
    counts_N1 = np.asarray(spoken_NV.sum(axis=1), dtype=np.float32).reshape(-1, 1)
    means_NE = np.asarray(spoken_NV @ vectors_VE) / np.maximum(counts_N1, 1)
    return means_NE.astype(np.float32), counts_N1[:, 0] > 0


@dataclass(frozen=True)
class TextSpace:
    """Where pictures' mean word vectors and tags are compared by their cosine.

    The mean word vector of the corpus is taken off, or it alone would decide most cosines: all
    word vectors have much in common.

    Attributes:
        targets_NE: float32, this rank's pictures; their squared length is 1 on average.
        tags_VE: float32 rows of length 1, or of 0 for a tag without a vector.
        taught_N: boolean, which pictures have a target.
    """

    targets_NE: NDArray[np.float32]
    tags_VE: NDArray[np.float32]
    taught_N: NDArray[np.bool_]

    @classmethod
    def learn(
        cls,
        labels_NV: sparse.csr_matrix,
        vectors_VE: NDArray[np.float32],
        known_V: NDArray[np.bool_],
        decorrelate: float | None,
        group: Group,
    ) -> "TextSpace":
        """From this rank's pictures of all the group's.

        Args:
            decorrelate: shrinkage of the whitening of the mean word vectors; None: they are
                centred alone.

        Raises:
            CorpusError: no picture of any rank has a tag with a vector.
            ConfigError: the vectors are too wide to be decorrelated.
        """
        means_NE, taught_N = mean_word_vectors(labels_NV, vectors_VE, known_V)
        taught = float(group.sum(np.array([float(taught_N.sum())]))[0])
        if not taught:
            raise CorpusError(
                "no picture has a tag that the word vectors know, so there is nothing to learn; "
                "choose other tag_vectors, such as 'binary'"
            )
        space = _space(means_NE[taught_N], taught, decorrelate, group)
        targets_NE = space(means_NE)
        targets_NE[~taught_N] = 0
        tags_VE = space(vectors_VE)
        lengths_V1 = np.linalg.norm(tags_VE, axis=1, keepdims=True)
        tags_VE = tags_VE / np.maximum(lengths_V1, 1e-12) * known_V[:, None]
        return cls(targets_NE, tags_VE.astype(np.float32), taught_N)


def _space(
    means_ME: NDArray[np.float32], taught: float, decorrelate: float | None, group: Group
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    width = means_ME.shape[1]
    if decorrelate is not None:
        if width > WIDEST:
            raise ConfigError(
                f"the word vectors have {width:,} numbers, and at most {WIDEST:,} can be "
                "decorrelated; set decorrelate to 'no', or choose other tag_vectors"
            )
        return Whitening.learn([means_ME], width, decorrelate, group)
    mean_E = group.sum(means_ME.sum(0, dtype=np.float64)) / taught
    squares = group.sum(np.array([np.square(means_ME - mean_E).sum()]))[0]
    length = max(float(np.sqrt(squares / taught)), 1e-12)
    return lambda vectors: ((vectors - mean_E) / length).astype(np.float32)
