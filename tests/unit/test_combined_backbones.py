"""Several backbones side by side, and the mean over a mirror image: what their parts give alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from engine import schema
from engine.accuracy import choose_way
from engine.bundle import load_bundle, new_bundle
from engine.config import EmbedConfig, load_config
from engine.corpus import Corpus
from engine.embed import BACKBONES, Compute, backbone, load_embedder
from engine.embed.export import export_graph
from engine.embed.graphs import graph_name
from engine.embed.networks import SOURCES
from engine.errors import BackboneError, ConfigError
from engine.fitting import Material, fit_bundle
from engine.group import Solo
from engine.plan import annotation_plan, embedding_geometry, embedding_plan
from engine.sample import SamplePicture
from engine.vocab import Vocabulary


@pytest.fixture
def squares() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    grid = np.linspace(0, 3, 64).astype(int)
    return coarse[:, grid][:, :, grid]


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> str:
    """The network 'random' under another name, for pixels that are normalised otherwise."""
    other = replace(BACKBONES["random"], name="twin", mean=(10.0, 20.0, 30.0), std=(50.0, 60.0, 70))
    monkeypatch.setitem(BACKBONES, "twin", other)
    monkeypatch.setitem(SOURCES, "twin", SOURCES["random"])
    return "twin"


def test_side_by_side_is_each_alone(squares: NDArray[np.uint8], twin: str) -> None:
    pair = backbone(f"random+{twin}")
    assert pair.levels == (256, 256)
    assert pair.width == 512
    found = load_embedder(pair, "torch")(squares)
    for place, name in enumerate(("random", twin)):
        alone = load_embedder(backbone(name), "torch")(squares)
        np.testing.assert_allclose(found[:, place * 256 : place * 256 + 256], alone, atol=1e-5)
    assert np.abs(found[:, :256] - found[:, 256:]).max() > 0.1


def test_a_flip_is_the_mean_of_a_picture_and_its_mirror_image(squares: NDArray[np.uint8]) -> None:
    single = load_embedder(backbone("random"), "torch")
    found = load_embedder(backbone("random~flip"), "torch")(squares)
    expected = (single(squares) + single(squares[:, :, ::-1])) / 2
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - single(squares)).max() > 0.01
    mirrored = load_embedder(backbone("random~flip"), "torch")(squares[:, :, ::-1])
    np.testing.assert_allclose(mirrored, found, atol=1e-6)


@pytest.mark.parametrize("compute", ["openvino", "openvino-bf16", "onnxruntime"])
def test_the_exported_graph_is_the_network(
    compute: Compute, squares: NDArray[np.uint8], twin: str, tmp_path: Path
) -> None:
    both = backbone(f"random+{twin}~flip")
    exact = load_embedder(both, "torch")(squares)
    export_graph(both, compute, tmp_path)
    found = load_embedder(both, compute, tmp_path)(squares)
    if compute == "openvino-bf16":
        cosine_B = (exact * found).sum(1) / np.linalg.norm(exact, axis=1)
        np.testing.assert_allclose(cosine_B / np.linalg.norm(found, axis=1), 1, atol=1e-3)
    else:
        np.testing.assert_allclose(found, exact, atol=1e-3)


def test_what_makes_another_embedding_has_another_digest(twin: str) -> None:
    names = ["random", "random~flip", f"random+{twin}", f"{twin}+random", f"random+{twin}~flip"]
    digests = [backbone(name).weights_sha256() for name in names[:3]]
    assert len(set(digests)) == 3
    assert len({graph_name(backbone(n).weights_sha256(), 64, "openvino") for n in names}) >= 4
    assert backbone("random~flip").weights_sha256() == digests[1]


def test_a_single_backbone_is_what_it_was() -> None:
    assert backbone("random") is BACKBONES["random"]
    assert EmbedConfig().network == EmbedConfig().backbone == "efficientnet-lite2"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["embed.backbone=random+resnet19"], "no backbone 'resnet19'"),
        (["embed.backbone=random+random"], "'random' is named twice"),
        (["embed.backbone=random~flip"], "write backbone = 'random', flip = true"),
        (["embed.backbone=random+"], "no backbone ''"),
    ],
)
def test_names_that_make_no_sense_are_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config(None, overrides)


def test_an_unknown_member_is_named() -> None:
    with pytest.raises(BackboneError, match="there is no backbone 'vgg'"):
        backbone("random+vgg~flip")
    with pytest.raises(ValidationError):
        EmbedConfig(backbone="vgg")


def test_the_gate_and_the_geometry_follow(tmp_path: Path) -> None:
    config = load_config(
        None, ["embed.backbone=random", "embed.flip=true", "embed.compute=openvino"]
    )
    assert config.embed.network == "random~flip"
    assert embedding_geometry(config).size == 64
    way = choose_way(tmp_path, config, (), lambda embeddings_BD: embeddings_BD)
    plain = choose_way(
        tmp_path,
        load_config(None, ["embed.backbone=random", "embed.compute=openvino"]),
        (),
        lambda embeddings_BD: embeddings_BD,
    )
    assert way.graph != plain.graph


def test_a_bundle_annotates_by_the_embedding_it_was_fitted_on(
    pictures: list[SamplePicture], twin: str, tmp_path: Path
) -> None:
    """From bytes to tags by the bundle's graph, and by torch: the same tags."""
    some = pictures[:60]
    config = load_config(
        None,
        [
            f"embed.backbone=random+{twin}",
            "embed.flip=true",
            "embed.compute=openvino",
            'annotators={linear={kind="linear"}}',
        ],
    )
    names = [picture.image_id for picture in some]
    batch = pa.table({schema.IMAGE_ID: names, schema.BYTES: [picture.jpeg for picture in some]})
    embeddings = embedding_plan(config, thumbnails=False).workers()(batch)
    tags = [picture.tags for picture in some]
    vocabulary = Vocabulary.learn(tags)
    corpus = Corpus(
        tuple(names),
        schema.float_tensor(embeddings, schema.EMBEDDING),
        vocabulary.encode(tags),
        backbone(config.embed.network).levels,
    )
    assert corpus.embeddings_ND.shape == (60, 512)
    sample = tuple(picture.jpeg for picture in some[:8])
    with new_bundle(tmp_path / "bundle", overwrite=False) as draft:
        material = Material(corpus, vocabulary, {}, sample=sample)
        manifest = fit_bundle(draft, material, config, Solo(), lambda _: None)
    assert manifest.backbone.name == f"random+{twin}~flip"
    assert manifest.accuracy[-1].cosine > 0.999
    bundle = load_bundle(tmp_path / "bundle")
    bundle.check_backbone()
    by_graph, by_torch = (
        annotation_plan(bundle, 3, compute=compute).workers()(batch).column(schema.TAGS)
        for compute in (None, "torch")
    )
    best = [[row[0]["tag"] for row in tags.to_pylist()] for tags in (by_graph, by_torch)]
    assert np.mean(np.array(best[0]) == np.array(best[1])) > 0.95
