"""Sums over parts on Ray Data against the plain loop over the same pictures."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import sparse

from engine import schema
from engine.annotators.cca_knn import CcaKnnRecipe
from engine.cca_space import Views
from engine.config import load_config
from engine.corpus import Corpus
from engine.errors import CorpusError
from engine.fitting import score_corpus
from engine.group import Solo
from engine.numerics.moments import Moments
from engine.vocab import Vocabulary
from jobs import spread
from jobs.chunks import Chunk, Inventory
from jobs.console import Console
from jobs.fit import INPUT_TAGS, Embedded, fit, gather_material
from jobs.sink import write_part
from jobs.spread import EmbeddingFile, PartSpread
from jobs.store import Store

WIDTH = 12
TAGS = ("sea", "sky", "dog", "cat", "car")


def write_parts(store: Store, sizes: list[int]) -> Inventory:
    """Parts in which every ninth row failed, and the id of a failed row may occur again."""
    rng = np.random.default_rng(0)
    words_VD = rng.standard_normal((5, WIDTH))
    chunks = []
    number = 0
    for place, rows in enumerate(sizes):
        labels_BV = rng.random((rows, 5)) < 0.4
        values_BD = labels_BV @ words_VD + 0.3 * rng.standard_normal((rows, WIDTH))
        numbers = np.arange(number, number + rows)
        failed = numbers % 9 == 4
        ids = [f"p{n - 1 if n % 18 == 4 else n}" for n in numbers]
        embedding = schema.tensor_column(values_BD.astype(np.float32))
        table = pa.table(
            {
                schema.IMAGE_ID: ids,
                schema.ERROR: pa.array([None if ok else "corrupt" for ok in ~failed]),
                schema.EMBEDDING: embedding,
                INPUT_TAGS: [[TAGS[v] for v in np.flatnonzero(row)] for row in labels_BV],
            }
        )
        chunk = Chunk(f"{place:04d}", "listing", "x", number, rows)
        write_part(store, chunk, table)
        chunks.append(chunk)
        number += rows
    return Inventory(tuple(chunks), number, "print")


@pytest.fixture
def parts(tmp_path: Path) -> Embedded:
    store = Store(str(tmp_path / "work"))
    return Embedded(store, write_parts(store, [40, 1, 60, 30, 3, 77, 50]), {"corrupt": 29})


@pytest.fixture
def corpus(parts: Embedded) -> Corpus:
    config = load_config(None, ["embed.backbone=random", "max_failed=1"])
    made = gather_material("the corpus", parts, config).corpus
    return replace(made, levels=(WIDTH,))


def views() -> Views:
    rng = np.random.default_rng(5)
    return Views((WIDTH,), rng.standard_normal((5, 3)).astype(np.float32))


def assert_near(one: Moments, other: Moments) -> None:
    assert one.count == other.count
    for name in ("mean_x_D", "mean_y_E", "xx_DD", "xy_DE", "yy_EE"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [1, 50, 10_000])
def test_parts_give_the_moments_that_a_loop_gives(
    cluster: None, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    monkeypatch.setattr(spread, "SHARE", share)
    assert corpus.spread is not None
    alone = replace(corpus, spread=None).add_up(views())
    together = corpus.add_up(views())
    assert together.count == len(corpus)
    assert_near(together, alone)
    again = corpus.add_up(views())
    np.testing.assert_array_equal(again.xx_DD, together.xx_DD)
    np.testing.assert_array_equal(again.xy_DE, together.xy_DE)


def test_a_subset_in_any_order_is_summed_alone(cluster: None, corpus: Corpus) -> None:
    rows = np.random.default_rng(1).permutation(len(corpus))[:90]
    subset = corpus.subset(rows)
    assert_near(subset.add_up(views()), replace(subset, spread=None).add_up(views()))
    one = corpus.subset(rows[:1]).add_up(views())
    assert one.count == 1
    np.testing.assert_allclose(one.xx_DD, 0)


def count_pairs(x_BD: NDArray[np.float32], labels_BV: sparse.csr_matrix) -> Counter[str]:
    """Which tags go with which first feature: tells any mix-up of rows and labels."""
    return Counter(
        f"{x:.6f}:{sorted(row.indices.tolist())}"
        for x, row in zip(x_BD[:, 0], labels_BV, strict=True)
    )


def test_every_picture_comes_once_with_its_own_tags(
    cluster: None, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "SHARE", 30)
    pairs = corpus.add_up(count_pairs)
    assert pairs == count_pairs(corpus.embeddings_ND, corpus.labels_NV)
    assert pairs.total() == len(corpus)


def refuse(x_BD: NDArray[np.float32], labels_BV: sparse.csr_matrix) -> Moments:
    raise CorpusError("feature 3 is not to my liking")


def test_an_error_of_a_worker_reaches_the_user_as_it_is(
    cluster: None, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "SHARE", 50)
    with pytest.raises(CorpusError, match=r"^feature 3 is not to my liking$"):
        corpus.add_up(refuse)


def test_other_embeddings_than_those_of_the_parts_are_noticed(corpus: Corpus) -> None:
    changed = replace(corpus, embeddings_ND=corpus.embeddings_ND + 1)
    with pytest.raises(AssertionError, match="other embeddings than its parts"):
        changed.add_up(views())


def test_cca_knn_fits_the_same_from_parts_and_from_memory(cluster: None, corpus: Corpus) -> None:
    recipe = CcaKnnRecipe(tag_vectors="binary")
    vocabulary = Vocabulary.learn([TAGS])
    there = score_corpus(recipe.fit(corpus, vocabulary, Solo()), corpus)
    here = recipe.fit(replace(corpus, spread=None), vocabulary, Solo())
    np.testing.assert_allclose(there, score_corpus(here, corpus), atol=1e-4)


def test_embeddings_stay_in_a_file(parts: Embedded, corpus: Corpus) -> None:
    assert isinstance(corpus.embeddings_ND, np.memmap)
    subset = corpus.subset(np.arange(0, len(corpus), 2))
    assert isinstance(subset.embeddings_ND, np.memmap)
    again = subset.subset(np.array([3, 1]))
    np.testing.assert_array_equal(again.embeddings_ND, corpus.embeddings_ND[[6, 2]])
    # Subsets have no name: nothing but the parts and the one file is in the folder.
    names = set(parts.store.names())
    assert {name for name in names if not name.startswith("part-")} == {"embeddings.float32"}


def test_an_empty_file_of_embeddings_has_no_rows(tmp_path: Path) -> None:
    file = EmbeddingFile(str(tmp_path / "none"))
    assert file.mapped().shape == (0, 0)
    file.append(np.ones((2, 3), dtype=np.float32))
    file.append(np.zeros((1, 3), dtype=np.float32))
    assert file.mapped().tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    # What a run left that was stopped is not this one's.
    again = EmbeddingFile(file.path)
    again.append(np.full((1, 3), 2, dtype=np.float32))
    assert again.mapped().tolist() == [[2, 2, 2]]


def test_the_fit_job_takes_its_moments_from_the_parts(
    cluster: None, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    plain = PartSpread.add_up

    def watched(self: PartSpread, corpus: Corpus, measure: Views) -> Moments:
        moments = plain(self, corpus, measure)
        counts.append((moments.count, len(corpus)))
        return moments

    monkeypatch.setattr(PartSpread, "add_up", watched)
    settings = ["embed.backbone=random", "embed.compute=openvino"]
    settings += ['annotators={near={kind="cca-knn",tag_vectors="binary"}}']
    config = load_config(None, settings)
    bundle = fit(str(corpus_folder), tmp_path / "bundle", config, Console(quiet=True))
    # Once on nine tenths, to choose by the rest, and once on all.
    assert counts == [(135, 135), (150, 150)]
    assert bundle.annotator("near").kind == "cca-knn"
