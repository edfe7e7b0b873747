"""A table's rows: what is given, every metric by hand, pictures on disk, and a row measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import sparse

from engine import schema
from engine.annotators.linear import LinearRecipe
from engine.annotators.mbrm import MbrmRecipe
from engine.annotators.prior import PriorRecipe
from engine.annotators.social import SocialRecipe
from engine.bundle import load_bundle, new_bundle
from engine.calibration import Calibration
from engine.config import FitConfig, VocabularyConfig
from engine.corpus import Corpus
from engine.cut import Cut
from engine.ensemble import CountConfig, Ensemble, Opinion
from engine.errors import CorpusError
from engine.fitting import Material, fit_bundle, score_corpus
from engine.fusion import Fusion
from engine.group import Group, Solo
from engine.measuring import answers_among, places_among
from engine.numerics.metric_registry import METRICS, Answers, figures_of
from engine.recipe import Annotator, Verdict
from engine.table.config import TagCount
from engine.table.measure import Said, Trial, given_among, measure, said_of
from engine.table.pictures import Pictures
from engine.tensors import Pixels
from engine.vocab import Vocabulary
from engine.vocabulary_rules import VocabularyRules


def test_every_metric_by_hand() -> None:
    truth_NW = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool)
    given_NW = np.array([[1, 0, 1, 0], [1, 0, 1, 0]], dtype=bool)
    scores_NW = np.array([[1, 0.5, 1, 0], [1, 0, 1, 0]], dtype=np.float32)
    # The first picture's true tags are the second word, then the first.
    places_NW = np.array([[2, 1, 0, 0], [1, 0, 0, 0]], dtype=np.float32)
    quantity_N = np.array([2.25, 2.5], dtype=np.float32)
    answers = Answers(scores_NW, given_NW, truth_NW, None, places_NW, quantity_N)
    found = {name: round(value, 6) for name, value in figures_of(answers).items()}
    by_word, by_picture = 2 * 0.25 * 0.25 / 0.5, 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3)
    # Both rank the first word, the third, the second, the fourth.
    second, at = 2**0.5 - 1, [1 / np.log(place) for place in (2, 3, 4)]
    z = at[0] + second * at[1]
    ndcg = [(second + 1) / 2, (second * at[0] / z + 1) / 2]
    ndcg += [((second * at[0] + at[2]) / z + 1) / 2] * 8
    precision = [1, 2 / 4, *(3 / (2 * k) for k in range(3, 11))]
    expected = {
        "precision": 25.0,
        "recall": 25.0,
        "f1": 100 * by_word,
        "n_plus": 1.0,
        "picture_precision": 50.0,
        "picture_recall": 200 / 3,
        "picture_f1": 100 * by_picture,
        "h_f1": 100 * 2 * by_word * by_picture / (by_word + by_picture),
        # Both words that are true have their pictures before all others.
        "map": 100.0,
        "hamming": 3 / 8,
        "lqp_accuracy": 50.0,
        "lqp_mse": (0.25**2 + 1.5**2) / 2,
        # The pairs at 1 of which half are right, one at a half that is, the rest at 0.
        "ece": (4 * 0.5 + 0.5) / 8,
        **{f"ndcg@{k}": 100 * ndcg[k - 1] for k in range(1, 11)},
        "mean_ndcg": 10 * sum(ndcg),
        **{f"precision@{k}": 100 * precision[k - 1] for k in range(1, 11)},
        "mean_precision": 10 * sum(precision),
    }
    assert found == {name: round(float(value), 6) for name, value in expected.items()}
    assert list(found) == list(METRICS)


def test_a_metric_that_does_not_apply_is_left_out() -> None:
    truth_NW = np.array([[1, 0], [0, 0]], dtype=bool)
    answers = Answers(truth_NW.astype(np.float32), truth_NW, truth_NW)
    assert set(METRICS) - set(figures_of(answers)) == {"lqp_accuracy", "lqp_mse"}
    with pytest.raises(ValueError, match="no number of tags was predicted"):
        METRICS["lqp_mse"].measure(answers)


def test_without_an_order_every_true_tag_is_as_relevant() -> None:
    truth_NW = np.array([[1, 1, 0], [0, 0, 0]], dtype=bool)
    scores_NW = np.array([[0.1, 0.2, 0.0], [0.9, 0.0, 0.0]], dtype=np.float32)
    found = figures_of(Answers(scores_NW, truth_NW, truth_NW))
    # The picture without tags counts for precision, where it has none, and not for NDCG.
    assert [found[f"ndcg@{k}"] for k in (1, 2, 10)] == [100, 100, 100]
    assert [found[f"precision@{k}"] for k in (1, 2, 4)] == [50, 50, 25]
    untagged = np.zeros_like(truth_NW)
    nothing = figures_of(Answers(scores_NW, truth_NW, untagged))
    assert nothing["mean_ndcg"] == nothing["map"] == nothing["h_f1"] == 0


def test_a_ranking_of_its_own_goes_before_the_scores() -> None:
    truth_NW = np.array([[1, 0, 0]], dtype=bool)
    scores_NW = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
    found = figures_of(Answers(scores_NW, truth_NW, truth_NW, np.array([[0, 2]])))
    assert found["ndcg@1"] == found["precision@1"] == 100
    assert figures_of(Answers(scores_NW, truth_NW, truth_NW))["precision@1"] == 0


def saying(
    scores_NV: NDArray[np.float32], cut: Cut | None = None, informed_N: list[bool] | None = None
) -> Said:
    informed = informed_N or [False] * len(scores_NV)
    fusion = Fusion({"a": 1.0}, {"a": Calibration()}, Calibration())
    return Said(Ensemble(fusion, cut or Cut()), Opinion(scores_NV, np.array(informed)))


def answers_of(
    words: tuple[str, ...],
    vocabulary: Vocabulary,
    said: Said,
    places_NW: NDArray[np.float32],
    k: TagCount,
) -> Answers:
    given = given_among(places_among(words, vocabulary), said, places_NW, k)
    return answers_among(words, vocabulary, said.opinion.scores_BV, *given, places_NW)


def test_answers_are_among_the_counted_words_alone() -> None:
    vocabulary = Vocabulary(("sea", "sky", "dog", "cat"), (4, 3, 2, 1))
    scores_NV = np.array([[0.9, 0.2, 0.2, 0.1], [0.0, 0.0, 0.0, 0.8]], dtype=np.float32)
    words = ("unseen", "dog", "cat", "sky")
    answers = answers_of(words, vocabulary, saying(scores_NV), np.zeros((2, 4), np.float32), 2)
    # The sea is not counted; the tie of the first goes to the more frequent sky, then the dog.
    assert [[words[w] for w in np.flatnonzero(row)] for row in answers.given_NW] == [
        ["dog", "sky"],
        ["cat", "sky"],
    ]
    np.testing.assert_array_equal(answers.scores_NW[1], np.float32([0, 0, 0.8, 0]))
    # The ranking goes on behind what is given, and has no word that was never trained on.
    ranked = [[words[w] for w in row if w >= 0] for row in answers.best_NK]
    assert ranked == [["sky", "dog", "cat"], ["cat", "sky", "dog"]]
    nothing = answers_of(("x", "y"), vocabulary, saying(scores_NV), np.zeros((2, 2), np.float32), 2)
    assert not nothing.given_NW.any()
    assert figures_of(nothing)["precision@1"] == 0


def test_a_picture_gets_as_many_tags_as_are_asked_for() -> None:
    vocabulary = Vocabulary(("sea", "sky", "dog", "cat"), (4, 3, 2, 1))
    scores_NV = np.float32([[0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.4], [0.6, 0.2, 0.9, 0.3]])
    places_NW = np.float32([[1, 2, 0], [0, 0, 0], [0, 0, 1]])
    said = saying(scores_NV, Cut(threshold=0.5, informed=0.65), [False, False, True])
    words = ("sea", "dog", "unseen")
    given = {
        k: answers_of(words, vocabulary, said, places_NW, k).given_NW.sum(1).tolist()
        for k in (1, 2, 9, "true", "auto", "half")
    }
    # No more than the two words that were trained on; under 'auto' always the best of them.
    assert given == {
        1: [1, 1, 1],
        2: [2, 2, 2],
        9: [2, 2, 2],
        "true": [2, 0, 1],
        "auto": [2, 1, 1],
        "half": [2, 0, 2],
    }


def test_what_is_given_goes_before_what_scores_more() -> None:
    vocabulary = Vocabulary(("sea", "sky", "dog", "cat"), (4, 3, 2, 1))
    scores_NV = np.float32([[0.9, 0.2, 0.4, 0.1], [0.0, 0.0, 0.0, 1.0]])
    words = ("cat", "sky", "sea", "unseen")
    # The first is given its cat, then its sky; the second nothing.
    given_NR, counts_N = np.array([[3, 1, 0], [0, 0, 0]]), np.array([2, 0])
    answers = answers_among(
        words, vocabulary, scores_NV, given_NR, counts_N, np.float32([[1, 0, 0, 0]] * 2)
    )
    assert answers.given_NW.tolist() == [[True, True, False, False], [False] * 4]
    assert answers.best_NK[:, :4].tolist() == [[0, 1, 2, -1], [0, 2, 1, -1]]
    assert answers.quantity_N is None


def test_the_order_of_the_true_tags_is_that_of_the_counted_ones() -> None:
    tags = (("sea", "sky", "dog"), ("cat",), ("dog", "unseen", "sea"))
    pictures = Pictures(("a", "b", "c"), np.zeros((3, 1), np.float32), tags, (1,))
    found = pictures.places(np.array([2, 0, 1]), ("dog", "sea", "owl"), VocabularyRules())
    assert found.tolist() == [[1, 2, 0], [2, 1, 0], [0, 0, 0]]
    renamed = VocabularyRules(aliases={"cat": "owl"})
    found = pictures.places(np.array([2, 0, 1]), ("dog", "sea", "owl"), renamed)
    assert found.tolist() == [[1, 2, 0], [2, 1, 0], [0, 0, 1]]


def drawn_pictures() -> Pictures:
    rng = np.random.default_rng(1)
    names = ("sea", "sky", "dog", "cat", "car", "tree")
    carried = rng.random((80, 6)) < 0.25
    carried[np.arange(80), rng.integers(0, 6, 80)] = True
    causes = carried @ rng.standard_normal((6, 16)) + 0.3 * rng.standard_normal((80, 16))
    tags = tuple(tuple(names[t] for t in np.flatnonzero(row)) for row in carried)
    return Pictures(
        tuple(f"p{row}" for row in range(80)),
        causes.astype(np.float32),
        (*tags[:-1], ("rare",)),
        (16,),
    )


def test_a_row_is_measured_by_the_protocol() -> None:
    pictures = drawn_pictures()
    words = ("sea", "dog", "unheard", "car")
    trial = Trial(pictures, None, 0.3, 7, words, 2)
    config = FitConfig(annotators={"one": MbrmRecipe(bandwidth=0.3)}, lift=0)
    figures = measure(config, trial, Solo())

    training_rows, test_rows = trial.rows()
    assert len(test_rows) == 24
    training, vocabulary = pictures.corpus(training_rows, VocabularyConfig())
    labels = vocabulary.encode([pictures.tags[row] for row in training_rows])
    assert (training.labels_NV != labels).nnz == 0
    annotator = config.annotators["one"].fit(training, vocabulary, Solo())
    ones = sparse.csr_matrix(np.ones((24, 1), dtype=np.float32))
    asked = Corpus(
        tuple(pictures.ids[r] for r in test_rows), pictures.embeddings_ND[test_rows], ones, (16,)
    )
    scores_NV = score_corpus(annotator, asked)
    right = dict.fromkeys(words, 0)
    given = dict.fromkeys(words, 0)
    true = dict.fromkeys(words, 0)
    known = [word for word in words if word in vocabulary.index]
    for place, row in enumerate(test_rows):
        best = sorted(known, key=lambda word: -scores_NV[place, vocabulary.index[word]])[:2]
        for word in words:
            given[word] += word in best
            true[word] += word in pictures.tags[row]
            right[word] += word in best and word in pictures.tags[row]
    precision = sum(right[w] / max(given[w], 1) for w in words) / 4
    recall = sum(right[w] / max(true[w], 1) for w in words) / 4
    assert figures["precision"] == pytest.approx(100 * precision)
    assert figures["recall"] == pytest.approx(100 * recall)
    assert figures["f1"] == pytest.approx(200 * precision * recall / (precision + recall))
    assert figures["n_plus"] == sum(count > 0 for count in right.values())
    ndcgs = []
    for place, row in enumerate(test_rows):
        true_words = [word for word in pictures.tags[row] if word in words]
        best = sorted(known, key=lambda word: -scores_NV[place, vocabulary.index[word]])
        gain = {word: 2 ** (1 - p / len(true_words)) - 1 for p, word in enumerate(true_words)}
        if gain:
            gained = gain.get(best[0], 0) + gain.get(best[1], 0) / np.log2(3)
            ideal = [*gain.values(), 0]
            ndcgs.append(gained / (ideal[0] + ideal[1] / np.log2(3)))
    assert figures["ndcg@2"] == pytest.approx(100 * np.mean(ndcgs))
    assert set(METRICS) - set(figures) == {"lqp_accuracy", "lqp_mse"}
    assert measure(config, trial, Solo()) == figures


def test_a_test_part_of_its_own_is_tested_whole() -> None:
    pictures = drawn_pictures()
    some = Pictures(pictures.ids[:9], pictures.embeddings_ND[:9], pictures.tags[:9], (16,))
    trial = Trial(pictures, some, 0.5, 0, None, 2)
    assert [len(rows) for rows in trial.rows()] == [80, 9]
    config = FitConfig(annotators={"one": LinearRecipe()}, lift=0)
    assert measure(config, trial, Solo())["picture_recall"] > 60


def test_the_true_number_of_tags_is_the_upper_bound() -> None:
    pictures = drawn_pictures()
    config = FitConfig(annotators={"one": MbrmRecipe(bandwidth=0.3)}, lift=0)
    figures = {
        k: measure(config, Trial(pictures, None, 0.3, 7, None, k), Solo())
        for k in (1, 3, "true", "auto")
    }
    best = figures["true"]
    # As many are given as are true, but for a word that is only in a tested picture.
    assert best["picture_precision"] == pytest.approx(best["picture_recall"])
    assert all(best["picture_f1"] >= one["picture_f1"] for one in figures.values())
    # The ranking is the same, however many are given, unless part of it went to learning a cut.
    assert figures[1]["mean_ndcg"] == figures[3]["mean_ndcg"] == best["mean_ndcg"]
    assert figures[1]["picture_f1"] != figures["auto"]["picture_f1"]


class Counting(PriorRecipe):
    """Says of each picture that it has as many tags as its first feature says."""

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> Annotator:
        annotator = super().fit(corpus, vocabulary, group)
        score = annotator.score

        def count(batch: pa.Table) -> Verdict:
            quantity_B = schema.float_tensor(batch, schema.EMBEDDING)[:, 0]
            return replace(score(batch), quantity_B=quantity_B)

        object.__setattr__(annotator, "score", count)
        return annotator


def test_the_number_of_tags_that_an_annotator_predicts_is_measured_and_given() -> None:
    pictures = drawn_pictures()
    counts_N = np.array([len(tags) for tags in pictures.tags])
    # Right of every second picture, and two too many of the others.
    told_N = counts_N + 2 * (np.arange(80) % 2)
    pictures.embeddings_ND[:, 0] = told_N
    count = CountConfig.model_validate({"method": "lqp", "from": "one"})
    config = FitConfig.model_construct(annotators={"one": Counting()}, lift=0.0, count=count)
    trial = Trial(pictures, None, 0.3, 7, None, "auto")
    _, test_rows = trial.rows()
    wrong = float((test_rows % 2).mean())
    figures = measure(config, trial, Solo())
    assert figures["lqp_accuracy"] == pytest.approx(100 * (1 - wrong))
    assert figures["lqp_mse"] == pytest.approx(4 * wrong)
    # So many are given: right ones and wrong ones together are what was told.
    told = np.minimum(told_N[test_rows], 7).sum()
    right = figures["picture_recall"] * counts_N[test_rows].sum()
    assert figures["picture_precision"] == pytest.approx(right / told)
    # With a fixed number the prediction is measured all the same.
    fixed = measure(config, replace(trial, k=3), Solo())
    assert fixed["lqp_mse"] == figures["lqp_mse"]
    assert fixed["picture_f1"] != figures["picture_f1"]


def test_several_annotators_are_blended_and_one_is_not(material: Material) -> None:
    pictures = Pictures.of(material.corpus, material.vocabulary)
    rows = np.arange(len(pictures))
    training, vocabulary = pictures.corpus(rows[:200], VocabularyConfig())
    ordered = [vocabulary.tags[tag] for tag in training.tag_lists()[7]]
    assert ordered == list(pictures.tags[7])
    asked, _ = pictures.corpus(rows[200:], VocabularyConfig())
    one = FitConfig(annotators={"a": MbrmRecipe()}, lift=0)
    alone = said_of(asked, one, training, vocabulary, Solo()).opinion.scores_BV
    plain = score_corpus(MbrmRecipe().fit(training, vocabulary, Solo()), asked)
    np.testing.assert_array_equal(alone, plain)
    two = FitConfig(annotators={"a": MbrmRecipe(), "b": PriorRecipe()}, lift=0)
    blended = said_of(asked, two, training, vocabulary, Solo()).opinion.scores_BV
    more = one.model_copy(update={"lift": 0.5})
    lifted = said_of(asked, more, training, vocabulary, Solo()).opinion.scores_BV
    for scores in (blended, lifted):
        assert np.isfinite(scores).all()
        assert np.abs(scores - plain).max() > 1e-3
    # A method that has nothing to go by says nothing, which is no figure but nought.
    social = FitConfig.model_construct(annotators={"a": SocialRecipe()}, lift=0)
    silent = Pictures(pictures.ids, pictures.embeddings_ND, pictures.tags, pictures.levels)
    quiet, _ = silent.corpus(rows[200:], VocabularyConfig())
    np.testing.assert_array_equal(
        said_of(quiet, social, training, vocabulary, Solo()).opinion.scores_BV, 0
    )


def test_a_blend_is_that_of_a_bundle(
    material: Material, quick_config: FitConfig, tmp_path: Path
) -> None:
    pictures = Pictures.of(material.corpus, material.vocabulary)
    rows = np.arange(len(pictures))
    training, vocabulary = pictures.corpus(rows[:200], VocabularyConfig())
    asked, _ = pictures.corpus(rows[200:], VocabularyConfig())
    annotators = {"a": MbrmRecipe(), "b": LinearRecipe(iterations=5)}
    config = quick_config.model_copy(update={"annotators": annotators, "seed": 3})
    with new_bundle(tmp_path / "bundle", overwrite=False) as draft:
        learned = Material(training, vocabulary, {})
        fit_bundle(draft, learned, config, Solo(), lambda _: None)
    bundle = load_bundle(tmp_path / "bundle")
    by_bundle = bundle.fusion(
        {name: score_corpus(bundle.annotator(name), asked) for name in annotators}
    )
    found = said_of(asked, config, training, vocabulary, Solo()).opinion.scores_BV
    np.testing.assert_array_equal(found, by_bundle)


def test_pictures_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    pictures = drawn_pictures()
    assert not Pictures.is_saved(tmp_path)
    pictures.save(tmp_path)
    assert Pictures.is_saved(tmp_path)
    loaded = Pictures.load(tmp_path)
    assert isinstance(loaded.embeddings_ND, np.memmap)
    np.testing.assert_array_equal(loaded.embeddings_ND, pictures.embeddings_ND)
    assert (loaded.ids, loaded.tags, loaded.levels) == (
        pictures.ids,
        pictures.tags,
        pictures.levels,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embeddings.npy", "pictures.json"]
    # A picture whose only tag a row does not learn is not trained on.
    kept, vocabulary = loaded.corpus(np.arange(80), VocabularyConfig(min_count=2))
    assert len(kept) == 79
    assert "rare" not in vocabulary.index
    # A row may know tags that no picture carries.
    more, wider = loaded.corpus(np.arange(80), VocabularyConfig(more_tags=("owl",)))
    assert (wider.tags[-1], wider.counts[-1], more.labels_NV.shape[1]) == ("owl", 0, len(wider))
    with pytest.raises(CorpusError, match="at least two are needed"):
        loaded.corpus(np.array([79]), VocabularyConfig())


def test_pixels_come_back_from_disk_and_are_learned_from(tmp_path: Path) -> None:
    pictures = drawn_pictures()
    squares = np.random.default_rng(0).integers(0, 256, (len(pictures), 8, 8, 3), dtype=np.uint8)
    pixels = Pixels(squares[::-1], np.arange(len(pictures))[::-1], "random")
    replace(pictures, pixels=pixels).save(tmp_path)
    loaded = Pictures.load(tmp_path).pixels
    assert loaded is not None
    assert loaded.backbone == "random"
    np.testing.assert_array_equal(loaded.take(np.arange(len(loaded))), squares)
    corpus, _ = Pictures.load(tmp_path).corpus(np.array([3, 1]), VocabularyConfig())
    assert corpus.pixels is not None
    np.testing.assert_array_equal(corpus.pixels.take(np.arange(2)), squares[[3, 1]])
