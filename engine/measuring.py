"""From what was said of pictures, over a vocabulary, to answers that metrics are measured on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.numerics.metric_registry import DEPTH, Answers
from engine.numerics.ranking import NOTHING
from engine.vocab import Vocabulary


def places_among(words: Sequence[str], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Places on the V axis of those of `words` that the vocabulary has, ascending."""
    index = vocabulary.index
    return np.array(sorted(index[word] for word in words if word in index), dtype=np.int64)


def answers_among(
    words: Sequence[str],
    vocabulary: Vocabulary,
    scores_NV: NDArray[np.float32],
    given_NR: NDArray[np.int64],
    counts_N: NDArray[np.int64],
    true_places_NW: NDArray[np.float32],
    quantity_N: NDArray[np.float32] | None = None,
) -> Answers:
    """The answers over the counted `words`, in the order of these.

    The ranking of a picture begins with the tags that it was given and goes on by score; equal
    scores go to the tag that is more frequent in training, as in a bundle.

    Args:
        given_NR: places on the V axis of the tags given, all of them among `words`, in their order;
            what is beyond `counts_N` means nothing.
        true_places_NW: of the true tags in their given order; see `Answers.places_NW`.
    """
    known_K = places_among(words, vocabulary)
    column = {word: place for place, word in enumerate(words)}
    columns_K = np.array([column[vocabulary.tags[tag]] for tag in known_K], dtype=np.int64)
    scores_NW = np.zeros(true_places_NW.shape, dtype=np.float32)
    scores_NW[:, columns_K] = scores_NV[:, known_K]

    rows_G, ranks_G = np.nonzero(np.arange(given_NR.shape[1]) < counts_N[:, None])
    tags_G = np.searchsorted(known_K, given_NR[rows_G, ranks_G])
    given_NW = np.zeros(true_places_NW.shape, dtype=np.bool_)
    given_NW[rows_G, columns_K[tags_G]] = True
    keys_NK = -scores_NV[:, known_K].astype(np.float64)
    # Before every score, which is at most 1.
    keys_NK[rows_G, tags_G] = ranks_G - given_NR.shape[1] - 1.0
    depth = max(DEPTH, int(counts_N.max(initial=0)))
    order_NR = np.argsort(keys_NK, axis=1, kind="stable")[:, :depth]
    ranking_NR = np.full((len(scores_NW), depth), NOTHING, dtype=np.int64)
    ranking_NR[:, : order_NR.shape[1]] = columns_K[order_NR]
    return Answers(scores_NW, given_NW, true_places_NW > 0, ranking_NR, true_places_NW, quantity_N)
