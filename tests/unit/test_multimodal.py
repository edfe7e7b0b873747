"""Modalities: their networks a second way, parts that do not know of each other, and the whole."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import sparse

from engine import schema
from engine.annotators.multimodal import Multimodal, MultimodalRecipe
from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.features import FEATURES, feature_slices
from engine.fitting import score_corpus
from engine.group import Solo
from engine.modalities.fit import held_apart
from engine.modalities.learning import new_trunks, pretrain
from engine.modalities.networks import (
    Comparison,
    PixelTrunk,
    dense_trunk,
)
from engine.modalities.networks import similarities as torch_similarities
from engine.modalities.scoring import chances
from engine.modalities.settings import DenseSettings, PixelSettings, TrainingSettings
from engine.modalities.views import CorpusViews
from engine.numerics.similarity import TEMPERATURES, Similarity, similarities
from engine.tensors import Pixels, Tensors
from engine.training.draws import unit_draws
from engine.vocab import Vocabulary

KINDS: tuple[Similarity, ...] = ("cosine", "linear", "rbf")
TAGS = ("sea", "sky", "dog", "cat")
VOCABULARY = Vocabulary(TAGS, (4, 3, 2, 1))
SMALL = {
    "features": ["lbp", "hsv-histogram"],
    "dense": {"widths": [12, 8], "dropout": 0.2},
    "training": {
        "pretraining": {"epochs": 1, "batch": 30},
        "optimisation": {"epochs": 14, "batch": 24, "learning_rate": 0.02},
    },
}


def similarity_of_one(x: np.ndarray, w: np.ndarray, kind: Similarity) -> float:
    """Sun et al., Eq. 4, with the representation at unit length where the distance counts."""
    length_x = math.sqrt(sum(a * a for a in x))
    length_w = math.sqrt(sum(a * a for a in w))
    dot = sum(a * b for a, b in zip(x, w, strict=True))
    if kind == "linear":
        return dot
    if kind == "cosine":
        return dot / (length_x * length_w)
    squared = sum((b - a / length_x) ** 2 for a, b in zip(x, w, strict=True))
    return math.exp(-squared / 4)


@pytest.mark.parametrize("kind", KINDS)
def test_similarities_are_what_equation_4_says(kind: Similarity, rng: np.random.Generator) -> None:
    x_BH, w_VH = rng.normal(0, 1, (5, 6)), rng.normal(0, 1, (4, 6))
    expected = [[similarity_of_one(x, w, kind) for w in w_VH] for x in x_BH]
    found = similarities(x_BH.astype(np.float32), w_VH.astype(np.float32), kind)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    other = torch_similarities(torch.from_numpy(x_BH), torch.from_numpy(w_VH), kind)
    np.testing.assert_allclose(other, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_without_a_direction_has_finite_similarities(kind: Similarity) -> None:
    nothing, w_VH = np.zeros((1, 3), np.float32), np.ones((2, 3), np.float32)
    x = torch.zeros(1, 3, requires_grad=True)
    torch_similarities(x, torch.from_numpy(w_VH), kind).sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert np.isfinite(similarities(nothing, w_VH, kind)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_says_what_torch_says(kind: Similarity, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    trunk = dense_trunk(7, is_gaussian=False, settings=DenseSettings(widths=(6, 5)))
    network = Comparison(trunk, 4, kind).eval()
    with torch.no_grad():
        for one in network.parameters():
            one.add_(0.1 * torch.randn_like(one))
        x_BD = rng.random((9, 7)).astype(np.float32)
        s_BV = network(torch.from_numpy(x_BD), None)
        expected = torch.softmax(s_BV / TEMPERATURES[kind], dim=1).numpy()
    found = chances(x_BD, "lbp", kind, network.arrays(), PixelSettings())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_the_pixel_network_is_the_papers() -> None:
    """Section 2: eight layers with the tags', 96 to 256 filters, three of them dense."""
    with torch.device("meta"):
        network = Comparison(PixelTrunk(PixelSettings()), 1000, "linear")
        shapes = [tuple(layer.weights.shape) for layer in network.trunk.layers]
        assert shapes == [
            (96, 3, 7, 7),
            (256, 96, 5, 5),
            (384, 256, 3, 3),
            (384, 384, 3, 3),
            (256, 384, 3, 3),
            (256 * 8 * 8, 4096),
            (4096, 4096),
        ]
        assert tuple(network.tags.shape) == (1000, 4096)
    assert network.trunk.dropout == 0.6


