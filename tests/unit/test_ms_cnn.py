"""MS-CNN: its equations in float64 loops, its stages stopped and gone on with, and its variants."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import sparse
from scipy.special import expit
from sklearn.metrics import average_precision_score
from torch import nn

from engine import schema
from engine.annotators.linear import LinearRecipe
from engine.annotators.ms_cnn import MsCnn, MsCnnRecipe
from engine.bundle import load_bundle, new_bundle
from engine.config import EmbedConfig, FitConfig
from engine.corpus import Corpus
from engine.embed.maps import Grids, maps_backbone
from engine.errors import ConfigError
from engine.fitting import Material, fit_bundle, score_corpus
from engine.group import Solo
from engine.multi_scale import Lesson, cross_entropy, moments, own_maps, tuned_backbone
from engine.numerics.scale_fusion import strided_windows, textual_vectors, visual_vectors
from engine.optimisation import Optimisation
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from engine.tensors import Pixels, Tensors
from engine.training import FolderCheckpoints
from engine.training.multi_scale import GroupBatchNorm, MultiScale, WordLayers
from engine.vocab import Vocabulary

GRIDS = Grids((2, 3, 4), 1)
GRIDS_OF_RANDOM = maps_backbone("random", 1).grids
COLUMN = "maps/random/1"
SHORT = Optimisation(epochs=2, batch=32)
QUICK: dict[str, object] = {
    "backbone": "random",
    "hidden": 16,
    "tuning": Optimisation(learning_rate=1e-3, epochs=1, batch=32),
    "optimisation": SHORT,
    "textual": SHORT,
    "joint": SHORT,
    "regressor": {"hidden": (8,), "optimisation": SHORT},
}


def recipe(**settings: object) -> MsCnnRecipe:
    return MsCnnRecipe.model_validate({**QUICK, **settings})


def batch_of(corpus: Corpus) -> pa.Table:
    rows = np.arange(len(corpus))
    columns = {name: column.take(rows) for name, column in corpus.columns.items()}
    if corpus.pixels is not None:
        columns[schema.PIXELS] = corpus.pixels.take(rows)
    social = corpus.social_tags or (None,) * len(corpus)
    return pa.table(
        {
            schema.IMAGE_ID: list(corpus.ids),
            schema.SOCIAL_TAGS: pa.array(social, pa.list_(pa.string())),
            **{name: schema.tensor_column(values) for name, values in columns.items()},
        }
    )


def made_network(rng: np.random.Generator) -> MultiScale:
    """With every number drawn, the running statistics too."""
    scales = [(rng.normal(size=c), rng.uniform(0.5, 2, c)) for c in GRIDS.channels]
    network = MultiScale(GRIDS, scales, True, np.zeros(5, dtype=np.float32), Solo())
    with torch.no_grad():
        for name, one in network.state_dict().items():
            values = (
                rng.uniform(0.5, 2, one.shape) if "variance" in name else rng.normal(size=one.shape)
            )
            one.copy_(torch.from_numpy(values))
    return network.eval()


def looped_vector(network: MultiScale, maps: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """f_v of one picture's maps [S, S, C], place by place and channel by channel (Eq. 2 and 3)."""
    state = {name: one.numpy().astype(np.float64) for name, one in network.state_dict().items()}

    def normalised(value: float, name: str, channel: int) -> float:
        mean, variance = state[f"{name}.mean"][channel], state[f"{name}.variance"][channel]
        scaled = (value - mean) / math.sqrt(variance + 1e-5)
        return float(
            max(scaled * state[f"{name}.weight"][channel] + state[f"{name}.bias"][channel], 0)
        )

    maps = [(one - state[f"mean{n}"]) * state[f"scale{n}"] for n, one in enumerate(maps)]
    fused = maps[0]
    for number in range(len(maps) - 1):
        name = f"fusions.{number}"
        wide, narrow = state[f"{name}.wide.weight"], state[f"{name}.narrow.weight"]
        before, side = fused.shape[2], fused.shape[0] // 2
        hidden = np.zeros((side, side, before))
        for row in range(side):
            for column in range(side):
                for out in range(before):
                    total = 0.0
                    for a in range(3):
                        for b in range(3):
                            y, x = 2 * row + a - 1, 2 * column + b - 1
                            if 0 <= y < 2 * side and 0 <= x < 2 * side:
                                for c in range(before):
                                    total += wide[out, c, a, b] * fused[y, x, c]
                    hidden[row, column, out] = normalised(total, f"{name}.wide_norm", out)
        after = narrow.shape[0]
        risen = np.zeros((side, side, after))
        for row in range(side):
            for column in range(side):
                for out in range(after):
                    total = sum(
                        narrow[out, c, 0, 0] * hidden[row, column, c] for c in range(before)
                    )
                    risen[row, column, out] = normalised(total, f"{name}.narrow_norm", out)
        fused = maps[number + 1] + risen
    return np.asarray(fused.mean((0, 1)))


