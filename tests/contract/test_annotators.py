"""The contract of every annotator in the registry: a new one is found, and held to it, by itself.

Scores are float32; a picture's may differ by `TOLERANCE` between batches of different sizes,
since BLAS sums in another order then, on some processors more so than on others.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.metrics import average_precision_score

from engine import schema
from engine.annotators import REGISTRY
from engine.bundle import load_bundle, new_bundle, seal_bundle
from engine.calibration import Calibration
from engine.corpus import Corpus
from engine.cut import Cut
from engine.embed import backbone
from engine.ensemble import Ensemble
from engine.errors import BundleError
from engine.fitting import Material, ranked_tags
from engine.fusion import Fusion, speaking
from engine.group import Solo
from engine.image import DecodeLimits
from engine.manifest import BackboneEntry, Manifest
from engine.numerics.metrics import picture_metrics
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary
from tests.features import CHEAP

TOLERANCE = 5e-5
YARDSTICK = "prior"
ALLOWED_FILES = {".json", ".safetensors", ".faiss"}

KINDS = pytest.mark.parametrize("kind", REGISTRY)
Fitted = Callable[[str], Annotator]


def recipe_of(kind: str) -> Recipe:
    """The method's defaults; a backbone or features that it names are those of the fixtures."""
    recipe = REGISTRY[kind].recipe
    fixtures = {"backbone": "random", "features": CHEAP}
    settings = {name: one for name, one in fixtures.items() if name in recipe.model_fields}
    return recipe.model_validate(settings)


def batch_of(corpus: Corpus, rows: slice | NDArray[np.int64] = slice(None)) -> pa.Table:
    places = np.arange(len(corpus))[rows]
    return pa.table(
        {
            schema.IMAGE_ID: np.array(corpus.ids)[rows],
            schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND[rows]),
            schema.SOCIAL_TAGS: pa.array(corpus.social_tags).take(pa.array(places)),
            **{
                name: schema.tensor_column(column.take(places))
                for name, column in corpus.columns.items()
            },
        }
    )


def scored(annotator: Annotator, batch: pa.Table) -> Verdict:
    """The verdict on a batch that holds the columns which the method reads, and no other."""
    return annotator.score(batch.select(list(annotator.reads)))


def nearest_pictures(verdict: Verdict) -> list[str]:
    """Of each row; none from a method without neighbours."""
    rows = [] if verdict.evidence is None else verdict.evidence.to_pylist()
    return [row[0]["image_id"] for row in rows]


@pytest.fixture(scope="module")
def fitted(material: Material, halves: tuple[Corpus, Corpus]) -> Fitted:
    made: dict[str, Annotator] = {}

    def fit(kind: str) -> Annotator:
        if kind not in made:
            made[kind] = recipe_of(kind).fit(halves[0], material.vocabulary, Solo())
        return made[kind]

    return fit


def test_kinds_agree_everywhere() -> None:
    for kind, method in REGISTRY.items():
        assert method.annotator.kind == kind
        assert recipe_of(kind).kind == kind


@KINDS
def test_scores_are_float32_in_unit_range(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus], material: Material
) -> None:
    held_out = halves[1]
    annotator = fitted(kind)
    scores_BV = scored(annotator, batch_of(held_out)).scores_BV
    assert scores_BV.shape == (len(held_out), len(material.vocabulary))
    assert scores_BV.dtype == np.float32
    speaks_B = speaking(scores_BV)
    assert np.isnan(scores_BV[~speaks_B]).all()
    assert speaks_B.mean() > 0.8
    assert speaks_B.all() or annotator.may_abstain
    assert np.isfinite(scores_BV[speaks_B]).all()
    assert scores_BV[speaks_B].min() >= 0
    assert scores_BV[speaks_B].max() <= 1
    assert annotator.vocabulary_digest == material.vocabulary.digest


