"""What an evaluation gathers from annotated parts, and what it makes of it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import schema
from engine.bundle import load_bundle
from engine.numerics.metric_registry import METRICS, figures_of
from engine.numerics.metrics import picture_metrics, word_metrics
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from engine.vocab import Vocabulary
from engine.vocabulary_rules import VocabularyRules
from jobs.evaluate import Evaluation, _Said
from jobs.fit import INPUT_TAGS


def test_answers_are_what_the_bundle_gave_and_what_is_true(
    bundle_folder: Path, pictures: list[SamplePicture]
) -> None:
    bundle = load_bundle(bundle_folder)
    words = (*bundle.vocabulary.tags[5:40:3], "never seen")
    some = pictures[:12]
    batch = pa.table(
        {
            schema.IMAGE_ID: [picture.image_id for picture in some],
            schema.BYTES: [b"broken", *(picture.jpeg for picture in some[1:])],
            INPUT_TAGS: pa.array(
                [list(one.tags) if row != 3 else None for row, one in enumerate(some)],
                pa.list_(pa.string()),
            ),
        }
    )
    part = annotation_plan(bundle, 4, among=words, dense=True).workers()(batch)
    said = _Said(bundle.vocabulary, VocabularyRules())
    said.add(0, part.slice(0, 5))
    said.add(1, part.slice(5))
    # Neither the broken picture nor the one without tags counts.
    used = [row for row in range(12) if row not in (0, 3)]
    assert said.ids == [some[row].image_id for row in used]
    assert said.rows == [(0, row) if row < 5 else (1, row - 5) for row in used]

    answers = said.answers(words)
    rows = part.to_pylist()
    for place, row in enumerate(used):
        given = [item["tag"] for item in rows[row][schema.TAGS]]
        assert [words[w] for w in answers.order_NK[place][: len(given)]] == given
        assert {words[w] for w in np.flatnonzero(answers.given_NW[place])} == set(given)
        scores = {item["tag"]: item["score"] for item in rows[row][schema.TAGS]}
        for word, score in scores.items():
            assert answers.scores_NW[place, words.index(word)] == np.float32(score)
        # What is not given goes on by score, down to the tenth.
        rest = answers.scores_NW[place][answers.order_NK[place][4:10]]
        assert (np.diff(rest) <= 0).all()
        assert rest[0] <= min(scores.values())
    counted = Vocabulary(words, (0,) * len(words))
    truth_NW = counted.encode([some[row].tags for row in used]).toarray() > 0
    np.testing.assert_array_equal(answers.truth_NW, truth_NW)
    assert answers.places_NW is not None
    places = answers.places_NW[1]
    first = next(tag for tag in some[2].tags if tag in words)
    assert places[words.index(first)] == 1
    figures = figures_of(answers)
    assert figures["f1"] == pytest.approx(100 * word_metrics(answers.given_NW, truth_NW).f1)
    assert figures["picture_recall"] == pytest.approx(
        100 * picture_metrics(answers.given_NW, truth_NW).recall
    )
    # A rule that the bundle was fitted with names what is true as well.
    renamed = _Said(bundle.vocabulary, VocabularyRules(aliases={first: "never seen"}))
    renamed.add(0, part)
    assert renamed.answers(words).truth_NW[1, -1]


def test_without_the_scores_of_all_tags_nothing_more_is_written(
    bundle_folder: Path, pictures: list[SamplePicture]
) -> None:
    batch = pa.table({schema.IMAGE_ID: ["a"], schema.BYTES: [pictures[0].jpeg]})
    bundle = load_bundle(bundle_folder)
    names = annotation_plan(bundle, 4).workers()(batch).column_names
    assert schema.FUSED not in names
    wide = annotation_plan(bundle, 4, dense=True).workers()(batch)
    assert set(wide.column_names) - set(names) == {schema.FUSED}
    scores = schema.float_tensor(wide, schema.FUSED)
    assert scores.shape == (1, len(bundle.vocabulary))
    best = [item["score"] for item in wide.column(schema.TAGS)[0].as_py()]
    np.testing.assert_array_equal(np.sort(scores[0])[::-1][:4], np.float32(best))


def test_the_figures_are_told_rounded_and_counts_whole() -> None:
    figures = {"f1": 12.34567, "n_plus": 7.0, "hamming": 0.123456789, "ndcg@3": 50.0}
    told = Evaluation(figures, 9, 1, 100, 2, "auto", "id").to_json()
    assert told == {
        "f1": 12.346,
        "n_plus": 7,
        "hamming": 0.123457,
        "ndcg@3": 50.0,
        "words": 9,
        "words_unknown_to_bundle": 1,
        "pictures": 100,
        "unused": 2,
        "top_k": "auto",
        "bundle_id": "id",
    }
    assert json.loads(json.dumps(told)) == told
    assert set(METRICS).isdisjoint({"words", "pictures", "unused", "top_k", "bundle_id"})
