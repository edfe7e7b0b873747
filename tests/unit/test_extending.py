"""Pictures into a bundle and out of it: as if its index had been built with them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.annotators.cca_knn import CcaKnn, CcaKnnRecipe
from engine.bundle import Bundle, load_bundle, new_bundle
from engine.corpus import Corpus
from engine.errors import ConfigError, CorpusError
from engine.extending import Newcomers, add_pictures, remove_pictures
from engine.fitting import Material, score_corpus
from engine.group import Solo
from engine.index import ArrayVectors, IndexEntry, IndexWish, build_index
from engine.plan import annotation_plan

KINDS = ("flat", "ivf-flat", "hnsw")
"""Codes want more pictures than are here; tests/unit/test_index.py adds and removes theirs."""


def fitted(recipe: CcaKnnRecipe, material: Material, corpus: Corpus) -> tuple[CcaKnn, IndexEntry]:
    annotator = recipe.fit(corpus, material.vocabulary, Solo())
    assert annotator.index_entry is not None
    return annotator, annotator.index_entry


def newcomers_of(material: Material, corpus: Corpus, rows: Sequence[int]) -> Newcomers:
    part = corpus.subset(np.array(rows))
    thumbnails = {one: material.thumbnails[one] for one in part.ids}
    return Newcomers(part.ids, part.embeddings_ND, part.labels_NV, thumbnails)


def add(annotator: CcaKnn, corpus: Corpus, entry: IndexEntry) -> CcaKnn:
    return annotator.added(corpus.ids, corpus.embeddings_ND, corpus.labels_NV, entry)


@pytest.mark.parametrize("match", ["image", "text"])
@pytest.mark.parametrize("kind", KINDS)
def test_added_and_removed_again_it_scores_as_before(
    kind: str, match: str, material: Material, halves: tuple[Corpus, Corpus], tmp_path: Path
) -> None:
    recipe = CcaKnnRecipe.model_validate({"index": kind, "match": match, "tag_vectors": "binary"})
    training, held_out = halves
    before, entry = fitted(recipe, material, training)
    before.save(tmp_path)
    loaded = CcaKnn.load(tmp_path)
    grown = add(loaded, held_out, entry)
    assert grown.ids == (*training.ids, *held_out.ids)
    assert grown.index_entry is not None
    assert grown.index_entry.vectors == 280
    assert grown.index_entry.bytes > entry.bytes
    assert not np.array_equal(score_corpus(grown, held_out), score_corpus(before, held_out))
    shrunk = grown.without(np.arange(210, 280), grown.index_entry)
    np.testing.assert_array_equal(score_corpus(shrunk, held_out), score_corpus(before, held_out))
    assert shrunk.ids == before.ids
    assert shrunk.index_entry == entry


@pytest.mark.parametrize("kind", ["flat", "ivf-flat"])
def test_it_scores_as_if_its_index_had_been_built_with_them(
    kind: str, material: Material, halves: tuple[Corpus, Corpus]
) -> None:
    """The same CCA over one index of all the pictures, whole lists of which are looked at."""
    training, held_out = halves
    before, entry = fitted(CcaKnnRecipe(index=kind), material, training)
    parts = (training, held_out)
    all_NL = np.concatenate([before.placement.query(part.embeddings_ND) for part in parts])
    order = [material.corpus.ids.index(one) for one in (*training.ids, *held_out.ids)]
    everything = material.corpus.subset(np.array(order))
    built = CcaKnn(
        replace_index(before.recipe, "flat"),
        before.placement,
        build_index(ArrayVectors(all_NL), IndexWish("flat")),
        everything.labels_NV,
        everything.ids,
        before.vocabulary_digest,
    )
    grown = add(before, held_out, entry)
    if kind == "ivf-flat":
        grown.index._stored.nprobe = entry.lists
    np.testing.assert_allclose(
        score_corpus(grown, held_out), score_corpus(built, held_out), atol=2e-5
    )


def replace_index(recipe: CcaKnnRecipe, kind: str) -> CcaKnnRecipe:
    return recipe.model_copy(update={"index": kind})


def test_removing_from_the_middle_keeps_ids_tags_and_vectors_together(
    material: Material, halves: tuple[Corpus, Corpus]
) -> None:
    training, held_out = halves
    before, entry = fitted(CcaKnnRecipe(), material, training)
    gone = np.array([0, 5, 100, 209])
    stay = np.setdiff1d(np.arange(210), gone)
    shrunk = before.without(gone, entry)
    rest = training.subset(stay)
    built = CcaKnn(
        before.recipe,
        before.placement,
        build_index(ArrayVectors(before.placement.query(rest.embeddings_ND)), IndexWish()),
        rest.labels_NV,
        rest.ids,
        before.vocabulary_digest,
    )
    assert shrunk.ids == rest.ids
    np.testing.assert_allclose(
        score_corpus(shrunk, held_out), score_corpus(built, held_out), atol=2e-5
    )


def test_a_tag_without_carriers_gets_no_votes(
    material: Material, halves: tuple[Corpus, Corpus]
) -> None:
    training, held_out = halves
    before, entry = fitted(CcaKnnRecipe(), material, training)
    carriers_V = np.asarray(training.labels_NV.sum(axis=0)).ravel()
    tag = int(np.flatnonzero(carriers_V > 0)[np.argmin(carriers_V[carriers_V > 0])])
    gone = np.flatnonzero(training.labels_NV[:, [tag]].toarray().ravel())
    scores_NV = score_corpus(before.without(gone, entry), held_out)
    assert (scores_NV[:, tag] == 0).all()
    assert np.isfinite(scores_NV).all()
    assert score_corpus(before, held_out)[:, tag].max() > 0


def test_a_budget_is_kept_when_pictures_are_added(
    material: Material, halves: tuple[Corpus, Corpus]
) -> None:
    training, held_out = halves
    before, entry = fitted(CcaKnnRecipe(), material, training)
    tight = entry.model_copy(update={"max_bytes": entry.bytes + 1000})
    with pytest.raises(ConfigError, match="with 70 more vectors the index would take up to"):
        add(before, held_out, tight)


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


def scores(bundle: Bundle, corpus: Corpus) -> NDArray[np.float32]:
    return score_corpus(bundle.annotator("cca-knn"), corpus)


def changed(bundle: Bundle, folder: Path, ids: Sequence[str]) -> Bundle:
    with new_bundle(folder, overwrite=False) as draft:
        remove_pictures(draft, bundle, ids)
    return load_bundle(folder)


def test_a_bundle_loses_pictures_and_gets_them_back(
    bundle: Bundle, material: Material, tmp_path: Path
) -> None:
    ids = material.corpus.ids
    less = changed(bundle, tmp_path / "less", ids[-30:])
    assert less.id != bundle.id
    assert less.manifest.index["cca-knn"].vectors == 250
    assert bundle.manifest.index["cca-knn"].vectors == 280
    assert less.manifest.notes[-1].startswith("30 pictures removed without fitting again")
    assert less.manifest.metrics == bundle.manifest.metrics
    assert less.thumbnails.get(ids[-1]) is None
    assert less.thumbnails.get(ids[0]) == material.thumbnails[ids[0]]
    assert (scores(less, material.corpus) != scores(bundle, material.corpus)).any()
    newcomers = newcomers_of(material, material.corpus, range(250, 280))
    with new_bundle(tmp_path / "again", overwrite=False) as draft:
        add_pictures(draft, less, newcomers, "a note")
    again = load_bundle(tmp_path / "again")
    assert again.id not in (less.id, bundle.id)
    # Pixels decide, not the pass: these were embedded together with the others. Of fewer pictures
    # at a time, BLAS sums in another order on some processors.
    found_NV, expected_NV = (scores(one, material.corpus) for one in (again, bundle))
    np.testing.assert_allclose(found_NV, expected_NV, atol=1e-5)
    assert again.manifest.notes[-1].startswith("a note; ")
    assert again.thumbnails.all() == bundle.thumbnails.all()
    assert again.manifest.fingerprints["pictures"] != less.manifest.fingerprints["pictures"]
    annotation_plan(again, 5)


def test_ids_that_are_there_are_refused(bundle: Bundle, material: Material, tmp_path: Path) -> None:
    newcomers = newcomers_of(material, material.corpus, [7, 8])
    with (
        pytest.raises(CorpusError, match=f"'{material.corpus.ids[7]}', .* are among the pictures"),
        new_bundle(tmp_path / "more", overwrite=False) as draft,
    ):
        add_pictures(draft, bundle, newcomers, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ids", "message"),
    [(["nobody"], "'nobody' is not among the pictures of 'cca-knn'"), (None, "these are all the")],
)
def test_what_cannot_be_removed_is_refused(
    ids: list[str] | None, message: str, bundle: Bundle, material: Material, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(bundle, tmp_path / "less", ids or material.corpus.ids)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_an_index_is_refused(social_bundle_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of its annotators transfers tags from pictures"):
        changed(load_bundle(social_bundle_folder), tmp_path / "less", ["one"])


def test_thumbnails_are_not_begun_where_a_bundle_keeps_none(
    bundle: Bundle, material: Material, tmp_path: Path
) -> None:
    ids = material.corpus.ids
    with new_bundle(tmp_path / "bare", overwrite=False) as draft:
        remove_pictures(draft, bundle, ids[-1:])
    bare = load_bundle(tmp_path / "bare")
    newcomers = newcomers_of(material, material.corpus, [279])
    object.__setattr__(bare.thumbnails, "_rows", {})
    with new_bundle(tmp_path / "more", overwrite=False) as draft:
        add_pictures(draft, bare, replace(newcomers, thumbnails={ids[-1]: b"jpeg"}), "")
    assert load_bundle(tmp_path / "more").thumbnails.all() == {}
