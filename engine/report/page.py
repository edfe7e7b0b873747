"""Render the evaluation report: figures, words, charts and pictures as one HTML page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from engine.numerics.metric_registry import CURVES, DEPTH, METRICS, Answers, figures_of
from engine.numerics.metrics import Reliability
from engine.page import render_page
from engine.report.charts import Axis, Series, chart, log_count, matrix
from engine.report.content import (
    Confusions,
    Course,
    Examples,
    Facts,
    WordLine,
    confusions,
    word_lines,
)

MEANINGS = {
    "precision": "of the tags given, how many are right: mean over all the words (C-P)",
    "recall": "of the true tags, how many are given: mean over all the words (C-R)",
    "f1": "harmonic mean of the two (C-F1)",
    "n_plus": "words that are given rightly at least once",
    "picture_precision": "precision over all tags of all pictures together (O-P)",
    "picture_recall": "recall over all tags of all pictures together (O-R)",
    "picture_f1": "harmonic mean of the two (O-F1)",
    "h_f1": "harmonic mean of F1 and I-F1",
    "map": "pictures ranked by each word: mean over the words of the average precision",
    "hamming": "share of all decisions, word by picture, that are wrong: less is better",
    "lqp_accuracy": "pictures whose number of tags is predicted right",
    "lqp_mse": "mean squared error of the predicted number of tags: less is better",
    "ece": "how far scores are from the share that is right: less is better",
    "mean_ndcg": "how well the order of the tags agrees with the true one, mean of k = 1 to 10",
    "mean_precision": "of the k best tags, how many are right: mean of k = 1 to 10",
}
"""What the figures that stand in the list say; those at each k are curves."""

TILES = ("f1", "picture_f1", "h_f1", "n_plus", "map", "mean_ndcg", "ece")
HUES = 8
"""Colours that tell series apart; the page's style has them."""


@dataclass(frozen=True)
class Figure:
    """A metric with its value as it is shown."""

    label: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Drawing:
    """A chart with its heading, its key of (colour, name), and its numbers as a table."""

    title: str
    svg: Markup
    note: str = ""
    key: tuple[tuple[int, str], ...] = ()
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def render_report(
    facts: Facts,
    answers: Answers,
    words: Sequence[str],
    trained: Mapping[str, int],
    examples: Examples,
    course: Course | None,
) -> str:
    """Render the report as one HTML document; see `engine.page`.

    Args:
        words: the counted ones, in the order of the answers' columns.
        trained: training pictures by word, of the words that the bundle knows.
        course: None where the bundle does not tell how its weights were learned.
    """
    found = figures_of(answers)
    lines = word_lines(answers, words, trained)
    taken = confusions(answers, words)
    return render_page(
        "engine.report",
        facts=facts,
        tiles=[_figure(name, found[name]) for name in TILES],
        figures=[_figure(name, value) for name, value in found.items() if name in MEANINGS],
        lines=lines,
        frequency=[
            _frequency(lines, "Precision", lambda one: one.precision, lambda one: one.given),
            _frequency(lines, "Recall", lambda one: one.recall, lambda one: one.true),
        ],
        order=_order(answers),
        calibration=_calibration(Reliability.of(answers.scores_NW, answers.truth_NW)),
        weights=None if course is None or len(course.triples_T) < 2 else _weights(course),
        confusions=taken,
        matrix=_matrix(taken),
        examples=[("Worst", examples.worst), ("Best", examples.best)],
    )


def _figure(name: str, value: float) -> Figure:
    metric = METRICS[name]
    return Figure(metric.label, f"{value:.{metric.digits}f}", MEANINGS[name])


def _frequency(
    lines: Sequence[WordLine],
    what: str,
    value: Callable[[WordLine], float],
    among: Callable[[WordLine], int],
) -> Drawing:
    """A dot for each word that has the figure, and the means over words of about one frequency."""
    counted = [
        (line.trained, value(line), line.word)
        for line in lines
        if line.trained is not None and among(line)
    ]
    bins: dict[int, list[tuple[int, float]]] = {}
    for trained, share, _ in counted:
        bins.setdefault(trained.bit_length(), []).append((trained, share))
    means = [
        (
            f"{2 ** (size - 1) if size else 0:,} to {max(2**size - 1, 0):,}",
            len(inside),
            float(np.mean([log_count(trained) for trained, _ in inside])),
            float(np.mean([share for _, share in inside])),
        )
        for size, inside in sorted(bins.items())
    ]
    dots = Series(
        "a word",
        0,
        [(log_count(trained), share) for trained, share, _ in counted],
        [f"{word}: {share:.0%}, {trained:,} in training" for trained, share, word in counted],
        joined=False,
        faint=True,
    )
    mean = Series(
        "mean",
        1,
        [(at, share) for _, _, at, share in means],
        [
            f"{span} in training: {share:.0%}, mean of {count} words"
            for span, count, _, share in means
        ],
    )
    title = f"{what} against frequency"
    svg = chart(
        f"{what.lower()}-frequency",
        title,
        f"{what} of {len(counted)} words by the number of training pictures that carry them; "
        "the means are in the table below.",
        Axis.counts("training pictures with the word", max((one[0] for one in counted), default=1)),
        Axis.shares(what.lower()),
        (dots, mean),
    )
    return Drawing(
        title,
        svg,
        key=((0, "a word"), (1, "mean of words of about one frequency")),
        heads=("Training pictures", "Words", f"Mean {what.lower()}"),
        rows=tuple((span, f"{count:,}", f"{share:.1%}") for span, count, _, share in means),
    )


