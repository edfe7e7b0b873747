"""A fit in parts: a cluster's tasks find what one process finds, and their errors come back."""

from pathlib import Path

import numpy as np
import pytest

from engine.annotators.multimodal import Multimodal, MultimodalRecipe
from engine.config import TrainingConfig
from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.fitting import Material, score_corpus
from engine.group import Solo
from jobs.shards import read_blocks, write_blocks
from jobs.store import Store
from jobs.train import TrainedFit
from jobs.unfinished import Unfinished

RECIPE = MultimodalRecipe.model_validate(
    {
        "features": ["edge-directions", "lbp"],
        "similarities": ["cosine"],
        "dense": {"widths": [16, 8]},
        "training": {"optimisation": {"epochs": 3}},
    }
)


def test_parts_side_by_side_give_what_one_process_gives(
    cluster: None, material: Material, tmp_path: Path
) -> None:
    said: list[str] = []
    place = Store(str(tmp_path))
    fit = TrainedFit(Unfinished(place, place, None), TrainingConfig(), said.append)
    fitted = fit(RECIPE, material.corpus, material.vocabulary, Solo())
    assert isinstance(fitted, Multimodal)
    assert said == ["'multimodal' was trained in 3 parts side by side"]
    alone = RECIPE.fit(material.corpus, material.vocabulary, Solo())
    assert fitted.blend.weights == pytest.approx(alone.blend.weights, abs=1e-4)
    np.testing.assert_allclose(
        score_corpus(fitted, material.corpus), score_corpus(alone, material.corpus), atol=1e-4
    )
    (kept,) = tmp_path.iterdir()
    assert {path.name for path in kept.iterdir()} == {"fitted", "notes.json"}
    # What is kept is not trained again.
    again = fit(RECIPE, material.corpus, material.vocabulary, Solo())
    assert len(said) == 1
    np.testing.assert_array_equal(
        score_corpus(again, material.corpus), score_corpus(fitted, material.corpus)
    )


def test_a_parts_own_error_comes_back_as_it_is(
    cluster: None, material: Material, tmp_path: Path
) -> None:
    whole = material.corpus
    bare = Corpus(whole.ids, whole.embeddings_ND, whole.labels_NV, whole.levels)
    place = Store(str(tmp_path))
    fit = TrainedFit(Unfinished(place, place, None), TrainingConfig(), print)
    with pytest.raises(ConfigError, match="learn from the column 'features'") as caught:
        fit(RECIPE, bare, material.vocabulary, Solo())
    assert type(caught.value) is ConfigError


def test_a_corpus_in_blocks_is_read_back_whole(material: Material, tmp_path: Path) -> None:
    whole = material.corpus
    blocks = write_blocks(whole, tmp_path, 3)
    assert len(blocks) > 2
    found = read_blocks(blocks)
    assert (found.ids, found.levels, found.social_tags) == (
        whole.ids,
        whole.levels,
        whole.social_tags,
    )
    np.testing.assert_array_equal(found.embeddings_ND, whole.embeddings_ND)
    np.testing.assert_array_equal(found.labels_NV.toarray(), whole.labels_NV.toarray())
    assert [one.tolist() for one in found.tag_lists()] == [
        one.tolist() for one in whole.tag_lists()
    ]
    places = np.arange(len(whole))
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(found.columns[name].take(places), column.take(places))
        # Where it lies, not a copy.
        assert isinstance(found.columns[name].values_MX, np.memmap)