def test_dropout_drops_and_makes_up_for_it() -> None:
    """With weights of one and half the units dropped, a unit is 0 or twice what it was."""
    trunk = dense_trunk(3, False, DenseSettings(widths=(4,), dropout=0.5))
    with torch.no_grad():
        trunk.layers[0].weights.fill_(1)
        draws = torch.tensor([[0.1, 0.6, 0.4, 0.9]])
        found = trunk(torch.ones(1, 3), draws)
    np.testing.assert_array_equal(found.numpy(), [[0, 6, 0, 6]])


def test_draws_are_uniform_and_of_the_picture_alone(rng: np.random.Generator) -> None:
    draws_B = rng.random(4000)
    found = unit_draws(draws_B, 12, (3, 1))
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() < 1
    np.testing.assert_allclose(found.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose((found < 0.3).mean(axis=0), 0.3, atol=0.04)
    apart = np.corrcoef(found.T) - np.eye(12)
    assert np.abs(apart).max() < 0.08
    some = rng.permutation(4000)[:50]
    np.testing.assert_array_equal(unit_draws(draws_B[some], 12, (3, 1)), found[some])
    assert np.abs(unit_draws(draws_B, 12, (3, 2)) - found).mean() > 0.1
    assert unit_draws(draws_B[:0], 12, (3, 1)).shape == (0, 12)


def drawn_corpus(pictures: int = 90) -> Corpus:
    """The tags show in LBP and in the embedding; every other feature is noise."""
    rng = np.random.default_rng(0)
    labels = rng.random((pictures, len(TAGS))) < 0.3
    labels[np.arange(pictures), rng.integers(0, len(TAGS), pictures)] = True
    features = rng.random((pictures, sum(FEATURES.values()))).astype(np.float16)
    places = feature_slices()
    telling = rng.random((len(TAGS), FEATURES["lbp"]))
    features[:, places["lbp"]] = np.clip(
        labels @ telling / 2 + 0.1 * rng.random((pictures, 59)), 0, 1
    )
    embeddings = labels @ rng.normal(0, 1, (len(TAGS), 20)) + rng.normal(0, 0.5, (pictures, 20))
    squares = np.zeros((pictures, 32, 32, 3), dtype=np.uint8)
    squares[:] = 40 + 50 * labels[:, :3].astype(np.uint8)[:, None, None]
    rows = np.arange(pictures)
    return Corpus(
        tuple(f"p{row}" for row in range(pictures)),
        embeddings.astype(np.float32),
        sparse.csr_matrix(labels.astype(np.float32)),
        (12, 8),
        pixels=Pixels(squares, rows, "random"),
        columns={schema.FEATURES: Tensors(features, rows)},
    )


def made(**settings: object) -> MultimodalRecipe:
    return MultimodalRecipe.model_validate({**SMALL, **settings})


@pytest.fixture(scope="module")
def fitted() -> Multimodal:
    return made().fit(drawn_corpus(), VOCABULARY, Solo())


def test_it_trusts_the_views_that_tell_the_tags(fitted: Multimodal) -> None:
    weights = fitted.blend.weights
    assert set(weights) == {
        f"{v}/{k}" for v in ("lbp", "hsv-histogram", "embedding") for k in KINDS
    }
    assert sum(weights.values()) == pytest.approx(1)
    noise, *telling = (
        sum(weights[f"{view}/{kind}"] for kind in KINDS)
        for view in ("hsv-histogram", "lbp", "embedding")
    )
    assert min(telling) > 1.2 * noise
    best = max(weights, key=weights.__getitem__)
    (note,) = fitted.notes
    assert f"of 9 modalities, after {fitted.blend.course[-1].triples} triples: {best} " in note


def test_it_learns_which_pictures_a_tag_suits(fitted: Multimodal) -> None:
    corpus = drawn_corpus()
    scores = score_corpus(fitted, corpus)
    assert ((scores > 0.5) == corpus.labels_NV.toarray()).mean() > 0.9


def test_the_blend_is_what_a_loop_says(fitted: Multimodal) -> None:
    """Eq. 2 for one picture, modality by modality, in Python's floats."""
    corpus = drawn_corpus()
    blend, row = fitted.blend, 7

    def platt(score: float, slope: float, intercept: float) -> float:
        return 1 / (1 + math.exp(-(slope * math.log(score / (1 - score)) + intercept)))

    features = corpus.columns[schema.FEATURES].take(np.array([row])).astype(np.float32)
    x_D = corpus.embeddings_ND[row]
    rooted = np.sign(x_D) * np.sqrt(np.abs(x_D))
    levels = [rooted[:12] / np.linalg.norm(rooted[:12]), rooted[12:] / np.linalg.norm(rooted[12:])]
    assert fitted.scale is not None
    scaled = (np.concatenate(levels) - fitted.scale.mean_D) * fitted.scale.factor_D
    total = np.zeros(len(TAGS))
    for view in ("lbp", "hsv-histogram", "embedding"):
        found = scaled if view == "embedding" else features[0, feature_slices()[view]]
        for kind in KINDS:
            name = f"{view}/{kind}"
            arrays, x = fitted.arrays[name], found.astype(np.float64)
            for layer in range(2):
                x = np.maximum(x @ arrays[f"weights{layer}"] + arrays[f"bias{layer}"], 0)
            raised = [
                math.exp(similarity_of_one(x, w, kind) / TEMPERATURES[kind]) for w in arrays["tags"]
            ]
            calibration = blend.calibrations[name]
            for tag, one in enumerate(raised):
                chance = platt(one / sum(raised), calibration.slope, calibration.intercept)
                total[tag] += blend.weights[name] * chance
    final = blend.final
    assert final.slopes is not None
    assert final.intercepts is not None
    expected = [
        platt(one, final.slopes[tag], final.intercepts[tag]) for tag, one in enumerate(total)
    ]
    np.testing.assert_allclose(score_corpus(fitted, corpus)[row], expected, atol=1e-4)


def test_the_scale_makes_the_embedding_even(fitted: Multimodal) -> None:
    corpus = drawn_corpus()
    assert fitted.scale is not None
    scaled_ND = fitted.scale(corpus.embeddings_ND, corpus.levels)
    np.testing.assert_allclose(scaled_ND.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled_ND.std(axis=0), 1, atol=1e-3)


def test_views_one_by_one_give_what_they_give_together() -> None:
    """So each may be learned in a process of its own."""
    corpus = drawn_corpus()
    recipe = made(features=["lbp"], similarities=["rbf", "linear"])
    fitted = recipe.fit(corpus, VOCABULARY, Solo())
    parts = [recipe.fit_part([view], corpus, Solo()) for view in recipe.parts()]
    joined = recipe.join(parts, corpus, VOCABULARY, Solo())
    np.testing.assert_allclose(
        score_corpus(joined, corpus), score_corpus(fitted, corpus), atol=1e-5
    )
    assert joined.blend.weights == pytest.approx(fitted.blend.weights, abs=1e-5)


def test_the_weights_are_learned_on_pictures_that_no_network_has_seen() -> None:
    """Other tags on the pictures held out change the weights, and no network."""
    corpus = drawn_corpus()
    training = {**SMALL["training"], "refits": False}
    recipe = made(embedding=False, similarities=["linear", "rbf"], training=training)
    _, held = held_apart(corpus, recipe.training, Solo())
    assert len(held) == round(0.2 * len(corpus))
    labels = corpus.labels_NV.toarray()
    labels[held] = labels[held][:, ::-1]
    other = Corpus(
        corpus.ids,
        corpus.embeddings_ND,
        sparse.csr_matrix(labels),
        corpus.levels,
        columns=corpus.columns,
    )
    one, two = (recipe.fit(c, VOCABULARY, Solo()) for c in (corpus, other))
    for name, arrays in one.arrays.items():
        for place, values in arrays.items():
            np.testing.assert_array_equal(values, two.arrays[name][place])
    assert one.blend.weights != two.blend.weights


def test_pretraining_looks_at_no_tags_and_changes_the_networks() -> None:
    corpus = drawn_corpus()
    labels = sparse.csr_matrix(corpus.labels_NV.toarray()[:, ::-1])
    other = Corpus(corpus.ids, corpus.embeddings_ND, labels, corpus.levels, columns=corpus.columns)
    settings = TrainingSettings.model_validate(SMALL["training"])

    def taught(corpus: Corpus) -> np.ndarray:
        views = CorpusViews(corpus, ["lbp"], None)
        trunks = new_trunks(views, DenseSettings(widths=(12, 8)), PixelSettings(), 0)
        before = trunks["lbp"].layers[1].weights.detach().clone()
        pretrain(trunks, views, settings, Solo())
        found = trunks["lbp"].layers[1].weights.detach()
        assert not torch.allclose(found, before)
        return found.numpy()

    np.testing.assert_array_equal(taught(corpus), taught(other))


def test_pixels_are_a_view_through_convolutions(tmp_path: Path) -> None:
    corpus = drawn_corpus(40)
    settings = {
        "features": [],
        "embedding": False,
        "pixels": True,
        "similarities": ["linear"],
        "convolution": {"side": 32, "filters": [3, 4, 4, 4, 4], "widths": [8, 8], "dropout": 0.1},
    }
    recipe = made(**settings)
    assert recipe.wants_pixels
    assert recipe.columns == ()
    fitted = recipe.fit(corpus, VOCABULARY, Solo())
    assert fitted.reads == (schema.PIXELS,)
    assert fitted.arrays["pixels/linear"]["weights0"].shape == (3, 3, 7, 7)
    scores = score_corpus(fitted, corpus)
    assert np.isfinite(scores).all()
    # The colour of a square tells three of the tags.
    assert len(np.unique(scores.round(5), axis=0)) > 4
    fitted.save(tmp_path)
    np.testing.assert_array_equal(score_corpus(Multimodal.load(tmp_path), corpus), scores)


def test_the_course_of_the_weights_is_saved(fitted: Multimodal, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    loaded = Multimodal.load(tmp_path)
    assert loaded.blend.weights == fitted.blend.weights
    assert len(loaded.blend.course) > 5
    for one, other in zip(loaded.blend.course, fitted.blend.course, strict=True):
        assert one.triples == other.triples
        np.testing.assert_array_equal(one.weights_A, other.weights_A)
    content = json.loads((tmp_path / "multimodal.json").read_text(encoding="utf-8"))
    first = content["blend"]["course"][0]
    assert first == {"triples": 0, "weights": pytest.approx([1 / 9] * 9)}
    assert Multimodal.reads_of(tmp_path) == (schema.EMBEDDING, schema.FEATURES)


def test_scoring_vectors_needs_no_torch(fitted: Multimodal, tmp_path: Path) -> None:
    corpus = drawn_corpus()
    fitted.save(tmp_path)
    np.save(tmp_path / "x.npy", corpus.embeddings_ND)
    np.save(tmp_path / "features.npy", corpus.columns[schema.FEATURES].values_MX)
    program = (
        "import sys, numpy as np, pyarrow as pa\n"
        "from pathlib import Path\n"
        "from engine import schema\n"
        "from engine.annotators.multimodal import Multimodal\n"
        "folder = Path(sys.argv[1])\n"
        "batch = pa.table({name: schema.tensor_column(np.load(folder / f'{file}.npy'))\n"
        "    for name, file in ((schema.EMBEDDING, 'x'), ('features', 'features'))})\n"
        "np.save(folder / 'found.npy', Multimodal.load(folder).score(batch).scores_BV)\n"
        "assert 'torch' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "found.npy"), score_corpus(fitted, corpus), atol=2e-5
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": ["colour"]}, "features: no 'colour'; choose among hsv-histogram"),
        ({"features": ["lbp", "lbp"]}, "features: one is named twice"),
        ({"similarities": ["rbf", "rbf"]}, "similarities: one is named twice"),
        ({"features": [], "embedding": False}, "no view of the picture is left"),
        ({"convolution": {"side": 100}}, "side is 100; two strides and three poolings"),
    ],
)
def test_settings_that_say_nothing_or_twice_are_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        made(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "modalities of hsv-histogram, lbp learn from the column 'features'"),
        ({"features": [], "pixels": True}, "set pixels to false"),
    ],
)
def test_a_corpus_without_a_view_is_refused(settings: dict[str, object], message: str) -> None:
    corpus = drawn_corpus()
    bare = Corpus(corpus.ids, corpus.embeddings_ND, corpus.labels_NV, corpus.levels)
    with pytest.raises(ConfigError, match=message):
        made(**settings).fit(bare, VOCABULARY, Solo())


@pytest.mark.parametrize(
    "labels",
    [
        [[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]],
        [[1, 0, 0, 0], [1, 0, 0, 0]],
    ],
)
def test_poor_corpora_give_finite_scores(labels: list[list[int]]) -> None:
    whole = drawn_corpus(len(labels))
    corpus = Corpus(
        whole.ids,
        whole.embeddings_ND,
        sparse.csr_matrix(np.array(labels, dtype=np.float32)),
        whole.levels,
        columns=whole.columns,
    )
    scores = score_corpus(made().fit(corpus, VOCABULARY, Solo()), corpus)
    assert np.isfinite(scores).all()
