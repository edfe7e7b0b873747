"""The annotator of social tags: its model against another solver, and what it makes of words."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import sparse

from engine import schema
from engine.annotators.social import Bags, Social, SocialRecipe
from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.group import Solo
from engine.numerics.metrics import picture_metrics
from engine.vocab import Vocabulary

VOCABULARY = Vocabulary(("sea", "dog", "castle"), (7, 5, 1))
Words = tuple[str, ...]

PICTURES: list[tuple[Words, Words]] = [
    (("sea",), ("sea", "holiday")),
    (("sea",), ("Sea ", "holiday", "fun")),
    (("sea", "dog"), ("holiday", "dog")),
    (("sea",), ("holiday",)),
    (("dog",), ("rex", "dog")),
    (("dog",), ("rex", "fun")),
    (("dog",), ("dog", "fun")),
    (("sea", "castle"), ("sea", "holiday", "holiday")),
    (("sea",), ("dog", "fun")),
    (("dog",), ("rex",)),
    (("sea",), ("only once",)),
    (("dog",), ()),
]
"""True tags and social ones; the last two say nothing that is known."""

WORDS = ("holiday", "dog", "fun", "rex", "sea")
"""Those of two pictures or more, the most frequent first, ties in alphabetical order."""


def corpus_of(pictures: Sequence[tuple[Words, Words]], vocabulary: Vocabulary) -> Corpus:
    return Corpus(
        tuple(str(row) for row in range(len(pictures))),
        np.zeros((len(pictures), 1), dtype=np.float32),
        vocabulary.encode([tags for tags, _ in pictures]),
        (1,),
        tuple(words for _, words in pictures),
    )


def fitted(**settings: object) -> Social:
    recipe = SocialRecipe.model_validate({"iterations": 400, **settings})
    return recipe.fit(corpus_of(PICTURES, VOCABULARY), VOCABULARY, Solo())


def scores(annotator: Social, *words: Sequence[str | None] | None) -> NDArray[np.float32]:
    column = pa.array(words, schema.OPTIONAL[schema.SOCIAL_TAGS])
    return annotator.score(pa.table({schema.SOCIAL_TAGS: column})).scores_BV


def solved(spread: float) -> tuple[list[list[float]], list[float], float]:
    """Weights, biases and `own` by plain gradient descent, a picture and a tag at a time."""
    known = [(tags, {w.strip().lower() for w in words}) for tags, words in PICTURES[:10]]
    carriers = [sum(tag in tags for tags, _ in known) for tag in VOCABULARY.tags]
    start = [math.log((c + 0.5) / (len(known) + 1 - c - 0.5)) for c in carriers]
    weights, biases, own = [[0.0] * 3 for _ in WORDS], list(start), 0.0
    for _ in range(1500):
        down_weights = [[w / spread**2 for w in row] for row in weights]
        down_biases = [(b - b0) / spread**2 for b, b0 in zip(biases, start, strict=True)]
        down_own = own / spread**2
        for tags, words in known:
            for place, tag in enumerate(VOCABULARY.tags):
                there = [number for number, word in enumerate(WORDS) if word in words]
                logit = biases[place] + sum(weights[n][place] for n in there)
                logit += own if tag in words else 0.0
                error = 1 / (1 + math.exp(-logit)) - (tag in tags)
                down_biases[place] += error
                down_own += error if tag in words else 0.0
                for number in there:
                    down_weights[number][place] += error
        rate = 0.05
        weights = [
            [w - rate * d for w, d in zip(*rows, strict=True)]
            for rows in zip(weights, down_weights, strict=True)
        ]
        biases = [b - rate * d for b, d in zip(biases, down_biases, strict=True)]
        own -= rate * down_own
    return weights, biases, own


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_the_fit_is_the_mode_that_plain_descent_finds(spread: float) -> None:
    annotator = fitted(spread=spread)
    weights, biases, own = solved(spread)
    assert annotator.bags.words == WORDS
    np.testing.assert_allclose(annotator.weights_WV, weights, atol=2e-3)
    np.testing.assert_allclose(annotator.bias_V, biases, atol=2e-3)
    assert annotator.own == pytest.approx(own, abs=2e-3)


def test_scores_worked_by_hand() -> None:
    log = math.log
    weights_WV = np.array([[log(9), 0, log(2)], [0, -log(4), 0]], dtype=np.float32)
    bias_V = np.array([-log(3), 0, -log(2)], dtype=np.float32)
    bags = Bags(("holiday", "fun"), VOCABULARY.tags)
    annotator = Social(bags, weights_WV, bias_V, log(4), "digest")
    found_BV = scores(annotator, ["holiday"], ["fun", "holiday"], ["castle"], ["fun", "dog"])
    # Odds: sea 1/3 · 9 with holiday; dog 1/4 with fun; castle 1/2, · 2 with holiday, · 4 by name.
    expected_BV = [[3 / 4, 1 / 2, 1 / 2], [3 / 4, 1 / 5, 1 / 2], [1 / 4, 1 / 2, 2 / 3]]
    np.testing.assert_allclose(found_BV[:3], expected_BV, rtol=1e-5)
    np.testing.assert_allclose(found_BV[3], [1 / 4, 1 / 2, 1 / 3], rtol=1e-5)


def test_under_a_narrow_prior_words_say_nothing() -> None:
    annotator = fitted(spread=1e-3)
    smoothed_V = (np.array([6, 5, 1]) + 0.5) / 11
    np.testing.assert_allclose(scores(annotator, ["holiday"])[0], smoothed_V, atol=1e-3)


def test_spelling_repeats_and_nulls_do_not_matter() -> None:
    found_BV = scores(fitted(), ["sea", "fun"], [" SEA", "fun", "Fun", None, ""])
    np.testing.assert_array_equal(found_BV[1], found_BV[0])


def test_it_abstains_where_no_word_is_known() -> None:
    found_BV = scores(fitted(), None, [], ["only once"], ["only once", "rex"], [None])
    assert np.isnan(found_BV).all(axis=1).tolist() == [True, True, True, False, True]
    assert np.isfinite(found_BV[3]).all()


def test_a_tag_by_its_own_name_is_believed_though_it_was_never_a_word_before() -> None:
    """Here `castle` is no word of the training pictures; that names are right is of the others."""
    annotator = fitted()
    assert annotator.own > 0.5
    assert "castle" not in annotator.bags.words
    plain, named = scores(annotator, ["fun"], ["fun", "castle"])[:, 2]
    assert named > 1.5 * plain


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({"words": 2}, WORDS[:2]), ({"min_count": 4}, WORDS[:3]), ({"min_count": 11}, ())],
)
def test_which_words_get_weights(settings: dict[str, object], kept: Words) -> None:
    annotator = fitted(**settings)
    assert annotator.bags.words == kept
    assert annotator.weights_WV.shape == (len(kept), 3)
    assert np.isfinite(scores(annotator, ["sea"])).all()


def test_nothing_to_learn_from_is_refused() -> None:
    silent = corpus_of(
        [(tags, ("mine alone",)[n:]) for n, (tags, _) in enumerate(PICTURES)], VOCABULARY
    )
    unknown = Corpus(silent.ids, silent.embeddings_ND, silent.labels_NV, silent.levels)
    for corpus in (silent, unknown):
        with pytest.raises(ConfigError, match="'social' learns from `social_tags`, but no picture"):
            SocialRecipe().fit(corpus, VOCABULARY, Solo())


def test_save_and_load_keep_words_of_any_script(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("море", "犬"), (2, 2))
    pictures = [(("море",), ("été", "море")), (("犬",), ("été", "犬")), (("море", "犬"), ("été",))]
    annotator = SocialRecipe().fit(corpus_of(pictures, vocabulary), vocabulary, Solo())
    annotator.save(tmp_path)
    loaded = Social.load(tmp_path)
    asked = (["été"], ["ÉTÉ", "犬"], ["?"])
    np.testing.assert_array_equal(scores(loaded, *asked), scores(annotator, *asked))


def test_noise_is_seen_through() -> None:
    """Better than the users themselves: it knows what they leave out, and what they always say."""
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary(tuple(f"tag{n}" for n in range(12)), (30,) * 12)
    truth_NV = rng.random((400, 12)) < 0.2
    truth_NV[:, 1] |= truth_NV[:, 0]
    truth_NV[np.arange(400), rng.integers(0, 12, 400)] = True
    said_NV = (truth_NV & (rng.random(truth_NV.shape) < 0.7)) | (rng.random((400, 12)) < 0.05)
    said_NV[:, 1] &= ~truth_NV[:, 0]
    said_NV[:, 11] = True
    social = [tuple(vocabulary.tags[tag] for tag in np.flatnonzero(row)) for row in said_NV]
    corpus = Corpus(
        tuple(map(str, range(400))),
        np.zeros((400, 1), dtype=np.float32),
        sparse.csr_matrix(truth_NV.astype(np.float32)),
        (1,),
        tuple(social),
    )
    annotator = SocialRecipe().fit(corpus.subset(np.arange(300)), vocabulary, Solo())
    found_NV = scores(annotator, *social[300:]) > 0.5
    ours = picture_metrics(found_NV, truth_NV[300:]).f1
    theirs = picture_metrics(said_NV[300:], truth_NV[300:]).f1
    assert ours > theirs + 0.02
