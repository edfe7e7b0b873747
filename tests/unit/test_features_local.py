"""SIFT and its kin, the points that they are of, and the words that they are told by."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from skimage import data
from skimage.feature import corner_harris, corner_peaks

from engine.features.codebook import (
    WORDS,
    Codebook,
    inverse_frequency,
    learn_words,
    nearest_word,
    weighted,
    word_counts,
)
from engine.features.picture import SIDE, grey_of, square
from engine.features.sift import (
    HARRIS_POINTS,
    MARGIN,
    OFFSETS,
    cells,
    channels,
    dense_points,
    descriptors,
    harris_points,
)


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return square(data.chelsea())


def direction_shares(right: float, down: float) -> dict[int, float]:
    """How a gradient's strength is shared between the two directions that are nearest to it."""
    turn = math.atan2(down, right) % (2 * math.pi) / (math.pi / 4)
    lower = math.floor(turn)
    strength = math.hypot(right, down)
    return {
        lower % 8: strength * (1 - (turn - lower)),
        (lower + 1) % 8: strength * (turn - lower),
    }


def looped_descriptor(plane: NDArray[np.float64], x: int, y: int) -> NDArray[np.float64]:
    """Lowe's descriptor of a point, pixel by pixel: trilinear, cut, and of length 1."""
    found = np.zeros((4, 4, 8))
    for row, below in enumerate(OFFSETS):
        for column, beside in enumerate(OFFSETS):
            for down in range(-3, 4):
                for right in range(-3, 4):
                    v, u = y + below + down, x + beside + right
                    shares = direction_shares(
                        (plane[v, u + 1] - plane[v, u - 1]) / 2,
                        (plane[v + 1, u] - plane[v - 1, u]) / 2,
                    )
                    near = (1 - abs(down) / 4) * (1 - abs(right) / 4)
                    for direction, share in shares.items():
                        found[row, column, direction] += near * share
            found[row, column] *= math.exp(-(below**2 + beside**2) / 128)
    found = found.ravel()
    found = np.minimum(found / np.linalg.norm(found), 0.2)
    return np.asarray(found / np.linalg.norm(found))


def test_descriptors_are_those_of_a_loop(photo: NDArray[np.uint8]) -> None:
    planes = channels(photo)
    points = np.array([[40, 60], [127, 128], [201, 99]])
    found = descriptors(cells(planes), points)
    assert found.shape == (3, 6, 128)
    for row, (x, y) in enumerate(points):
        for channel in (0, 1, 4):
            plane = planes[..., channel].astype(np.float64)
            expected = looped_descriptor(plane, int(x), int(y))
            # OpenCV's arc tangent is good to a third of a degree.
            np.testing.assert_allclose(found[row, channel], expected, atol=0.01)


def test_descriptors_are_much_like_opencv_s(photo: NDArray[np.uint8]) -> None:
    """Upright, of the same size: what differs is OpenCV's smoothing and its finer window."""
    inner = dense_points().reshape(31, 31, 2)[4:-4:4, 4:-4:4].reshape(-1, 2)
    found = descriptors(cells(channels(photo)), inner)[:, 0].reshape(-1, 4, 4, 8)
    keypoints = [cv2.KeyPoint(float(x), float(y), 16 / 6, 0.0) for x, y in inner]
    intensity = np.rint(photo.mean(axis=2)).astype(np.uint8)
    kept, theirs = cv2.SIFT_create().compute(intensity, keypoints)
    assert len(kept) == len(inner)
    # Its y axis points up: its directions go round the other way.
    theirs = theirs.reshape(-1, 4, 4, 8)[..., [0, 7, 6, 5, 4, 3, 2, 1]].reshape(len(inner), -1)
    mine = found.reshape(len(inner), -1)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    likeness = (mine * theirs).sum(axis=1)
    shuffled = (mine * np.roll(theirs, 1, axis=0)).sum(axis=1)
    assert np.median(likeness) > 0.85
    assert np.median(likeness) > np.median(shuffled) + 0.2


