"""The figures that a table may have as its columns, by name; each is one number of an answer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.numerics.metrics import picture_metrics, word_metrics


@dataclass(frozen=True)
class Answers:
    """What was said of N pictures and what is true of them, for W counted words.

    Attributes:
        scores_NW: float32; 0 for a word that the method does not know.
        given_NW: the k best of each picture.
    """

    scores_NW: NDArray[np.float32]
    given_NW: NDArray[np.bool_]
    truth_NW: NDArray[np.bool_]


@dataclass(frozen=True)
class Metric:
    """One figure of merit.

    Attributes:
        label: as a heading.
        measure: in per cent, or a count.
        digits: after the point, when it is shown.
    """

    label: str
    measure: Callable[[Answers], float]
    digits: int = 1


def _mean_of(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0


def _f1_by_word(answers: Answers) -> float:
    return word_metrics(answers.given_NW, answers.truth_NW).f1


def _f1_by_picture(answers: Answers) -> float:
    return picture_metrics(answers.given_NW, answers.truth_NW).f1


METRICS: dict[str, Metric] = {
    # Murthy et al. 2015, section 4: means over all the words.
    "precision": Metric("P", lambda a: 100 * word_metrics(a.given_NW, a.truth_NW).precision),
    "recall": Metric("R", lambda a: 100 * word_metrics(a.given_NW, a.truth_NW).recall),
    "f1": Metric("F1", lambda a: 100 * _f1_by_word(a)),
    "n_plus": Metric("N+", lambda a: float(word_metrics(a.given_NW, a.truth_NW).n_plus), 0),
    # Niu et al. 2017: over all (picture, tag) pairs, and the harmonic mean of both F1.
    "picture_precision": Metric(
        "I-P", lambda a: 100 * picture_metrics(a.given_NW, a.truth_NW).precision
    ),
    "picture_recall": Metric("I-R", lambda a: 100 * picture_metrics(a.given_NW, a.truth_NW).recall),
    "picture_f1": Metric("I-F1", lambda a: 100 * _f1_by_picture(a)),
    "h_f1": Metric("H-F1", lambda a: 100 * _mean_of(_f1_by_word(a), _f1_by_picture(a))),
}
