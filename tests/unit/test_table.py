"""A table of results: its configuration, the measuring of a row, and what it says in the end."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import sparse

import jobs
from engine import schema
from engine.annotators import REGISTRY
from engine.annotators.cnn_r import CnnRRecipe
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
from engine.errors import ConfigError, CorpusError
from engine.fitting import Material, fit_bundle, score_corpus
from engine.fusion import Fusion
from engine.group import Group, Solo
from engine.measuring import answers_among, places_among
from engine.numerics.metric_registry import METRICS, Answers, figures_of
from engine.recipe import Annotator, Verdict
from engine.table.config import CorpusConfig, TableConfig, TagCount, load_table
from engine.table.measure import Said, Trial, given_among, measure, said_of
from engine.table.pictures import Pictures
from engine.table.report import Cell, CorpusNote, Line, Spread, TableReport, markdown
from engine.tensors import Pixels
from engine.vocab import Vocabulary
from engine.vocabulary_rules import VocabularyRules
from jobs.chart import draw_chart, draw_curves
from jobs.console import Console
from jobs.identity import embedding_identity, engine_state
from jobs.table import show, table_path
from jobs.table_corpora import parse_places
from jobs.trials import Outcome, Task

CONFIGS = Path(jobs.__file__).parent / "configs"
TABLES = [
    path
    for path in sorted(CONFIGS.glob("*.toml"))
    if "rows" in tomllib.loads(path.read_text(encoding="utf-8"))
]

SMALL = """
title = "Small"
metrics = ["f1", "n_plus"]
[corpora.ours]
words = "words.txt"
[defaults]
lift = 0.0
embed.backbone = "random"
[[rows]]
name = "A"
published.ours = { f1 = 40, n_plus = 7 }
[[rows]]
name = "B"
fit.embed.geometry = "crop"
fit.annotators.one = { kind = "prior" }
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", TABLES, ids=[path.stem for path in TABLES])
def test_every_table_that_is_shipped_is_good(path: Path) -> None:
    config = load_table(path)
    assert TableConfig.model_validate_json(config.model_dump_json()) == config
    # F1 as printed is that of the means, but for rounding, so a slip of a digit would show.
    for row in config.rows:
        for corpus, figures in row.published.items():
            assert corpus in config.corpora
            if {"precision", "recall", "f1"} <= figures.keys():
                p, r = figures["precision"], figures["recall"]
                f1 = pytest.approx(2 * p * r / (p + r), abs=2)
                assert figures["f1"] == f1, (row.name, corpus)


def test_murthys_table_has_the_papers_rows_and_more() -> None:
    config = load_table(table_path("murthy2015"))
    published = [row for row in config.rows if row.published]
    assert len(published) == 16
    best = [row for row in published if (row.name, row.text) == ("CCA-KNN", "W2V")]
    assert best[0].published["corel5k"] == {
        "precision": 42,
        "recall": 52,
        "f1": 46,
        "n_plus": 201,
    }
    assert {"precision", "recall", "f1", "n_plus"} == set(config.metrics)
    fitted = {kind.kind for row in config.rows if row.fit for kind in row.fit.annotators.values()}
    assert fitted <= set(REGISTRY)


def test_yans_table_has_the_papers_rows_and_curves() -> None:
    config = load_table(table_path("yan2016"))
    published = {row.name: row.published["pascal2007"] for row in config.rows if row.published}
    assert list(published) == ["SVM", "SVM-rank", "Naive-RNN", "Ranked LSTM"]
    assert published["Ranked LSTM"] == {"mean_ndcg": 70.61, "mean_precision": 50.81}
    assert config.curves == ("ndcg", "precision")
    assert {"feedme-food", "corel5k", "sample"} <= config.corpora.keys()


def test_nius_table_has_the_papers_variants_and_peers() -> None:
    config = load_table(table_path("niu2017"))
    published = {row.name: row for row in config.rows if row.published}
    assert len(published) == 14
    for name, row in published.items():
        assert row.fit is not None, name
        for corpus, told in row.published.items():
            assert corpus in config.corpora
            # Eq. 7, but for rounding: a slip of a digit would show.
            f1, picture_f1 = told["f1"], told["picture_f1"]
            assert told["h_f1"] == pytest.approx(
                2 * f1 * picture_f1 / (f1 + picture_f1), abs=0.02
            ), (name, corpus)
    assert config.count_of(published["Upper bound: the true quantity"]) == "true"
    by_quantity = [row.name for row in config.rows if row.fit and row.fit.count.method == "lqp"]
    assert by_quantity[:2] == ["MS-CNN+LQP", "MS-CNN+Tags+LQP"]
    assert all(config.count_of(row) == "auto" for row in config.rows if row.name in by_quantity)