def test_the_fusion_is_what_a_loop_says(rng: np.random.Generator) -> None:
    network = made_network(rng)
    flat_BM = rng.normal(size=(3, sum(GRIDS.widths))).astype(np.float32)
    found_BC = visual_vectors(GRIDS.split(flat_BM), network.arrays())
    assert found_BC.dtype == np.float32
    for row in range(3):
        maps = [one[row].astype(np.float64) for one in GRIDS.split(flat_BM)]
        np.testing.assert_allclose(found_BC[row], looped_vector(network, maps), rtol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(
            network.vectors(torch.from_numpy(flat_BM)).numpy(), found_BC, rtol=1e-4
        )
    assert visual_vectors(GRIDS.split(flat_BM[:0]), network.arrays()).shape == (0, 4)


def test_a_convolution_by_hand() -> None:
    """A window of ones over 1 2 / 3 4 with its border sees all four, and the second scale adds 5.

    1 + 2 + 3 + 4 = 10, times 2 less 1 is 19, and 19 + 5 = 24.
    """
    square = np.array([[1, 2], [3, 4]], dtype=np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(strided_windows(square).ravel(), [0, 0, 0, 0, 1, 2, 0, 3, 4])
    one, zero = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
    weights = {
        "mean0": zero,
        "scale0": one,
        "mean1": zero,
        "scale1": one,
        "wide1": np.ones((9, 1), dtype=np.float32),
        "wide_bias1": zero,
        "narrow1": np.full((1, 1), 2, dtype=np.float32),
        "narrow_bias1": -one,
    }
    last = np.full((1, 1, 1, 1), 5, dtype=np.float32)
    np.testing.assert_array_equal(visual_vectors([square, last], weights), [[24]])
    alone = {name: one for name, one in weights.items() if name.startswith(("mean", "scale"))}
    np.testing.assert_array_equal(visual_vectors([square, last], alone), [[5]])


def test_noisy_tags_are_two_rectified_layers(rng: np.random.Generator) -> None:
    network = WordLayers(6, 5, 4, np.zeros(3, dtype=np.float32))
    bags_BW = (rng.random((7, 6)) < 0.4).astype(np.float32)
    found_BC = textual_vectors(sparse.csr_matrix(bags_BW), network.arrays())
    state = {name: one.double().numpy() for name, one in network.state_dict().items()}
    for row in range(7):
        hidden = [
            max(sum(state["first.weight"][h, w] * bags_BW[row, w] for w in range(6)) + bias, 0)
            for h, bias in enumerate(state["first.bias"])
        ]
        for c, bias in enumerate(state["second.bias"]):
            value = sum(state["second.weight"][c, h] * hidden[h] for h in range(5)) + bias
            assert found_BC[row, c] == pytest.approx(max(value, 0), abs=1e-5)


def test_the_loss_is_equation_4(rng: np.random.Generator) -> None:
    logits, labels = rng.normal(0, 3, (4, 5)), rng.random((4, 5)) < 0.4
    expected = 0.0
    for row in range(4):
        for tag in range(5):
            p = 1 / (1 + math.exp(-logits[row, tag]))
            y = float(labels[row, tag])
            expected += y * -math.log(p) + (1 - y) * -math.log(1 - p)
    found = cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels.astype(np.float64)))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_batch_normalisation_is_that_of_torch(rng: np.random.Generator) -> None:
    """In training and after it: what comes out, the gradients, and the running statistics."""
    own, theirs = GroupBatchNorm(3, Solo()), nn.BatchNorm2d(3)
    weight, bias = torch.from_numpy(rng.normal(size=(2, 3)).astype(np.float32))
    for layer in (own, theirs):
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    for _ in range(3):
        values = torch.from_numpy(rng.normal(2, 3, (4, 3, 2, 2)).astype(np.float32))
        pull = torch.from_numpy(rng.normal(size=(4, 3, 2, 2)).astype(np.float32))
        inputs = [values.clone().requires_grad_() for _ in range(2)]
        outputs = [layer(one) for layer, one in zip((own, theirs), inputs, strict=True)]
        for output in outputs:
            (output * pull).sum().backward()
        torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(own.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own.mean, theirs.running_mean)
    torch.testing.assert_close(own.variance, theirs.running_var)
    torch.testing.assert_close(own.eval()(values), theirs.eval()(values), atol=1e-5, rtol=1e-4)


