"""Several backbones side by side, and the mean over a mirror image: what their parts give alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.accuracy import choose_way
from engine.config import EmbedConfig, load_config
from engine.embed import BACKBONES, Compute, backbone, graph_name, load_embedder
from engine.embed.export import export_graph
from engine.embed.networks import SOURCES
from engine.errors import BackboneError, ConfigError
from engine.plan import embedding_geometry


@pytest.fixture
def pictures() -> NDArray[np.uint8]:
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


def test_side_by_side_is_each_alone(pictures: NDArray[np.uint8], twin: str) -> None:
    pair = backbone(f"random+{twin}")
    assert pair.levels == (256, 256)
    assert pair.width == 512
    found = load_embedder(pair, "torch")(pictures)
    for place, name in enumerate(("random", twin)):
        alone = load_embedder(backbone(name), "torch")(pictures)
        np.testing.assert_allclose(found[:, place * 256 : place * 256 + 256], alone, atol=1e-5)
    assert np.abs(found[:, :256] - found[:, 256:]).max() > 0.1


def test_a_flip_is_the_mean_of_a_picture_and_its_mirror_image(pictures: NDArray[np.uint8]) -> None:
    single = load_embedder(backbone("random"), "torch")
    found = load_embedder(backbone("random~flip"), "torch")(pictures)
    expected = (single(pictures) + single(pictures[:, :, ::-1])) / 2
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - single(pictures)).max() > 0.01
    mirrored = load_embedder(backbone("random~flip"), "torch")(pictures[:, :, ::-1])
    np.testing.assert_allclose(mirrored, found, atol=1e-6)


@pytest.mark.parametrize("compute", ["openvino", "openvino-bf16", "onnxruntime"])
def test_the_exported_graph_is_the_network(
    compute: Compute, pictures: NDArray[np.uint8], twin: str, tmp_path: Path
) -> None:
    both = backbone(f"random+{twin}~flip")
    exact = load_embedder(both, "torch")(pictures)
    export_graph(both, compute, tmp_path)
    found = load_embedder(both, compute, tmp_path)(pictures)
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