@pytest.mark.parametrize(
    "name", ["murthy2015", "murthy2015.toml", "configs/murthy2015.toml", "jobs/configs/murthy2015"]
)
def test_a_packaged_table_goes_by_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert table_path(name) == CONFIGS / "murthy2015.toml"
    own = written(tmp_path, SMALL)
    assert table_path("table.toml").samefile(own)
    with pytest.raises(ConfigError, match="nosuch: there is no such file, and no table"):
        table_path("nosuch")


def test_defaults_reach_every_row_that_is_fitted(tmp_path: Path) -> None:
    config = load_table(written(tmp_path, SMALL), ["k=3", "seeds=[4, 5]"])
    assert (config.k, config.seeds) == (3, (4, 5))
    first, second = config.rows
    assert first.fit is None
    assert second.fit is not None
    assert (second.fit.lift, second.fit.embed.backbone) == (0, "random")
    assert second.fit.embed.geometry == "crop"
    assert second.fit.annotators == {"one": PriorRecipe()}
    assert [config.count_of(row) for row in config.rows] == [3, 3]


def test_a_row_may_have_a_number_of_tags_of_its_own(tmp_path: Path) -> None:
    text = SMALL.replace('name = "A"', 'name = "A"\nk = "true"')
    config = load_table(written(tmp_path, text), ['k="auto"', 'curves=["ndcg"]'])
    assert [config.count_of(row) for row in config.rows] == ["true", "auto"]
    assert config.curves == ("ndcg",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('kind = "prior"', 'kind = "priority"'), r"rows\.1\.fit\.annotators\.one.*'priority'"),
        (('"f1", "n_plus"]', '"f1", "n_minus"]'), "no metric 'n_minus'; choose among precision"),
        (("{ f1 = 40", "{ f2 = 40"), "no metric 'f2'"),
        (('title = "Small"', 'title = "Small"\nchart = "recall"'), "chart is 'recall'"),
        (('name = "B"', 'name = "A"'), "two are called 'A'"),
        (('name = "B"', 'name = "B"\ncolour = 1'), r"rows\.1\.colour"),
        (('title = "Small"', 'title = "Small"\nseeds = [1, 2, 1]'), "one is named twice"),
        (("[corpora.ours]", "[corpora.ours]\nheld_out = 1.0"), "held_out"),
        (('title = "Small"', 'title = "Small"\ncurves = ["recall"]'), "no curve 'recall'"),
        (('name = "B"', 'name = "B"\nk = "some"'), r"rows\.1\.k"),
        (('name = "B"', 'name = "B"\nk = 0'), r"rows\.1\.k"),
        (("[defaults]", "[default]"), "default: Extra inputs"),
        (("[[rows]]", "[[lines]]"), "not a table; write one"),
        (('title = "Small"', "title ="), "not TOML"),
    ],
)
def test_a_wrong_table_is_refused_by_name(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_table(written(tmp_path, SMALL.replace(*change)))


def test_places_are_names_and_paths() -> None:
    assert parse_places(["a=/x", "b=s3://y=z"], "--corpus") == {"a": "/x", "b": "s3://y=z"}
    assert parse_places(["a=~/x"], "--corpus") == {"a": str(Path.home() / "x")}
    for wrong in ("a", "=x", "a="):
        with pytest.raises(ConfigError, match="write it as NAME=PATH"):
            parse_places([wrong], "--corpus")
    with pytest.raises(ConfigError, match="is no name of a corpus"):
        parse_places(["../a=x"], "--corpus")
    with pytest.raises(ConfigError, match="'a' is given twice"):
        parse_places(["a=x", "a=y"], "--corpus")


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


def test_pictures_are_embedded_anew_where_pixels_are_wanted() -> None:
    """A run that kept none cannot be gone on with by a method that learns from them."""
    head, whole = (
        FitConfig(annotators={"one": CnnRRecipe(train=part)}, lift=0) for part in ("head", "all")
    )
    assert embedding_identity(head) != embedding_identity(whole)
    assert embedding_identity(head) == embedding_identity(FitConfig())


def test_a_run_is_known_by_all_that_decides_it() -> None:
    fit = FitConfig(annotators={"one": PriorRecipe()}, lift=0)
    task = Task(
        row=3, name="A", corpus="c", seed=0, fit=fit, training="/here/c-1", test=None,
        held_out=0.1, words=("a", "b"), k=5, state="s",
    )  # fmt: skip
    same = [
        {"row": 9}, {"name": "B"}, {"corpus": "d"}, {"training": "/there/c-1"},
    ]  # fmt: skip
    other = [
        {"seed": 1}, {"training": "/here/c-2"}, {"test": "/here/c-1"}, {"held_out": 0.2},
        {"words": ("a",)}, {"words": None}, {"k": 4}, {"k": "auto"}, {"state": "t"},
        {"fit": fit.model_copy(update={"annotators": {"one": MbrmRecipe()}})},
        {"fit": fit.model_copy(update={"annotators": {"one": MbrmRecipe(mu=2)}})},
        {"fit": fit.model_copy(update={"lift": 0.1})},
    ]  # fmt: skip
    assert {task.model_copy(update=change).key for change in same} == {task.key}
    keys = {task.key, *(task.model_copy(update=change).key for change in other)}
    assert len(keys) == 1 + len(other)
    assert Task.model_validate_json(task.model_dump_json()).key == task.key
    assert engine_state() != engine_state("embed", "image") != engine_state("geometry")


def test_a_corpus_may_ask_for_more_pictures_a_tag_than_a_row() -> None:
    fit = FitConfig(annotators={"one": PriorRecipe()}, vocabulary=VocabularyConfig(min_count=3))
    for asked, least in ((1, 3), (3, 3), (7, 7)):
        limited = CorpusConfig(min_count=asked).limited(fit)
        vocabulary = fit.vocabulary.model_copy(update={"min_count": least})
        assert limited == fit.model_copy(update={"vocabulary": vocabulary})


def test_the_markdown_says_which_tags_count() -> None:
    report = report_of({"One": Cell(measured={"f1": Spread.of([1.0]), "n_plus": Spread.of([1])})})
    all_tags = report.corpora["ours"].model_copy(update={"words": None})
    few_tags = all_tags.model_copy(update={"min_count": 5})
    for note, told in (
        (report.corpora["ours"], "means over 3 words."),
        (all_tags, "means over the tags trained on."),
        (few_tags, "means over the tags trained on, each of which 5 pictures or more carry."),
    ):
        assert told in markdown(report.model_copy(update={"corpora": {"ours": note}}))


def test_no_figure_is_shortened_on_a_narrow_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a column without any figure, such as the paper's of another corpus, is not shown."""
    monkeypatch.setenv("COLUMNS", "20")
    columns = ("precision", "recall", "f1", "picture_precision", "picture_recall", "picture_f1")
    figures = {name: Spread.of([11.1 * (place + 1)]) for place, name in enumerate(columns)}
    cell = Cell(published={"f1": 98.76}, measured=figures)
    report = report_of({"A method": cell, "Else": Cell()})
    show(report.model_copy(update={"metrics": (*columns, "map")}), Console())
    told = capsys.readouterr().err
    for text in ("98.76", "11.1", "22.2", "33.3", "44.4", "55.5", "66.6", "paper"):
        assert text in told
    assert "…" not in told
    assert "MAP" not in told
    assert "Else" not in told


def test_a_failure_is_told_in_one_line() -> None:
    assert Outcome.failed(ValueError("one\n  two"), "ValueError: ").failure == "ValueError: one two"


def report_of(cells: dict[str, Cell]) -> TableReport:
    note = CorpusNote(title="Ours", pictures=100, tested=10, words=3, split="a share of 0.1")
    rows = tuple(
        Line(name=name, visual="HC", text="", features="lite0", k=5, cells={"ours": cell})
        for name, cell in cells.items()
    )
    return TableReport(
        title="Small", note="Mind the gap.", k=5, metrics=("f1", "n_plus"), chart="f1", state="s",
        corpora={"ours": note}, rows=rows,
    )  # fmt: skip


def test_the_markdown_says_what_was_measured() -> None:
    measured = {"f1": Spread.of([40.04, 38.0, 41.0]), "n_plus": Spread.of([9, 7, 8])}
    report = report_of(
        {
            "Both": Cell(
                published={"f1": 39.5, "n_plus": 12},
                measured=measured,
                seeds=(0, 1, 2),
                seconds=3.4,
                notes={1: ("it trusts one thing",)},
            ),
            "Paper|s": Cell(published={"f1": 30}),
            "Broken": Cell(failures={0: "no such file", 1: "no such file"}),
        }
    )
    assert report.failed == 2
    assert markdown(report).splitlines() == [
        "# Small",
        "",
        "Mind the gap.",
        "",
        "## Ours",
        "",
        "100 pictures, 10 of them tested on (a share of 0.1); k = 5, means over 3 words.",
        "",
        "| method (the paper's features) | paper F1 | paper N+ | features here | F1 | N+ "
        "| F1, range | seconds |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
        "| Both (HC) | 39.5 | 12 | lite0 | 40.0 | 8 | 38.0 to 41.0 | 3 |",
        "| Paper\\|s (HC) | 30 |  | lite0 |  |  |  |  |",
        "| Broken (HC) |  |  | lite0 | failed | failed |  |  |",
        "",
        "Noted of the fits:",
        "",
        "- Both (HC), seed 1: it trusts one thing",
        "",
        "Without figures:",
        "",
        "- Broken (HC), seed 0: no such file",
        "- Broken (HC), seed 1: no such file",
    ]
    assert TableReport.model_validate(json.loads(report.model_dump_json())) == report
    assert draw_chart(report).startswith(b"\x89PNG")


def test_the_figure_leaves_out_rows_with_nothing_on_its_corpora() -> None:
    measured = Cell(measured={"f1": Spread.of([40])}, seeds=(0,))
    alone = draw_chart(report_of({"A": measured}))
    assert draw_chart(report_of({"A": measured, "B": Cell()})) == alone
    for cell in (Cell(failures={0: "no"}), Cell(published={"f1": 3.0}), measured):
        assert draw_chart(report_of({"A": measured, "B": cell})) != alone


def test_the_papers_figures_on_other_corpora_come_last() -> None:
    report = report_of({"A": Cell(measured={"f1": Spread.of([40])}, seeds=(0,)), "B": Cell()})
    first = report.rows[0].model_copy(update={"elsewhere": {"theirs": {"h_f1": 74.47, "f1": 60}}})
    update = {"rows": (first, report.rows[1]), "elsewhere": {"theirs": "NUS-WIDE"}}
    text = markdown(report.model_copy(update=update)).splitlines()
    # Without a figure of the paper on this corpus there are no columns for it.
    assert text[8] == (
        "| method (the paper's features) | features here | F1 | N+ | F1, range | seconds |"
    )
    assert text[-5:] == [
        "## The paper's own figures on NUS-WIDE",
        "",
        "| method (the paper's features) | F1 | H-F1 |",
        "| --- | ---: | ---: |",
        "| A (HC) | 60 | 74.47 |",
    ]


def curves_at(start: float) -> dict[str, Spread]:
    return {
        f"{curve}@{k}": Spread.of([start - k, start + k])
        for curve in ("ndcg", "precision")
        for k in range(1, 11)
    }


def test_the_markdown_tells_curves_and_a_rows_own_k() -> None:
    report = report_of(
        {
            "Ranked": Cell(measured={"f1": Spread.of([40]), **curves_at(50)}, seeds=(0, 1)),
            "Paper's": Cell(published={"f1": 30}),
            "Other": Cell(measured={"f1": Spread.of([30]), **curves_at(70)}, seeds=(0,)),
        }
    )
    rows = (
        report.rows[0].model_copy(update={"k": "true"}),
        report.rows[1].model_copy(update={"features": ""}),
        report.rows[2],
    )
    report = report.model_copy(update={"rows": rows, "curves": ("ndcg", "precision")})
    text = markdown(report).splitlines()
    assert text[6].endswith("k tags a picture, as each row says, means over 3 words.")
    assert text[8:] == [
        "| method (the paper's features) | paper F1 | paper N+ | features here | k | F1 | N+ "
        "| F1, range | seconds |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
        "| Ranked (HC) |  |  | lite0 | true | 40.0 |  | 40.0 to 40.0 |  |",
        "| Paper's (HC) | 30 |  |  |  |  |  |  |  |",
        "| Other (HC) |  |  | lite0 | 5 | 30.0 |  |  |  |",
        "",
        "| NDCG@k, k = | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| Ranked (HC) | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |",
        "| Other (HC) | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 |",
        "",
        "| Precision@k, k = | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| Ranked (HC) | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |",
        "| Other (HC) | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 |",
    ]
    figure = draw_curves(report)
    assert figure.startswith(b"\x89PNG")
    # A row more is drawn.
    fewer = report.model_copy(update={"rows": rows[:2]})
    assert draw_curves(fewer) != figure
    assert draw_chart(report).startswith(b"\x89PNG")
