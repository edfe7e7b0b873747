"""Two real processes that fit on half the pictures each find what one finds on them all."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from torch.multiprocessing.spawn import start_processes

from engine import schema
from engine.annotators import REGISTRY
from engine.corpus import Corpus
from engine.features import FEATURES
from engine.group import Solo
from engine.quantity import Quantity, QuantitySettings
from engine.recipe import Annotator
from engine.tensors import Tensors
from engine.torch_group import Torch
from engine.vocab import Vocabulary

SETTINGS: dict[str, dict[str, object]] = {
    "prior": {},
    "linear": {},
    "cca-knn": {"tag_vectors": "binary"},
    "cca": {"tag_vectors": "binary"},
    "class-posterior": {"backbone": "random"},
    "social": {},
    "mbrm": {},
    "svm-dmbrm": {},
    "skl-crm": {"kernels": ["gaussian", "multinomial"]},
    "jec": {},
    "tagprop": {},
    "2pknn": {},
    "kcca-2pknn": {"tag_vectors": "binary", "space": "cca"},
    "ml-knn": {},
    "cnn-r": {"tag_vectors": "binary"},
    "asl-head": {"dropout": 0.0},
    "cnn-softmax": {"dropout": 0.0},
    "cnn-warp": {"dropout": 0.0},
    "cnn-logistic": {"dropout": 0.0},
    "tag-neighbour": {"dropout": 0.0, "hidden": 32},
    "sinn": {"dropout": 0.0},
    "ms-cnn": {"backbone": "random", "hidden": 64},
    "multimodal": {
        "features": ["edge-directions", "lbp"],
        "dense": {"widths": [16, 8]},
        "training": {"pretraining": {"epochs": 1}, "optimisation": {"epochs": 3}},
    },
    "stacked": {"views": ["binary"], "iterations": 20},
    "ranked-lstm": {"dropout": 0.0, "hidden": 20, "optimisation": {"epochs": 2}},
    "naive-rnn": {"dropout": 0.0, "hidden": 20, "optimisation": {"epochs": 2}},
    "linear-svm": {},
    "rank-svm": {},
    "cnn-rnn": {"dropout": 0.0, "hidden": 20, "optimisation": {"epochs": 2}},
    "ria": {"dropout": 0.0, "hidden": 20, "optimisation": {"epochs": 2}},
    "sr-cnn-rnn": {
        "dropout": 0.0,
        "hidden": 20,
        "optimisation": {"epochs": 2, "learning_rate": 0.02},
    },
    "jvsp": {"dropout": 0.0, "width": 20, "optimisation": {"epochs": 2}},
}
"""Without the sentence encoder, whose import takes seconds in each process."""

COUNTED = QuantitySettings(hidden=(32,), dropout=0.0)

VOCABULARY = Vocabulary(("sea", "sky", "dog", "cat", "car"), (5, 4, 3, 2, 1))


def drawn_corpus() -> Corpus:
    rng = np.random.default_rng(0)
    labels_NV = rng.random((90, len(VOCABULARY))) < 0.3
    labels_NV[np.arange(90), rng.integers(0, 5, 90)] = True
    causes = labels_NV @ rng.standard_normal((5, 256))
    embeddings_ND = causes + 0.5 * rng.standard_normal((90, 256))
    maps_NM = embeddings_ND[:, :192]
    features_ND = np.zeros((90, sum(FEATURES.values())), dtype=np.float16)
    features_ND[:, :485] = expit(causes @ rng.standard_normal((256, 485)) / 16)
    return Corpus(
        tuple(f"image-{row}" for row in range(90)),
        embeddings_ND.astype(np.float32),
        sparse.csr_matrix(labels_NV.astype(np.float32)),
        (256,),
        tuple(
            tuple(VOCABULARY.tags[tag] for tag in np.flatnonzero(row)) + ("holiday", "me")[n % 3 :]
            for n, row in enumerate(labels_NV ^ (rng.random(labels_NV.shape) < 0.1))
        ),
        columns={
            "maps/random/1": Tensors(maps_NM.astype(np.float16), np.arange(90)),
            schema.FEATURES: Tensors(features_ND, np.arange(90)),
        },
    )


def fitted(kind: str, corpus: Corpus, group: Solo | Torch) -> Annotator:
    recipe = REGISTRY[kind].recipe.model_validate(SETTINGS[kind])
    return recipe.fit(corpus, VOCABULARY, group)


def queries(corpus: Corpus) -> pa.Table:
    rows = np.arange(len(corpus))
    return pa.table(
        {
            schema.IMAGE_ID: list(corpus.ids),
            schema.EMBEDDING: schema.tensor_column(corpus.embeddings_ND),
            schema.SOCIAL_TAGS: pa.array(corpus.social_tags),
            **{
                name: schema.tensor_column(column.take(rows))
                for name, column in corpus.columns.items()
            },
        }
    )


def work(rank: int, folder: str) -> None:
    """One rank: check the group's arithmetic, fit every method on its own rows, save scores."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    group = Torch()
    assert (group.rank, group.size) == (rank, 2)
    np.testing.assert_array_equal(group.sum(np.array([[1.0, rank]])), [[2, 1]])
    parts = group.gather(np.arange(rank + 1))
    assert [part.tolist() for part in parts] == [[0], [0, 1]]
    corpus = drawn_corpus()
    rows = np.arange(90)[:60] if rank == 0 else np.arange(90)[60:]
    shard = corpus.subset(rows)
    for kind in SETTINGS:
        annotator = fitted(kind, shard, group)
        np.save(Path(folder) / f"{kind}-{rank}.npy", annotator.score(queries(corpus)).scores_BV)
        target = Path(folder) / f"{kind}-{rank}"
        target.mkdir()
        annotator.save(target)
    counts_B = Quantity.learn(shard, COUNTED, group)(queries(corpus))
    np.save(Path(folder) / f"quantity-{rank}.npy", counts_B)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    start_processes(work, (str(folder),), nprocs=2, start_method="spawn")  # type: ignore[no-untyped-call]
    return folder