def test_moments_are_those_of_all_pictures_and_places(rng: np.random.Generator) -> None:
    flat_NM = rng.normal(3, 2, (600, sum(GRIDS.widths))).astype(np.float16)
    maps = Tensors(flat_NM, rng.permutation(600)[:400])
    chosen = GRIDS.split(maps.take(np.arange(400)).astype(np.float32))
    for (mean_C, deviation_C), one in zip(moments(maps, GRIDS, Solo()), chosen, strict=True):
        np.testing.assert_allclose(mean_C, one.astype(np.float64).mean((0, 1, 2)), rtol=1e-5)
        np.testing.assert_allclose(deviation_C, one.astype(np.float64).std((0, 1, 2)), rtol=1e-4)


def test_what_it_says_is_what_its_parts_say(
    halves: tuple[Corpus, Corpus], material: Material
) -> None:
    fitted = recipe().fit(halves[0], material.vocabulary, Solo())
    assert fitted.joint is not None
    assert fitted.joint.regressor is not None
    batch = batch_of(halves[1])
    verdict = fitted.score(batch)
    assert verdict.quantity_B is not None
    assert verdict.quantity_B.dtype == np.float32
    maps = GRIDS_OF_RANDOM.split(schema.float_tensor(batch, COLUMN))
    row = next(
        n
        for n, words in enumerate(halves[1].social_tags or ())
        if set(words) & set(fitted.bag.words)
    )
    f_v = visual_vectors([one[row : row + 1] for one in maps], fitted.weights)
    words = fitted.bag.encode([(halves[1].social_tags or ())[row]])
    f = np.concatenate([f_v, textual_vectors(words, fitted.weights)], axis=1).astype(np.float64)
    assert f_v.shape[1] * 2 == f.shape[1]
    expected = expit(f @ fitted.joint.weights_DV + fitted.joint.bias_V)
    np.testing.assert_allclose(verdict.scores_BV[row], expected[0], atol=1e-5)
    (w0, b0), (w1, b1) = fitted.joint.regressor.layers
    quantity = np.maximum(f @ w0 + b0, 0) @ w1 + b1
    assert verdict.quantity_B[row] == pytest.approx(quantity[0, 0], abs=1e-4)


class Watched:
    """Checkpoints in a folder, of which is noted who keeps some; the process dies at one of them.

    Attributes:
        kept: parts and epochs, in order.
    """

    def __init__(self, folder: Path, dies_at: str = "", kept: list[str] | None = None) -> None:
        self._folder = FolderCheckpoints(folder)
        self._dies_at = dies_at
        self.kept = [] if kept is None else kept

    def latest(self) -> Path | None:
        return self._folder.latest()

    def keep(
        self,
        epoch: int,
        write: Callable[[Path], None],
        figures: Mapping[str, float],
        is_writer: bool,
    ) -> None:
        self._folder.keep(epoch, write, figures, is_writer)
        self.kept.append(f"{self._folder.folder.name}:{epoch}")
        if self.kept[-1] == self._dies_at:
            raise KeyboardInterrupt

    def part(self, name: str) -> "Watched":
        return Watched(self._folder.folder / name, self._dies_at, self.kept)


