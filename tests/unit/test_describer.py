"""The describer: its twelve features of any picture, in [0, 1], whatever batch it comes in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from engine import schema
from engine.errors import BundleError, ConfigError, CorpusError
from engine.feature_stages import feature_columns_stage, features_stage
from engine.features import FEATURES, feature_slices
from engine.features.describer import Describer
from engine.features.picture import SIDE, square

EXACT = {
    "hsv-histogram": 128,
    "lab-moments": 225,
    "edge-directions": 37,
    "wavelet-texture": 36,
    "lbp": 59,
    "gist": 960,
    "sift-dense": 5000,
    "sift-harris": 5000,
    "c-sift-dense": 5000,
    "c-sift-harris": 5000,
    "rgb-sift-dense": 5000,
    "rgb-sift-harris": 5000,
}


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    names = (data.chelsea, data.astronaut, data.coffee, data.rocket)
    return np.stack([square(one()) for one in names])


@pytest.fixture(scope="module")
def describer(photos: NDArray[np.uint8]) -> Describer:
    return Describer.learn([photos[:1], photos[1:2]])


def test_the_features_are_those_of_the_paper() -> None:
    assert dict(FEATURES) == EXACT
    slices = feature_slices()
    assert [part.stop - part.start for part in slices.values()] == list(EXACT.values())
    assert slices["rgb-sift-harris"].stop == sum(EXACT.values()) == 31_445


def check(found: dict[str, NDArray[np.float32]], pictures: int) -> None:
    assert {name: x.shape for name, x in found.items()} == {
        name: (pictures, width) for name, width in EXACT.items()
    }
    for name, x in found.items():
        assert x.dtype == np.float32, name
        assert np.isfinite(x).all(), name
        assert 0 <= x.min() <= x.max() <= 1, name


def test_features_are_finite_within_0_and_1_and_tell_pictures_apart(
    describer: Describer, photos: NDArray[np.uint8]
) -> None:
    found = describer(photos)
    check(found, 4)
    for name, x in found.items():
        assert np.abs(x[0] - x[2]).max() > 0.05, name


@pytest.mark.parametrize(
    "picture",
    [
        np.full((SIDE, SIDE, 3), (30, 60, 90), np.uint8),
        np.zeros((40, 50, 3), np.uint8),
        np.full((3, 3, 3), 255, np.uint8),
        np.full((1, 1, 3), (255, 0, 9), np.uint8),
        np.repeat(data.camera()[:, :, None], 3, axis=2),
        np.repeat(np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 90, 0), 3, 2),
        data.chelsea()[:1],
        data.chelsea()[:, :1],
    ],
    ids=["one colour", "black", "3 x 3", "1 x 1", "grey", "no corner", "one row", "one column"],
)
def test_any_picture_has_every_feature(describer: Describer, picture: NDArray[np.uint8]) -> None:
    check(describer(picture[None]), 1)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_any_size_has_every_feature(
    describer: Describer, height: int, width: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    check(describer([picture]), 1)


def test_a_describer_that_saw_one_colour_alone_still_describes(
    photos: NDArray[np.uint8],
) -> None:
    learned = Describer.learn([np.full((2, 8, 8, 3), 100, np.uint8)])
    check(learned(photos[:1]), 1)
    check(learned(np.full((1, 8, 8, 3), 100, np.uint8)), 1)


def test_batches_and_sizes_do_not_matter(
    describer: Describer, photos: NDArray[np.uint8], tmp_path: Path
) -> None:
    whole = describer.matrix(photos)
    assert whole.dtype == np.float16
    assert whole.shape == (4, describer.width)
    parts = [describer.matrix(photos[place : place + 1]) for place in range(4)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(describer.matrix(photos[::-1]), whole[::-1])
    assert describer.matrix(photos[:0]).shape == (0, describer.width)
    describer.save(tmp_path)
    np.testing.assert_array_equal(Describer.load(tmp_path).matrix(photos), whole)
    assert {path.name for path in tmp_path.iterdir()} == {"features.json", "features.safetensors"}


def test_scaling_is_by_what_was_seen(photos: NDArray[np.uint8]) -> None:
    names = ("hsv-histogram", "lab-moments", "lbp")
    learned = Describer.learn([photos[:3]], names=names)
    assert learned.names == names
    for name in names:
        raw = np.stack([learned.raw(one)[name] for one in photos]).astype(np.float64)
        low, high = raw[:3].min(axis=0), raw[:3].max(axis=0)
        span = np.where(high > low, high - low, 1)
        expected = np.clip((raw - low) / span, 0, 1)
        # Where the sample did not vary, whatever is above it is 1.
        expected = np.where((high == low) & (raw > low), 1, expected)
        np.testing.assert_allclose(learned(photos)[name], expected, atol=1e-4)


def test_bags_share_one_scale_so_that_rare_words_keep_their_weight(
    describer: Describer, photos: NDArray[np.uint8]
) -> None:
    raw = np.stack([describer.raw(one)["sift-dense"] for one in photos[:2]])
    found = describer(photos[:2])["sift-dense"]
    np.testing.assert_allclose(found, raw / raw.max(), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(raw, axis=1), 1, rtol=1e-5)


def test_learning_is_the_same_each_time_and_in_any_batches(photos: NDArray[np.uint8]) -> None:
    names = ("lbp", "sift-harris", "gist")
    once = Describer.learn([photos], seed=1, names=names)
    again = Describer.learn((photos[place : place + 1] for place in range(4)), 1, names)
    np.testing.assert_array_equal(once.matrix(photos), again.matrix(photos))


def test_a_long_stream_is_sampled_all_over() -> None:
    """Of 200 plain pictures from dark to bright, 20 are kept: from all parts of the stream."""
    stream = (np.full((1, 2, 2, 3), grey, np.uint8) for grey in range(200))
    learned = Describer.learn(stream, names=("lab-moments",), pictures=20)
    low, span = learned.scalings["lab-moments"].low[0], learned.scalings["lab-moments"].span[0]
    assert low < 20
    assert low + span > 60


@pytest.mark.parametrize(
    ("pictures", "found"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), "float32"),
        (np.zeros((1, 8, 8, 4), np.uint8), r"\[8, 8, 4\]"),
        (np.zeros((1, 8, 8), np.uint8), r"\[8, 8\]"),
        (np.zeros((1, 0, 8, 3), np.uint8), "8 x 0"),
    ],
)
def test_other_things_than_pictures_are_refused(
    describer: Describer, pictures: NDArray[np.uint8], found: str
) -> None:
    with pytest.raises(CorpusError, match=found):
        describer(pictures)
    with pytest.raises(CorpusError, match=found):
        Describer.learn([pictures], names=("lbp",))


def test_nothing_to_learn_from_and_unknown_names_are_refused(photos: NDArray[np.uint8]) -> None:
    with pytest.raises(CorpusError, match="at least one"):
        Describer.learn([])
    with pytest.raises(ConfigError, match=r"surf.*hsv-histogram"):
        Describer.learn([photos], names=("lbp", "surf"))
    with pytest.raises(ConfigError, match="one or more"):
        Describer.learn([photos], names=())


def test_a_describer_that_is_not_there_or_of_another_version_is_refused(
    photos: NDArray[np.uint8], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="no describer"):
        Describer.load(tmp_path)
    Describer.learn([photos[:1]], names=("lbp",)).save(tmp_path)
    for change in ({"format": 0}, {"features": {"lbp": [0, 60]}}, {"features": {"surf": [0, 59]}}):
        other = tmp_path / "other"
        shutil.copytree(tmp_path, other, ignore=shutil.ignore_patterns("other"))
        content = json.loads((other / "features.json").read_text())
        (other / "features.json").write_text(json.dumps(content | change))
        with pytest.raises(BundleError, match="another version"):
            Describer.load(other)
        shutil.rmtree(other)


def test_the_stages_write_the_describers_features(
    describer: Describer, photos: NDArray[np.uint8], tmp_path: Path
) -> None:
    describer.save(tmp_path)
    batch = pa.table({schema.PIXELS: schema.tensor_column(photos[:2])})
    expected = describer.matrix(photos[:2])
    whole = features_stage(tmp_path).make()(batch)
    np.testing.assert_array_equal(schema.tensor_values(whole, schema.FEATURES), expected)
    stage = feature_columns_stage(tmp_path)
    apart = stage.make()(batch)
    assert apart.schema == pa.schema(stage.writes)
    for name, part in feature_slices().items():
        values = schema.tensor_values(apart, schema.feature_column(name))
        np.testing.assert_array_equal(values, expected[:, part])
