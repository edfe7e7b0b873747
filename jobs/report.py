"""The evaluation report of `tagloom evaluate --report`: reads what it shows beside the answers."""

from collections.abc import Sequence

import numpy as np

from engine import schema
from engine.bundle import Bundle
from engine.fusion import Fusion
from engine.geometry import thumbnail
from engine.image import ImageError, decode
from engine.numerics.metric_registry import Answers
from engine.report import Course, Examples, Facts, best_and_worst, render_report
from engine.report.content import shown
from jobs.chunks import Inventory
from jobs.reading import read_chunk

SIDE = 240
"""Longer side of a shown picture, in pixels."""

EXAMPLES = 12
"""Worst pictures that are shown, and best."""


def write_report(
    facts: Facts,
    answers: Answers,
    words: Sequence[str],
    bundle: Bundle,
    ids: Sequence[str],
    rows: Sequence[tuple[int, int]],
    inventory: Inventory,
) -> str:
    """The report as HTML, with the worst and the best pictures read anew from the corpus.

    Args:
        ids, rows: of each picture of the answers; the number of its chunk, and its row in it.
    """
    worst_M, best_M = best_and_worst(answers, EXAMPLES)
    chosen = np.concatenate([worst_M, best_M]).tolist()
    pictures = _pictures({rows[place]: place for place in chosen}, bundle, inventory)
    examples = Examples(
        shown(answers, words, worst_M, ids, pictures), shown(answers, words, best_M, ids, pictures)
    )
    trained = dict(zip(bundle.vocabulary.tags, bundle.vocabulary.counts, strict=True))
    return render_report(facts, answers, words, trained, examples, _course(bundle.fusion))


def _course(fusion: Fusion) -> Course | None:
    """How the weights were learned, if they were: a lone annotator has none to learn."""
    if not fusion.course:
        return None
    names = tuple(fusion.weights)
    return Course(
        names,
        tuple(triples for triples, _ in fusion.course),
        tuple(tuple(weights.get(name, 0.0) for name in names) for _, weights in fusion.course),
        tuple(fusion.weights.values()),
    )


def _pictures(
    wanted: dict[tuple[int, int], int], bundle: Bundle, inventory: Inventory
) -> dict[int, bytes]:
    """Thumbnails by place in the answers; none of a picture that is gone since."""
    limits = bundle.manifest.limits
    found: dict[int, bytes] = {}
    for number in sorted({number for number, _ in wanted}):
        left = {row: place for (one, row), place in wanted.items() if one == number}
        start = 0
        for batch in read_chunk(inventory.chunks[number], 32, limits.max_bytes):
            column = batch.column(schema.BYTES)
            for row in [row for row in left if row < start + batch.num_rows]:
                place, data = left.pop(row), column[row - start].as_py()
                try:
                    found[place] = thumbnail(decode(data or b"", limits), SIDE)
                except ImageError:
                    continue
            start += batch.num_rows
            if not left:
                break
    return found