STAGES = [
    "stage-1",
    "stage-2",
    "stage-4-visual-tags",
    "stage-4-visual-quantity",
    "stage-3",
    "stage-4-joint-tags",
    "stage-4-joint-quantity",
]


@pytest.mark.parametrize("dies_at", ["stage-2:2", "stage-3:1", "stage-4-joint-quantity:1"])
def test_a_run_that_was_killed_goes_on_in_the_stage_it_was_in(
    dies_at: str, halves: tuple[Corpus, Corpus], material: Material, tmp_path: Path
) -> None:
    whole = Watched(tmp_path / "whole")
    expected = recipe().resumable_fit(halves[0], material.vocabulary, Solo(), whole)
    order = [f"{stage}:{epoch}" for stage in STAGES for epoch in (1, 2)]
    assert whole.kept == order
    with pytest.raises(KeyboardInterrupt):
        recipe().resumable_fit(
            halves[0], material.vocabulary, Solo(), Watched(tmp_path / "killed", dies_at)
        )
    again = Watched(tmp_path / "killed")
    found = recipe().resumable_fit(halves[0], material.vocabulary, Solo(), again)
    assert again.kept == order[order.index(dies_at) + 1 :]
    verdicts = [one.score(batch_of(halves[1])) for one in (expected, found)]
    np.testing.assert_array_equal(verdicts[0].scores_BV, verdicts[1].scores_BV)
    np.testing.assert_array_equal(verdicts[0].quantity_B, verdicts[1].quantity_B)


def test_a_picture_without_social_tags_gets_what_the_variant_without_tags_says(
    halves: tuple[Corpus, Corpus], material: Material
) -> None:
    fitted = recipe().fit(halves[0], material.vocabulary, Solo())
    without = recipe(tags=False).fit(halves[0], material.vocabulary, Solo())
    assert (fitted.reads, without.reads) == ((COLUMN, schema.SOCIAL_TAGS), (COLUMN,))
    some = tuple(
        words if row % 3 else ((), ("zzz",))[row % 2]
        for row, words in enumerate(halves[1].social_tags or ())
    )
    batch = batch_of(replace(halves[1], social_tags=some))
    found, visual = fitted.score(batch), without.score(batch.drop_columns([schema.SOCIAL_TAGS]))
    silent_B = ~np.array([bool(set(words) & set(fitted.bag.words)) for words in some])
    assert silent_B[::3].all()
    np.testing.assert_allclose(found.scores_BV[silent_B], visual.scores_BV[silent_B], atol=1e-6)
    assert found.quantity_B is not None
    assert visual.quantity_B is not None
    np.testing.assert_allclose(found.quantity_B[silent_B], visual.quantity_B[silent_B], atol=1e-5)
    changed_B = np.abs(found.scores_BV - visual.scores_BV).max(1) > 1e-3
    np.testing.assert_array_equal(changed_B, ~silent_B)


@pytest.mark.parametrize("social", [None, "empty"])
def test_a_corpus_without_any_social_tags(
    social: str | None, halves: tuple[Corpus, Corpus], material: Material
) -> None:
    corpus = replace(halves[0], social_tags=None if social is None else ((),) * len(halves[0]))
    with pytest.raises(ConfigError, match=r"tags = true learns from `social_tags`.* set tags to"):
        recipe(tags=True).fit(corpus, material.vocabulary, Solo())
    fitted = recipe().fit(corpus, material.vocabulary, Solo())
    assert (fitted.joint, fitted.reads) == (None, (COLUMN,))


