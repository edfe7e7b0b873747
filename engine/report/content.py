"""What the evaluation report says: words, confusions and pictures, worked out of the answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.numerics.metric_registry import Answers
from engine.numerics.metrics import average_precisions, harmonic_mean
from engine.numerics.ranking import NOTHING

PAIRS = 25
"""Confusions that are listed."""

MATRIX = 14
"""Words of the matrix of confusions."""


@dataclass(frozen=True)
class Facts:
    """What was measured, on what.

    Attributes:
        corpus: its path or URL.
        k: tags a picture, as a number or 'auto'.
        pictures: measured; unused: those without tags, and those that cannot be decoded.
        unknown: words that the bundle has never seen.
    """

    title: str
    bundle_id: str
    corpus: str
    k: str
    pictures: int
    unused: int
    unknown: int


@dataclass(frozen=True)
class Course:
    """How the annotators' weights went while they were learned: after so many triples, [T, A].

    Attributes:
        used_A: those that the bundle blends by: the means over the course, not its end.
    """

    names: tuple[str, ...]
    triples_T: tuple[int, ...]
    weights_TA: tuple[tuple[float, ...], ...]
    used_A: tuple[float, ...]


@dataclass(frozen=True)
class Shown:
    """A picture with what it was given: (tag, score, whether it is true), best first."""

    image_id: str
    picture: bytes | None
    tags: tuple[tuple[str, float, bool], ...]
    missed: tuple[str, ...]
    f1: float


@dataclass(frozen=True)
class Examples:
    """Pictures that came out worst and best."""

    worst: tuple[Shown, ...] = ()
    best: tuple[Shown, ...] = ()


@dataclass(frozen=True)
class WordLine:
    """A counted word.

    Attributes:
        trained: training pictures that carry it; None: the bundle does not know it.
        true, given, right: tested pictures.
        average_precision: None where no picture carries the word.
    """

    word: str
    trained: int | None
    true: int
    given: int
    right: int
    precision: float
    recall: float
    average_precision: float | None

    @property
    def f1(self) -> float:
        return harmonic_mean(self.precision, self.recall)


def word_lines(
    answers: Answers, words: Sequence[str], trained: Mapping[str, int]
) -> list[WordLine]:
    """Every counted word in its order."""
    true_W, given_W = answers.truth_NW.sum(0), answers.given_NW.sum(0)
    right_W = (answers.truth_NW & answers.given_NW).sum(0)
    found_W = average_precisions(answers.scores_NW, answers.truth_NW)
    return [
        WordLine(
            word,
            trained.get(word),
            int(true_W[place]),
            int(given_W[place]),
            int(right_W[place]),
            float(answers.by_word.precision_W[place]),
            float(answers.by_word.recall_W[place]),
            None if np.isnan(found_W[place]) else float(found_W[place]),
        )
        for place, word in enumerate(words)
    ]


@dataclass(frozen=True)
class Confusion:
    """A word that is missed where another is given wrongly.

    Attributes:
        pictures: in which both happen; expected: as many as if neither knew of the other.
        misses: pictures that miss the first.
        together: pictures in which both are true.
    """

    missed: str
    given: str
    pictures: int
    expected: float
    misses: int
    together: int


@dataclass(frozen=True)
class Confusions:
    """What is taken for what.

    Attributes:
        pairs: those that stand out most from chance first.
        rows, columns: the words of `matrix`: missed, and given wrongly, the most confused first.
        matrix: pictures.
    """

    pairs: tuple[Confusion, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]


def confusions(answers: Answers, words: Sequence[str]) -> Confusions:
    """Count in how many pictures a true word is missing and a wrong one is given.

    With several tags a picture it is not known which wrong tag stands for which missing one. So
    each pair of a picture counts, and pairs are ordered by how far they exceed chance:
    (pictures - expected) / √(expected + 1), where expected = misses · wrongs / N. The 1 keeps rare
    words, which hardly ever meet by chance, from standing first for having met once.
    """
    truth_NW, given_NW = answers.truth_NW, answers.given_NW
    missed_NW = sparse.csr_matrix(truth_NW & ~given_NW, dtype=np.float64)
    wrong_NW = sparse.csr_matrix(given_NW & ~truth_NW, dtype=np.float64)
    both = sparse.coo_matrix(missed_NW.T @ wrong_NW)
    misses_W = np.asarray(missed_NW.sum(0)).ravel()
    wrongs_W = np.asarray(wrong_NW.sum(0)).ravel()
    expected_P = misses_W[both.row] * wrongs_W[both.col] / max(len(truth_NW), 1)
    excess_P = (both.data - expected_P) / np.sqrt(expected_P + 1)
    order_P = np.lexsort((both.col, both.row, -excess_P))[:PAIRS]
    pairs = tuple(
        Confusion(
            words[both.row[pair]],
            words[both.col[pair]],
            int(both.data[pair]),
            float(expected_P[pair]),
            int(misses_W[both.row[pair]]),
            int((truth_NW[:, both.row[pair]] & truth_NW[:, both.col[pair]]).sum()),
        )
        for pair in order_P
    )
    rows, columns = _most(misses_W), _most(wrongs_W)
    matrix_RC = (missed_NW[:, rows].T @ wrong_NW[:, columns]).toarray()
    return Confusions(
        pairs,
        tuple(words[row] for row in rows),
        tuple(words[column] for column in columns),
        tuple(tuple(map(int, row)) for row in matrix_RC),
    )


def _most(counts_W: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of the largest counts above zero, at most `MATRIX`."""
    order_W = np.argsort(-counts_W, kind="stable")[:MATRIX]
    return order_W[counts_W[order_W] > 0].astype(np.int64)