def _order(answers: Answers) -> Drawing:
    curves = dict(zip(CURVES.values(), (answers.ndcg_K, answers.precision_K), strict=True))
    series = [
        Series(
            name,
            hue,
            [(k, float(value)) for k, value in enumerate(values_K, start=1)],
            [f"{name}@{k}: {value:.1%}" for k, value in enumerate(values_K, start=1)],
        )
        for hue, (name, values_K) in enumerate(curves.items())
    ]
    svg = chart(
        "order",
        "NDCG and precision of the k best tags",
        "Both for k from 1 to 10; the values are in the table below.",
        Axis.whole("k", 1, DEPTH),
        Axis.shares("share"),
        series,
    )
    return Drawing(
        "NDCG@k and Precision@k",
        svg,
        "Relevance falls in equal steps from the first true tag to the last. NDCG leaves out "
        "pictures without a true tag."
        if answers.places_NW is not None
        else "The order of the true tags is not known: each is as relevant as the others. NDCG "
        "leaves out pictures without a true tag.",
        tuple((one.hue, one.name) for one in series),
        ("k", *curves),
        tuple(
            (str(k + 1), *(f"{values_K[k]:.1%}" for values_K in curves.values()))
            for k in range(DEPTH)
        ),
    )


def _calibration(found: Reliability) -> Drawing:
    filled = [
        (int(count), float(score), float(right))
        for count, score, right in zip(found.count_B, found.score_B, found.right_B, strict=True)
        if count
    ]
    most = max((log_count(count) for count, _, _ in filled), default=1.0)
    told = [f"score {s:.1%}, right {r:.1%}, {c:,} tags" for c, s, r in filled]
    series = Series(
        "tags of about one score",
        0,
        [(score, right) for _, score, right in filled],
        told,
        [2 + 6 * log_count(count) / most for count, _, _ in filled],
    )
    svg = chart(
        "calibration",
        "Reliability of the scores",
        f"Share of right tags against their score, in {len(filled)} bins; on the diagonal the "
        "scores are what they say. The values are in the table below.",
        Axis.shares("mean score"),
        Axis.shares("share right"),
        (series,),
        diagonal=True,
    )
    return Drawing(
        "Reliability",
        svg,
        f"Expected calibration error {found.error:.4f} over {found.count_B.sum():,} scores, all "
        "words of all pictures. The larger a dot, the more scores.",
        heads=("Mean score", "Right", "Scores"),
        rows=tuple((f"{s:.1%}", f"{r:.1%}", f"{c:,}") for c, s, r in filled),
    )


def _weights(course: Course) -> Drawing:
    last = course.weights_TA[-1]
    order = sorted(range(len(last)), key=lambda place: -last[place])
    chosen = order[:HUES]
    series = [
        Series(
            course.names[place],
            hue,
            [
                (at, line[place])
                for at, line in zip(course.triples_T, course.weights_TA, strict=True)
            ],
            radii=[0.0] * len(course.triples_T),
        )
        for hue, place in enumerate(chosen)
    ]
    most = max(max(line) for line in course.weights_TA)
    svg = chart(
        "weights",
        "Weights of the annotators while they are learned",
        "By exponentiated gradient; the first, the last and those in use are in the table below.",
        Axis.whole("triples of a picture, a true and a false tag", 0, course.triples_T[-1]),
        Axis.shares("weight", min(1.0, most * 1.05)),
        series,
    )
    note = "The bundle blends by the means over the course."
    if len(order) > HUES:
        note += f" The {HUES} heaviest of {len(order)} are drawn."
    return Drawing(
        "Weights over time",
        svg,
        note,
        tuple((one.hue, one.name) for one in series),
        ("Annotator", "First", "Last", "In use"),
        tuple(
            (
                course.names[p],
                *(f"{w[p]:.3f}" for w in (course.weights_TA[0], last, course.used_A)),
            )
            for p in order
        ),
    )


def _matrix(taken: Confusions) -> Drawing | None:
    if not taken.rows or not taken.columns:
        return None
    svg = matrix(
        "confusions",
        "Missed words by wrongly given words",
        "Pictures in which a word is missed and another is wrongly given. The pairs that stand out "
        "are in the table of confusions.",
        taken.rows,
        taken.columns,
        taken.matrix,
    )
    return Drawing(
        "Missed (down) and wrongly given (across)",
        svg,
        "Pictures; the words that are missed, and wrongly given, most often.",
    )