def test_the_variants_of_table_1(
    halves: tuple[Corpus, Corpus], material: Material, tmp_path: Path
) -> None:
    """What each of them has, and that it comes back from disk as it was."""
    made = {}
    for scales, tags, quantity in (
        ("last", False, False),
        ("all", False, False),
        ("all", True, False),
        ("all", False, True),
        ("all", True, True),
    ):
        one = recipe(scales=scales, tags=tags, quantity=quantity)
        fitted = one.fit(halves[0], material.vocabulary, Solo())
        verdict = fitted.score(batch_of(halves[1]))
        assert ("wide1" in fitted.weights) == (scales == "all")
        assert (fitted.joint is not None) == tags
        assert (verdict.quantity_B is not None) == quantity
        made[scales, tags, quantity] = verdict.scores_BV
        folder = tmp_path / f"{scales}-{tags}-{quantity}"
        folder.mkdir()
        fitted.save(folder)
        loaded = MsCnn.load(folder)
        assert MsCnn.reads_of(folder) == loaded.reads == fitted.reads
        again = loaded.score(batch_of(halves[1]))
        np.testing.assert_array_equal(again.scores_BV, verdict.scores_BV)
        assert (again.quantity_B is None) == (verdict.quantity_B is None)
        if verdict.quantity_B is not None:
            np.testing.assert_array_equal(again.quantity_B, verdict.quantity_B)
    for tags in (False, True):
        # How many is not which.
        np.testing.assert_array_equal(made["all", tags, False], made["all", tags, True])
    assert len({one.tobytes() for one in made.values()}) == 3


def test_social_tags_and_the_number_of_tags_are_learned(
    halves: tuple[Corpus, Corpus], material: Material
) -> None:
    truth_BV = halves[1].labels_NV.toarray() > 0
    seen_V = truth_BV.any(0)
    precisions = {}
    for tags in (False, True):
        fitted = MsCnnRecipe(backbone="random", tags=tags).fit(
            halves[0], material.vocabulary, Solo()
        )
        verdict = fitted.score(batch_of(halves[1]))
        precisions[tags] = average_precision_score(
            truth_BV[:, seen_V], verdict.scores_BV[:, seen_V]
        )
    assert precisions[True] > 1.1 * precisions[False]
    counts_B = truth_BV.sum(1)
    assert verdict.quantity_B is not None
    error = np.square(verdict.quantity_B - counts_B).mean()
    assert error < 0.9 * np.square(counts_B.mean() - counts_B).mean()


