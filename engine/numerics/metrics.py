"""Figures of merit of an annotation, per word and per picture, and of its calibration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256
"""Words whose rankings are in memory at once."""


@dataclass(frozen=True)
class WordMetrics:
    """C-P, C-R, C-F1 and N+: averages over ALL the words (Murthy et al. 2015, section 4).

    Niu et al. 2017, Eq. 6 average over the same words.

    Attributes:
        precision_W, recall_W: of each word; 0 for a word that is never given or never true.
        precision, recall: their means, in [0, 1].
        f1: of the two means.
        n_plus: number of words with recall above zero.
    """

    precision_W: NDArray[np.float64]
    recall_W: NDArray[np.float64]
    precision: float
    recall: float
    f1: float
    n_plus: int


def word_metrics(given_NW: NDArray[np.bool_], truth_NW: NDArray[np.bool_]) -> WordMetrics:
    """Compare given and true tags, both boolean [N, W]."""
    right_W = (given_NW & truth_NW).sum(0)
    precision_W = right_W / np.maximum(given_NW.sum(0), 1)
    recall_W = right_W / np.maximum(truth_NW.sum(0), 1)
    precision, recall = float(precision_W.mean()), float(recall_W.mean())
    return WordMetrics(
        precision_W,
        recall_W,
        precision,
        recall,
        harmonic_mean(precision, recall),
        int((right_W > 0).sum()),
    )


@dataclass(frozen=True)
class PictureMetrics:
    """I-P, I-R and I-F1, all (picture, tag) pairs together (Niu et al. 2017, Eq. 6).

    Ma et al. call the same figures O-P, O-R and O-F1. A picture with no tag, true or given, adds
    no pair; where there is no pair at all, the figure is 0.
    """

    precision: float
    recall: float
    f1: float


def picture_metrics(given_NW: NDArray[np.bool_], truth_NW: NDArray[np.bool_]) -> PictureMetrics:
    """Compare given and true tags, both boolean [N, W]."""
    right = float((given_NW & truth_NW).sum())
    precision = right / max(float(given_NW.sum()), 1.0)
    recall = right / max(float(truth_NW.sum()), 1.0)
    return PictureMetrics(precision, recall, harmonic_mean(precision, recall))


def harmonic_mean(first: float, second: float) -> float:
    """F1 of precision and recall; H-F1 of C-F1 and I-F1 (Niu et al. 2017, Eq. 7). 0 of two 0."""
    total = first + second
    return 2 * first * second / total if total else 0.0


def average_precisions(
    scores_NW: NDArray[np.floating], truth_NW: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The average precision of each word, float64 [W]: of all N pictures ranked by its score.

    The mean, over the pictures that carry the word, of the precision among the pictures that
    score as high or higher. So pictures of equal score share a place, and their order does not
    matter, as in scikit-learn. NaN for a word that no picture carries.
    """
    pictures, words = truth_NW.shape
    found_W = np.full(words, np.nan)
    ranks_N1 = np.arange(1, pictures + 1)[:, None]
    for start in range(0, words if pictures else 0, _BLOCK):
        scores_NB, truth_NB = scores_NW[:, start : start + _BLOCK], truth_NW[:, start:][:, :_BLOCK]
        order_NB = np.argsort(-scores_NB, axis=0, kind="stable")
        scores_NB = np.take_along_axis(scores_NB, order_NB, axis=0)
        true_NB = np.take_along_axis(truth_NB, order_NB, axis=0)
        precision_NB = np.cumsum(true_NB, axis=0) / ranks_N1
        ends_NB = np.ones(true_NB.shape, dtype=np.bool_)
        ends_NB[:-1] = scores_NB[:-1] != scores_NB[1:]
        ends_NB = np.where(ends_NB, ranks_N1 - 1, pictures)
        last_NB = np.minimum.accumulate(ends_NB[::-1], axis=0)[::-1]
        summed_B = np.where(true_NB, np.take_along_axis(precision_NB, last_NB, axis=0), 0).sum(0)
        carried_B = true_NB.sum(0)
        np.divide(summed_B, carried_B, out=found_W[start:][:_BLOCK], where=carried_B > 0)
    return found_W