@KINDS
def test_a_batch_equals_its_sub_batches(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus]
) -> None:
    batch = batch_of(halves[1])
    whole = scored(fitted(kind), batch)
    parts = [scored(fitted(kind), batch.slice(start, 13)) for start in range(0, len(batch), 13)]
    scores_BV = np.concatenate([part.scores_BV for part in parts])
    np.testing.assert_allclose(scores_BV, whole.scores_BV, atol=TOLERANCE)
    nearest = [image_id for part in parts for image_id in nearest_pictures(part)]
    assert nearest == nearest_pictures(whole)


@KINDS
def test_row_order_does_not_matter(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus], rng: np.random.Generator
) -> None:
    order = rng.permutation(len(halves[1]))
    straight_BV = scored(fitted(kind), batch_of(halves[1])).scores_BV
    shuffled_BV = scored(fitted(kind), batch_of(halves[1], order)).scores_BV
    np.testing.assert_allclose(shuffled_BV, straight_BV[order], atol=TOLERANCE)


@KINDS
def test_the_empty_batch_gives_no_rows(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus], material: Material
) -> None:
    verdict = scored(fitted(kind), batch_of(halves[1], slice(0, 0)))
    assert verdict.scores_BV.shape == (0, len(material.vocabulary))
    assert verdict.scores_BV.dtype == np.float32
    if verdict.evidence is not None:
        assert len(verdict.evidence) == 0
        assert verdict.evidence.type == schema.EVIDENCE_LIST


@KINDS
def test_the_same_corpus_and_settings_give_the_same_annotator(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus], material: Material
) -> None:
    again = recipe_of(kind).fit(halves[0], material.vocabulary, Solo())
    batch = batch_of(halves[1])
    np.testing.assert_array_equal(
        scored(again, batch).scores_BV, scored(fitted(kind), batch).scores_BV
    )


@KINDS
def test_save_and_load_is_the_identity(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus], tmp_path: Path
) -> None:
    annotator = fitted(kind)
    annotator.save(tmp_path)
    loaded = type(annotator).load(tmp_path)
    batch = batch_of(halves[1])
    before, after = scored(annotator, batch), scored(loaded, batch)
    np.testing.assert_array_equal(after.scores_BV, before.scores_BV)
    assert after.evidence == before.evidence
    assert loaded.vocabulary_digest == annotator.vocabulary_digest
    assert loaded.reads == annotator.reads


@KINDS
def test_nothing_is_saved_that_could_run_code(kind: str, fitted: Fitted, tmp_path: Path) -> None:
    fitted(kind).save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert {path.suffix for path in files} <= ALLOWED_FILES
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


@KINDS
def test_a_foreign_vocabulary_is_refused(
    kind: str, fitted: Fitted, material: Material, tmp_path: Path
) -> None:
    own = material.vocabulary
    foreign = Vocabulary(own.tags[::-1], own.counts[::-1])
    folders = {}
    for name, vocabulary in (("own", own), ("foreign", foreign)):
        folders[name] = tmp_path / name
        write_bundle(folders[name], kind, fitted(kind), vocabulary)
    assert load_bundle(folders["own"]).annotator("one").vocabulary_digest == own.digest
    with pytest.raises(BundleError, match=f"'one' was fitted on vocabulary {own.digest[:12]}"):
        load_bundle(folders["foreign"]).annotator("one")


def write_bundle(folder: Path, kind: str, annotator: Annotator, vocabulary: Vocabulary) -> None:
    spec = backbone("random")
    with new_bundle(folder, overwrite=False) as draft:
        vocabulary.save(draft / "vocabulary.json")
        fusion = Fusion({"one": 1.0}, {"one": Calibration()}, Calibration())
        Ensemble(fusion, Cut()).save(draft)
        (draft / "annotators" / "one").mkdir(parents=True)
        annotator.save(draft / "annotators" / "one")
        manifest = Manifest(
            vocabulary=vocabulary.digest,
            backbone=BackboneEntry(
                name=spec.name,
                weights_sha256=spec.weights_sha256(),
                geometry=spec.geometry,
                compute="torch",
            ),
            limits=DecodeLimits(),
            annotators={"one": kind},
            fingerprints={},
            metrics={},
        )
        seal_bundle(draft, manifest)


