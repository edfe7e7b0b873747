"""Which tags to give so that the mean over words of precision and recall comes out best."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 24
"""Of the fixed-point iteration; the figures move by less than a thousandth after about ten."""


@dataclass(frozen=True)
class WordBalance:
    """An affine map of each word's probability: what giving it adds to the expected figure.

    The protocol of Murthy et al. 2015, section 4, averages precision P_w and recall R_w over the
    words, each word alike, and takes F1 of the two means; a word that is never given has P_w = 0,
    and one that is never true R_w = 0. Let word w be expected g_w times among those given to n
    pictures, r_w times rightly, and true of t_w. As counts of rare events these are Poisson's, so

        E[P_w] = r_w (1 - exp(-g_w)) / g_w,   E[R_w] = r_w (1 - exp(-t_w)) / t_w.

    Giving w to one more picture that carries it with probability p adds dg = 1 and dr = p:

        dE[P_w] = s_w p - (r_w / g_w) (s_w - exp(-g_w)),   s_w = (1 - exp(-g_w)) / g_w
        dE[R_w] = p (1 - exp(-t_w)) / t_w
        dF1     = a dP + b dR,   a = 2R² / (P + R)²,   b = 2P² / (P + R)².

    So its worth is gain_w · p - toll_w, with gain_w = a s_w + b (1 - exp(-t_w)) / t_w and
    toll_w = a (r_w / g_w) (s_w - exp(-g_w)). A rare word is worth much where it is likely, for it
    might otherwise not be given at all; of a frequent one, one more hardly matters. Lewis 1995
    (Evaluating and optimizing autonomous text classification systems) has the threshold for one
    word; here the k places of a picture are what words compete for.
    """

    gain_V: NDArray[np.float32]
    toll_V: NDArray[np.float32]

    def __call__(self, probabilities_BV: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 [B, V] in [0, 1]: (1 + worth) / 2, in the order of the worth."""
        worth_BV = probabilities_BV * self.gain_V - self.toll_V
        return np.clip((1 + worth_BV) / 2, 0, 1).astype(np.float32, copy=False)


def balance_words(
    probabilities_NV: NDArray[np.float32],
    frequency_V: NDArray[np.float64],
    k: int,
    reference: int,
) -> WordBalance:
    """Find the map under which the pictures' k best words have the best expected F1.

    g_w and r_w depend on which words are given, and these on the map, so it is found by damped
    fixed-point iteration on pictures that no method has seen; no label is looked at, the
    probabilities alone count.

    Args:
        probabilities_NV: calibrated, of unseen pictures; N > 0.
        frequency_V: share of pictures that carry each word.
        k: words given to a picture.
        reference: n, the pictures that the figure is thought of as measured on: it says what one
            picture more means for a rare word.
    """
    pictures, words = probabilities_NV.shape
    p_NV = probabilities_NV.astype(np.float64)
    k = min(k, words)
    scale = reference / pictures
    reached_V = _once_a_time(frequency_V * reference)
    gain_V = 1 / np.sqrt(frequency_V + 1 / reference)
    toll_V = np.zeros(words)
    for round_number in range(ROUNDS):
        worth_NV = p_NV * gain_V - toll_V
        places_NK = np.argpartition(-worth_NV, k - 1, axis=1)[:, :k]
        given_V = scale * np.bincount(places_NK.ravel(), minlength=words)
        p_NK = np.take_along_axis(p_NV, places_NK, axis=1)
        right_V = scale * np.bincount(places_NK.ravel(), p_NK.ravel(), minlength=words)
        share_V = np.divide(right_V, given_V, out=np.zeros(words), where=given_V > 0)
        used_V = _once_a_time(given_V)
        precision = (right_V * used_V).mean()
        recall = np.minimum(right_V * reached_V, 1).mean()
        total = max((precision + recall) ** 2, 1e-12)
        alpha, beta = 2 * recall**2 / total, 2 * precision**2 / total
        keep = 0.0 if round_number == 0 else 0.5
        gain_V = keep * gain_V + (1 - keep) * (alpha * used_V + beta * reached_V)
        toll_V = keep * toll_V + (1 - keep) * alpha * share_V * (used_V - np.exp(-given_V))
    return WordBalance(gain_V.astype(np.float32), toll_V.astype(np.float32))


def _once_a_time(expected_V: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 - exp(-m)) / m: the chance that something happens at all, for each time it is expected."""
    found: NDArray[np.float64] = -np.expm1(-expected_V)
    return np.divide(found, expected_V, out=np.ones_like(found), where=expected_V > 0)
