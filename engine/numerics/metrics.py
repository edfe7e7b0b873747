"""Figures of merit of an annotation, per word and per picture, and of its calibration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WordMetrics:
    """The protocol of Murthy et al. 2015, section 4: averages over ALL the words.

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
    total = precision + recall
    return WordMetrics(
        precision_W,
        recall_W,
        precision,
        recall,
        2 * precision * recall / total if total else 0.0,
        int((right_W > 0).sum()),
    )


@dataclass(frozen=True)
class PictureMetrics:
    """Precision, recall and F1 over all (picture, tag) pairs together (I-P, I-R, I-F1)."""

    precision: float
    recall: float
    f1: float


def picture_metrics(given_NW: NDArray[np.bool_], truth_NW: NDArray[np.bool_]) -> PictureMetrics:
    """Compare given and true tags, both boolean [N, W]."""
    right = float((given_NW & truth_NW).sum())
    precision = right / max(float(given_NW.sum()), 1.0)
    recall = right / max(float(truth_NW.sum()), 1.0)
    total = precision + recall
    return PictureMetrics(precision, recall, 2 * precision * recall / total if total else 0.0)


def calibration_error(
    scores: NDArray[np.float32], truth: NDArray[np.bool_], bins: int = 15
) -> float:
    """Expected calibration error: mean |score - share right| over equal-width bins of score.

    Each bin weighs by its share of the (picture, tag) pairs; both arrays have the same shape.
    """
    place = np.minimum((scores.ravel() * bins).astype(np.int64), bins - 1)
    total_B = np.bincount(place, minlength=bins)
    score_B = np.bincount(place, weights=scores.ravel(), minlength=bins)
    right_B = np.bincount(place, weights=truth.ravel().astype(np.float64), minlength=bins)
    return float(np.abs(score_B - right_B).sum() / max(total_B.sum(), 1))