@pytest.mark.parametrize("kind", [kind for kind in REGISTRY if kind != YARDSTICK])
def test_it_beats_the_frequency_prior(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus]
) -> None:
    """Tells pictures apart (average precision of a word), and gives tags no worse (F1 at 5).

    The first tells more: a method whose backbone has random weights may know which pictures a
    word suits better without ever moving it past a more frequent one.
    """
    held_out = halves[1]
    rows_M = np.flatnonzero(speaking(scored(fitted(kind), batch_of(held_out)).scores_BV))
    truth_MV = held_out.labels_NV[rows_M].toarray() > 0
    seen_V = truth_MV.any(axis=0)

    def figures(name: str) -> tuple[float, float]:
        scores_MV = scored(fitted(name), batch_of(held_out, rows_M)).scores_BV
        precision = average_precision_score(truth_MV[:, seen_V], scores_MV[:, seen_V])
        return float(precision), picture_metrics(ranked_tags(scores_MV, 5), truth_MV).f1

    (precision, f1), (prior_precision, prior_f1) = figures(kind), figures(YARDSTICK)
    assert precision > 1.5 * prior_precision
    assert f1 >= prior_f1


@pytest.mark.parametrize(
    "kind", [kind for kind, method in REGISTRY.items() if method.annotator.may_abstain]
)
def test_without_what_it_needs_it_abstains(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus]
) -> None:
    annotator = fitted(kind)
    batch = batch_of(halves[1])
    for name in set(annotator.reads) & set(schema.OPTIONAL):
        nothing = pa.nulls(len(batch), schema.OPTIONAL[name])
        batch = batch.set_column(batch.column_names.index(name), name, nothing)
    assert not speaking(scored(annotator, batch).scores_BV).any()


@KINDS
def test_a_recipe_is_frozen_and_knows_its_keys(kind: str) -> None:
    recipe = recipe_of(kind)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.kind = "other"
    with pytest.raises(ValidationError, match="no_such_setting"):
        type(recipe).model_validate({"no_such_setting": 1})
    with pytest.raises(ValidationError, match="kind"):
        type(recipe).model_validate({"kind": "no-such-kind"})
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe


@KINDS
def test_evidence_names_training_pictures_nearest_first(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus]
) -> None:
    training, held_out = halves
    annotator = fitted(kind)
    evidence = scored(annotator, batch_of(held_out)).evidence
    assert (evidence is not None) == annotator.gives_evidence
    if evidence is None:
        return
    assert evidence.type == schema.EVIDENCE_LIST
    assert len(evidence) == len(held_out)
    carried = {
        image_id: set(training.labels_NV[row].indices.tolist())
        for row, image_id in enumerate(training.ids)
    }
    for row in evidence.to_pylist():
        distances = [item["distance"] for item in row]
        assert row
        assert distances == sorted(distances)
        assert min(distances) >= 0
        assert max(distances) <= 2
        assert all(set(item["tags"]) == carried[item["image_id"]] for item in row)


@pytest.mark.parametrize(
    "kind", [kind for kind, method in REGISTRY.items() if method.annotator.gives_evidence]
)
def test_a_training_picture_is_its_own_nearest_neighbour(
    kind: str, fitted: Fitted, halves: tuple[Corpus, Corpus]
) -> None:
    training = halves[0]
    verdict = scored(fitted(kind), batch_of(training, slice(0, 20)))
    assert nearest_pictures(verdict) == list(training.ids[:20])
    assert verdict.evidence is not None
    assert all(0 <= row[0]["distance"] < 1e-3 for row in verdict.evidence.to_pylist())
