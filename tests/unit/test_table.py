"""A table of results: its configuration, and what decides a run of it."""

import tomllib
from pathlib import Path

import pytest

import jobs
from engine.annotators import REGISTRY
from engine.annotators.cnn_r import CnnRRecipe
from engine.annotators.mbrm import MbrmRecipe
from engine.annotators.prior import PriorRecipe
from engine.config import FitConfig, VocabularyConfig
from engine.errors import ConfigError
from engine.table.config import CorpusConfig, TableConfig, load_table
from jobs.identity import embedding_identity, engine_state
from jobs.table import table_path
from jobs.table_corpora import parse_places
from jobs.trials import Task

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