def mean_average_precision(scores_NW: NDArray[np.floating], truth_NW: NDArray[np.bool_]) -> float:
    """MAP (Ma et al., Tables 1 and 2): the mean over the words that at least one picture carries.

    The papers rank pictures under each word, and no words under a picture. 0 where no picture
    carries a word.
    """
    found_W = average_precisions(scores_NW, truth_NW)
    known_W = ~np.isnan(found_W)
    return float(found_W[known_W].mean()) if known_W.any() else 0.0


def hamming_loss(given_NW: NDArray[np.bool_], truth_NW: NDArray[np.bool_]) -> float:
    """Share of the (picture, word) pairs that are given and not true, or true and not given.

    Sun et al., Table 1. Words that never occur count as any other.
    """
    return float((given_NW != truth_NW).mean()) if given_NW.size else 0.0


def quantity_accuracy(quantity_N: NDArray[np.floating], truth_N: NDArray[np.integer]) -> float:
    """Share of the pictures whose number of tags is predicted right (Niu et al. 2017, section IV).

    Args:
        quantity_N: as predicted; rounded to the nearest whole number, halves up, at least 1. NaN:
            nothing is predicted, and the picture does not count.
        truth_N: the true number; for a picture without a tag no prediction is right.
    """
    told_N = ~np.isnan(quantity_N)
    whole_M = np.maximum(np.floor(quantity_N[told_N].astype(np.float64) + 0.5), 1)
    return float((whole_M == truth_N[told_N]).mean()) if told_N.any() else 0.0


def quantity_error(quantity_N: NDArray[np.floating], truth_N: NDArray[np.integer]) -> float:
    """Mean squared error of the predicted numbers of tags, not rounded (Niu et al., section IV).

    A NaN is left out, as in `quantity_accuracy`.
    """
    told_N = ~np.isnan(quantity_N)
    error_M = quantity_N[told_N].astype(np.float64) - truth_N[told_N]
    return float(np.square(error_M).mean()) if told_N.any() else 0.0


@dataclass(frozen=True)
class Reliability:
    """How often tags of about a score are right: bins of equal width over [0, 1].

    Attributes:
        count_B: (picture, tag) pairs of each bin, int64.
        score_B, right_B: their mean score and the share that is right; NaN for an empty bin.
    """

    count_B: NDArray[np.int64]
    score_B: NDArray[np.float64]
    right_B: NDArray[np.float64]

    @classmethod
    def of(
        cls, scores: NDArray[np.floating], truth: NDArray[np.bool_], bins: int = 15
    ) -> "Reliability":
        """Of scores in [0, 1] and what is true, arrays of one shape; a score of 1 is in the last.

        Raises:
            ValueError: a score is outside [0, 1].
        """
        if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
            raise ValueError(f"scores from {scores.min()} to {scores.max()}; they lie in [0, 1]")
        place = np.minimum((scores.ravel() * bins).astype(np.int64), bins - 1)
        count_B = np.bincount(place, minlength=bins)
        score_B = np.bincount(place, weights=scores.ravel(), minlength=bins)
        right_B = np.bincount(place, weights=truth.ravel().astype(np.float64), minlength=bins)
        some_B = np.where(count_B > 0, count_B, np.nan)
        return cls(count_B, score_B / some_B, right_B / some_B)

    @property
    def error(self) -> float:
        """Expected calibration error: mean |score - share right|, each bin by its pairs."""
        gap_B = np.nan_to_num(np.abs(self.score_B - self.right_B))
        return float((gap_B * self.count_B).sum() / max(self.count_B.sum(), 1))


def calibration_error(
    scores: NDArray[np.float32], truth: NDArray[np.bool_], bins: int = 15
) -> float:
    """Expected calibration error over all the (picture, tag) pairs; see `Reliability`."""
    return Reliability.of(scores, truth, bins).error