def scores_of(folder: Path, rank: int, kind: str) -> NDArray[np.float32]:
    scores_BV: NDArray[np.float32] = np.load(folder / f"{kind}-{rank}.npy")
    return scores_BV


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_rank_gets_the_same_annotator(kind: str, together: Path) -> None:
    np.testing.assert_array_equal(scores_of(together, 0, kind), scores_of(together, 1, kind))
    for path in (together / f"{kind}-0").iterdir():
        assert path.read_bytes() == (together / f"{kind}-1" / path.name).read_bytes()


@pytest.mark.parametrize("kind", SETTINGS)
def test_two_halves_give_what_the_whole_gives(kind: str, together: Path) -> None:
    corpus = drawn_corpus()
    alone_BV = fitted(kind, corpus, Solo()).score(queries(corpus)).scores_BV
    np.testing.assert_allclose(scores_of(together, 0, kind), alone_BV, atol=2e-3)


@pytest.mark.parametrize("kind", SETTINGS)
def test_half_the_pictures_would_not_have_given_the_same(kind: str) -> None:
    corpus = drawn_corpus()
    half = fitted(kind, corpus.subset(np.arange(60)), Solo()).score(queries(corpus)).scores_BV
    whole = fitted(kind, corpus, Solo()).score(queries(corpus)).scores_BV
    assert np.nanmax(np.abs(half - whole)) > 5e-3


def test_the_number_of_tags_is_learned_together(together: Path) -> None:
    corpus = drawn_corpus()
    found = [np.load(together / f"quantity-{rank}.npy") for rank in (0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    alone_B = Quantity.learn(corpus, COUNTED, Solo())(queries(corpus))
    np.testing.assert_allclose(found[0], alone_B, atol=2e-3)
    half_B = Quantity.learn(corpus.subset(np.arange(60)), COUNTED, Solo())(queries(corpus))
    assert np.abs(half_B - alone_B).max() > 5e-3


def test_every_method_is_fitted_here() -> None:
    assert set(SETTINGS) == set(REGISTRY)


def test_alone_a_sum_and_a_gathering_are_what_went_in() -> None:
    values = np.array([1.0, 2.0])
    assert (Solo().rank, Solo().size) == (0, 1)
    np.testing.assert_array_equal(Solo().sum(values), values)
    assert [part.tolist() for part in Solo().gather(values)] == [[1, 2]]
