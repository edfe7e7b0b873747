"""How good the order of a picture's tags is: NDCG@k and Precision@k (Yan, Wang and Liao 2016)."""

import numpy as np
from numpy.typing import NDArray

NOTHING = -1
"""In place of a column in a ranking: there is no further tag."""


def best_first(scores_NW: NDArray[np.floating], depth: int) -> NDArray[np.int64]:
    """The columns of each picture's best words, best first: int64 [N, min(depth, W)].

    Equal scores keep the order of the columns.
    """
    order_NW = np.argsort(-scores_NW, axis=1, kind="stable")
    return order_NW[:, :depth].astype(np.int64, copy=False)


def graded_relevance(places_NW: NDArray[np.floating]) -> NDArray[np.float64]:
    """The relevance s of each word to each picture, float64 [N, W], from the given order of tags.

    The paper leaves open what s is. Here the tag at place p of n has s = (n - p + 1) / n: the first
    has 1, and the others fall in equal steps to 1/n for the last, whatever the length of the list;
    a word that is no tag has 0. So the gains 2^s - 1 lie in [0, 1].

    Args:
        places_NW: place of each tag in its picture's list, from 1 and without gaps; 0: no tag.
    """
    places = np.asarray(places_NW, dtype=np.float64)
    length_N1 = np.maximum((places > 0).sum(1, keepdims=True), 1)
    return np.where(places > 0, (length_N1 - places + 1) / length_N1, 0.0)


def ndcg(ranking_NK: NDArray[np.int64], relevance_NW: NDArray[np.floating]) -> NDArray[np.float64]:
    """NDCG@k of each picture for k = 1 to K, float64 [N, K] (Yan et al. 2016, Eq. 20).

    Z is the sum for the best order there is at the same k, so that 1 is perfect. A picture to which
    no word is relevant has no Z: its row is NaN, and means leave it out.

    Args:
        ranking_NK: columns of the words, best first; `NOTHING` gains nothing.
        relevance_NW: s of each word; 1 and 0 where the order of the true tags is unknown.
    """
    depth = ranking_NK.shape[1]
    discount_K = 1 / np.log(1 + np.arange(1, depth + 1))
    gain_NW = np.exp2(np.asarray(relevance_NW, dtype=np.float64)) - 1
    found_NK = _picked(gain_NW, ranking_NK) * discount_K
    ideal_NK = np.zeros(ranking_NK.shape)
    largest_NK = -np.sort(-gain_NW, axis=1)[:, :depth]
    ideal_NK[:, : largest_NK.shape[1]] = largest_NK
    z_NK = np.cumsum(ideal_NK * discount_K, axis=1)
    return np.divide(
        np.cumsum(found_NK, axis=1), z_NK, out=np.full(z_NK.shape, np.nan), where=z_NK > 0
    )


def precision_at(ranking_NK: NDArray[np.int64], truth_NW: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Precision@k of each picture for k = 1 to K, float64 [N, K] (Yan et al. 2016, Eq. 21).

    The divisor is k, however few words there are; a picture without a true tag has 0.
    """
    right_NK = _picked(truth_NW.astype(np.float64), ranking_NK)
    return np.cumsum(right_NK, axis=1) / np.arange(1, ranking_NK.shape[1] + 1)


def _picked(values_NW: NDArray[np.float64], ranking_NK: NDArray[np.int64]) -> NDArray[np.float64]:
    """The value of each ranked word, 0 for `NOTHING`."""
    if not values_NW.shape[1]:
        return np.zeros(ranking_NK.shape)
    picked_NK = np.take_along_axis(values_NW, np.maximum(ranking_NK, 0), axis=1)
    return np.where(ranking_NK == NOTHING, 0.0, picked_NK)
