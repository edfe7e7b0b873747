"""The figures that a table may have as its columns, by name; each is one number of an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.numerics.metrics import (
    PictureMetrics,
    WordMetrics,
    calibration_error,
    hamming_loss,
    harmonic_mean,
    mean_average_precision,
    picture_metrics,
    quantity_accuracy,
    quantity_error,
    word_metrics,
)
from engine.numerics.ranking import NOTHING, best_first, graded_relevance, ndcg, precision_at

DEPTH = 10
"""Longest list of tags whose order is measured (Yan et al. 2016: k = 1 to 10)."""


@dataclass(frozen=True)
class Answers:
    """What was said of N pictures and what is true of them, for W counted words.

    Attributes:
        scores_NW: float32 in [0, 1]; 0 for a word that the method does not know.
        given_NW: the tags given: the k best of each picture, or as many as the method wants.
        truth_NW: the true tags.
        ranking_NK: columns of the best words, best first, however many are given, int64;
            `ranking.NOTHING` where there are no more. None: the order of the scores.
        places_NW: place of each true tag in its picture's list, from 1 without gaps, 0 for no tag.
            None: the order is not known, and every true tag is as relevant as the others.
        quantity_N: the predicted number of tags, not rounded, float32; None: none is predicted.
    """

    scores_NW: NDArray[np.float32]
    given_NW: NDArray[np.bool_]
    truth_NW: NDArray[np.bool_]
    ranking_NK: NDArray[np.int64] | None = None
    places_NW: NDArray[np.float32] | None = None
    quantity_N: NDArray[np.float32] | None = None

    @cached_property
    def by_word(self) -> WordMetrics:
        return word_metrics(self.given_NW, self.truth_NW)

    @cached_property
    def by_picture(self) -> PictureMetrics:
        return picture_metrics(self.given_NW, self.truth_NW)

    @cached_property
    def order_NK(self) -> NDArray[np.int64]:
        """The ranking, or that by the scores."""
        if self.ranking_NK is not None:
            return self.ranking_NK
        return best_first(self.scores_NW, self.scores_NW.shape[1])

    @cached_property
    def best_NK(self) -> NDArray[np.int64]:
        """The first `DEPTH` of the ranking, int64 [N, DEPTH]."""
        best_NK = np.full((len(self.truth_NW), DEPTH), NOTHING, dtype=np.int64)
        best_NK[:, : self.order_NK.shape[1]] = self.order_NK[:, :DEPTH]
        return best_NK

    @cached_property
    def ndcg_NK(self) -> NDArray[np.float64]:
        """NDCG@1 to NDCG@`DEPTH` of each picture; NaN for one without a true tag."""
        places_NW = self.places_NW
        relevance_NW = self.truth_NW if places_NW is None else graded_relevance(places_NW)
        return ndcg(self.best_NK, np.asarray(relevance_NW, dtype=np.float64))

    @cached_property
    def ndcg_K(self) -> NDArray[np.float64]:
        """Means over the pictures that have a true tag; 0 where none has."""
        known_MK = self.ndcg_NK[~np.isnan(self.ndcg_NK[:, 0])]
        return known_MK.mean(0) if len(known_MK) else np.zeros(DEPTH)

    @cached_property
    def precision_K(self) -> NDArray[np.float64]:
        """Precision@1 to Precision@`DEPTH`, means over all the pictures."""
        return precision_at(self.best_NK, self.truth_NW).mean(0)


@dataclass(frozen=True)
class Metric:
    """One figure of merit.

    Attributes:
        label: as a heading.
        measure: in per cent, unless said otherwise.
        digits: after the point, when it is shown.
        of_quantity: it needs a predicted number of tags, and is left out where there is none.
    """

    label: str
    measure: Callable[[Answers], float]
    digits: int = 1
    of_quantity: bool = False

    def applies(self, answers: Answers) -> bool:
        """Whether the answers say what is measured."""
        return answers.quantity_N is not None or not self.of_quantity


def figures_of(answers: Answers) -> dict[str, float]:
    """Every metric by name that applies to the answers."""
    return {
        name: float(metric.measure(answers))
        for name, metric in METRICS.items()
        if metric.applies(answers)
    }


def _quantity(
    measure: Callable[[NDArray[np.floating], NDArray[np.integer]], float],
) -> Callable[[Answers], float]:
    """Compare the predicted numbers of tags with those of the counted words that are true."""

    def of(answers: Answers) -> float:
        if answers.quantity_N is None:
            raise ValueError("no number of tags was predicted")
        return measure(answers.quantity_N, answers.truth_NW.sum(1))

    return of


def _at(
    name: str, label: str, measure: Callable[[Answers], NDArray[np.float64]]
) -> dict[str, Metric]:
    """A figure at each k of 1 to `DEPTH`, and the mean of these (Yan et al. 2016, Table 1)."""

    def at(k: int) -> Metric:
        return Metric(f"{label}@{k}", lambda answers: 100 * float(measure(answers)[k - 1]))

    mean = Metric(f"mean {label}@1..{DEPTH}", lambda answers: 100 * float(measure(answers).mean()))
    return {f"{name}@{k}": at(k) for k in range(1, DEPTH + 1)} | {f"mean_{name}": mean}


CURVES = {"ndcg": "NDCG", "precision": "Precision"}
"""The figures that there are at each k: name -> label."""

METRICS: dict[str, Metric] = {
    # Murthy et al. 2015, section 4 (C-P, C-R, C-F1 elsewhere): means over all the words.
    "precision": Metric("P", lambda a: 100 * a.by_word.precision),
    "recall": Metric("R", lambda a: 100 * a.by_word.recall),
    "f1": Metric("F1", lambda a: 100 * a.by_word.f1),
    # A count.
    "n_plus": Metric("N+", lambda a: float(a.by_word.n_plus), 0),
    # Niu et al. 2017 (O-P, O-R, O-F1 in Ma et al.): over all (picture, tag) pairs, and the
    # harmonic mean of both F1.
    "picture_precision": Metric("I-P", lambda a: 100 * a.by_picture.precision),
    "picture_recall": Metric("I-R", lambda a: 100 * a.by_picture.recall),
    "picture_f1": Metric("I-F1", lambda a: 100 * a.by_picture.f1),
    "h_f1": Metric("H-F1", lambda a: 100 * harmonic_mean(a.by_word.f1, a.by_picture.f1)),
    # Ma et al., Tables 1 and 2.
    "map": Metric("MAP", lambda a: 100 * mean_average_precision(a.scores_NW, a.truth_NW)),
    # Sun et al., Table 1: a share, and less is better.
    "hamming": Metric("Hamming loss", lambda a: hamming_loss(a.given_NW, a.truth_NW), 4),
    # Niu et al. 2017, Tables V and VI; of the error, which is in tags squared, less is better.
    "lqp_accuracy": Metric(
        "LQP accuracy", lambda a: 100 * _quantity(quantity_accuracy)(a), of_quantity=True
    ),
    "lqp_mse": Metric("LQP MSE", _quantity(quantity_error), 3, of_quantity=True),
    # Expected calibration error: a share, and less is better.
    "ece": Metric("ECE", lambda a: calibration_error(a.scores_NW, a.truth_NW), 4),
    # Yan et al. 2016, Eq. 20 and 21.
    **_at("ndcg", CURVES["ndcg"], lambda a: a.ndcg_K),
    **_at("precision", "P", lambda a: a.precision_K),
}