def coloured(rng: np.random.Generator, pictures: int = 96) -> tuple[Corpus, Vocabulary]:
    """Squares that are red, green or both, with noise."""
    labels_NV = np.array([[1, 0], [0, 1], [1, 1]] * (pictures // 3), dtype=np.float32)
    squares = rng.integers(0, 90, (pictures, 64, 64, 3))
    squares[..., :2] += (labels_NV[:, None, None] * 120).astype(np.int64)
    corpus = Corpus(
        tuple(f"p{row}" for row in range(pictures)),
        np.zeros((pictures, 256), dtype=np.float32),
        sparse.csr_matrix(labels_NV),
        (256,),
        pixels=Pixels(squares.astype(np.uint8), np.arange(pictures), "random"),
    )
    return corpus, Vocabulary(("red", "green"), (2, 1))


def test_a_tuned_network_learns_from_pixels_and_comes_back_from_disk(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    corpus, vocabulary = coloured(rng)
    one = recipe(train="all", quantity=False, tags=False)
    assert (one.columns, one.wants_pixels) == ((), True)
    fitted = one.fit(corpus.subset(np.arange(72)), vocabulary, Solo())
    batch = batch_of(corpus.subset(np.arange(72, 96)))
    assert fitted.reads == (schema.PIXELS,)
    scores_BV = fitted.score(batch).scores_BV
    truth_BV = corpus.labels_NV[72:].toarray() > 0
    assert average_precision_score(truth_BV, scores_BV) > 0.95
    fitted.save(tmp_path)
    loaded = MsCnn.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(batch).scores_BV, scores_BV)
    parts = [loaded.score(batch.slice(start, 7)).scores_BV for start in range(0, 24, 7)]
    np.testing.assert_allclose(np.concatenate(parts), scores_BV, atol=2e-5)
    assert fitted.own is not None
    before = maps_backbone("random", 1).network().state_dict()
    assert not torch.equal(
        fitted.own.network.state_dict()["network.layers.0.weight"],
        before["network.layers.0.weight"],
    )


def test_the_classifier_of_stage_1_is_handed_over_as_it_was(rng: np.random.Generator) -> None:
    """Under the moments of the tuned maps it says what it said under those of the maps before."""
    corpus, _ = coloured(rng, 24)
    assert corpus.pixels is not None
    spec = maps_backbone("random", 1)
    prior_V = np.zeros(2, dtype=np.float32)
    lesson = Lesson(corpus.ids, corpus.labels_NV, prior_V, Solo(), None)
    settings = Optimisation(learning_rate=1e-2, epochs=2, batch=8)
    tuned = tuned_backbone(spec, corpus.pixels, lesson, settings, 0.1, flips=True)
    maps = own_maps(tuned.backbone, corpus.pixels)
    network = MultiScale(spec.grids, moments(maps, spec.grids, Solo()), False, prior_V, Solo())
    tuned.hand_over(network)
    with torch.no_grad():
        expected = tuned(torch.from_numpy(corpus.pixels.take(np.arange(24))))
        found = network(torch.from_numpy(maps.take(np.arange(24)).astype(np.float32)))
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)
    assert float(expected.std()) > 0.1


def test_what_it_cannot_learn_from_is_refused(rng: np.random.Generator) -> None:
    corpus, vocabulary = coloured(rng, 6)
    with pytest.raises(ConfigError, match="the column 'maps/random/1', which this corpus is with"):
        recipe().fit(corpus, vocabulary, Solo())
    with pytest.raises(ConfigError, match=r"learns from pixels.*set train to 'head'"):
        recipe(train="all").fit(replace(corpus, pixels=None), vocabulary, Solo())
    with pytest.raises(ValidationError, match="does not expose the maps of its stages"):
        MsCnnRecipe(backbone="efficientnet-lite0+efficientnet-lite1")
    with pytest.raises(ValidationError, match="there is no backbone 'no-such'"):
        MsCnnRecipe(backbone="no-such")


def test_a_vocabulary_of_one(halves: tuple[Corpus, Corpus]) -> None:
    corpus = halves[0].subset(np.arange(40))
    labels = sparse.csr_matrix(np.ones((40, 1), dtype=np.float32))
    fitted = recipe().fit(
        replace(corpus, labels_NV=labels, places_NV=None), Vocabulary(("sea",), (40,)), Solo()
    )
    scores_BV = fitted.score(batch_of(halves[1])).scores_BV
    assert scores_BV.shape == (len(halves[1]), 1)
    assert scores_BV.min() > 0.9


def test_a_bundle_annotates_by_the_maps_of_its_pictures(
    material: Material, pictures: list[SamplePicture], tmp_path: Path
) -> None:
    """From bytes, by the stage that makes the maps, the scores of the corpus's own maps."""
    one = recipe(regressor={"hidden": (4,), "optimisation": {"epochs": 1}})
    config = FitConfig(
        embed=EmbedConfig(backbone="random", compute="torch"),
        annotators={"one": one, "linear": LinearRecipe()},
        refit=False,
    )
    with new_bundle(tmp_path / "bundle", overwrite=False) as draft:
        fit_bundle(draft, material, config, Solo(), lambda _: None)
    bundle = load_bundle(tmp_path / "bundle")
    batch = pa.table(
        {
            schema.IMAGE_ID: [picture.image_id for picture in pictures[:9]],
            schema.BYTES: [*(picture.jpeg for picture in pictures[:8]), b"?"],
            schema.SOCIAL_TAGS: [list(picture.social_tags) for picture in pictures[:9]],
        }
    )
    plan = annotation_plan(bundle, 3).toward((schema.score_column("one"),))
    assert COLUMN in [stage.name for stage in plan.stages]
    found = plan.workers()(batch)
    assert found.column(schema.ERROR)[8].as_py() is not None
    scores_BV = schema.float_tensor(found.slice(0, 8), schema.score_column("one"))
    expected_BV = score_corpus(bundle.annotator("one"), material.corpus.subset(np.arange(8)))
    np.testing.assert_allclose(scores_BV, expected_BV, atol=5e-3)