def picture_f1(answers: Answers) -> NDArray[np.float64]:
    """F1 of each picture's tags, float64 [N]; NaN for a picture without a true tag."""
    right_N = (answers.truth_NW & answers.given_NW).sum(1)
    true_N, given_N = answers.truth_NW.sum(1), answers.given_NW.sum(1)
    return np.where(true_N > 0, 2 * right_N / np.maximum(true_N + given_N, 1), np.nan)


def best_and_worst(answers: Answers, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the pictures with the least and with the highest F1, at most so many of each.

    Among equals the worst is that whose wrong tags have the highest score, and the best that with
    the most true tags. No picture is in both, and none without a true tag is in either.
    """
    f1_N = picture_f1(answers)
    rows_M = np.flatnonzero(~np.isnan(f1_N))
    wrong_NW = np.where(answers.given_NW & ~answers.truth_NW, answers.scores_NW, 0)
    wrong_M = wrong_NW.max(axis=1, initial=0)[rows_M]
    true_M = answers.truth_NW.sum(1)[rows_M]
    most = min(most, len(rows_M) // 2)
    worst = np.lexsort((rows_M, -wrong_M, f1_N[rows_M]))[:most]
    best = np.lexsort((rows_M, -true_M, -f1_N[rows_M]))
    best = best[~np.isin(best, worst)][:most]
    return rows_M[worst], rows_M[best]


def shown(
    answers: Answers,
    words: Sequence[str],
    rows_M: NDArray[np.int64],
    ids: Sequence[str],
    pictures: Mapping[int, bytes],
) -> tuple[Shown, ...]:
    """The pictures at `rows_M` of the answers.

    Args:
        ids: of all the pictures.
        pictures: encoded, by row; small, for they go into the page.
    """
    f1_N = picture_f1(answers)
    found = []
    for row in rows_M.tolist():
        given_W, truth_W = answers.given_NW[row], answers.truth_NW[row]
        ranked = [word for word in answers.order_NK[row] if word != NOTHING and given_W[word]]
        found.append(
            Shown(
                ids[row],
                pictures.get(row),
                tuple(
                    (words[w], float(answers.scores_NW[row, w]), bool(truth_W[w])) for w in ranked
                ),
                tuple(words[word] for word in np.flatnonzero(truth_W & ~given_W).tolist()),
                float(f1_N[row]),
            )
        )
    return tuple(found)