@pytest.mark.parametrize(("turns", "direction"), [(0, 0), (3, 2), (2, 4), (1, 6)])
def test_a_ramp_has_one_direction(turns: int, direction: int) -> None:
    ramp = np.repeat(np.arange(SIDE, dtype=np.uint8)[None], SIDE, 0)
    picture = np.repeat(np.rot90(ramp, turns)[:, :, None], 3, 2)
    found = descriptors(cells(channels(picture)), np.array([[128, 128]]))[0, 0].reshape(16, 8)
    assert np.count_nonzero(found > 1e-6) == 16
    assert (found[:, direction] > 0).all()
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_c_sift_is_of_colours_that_keep_when_the_light_changes(photo: NDArray[np.uint8]) -> None:
    bright = np.clip(photo.astype(int) + 40, 0, 255).astype(np.uint8)
    half = (bright // 2).astype(np.uint8)
    planes, dim = channels(bright), channels(half)
    red, green, blue = bright.astype(np.float64)[90, 120]
    light = (red + green + blue) / math.sqrt(3) + 10 * math.sqrt(3)
    expected = [
        (red + green + blue) / 3,
        255 * (red - green) / math.sqrt(2) / light,
        255 * (red + green - 2 * blue) / math.sqrt(6) / light,
    ]
    np.testing.assert_allclose(planes[90, 120, :3], expected, rtol=1e-5)
    np.testing.assert_array_equal(planes[..., 3:], bright)
    points = dense_points()
    likeness = (descriptors(cells(planes), points) * descriptors(cells(dim), points)).sum(axis=2)
    assert np.median(likeness[:, 1:3], axis=0).min() > 0.9
    # The invariant colours themselves: half the light changes a third of the intensity and more.
    change = np.abs(dim - planes)[..., :3].mean(axis=(0, 1)) / np.abs(planes[..., :3]).mean((0, 1))
    assert change[0] > 0.4
    assert change[1:].max() < 0.12


def test_rgb_sift_is_one_a_channel(photo: NDArray[np.uint8]) -> None:
    points = dense_points()[::40]
    found = descriptors(cells(channels(photo)), points)[:, 3:]
    swapped = descriptors(cells(channels(photo[:, :, ::-1])), points)[:, 3:]
    np.testing.assert_allclose(swapped, found[:, ::-1], atol=1e-6)


def test_a_grey_picture_has_no_colour_to_describe(photo: NDArray[np.uint8]) -> None:
    grey = np.repeat(grey_of(photo)[:, :, None], 3, 2)
    found = descriptors(cells(channels(grey)), dense_points())
    np.testing.assert_array_equal(found[:, 1:3], 0)
    np.testing.assert_allclose(found[:, 3], found[:, 0], atol=1e-5)
    flat = descriptors(cells(channels(np.full((SIDE, SIDE, 3), 50, np.uint8))), dense_points())
    np.testing.assert_array_equal(flat, 0)


def test_the_grid_keeps_within_the_picture() -> None:
    points = dense_points()
    assert points.shape == (961, 2)
    assert points.min() == MARGIN
    assert points.max() == SIDE - MARGIN
    assert tuple(points[1]) == (MARGIN + 8, MARGIN)


def test_corners_are_those_of_scikit_image() -> None:
    board = np.kron(np.indices((4, 4)).sum(axis=0) % 2, np.ones((64, 64))) * 200
    grey = board.astype(np.uint8)
    found = harris_points(grey)
    crossings = [(x, y) for x in (64, 128, 192) for y in (64, 128, 192)]
    expected = corner_peaks(corner_harris(grey.astype(float), k=0.04), min_distance=5)[:, ::-1]
    for points in (found, expected):
        assert cdist(crossings, points).min(axis=1).max() < 2.5
    assert cdist(found, crossings).min(axis=1).max() < 4


def test_corners_are_few_and_lie_within(photo: NDArray[np.uint8]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    for grey in (grey_of(photo), noise):
        found = harris_points(grey)
        assert 0 < len(found) <= HARRIS_POINTS
        assert found.min() >= MARGIN
        assert found.max() <= SIDE - MARGIN
    assert harris_points(np.full((SIDE, SIDE), 9, np.uint8)).shape == (0, 2)


def test_the_nearest_word_is_that_of_all_distances(rng: np.random.Generator) -> None:
    words = rng.random((WORDS, 12)).astype(np.float32)
    some = rng.random((50, 12)).astype(np.float32)
    np.testing.assert_array_equal(nearest_word(some, words), cdist(some, words).argmin(axis=1))
    assert nearest_word(some[:0], words).shape == (0,)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
@settings(max_examples=15, deadline=None)
def test_words_are_counted_in_the_whole_and_in_its_quarters(seed: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    words, places = rng.integers(0, 6, points), rng.integers(0, SIDE, (points, 2))
    expected = np.zeros((5, WORDS), dtype=np.int64)
    for word, (x, y) in zip(words, places, strict=True):
        expected[0, word] += 1
        expected[1 + 2 * (y >= 128) + (x >= 128), word] += 1
    np.testing.assert_array_equal(word_counts(words, places), expected)


def test_tf_idf_by_hand() -> None:
    idf = inverse_frequency(np.array([3, 0, *[1] * (WORDS - 2)]), 3)
    np.testing.assert_allclose(idf[:2], [1.0, math.log(4) + 1], rtol=1e-6)
    # Two points of word 0 in the first quarter, one of word 1 in the last.
    counts = word_counts(np.array([0, 0, 1]), np.array([[0, 0], [9, 9], [200, 200]]))
    found = weighted(counts, idf).reshape(5, WORDS)
    rare = math.log(4) + 1
    plain = np.zeros((5, WORDS))
    plain[0, :2] = 2 / 3, rare / 3
    plain[1, 0], plain[4, 1] = 1, rare
    np.testing.assert_allclose(found, plain / np.linalg.norm(plain), atol=1e-6)


def test_a_picture_without_points_has_an_empty_bag() -> None:
    book = Codebook(np.zeros((WORDS, 128), np.float32), np.ones(WORDS, np.float32))
    bag = book.bag(np.zeros((0, 128), np.float32), np.zeros((0, 2), np.int64))
    assert bag.shape == (5000,)
    np.testing.assert_array_equal(bag, 0)


def test_k_means_finds_better_words_than_chance(rng: np.random.Generator) -> None:
    centres = rng.standard_normal((WORDS, 4)) * 10
    some = (centres[rng.integers(0, WORDS, 5000)] + rng.standard_normal((5000, 4)) * 0.1).astype(
        np.float32
    )
    words = learn_words(some, seed=0)
    assert words.shape == (WORDS, 4)
    np.testing.assert_array_equal(words, learn_words(some, seed=0))
    chance = some[rng.permutation(len(some))[:WORDS]]
    apart = [np.square(some - book[nearest_word(some, book)]).sum() for book in (words, chance)]
    assert apart[0] < 0.5 * apart[1]


def test_of_few_descriptors_each_is_a_word(rng: np.random.Generator) -> None:
    some = np.repeat(rng.random((7, 128)).astype(np.float32), 3, axis=0)
    words = learn_words(some, seed=0)
    found = nearest_word(some, words)
    assert found.max() < 7
    np.testing.assert_array_equal(words[found], some)
    none = learn_words(some[:0], seed=0)
    assert np.isfinite(none).all()
    assert nearest_word(some, none).shape == (21,)
