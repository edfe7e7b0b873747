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
    words, each word alike, and takes F1 of the two means. Of n pictures let word w be given to
    g_w and be true of t_w. One more picture that carries it with probability p adds about
    (p - P_w) / (g_w + 1) to P_w and p / t_w to R_w, and

        dF1 = a dP + b dR,  a = 2R² / (P + R)²,  b = 2P² / (P + R)².

    So its worth is gain_w · p - toll_w, with gain_w = a / (g_w + 1) + b / t_w and
    toll_w = a P_w / (g_w + 1). A rare word is worth much where it is likely and costs much where
    it is not; what is left of the k places goes to frequent words, of which one more hardly
    matters. Lewis 1995 (Evaluating and optimizing autonomous text classification systems) has the
    threshold for one word; here the k places of a picture are what words compete for.
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

    g_w and P_w depend on which words are given, and these on the map, so it is found by damped
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
    true_V = np.maximum(frequency_V * reference, 1.0)
    gain_V = 1 / np.sqrt(frequency_V + 1 / reference)
    toll_V = np.zeros(words)
    for round_number in range(ROUNDS):
        worth_NV = p_NV * gain_V - toll_V
        places_NK = np.argpartition(-worth_NV, k - 1, axis=1)[:, :k]
        given_V = scale * np.bincount(places_NK.ravel(), minlength=words)
        p_NK = np.take_along_axis(p_NV, places_NK, axis=1)
        right_V = scale * np.bincount(places_NK.ravel(), p_NK.ravel(), minlength=words)
        precision_V = np.divide(right_V, given_V, out=np.zeros(words), where=given_V > 0)
        precision, recall = precision_V.mean(), np.minimum(right_V / true_V, 1).mean()
        total = max((precision + recall) ** 2, 1e-12)
        alpha, beta = 2 * recall**2 / total, 2 * precision**2 / total
        keep = 0.0 if round_number == 0 else 0.5
        gain_V = keep * gain_V + (1 - keep) * (alpha / (given_V + 1) + beta / true_V)
        toll_V = keep * toll_V + (1 - keep) * alpha * precision_V / (given_V + 1)
    return WordBalance(gain_V.astype(np.float32), toll_V.astype(np.float32))
