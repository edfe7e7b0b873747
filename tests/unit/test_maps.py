"""Feature maps of a backbone's stages: whose they are, their grids, and the column they make."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
from torch import nn

from engine import schema
from engine.config import load_config
from engine.embed import BACKBONES, backbone
from engine.embed.eager import Preprocessed
from engine.embed.maps import Grids, maps_backbone, stored
from engine.embed.networks import SOURCES, filled_network
from engine.embed.staged import StageMaps, maps_of, stage_maps
from engine.errors import BackboneError
from engine.fitting import Material
from engine.map_columns import maps_column, maps_stage
from engine.plan import embedding_plan
from engine.sample import SamplePicture
from engine.stage import Plan

COLUMN = maps_column("random", 1)


@pytest.mark.parametrize("name", [name for name in BACKBONES if BACKBONES[name].scales])
def test_each_scale_is_half_the_one_before_and_has_the_channels_it_says(name: str) -> None:
    spec = BACKBONES[name]
    size = spec.geometry.size
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        network = SOURCES[name].build().eval()
        maps = stage_maps(network, torch.zeros(1, 3, size, size))
        assert tuple(one.shape[1] for one in maps) == spec.scales
        sides = [one.shape[2] for one in maps]
        halved = itertools.pairwise(sides)
        assert all(after == pytest.approx(before / 2, abs=0.5) for before, after in halved)
        grids = maps_backbone(name, 2).grids
        found_BM = StageMaps(network, grids)(torch.zeros(1, 3, size, size))
    assert found_BM.shape == (1, maps_backbone(name, 2).width)


def test_of_a_resnet_these_are_the_five_scales_of_the_paper() -> None:
    """Sizes and channels of section III.A, of torchvision's network and of timm's."""
    with torch.device("meta"), torch.no_grad():
        pixels = torch.zeros(1, 3, 224, 224)
        for network in (SOURCES["resnet101"].build().eval(), timm.create_model("resnet101").eval()):
            shapes = [tuple(one.shape[1:]) for one in stage_maps(network, pixels)]
            assert shapes == [
                (64, 112, 112),
                (256, 56, 56),
                (512, 28, 28),
                (1024, 14, 14),
                (2048, 7, 7),
            ]


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(BackboneError, match="the stages of a Linear are not known"):
        stage_maps(nn.Linear(3, 3), torch.zeros(1, 3, 8, 8))
    with pytest.raises(BackboneError, match="does not expose the maps of its stages"):
        maps_backbone("efficientnet-lite0+efficientnet-lite1", 1)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet18"])
def test_they_come_from_the_weights_of_the_embedding(name: str) -> None:
    """The mean of the last map is the embedding's first level; Lite's stages are its others."""
    spec = backbone(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = filled_network(name) if "lite" in name else SOURCES[name].build().eval()
        pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        embedding_BD = network(pixels)
        maps = stage_maps(network, pixels)
    levels = list(torch.split(embedding_BD, list(spec.levels), dim=1))
    chosen = [1, 2, 3, 5, 0] if "lite" in name else [0]
    for one, level in zip(maps[-len(chosen) :], chosen, strict=True):
        torch.testing.assert_close(one.mean((2, 3)), levels[level], atol=1e-4, rtol=1e-4)


def test_a_grid_is_averages_over_the_places_of_the_map(rng: np.random.Generator) -> None:
    grids = Grids((2, 3), 1)
    assert (grids.sides, grids.widths) == ((2, 1), (8, 3))
    network = nn.Module()
    network.layers = nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 1), nn.ReLU()
    )
    pixels = torch.from_numpy(rng.random((2, 3, 8, 8)).astype(np.float32))
    with torch.no_grad():
        flat_BM = StageMaps(network, grids)(pixels).numpy()
        shallow, deep = (one.numpy() for one in stage_maps(network, pixels))
    first_BSSC, last_BSSC = grids.split(flat_BM)
    assert (first_BSSC.shape, last_BSSC.shape) == ((2, 2, 2, 2), (2, 1, 1, 3))
    for picture in range(2):
        for row in range(2):
            for column in range(2):
                for channel in range(2):
                    part = shallow[picture, channel, 4 * row :, 4 * column :][:4, :4]
                    found = first_BSSC[picture, row, column, channel]
                    assert found == pytest.approx(part.mean(), abs=1e-6)
        np.testing.assert_allclose(last_BSSC[picture, 0, 0], deep[picture].mean((1, 2)), atol=1e-6)


def test_what_float16_cannot_hold_becomes_its_largest() -> None:
    kept = stored(np.array([[1e6, -1e6, 1.5]], dtype=np.float32))
    assert kept.dtype == np.float16
    np.testing.assert_array_equal(kept, np.array([[65504, -65504, 1.5]], dtype=np.float16))


def test_the_column_is_what_the_network_gives(
    pictures: list[SamplePicture], material: Material
) -> None:
    """By whatever computes here, and with a broken picture among them."""
    config = load_config(
        None, ["embed.backbone=random", 'annotators={one={kind="ms-cnn",backbone="random"}}']
    )
    plan = embedding_plan(config, thumbnails=False)
    assert COLUMN in plan.keeps
    plan = plan.toward((COLUMN, schema.PIXELS))
    jpegs = [picture.jpeg for picture in pictures[:5]]
    batch = pa.table(
        {schema.IMAGE_ID: [str(n) for n in range(6)], schema.BYTES: [*jpegs[:2], b"?", *jpegs[2:]]}
    )
    with_error = plan.workers()(batch)
    healthy = with_error.filter(with_error.column(schema.ERROR).is_null())
    found_BM = schema.tensor_values(healthy, COLUMN)
    assert (len(with_error), len(found_BM), found_BM.dtype) == (6, 5, np.float16)
    pixels_BHWC = schema.tensor_values(healthy, schema.PIXELS).astype(np.uint8)
    spec = maps_backbone("random", 1)
    expected_BM = maps_of(Preprocessed(spec, spec.network()).eval(), pixels_BHWC)
    np.testing.assert_allclose(found_BM.astype(np.float32), expected_BM, atol=2e-2, rtol=2e-3)
    np.testing.assert_allclose(
        material.corpus.columns[COLUMN].take(np.arange(5)).astype(np.float32),
        expected_BM,
        atol=2e-2,
        rtol=2e-3,
    )
    empty = Plan((maps_stage(COLUMN, "torch"),), (COLUMN,)).workers()
    none = pa.table(
        {
            schema.IMAGE_ID: pa.array([], pa.string()),
            schema.PIXELS: schema.tensor_column(pixels_BHWC[:0]),
        }
    )
    assert schema.tensor_values(empty(none), COLUMN).shape == (0, spec.width)
