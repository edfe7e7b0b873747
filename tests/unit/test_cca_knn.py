"""CCA-KNN above the size up to which every training picture is looked at."""

import numpy as np
import pyarrow as pa
import pytest

from engine import schema, transfer
from engine.annotators.cca_knn import CcaKnnRecipe
from engine.corpus import Corpus
from engine.fitting import Material, score_corpus
from engine.group import Solo


@pytest.mark.parametrize("voters", ["own", "union"])
@pytest.mark.parametrize("match", ["image", "text"])
def test_a_shortlist_of_everything_changes_nothing(
    voters: str,
    match: str,
    material: Material,
    halves: tuple[Corpus, Corpus],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training, held_out = halves
    recipe = CcaKnnRecipe.model_validate(
        {"voters": voters, "match": match, "tag_vectors": "binary"}
    )
    dense = recipe.fit(training, material.vocabulary, Solo())
    monkeypatch.setattr(transfer, "EXACT_UP_TO", 0)
    listed = recipe.fit(training, material.vocabulary, Solo())
    dense_NV, listed_NV = score_corpus(dense, held_out), score_corpus(listed, held_out)
    # Pictures with the same tags are equally near to a query in the text view: which of them are
    # among the K nearest is then open.
    tolerance = 2e-5 if match == "image" else 0.5
    np.testing.assert_allclose(listed_NV, dense_NV, atol=tolerance)
    assert np.median(np.abs(listed_NV - dense_NV)) < 2e-5
    empty = pa.table({schema.EMBEDDING: schema.tensor_column(held_out.embeddings_ND[:0])})
    verdict = listed.score(empty)
    assert verdict.scores_BV.shape == (0, len(material.vocabulary))
    assert verdict.evidence is not None
    assert len(verdict.evidence) == 0
