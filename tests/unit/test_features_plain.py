"""The six features without a codebook, each beside an independent computation."""

import colorsys
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import color, data, feature

from engine.features import gist as gist_module
from engine.features.colour import CELLS, hsv_histogram, lab_moments, lab_of
from engine.features.edges import DIRECTIONS, edge_directions
from engine.features.gist import CELLS as GIST_CELLS
from engine.features.gist import FILTERS, INNER, MARGIN, even_contrast, gist, transfer_functions
from engine.features.lbp import lbp_histogram
from engine.features.picture import SIDE, grey_of, square
from engine.features.wavelets import LEVELS, wavelet_texture


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """A photograph of a cat as the square that features are of."""
    return square(data.chelsea())


@pytest.fixture(scope="module")
def grey(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return grey_of(photo)


def plain(red: int, green: int, blue: int) -> NDArray[np.uint8]:
    return np.full((SIDE, SIDE, 3), (red, green, blue), dtype=np.uint8)


def halves(first: int, second: int, axis: int) -> NDArray[np.uint8]:
    """Two greys, above one another (axis 0) or side by side (axis 1)."""
    picture = np.full((SIDE, SIDE), first, dtype=np.uint8)
    picture[(slice(None),) * axis + (slice(SIDE // 2, None),)] = second
    return picture


def test_the_hsv_histogram_is_that_of_a_loop(photo: NDArray[np.uint8]) -> None:
    some = photo[::8, ::8]
    expected = np.zeros(128)
    for red, green, blue in some.reshape(-1, 3):
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        places = [min(int(x * n), n - 1) for x, n in ((hue, 8), (saturation, 4), (value, 4))]
        expected[(places[0] * 4 + places[1]) * 4 + places[2]] += 1
    found = hsv_histogram(some)
    assert found.dtype == np.float32
    # Bytes of HSV are rounded: a pixel at the border of two bins may fall to the other side.
    assert np.abs(found - expected / expected.sum()).sum() < 0.02


@pytest.mark.parametrize(
    ("rgb", "place"),
    [
        ((255, 0, 0), 15),
        ((0, 255, 0), 2 * 16 + 15),
        ((0, 0, 255), 5 * 16 + 15),
        ((255, 255, 255), 3),
        ((0, 0, 0), 0),
        ((90, 90, 90), 1),
    ],
)
def test_one_colour_is_one_bin(rgb: tuple[int, int, int], place: int) -> None:
    found = hsv_histogram(plain(*rgb))
    assert found[place] == 1
    assert found.sum() == 1


def test_lab_moments_are_those_of_a_loop(photo: NDArray[np.uint8]) -> None:
    lab = color.rgb2lab(photo)
    borders = [round(SIDE * place / CELLS) for place in range(CELLS + 1)]
    found = lab_moments(photo).reshape(CELLS, CELLS, 3, 3)
    for row in range(CELLS):
        for column in range(CELLS):
            rows, columns = (slice(borders[n], borders[n + 1]) for n in (row, column))
            for channel in range(3):
                values = lab[rows, columns, channel].ravel()
                apart = values - values.mean()
                mean, deviation, skewness = found[row, column, channel]
                spread = math.sqrt((apart**2).mean())
                assert mean == pytest.approx(values.mean(), abs=0.01)
                assert deviation == pytest.approx(spread, abs=0.01)
                # The cube root is steep at 0: the third moments themselves are compared.
                third = (apart**3).mean()
                assert skewness**3 == pytest.approx(third, rel=0.01, abs=0.01 * spread**3)


def test_lab_is_that_of_scikit_image_for_every_colour() -> None:
    values = np.linspace(0, 255, 40).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(values, values, values), axis=-1).reshape(40, -1, 3)
    np.testing.assert_allclose(lab_of(grid), color.rgb2lab(grid), atol=0.05)


def test_a_plain_picture_has_no_higher_moments() -> None:
    found = lab_moments(plain(12, 200, 77)).reshape(-1, 3)
    np.testing.assert_array_equal(found[:, 1:], 0)
    np.testing.assert_array_equal(found[:3], found[-3:])


@pytest.mark.parametrize(
    ("picture", "place"),
    [
        (halves(0, 255, 1), 0),
        (halves(255, 0, 0), 9),
        (halves(255, 0, 1), 18),
        (halves(0, 255, 0), 27),
    ],
)
def test_an_edge_fills_the_bin_of_its_direction(picture: NDArray[np.uint8], place: int) -> None:
    found = edge_directions(picture)
    assert found[place] == 1
    assert found[:DIRECTIONS].sum() == 1
    # One edge, a pixel wide.
    assert found[DIRECTIONS] == pytest.approx(1 - 1 / SIDE, abs=1e-3)


@pytest.mark.parametrize("place", range(0, 36, 5))
def test_a_disc_cut_at_an_angle_fills_the_bin_of_that_angle(place: int) -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle = math.radians(10 * place)
    depth = x * math.cos(angle) - y * math.sin(angle)
    picture = np.clip(128 + 60 * depth, 0, 255).astype(np.uint8)
    found = edge_directions(picture)
    assert found[:DIRECTIONS].argmax() == place
    assert found[[place - 1, place, (place + 1) % 36]].sum() > 0.97


def test_edges_are_counted_as_a_loop_counts_them(grey: NDArray[np.uint8]) -> None:
    """With SciPy's gradient, wherever that is strong: much the same shares of the directions."""
    plain_grey = grey.astype(np.float64)
    right = ndimage.sobel(plain_grey, axis=1, mode="nearest")
    down = ndimage.sobel(plain_grey, axis=0, mode="nearest")
    strong = np.hypot(right, down)
    counts = np.zeros(DIRECTIONS)
    for y, x in np.argwhere(strong > 200):
        angle = math.degrees(math.atan2(-down[y, x], right[y, x])) % 360
        counts[int((angle + 5) // 10) % DIRECTIONS] += 1
    found = edge_directions(grey)[:DIRECTIONS]
    assert found.sum() == pytest.approx(1, abs=1e-5)
    # Not only the crests of the edges are counted here; that changes the shares but little.
    assert np.corrcoef(counts, found)[0, 1] > 0.9


def written_out_dwt(
    x: NDArray[np.float64],
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """One level of the periodic transform by db2, written out: approximation, and H, V, D."""
    root = math.sqrt(3)
    low = [(1 + root), (3 + root), (3 - root), (1 - root)]
    low = [tap / (4 * math.sqrt(2)) for tap in low]
    high = [low[3], -low[2], low[1], -low[0]]

    def along(values: NDArray[np.float64], taps: list[float], axis: int) -> NDArray[np.float64]:
        total = sum(tap * np.roll(values, -place, axis) for place, tap in enumerate(taps))
        return np.asarray(total).take(range(0, values.shape[axis], 2), axis=axis)

    rows_low, rows_high = along(x, low, 0), along(x, high, 0)
    details = [along(rows_high, low, 1), along(rows_low, high, 1), along(rows_high, high, 1)]
    return along(rows_low, low, 1), details


def test_wavelet_texture_is_that_of_the_transform_written_out(grey: NDArray[np.uint8]) -> None:
    found = wavelet_texture(grey).reshape(LEVELS, 3, 2)
    # The library's phase is its own: the written-out transform starts one pixel further on.
    rest = np.roll(grey.astype(np.float64) / 255, (1, 1), (0, 1))
    for level in range(LEVELS):
        rest, details = written_out_dwt(rest)
        rest = np.roll(rest, (1, 1), (0, 1))
        for band, coefficients in enumerate(details):
            size = np.abs(coefficients)
            expected = (size.mean(), size.std())
            np.testing.assert_allclose(found[level, band], expected, rtol=1e-3, atol=1e-5)


def test_stripes_are_detail_of_their_size_and_orientation() -> None:
    stripes = np.where(np.arange(SIDE) // 8 % 2, 0, 255).astype(np.uint8)
    lying = wavelet_texture(np.repeat(stripes[:, None], SIDE, 1)).reshape(LEVELS, 3, 2)
    np.testing.assert_allclose(lying[:, 1:], 0, atol=1e-4)
    assert lying[:, 0, 0].argmax() == 2
    # Bands of more than their period of 16 px see nothing but grey.
    np.testing.assert_allclose(lying[4:], 0, atol=1e-4)
    standing = wavelet_texture(np.repeat(stripes[None], SIDE, 0)).reshape(LEVELS, 3, 2)
    np.testing.assert_allclose(standing[:, 1], lying[:, 0], atol=1e-4)


def uniform_places() -> list[int]:
    """Place of each pattern, told by counting the changes in its bits written as text."""
    places, next_place = [], 0
    for pattern in range(256):
        text = f"{pattern:08b}"
        if sum(a != b for a, b in zip(text, text[1:] + text[0], strict=True)) <= 2:
            places.append(next_place)
            next_place += 1
        else:
            places.append(58)
    assert next_place == 58
    return places


def test_patterns_are_those_of_scikit_image(grey: NDArray[np.uint8]) -> None:
    patterns = feature.local_binary_pattern(grey, 8, 1, "default").astype(int)[1:-1, 1:-1]
    places = np.array(uniform_places())[patterns]
    expected = np.bincount(places.ravel(), minlength=59) / places.size
    found = lbp_histogram(grey)
    # In floats an interpolated neighbour that is as dark as the pixel may come out darker.
    assert np.abs(found - expected).sum() < 0.02


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_patterns_are_those_of_a_loop(seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (9, 11), dtype=np.uint8)
    counts = np.zeros(59)
    places = uniform_places()
    for y in range(1, 8):
        for x in range(1, 10):
            pattern = 0
            for bit in range(8):
                angle = math.pi / 4 * bit
                down, right = -math.sin(angle), math.cos(angle)
                value = ndimage.map_coordinates(
                    grey.astype(np.float64), [[y + down], [x + right]], order=1
                )
                pattern |= int(value[0] - grey[y, x] > -1e-6) << bit
            counts[places[pattern]] += 1
    # 1024ths stand for the root of a half: of 63 pixels one may fall to the other side.
    assert np.abs(lbp_histogram(grey) * 63 - counts).sum() <= 2.001


def test_light_does_not_change_patterns(grey: NDArray[np.uint8]) -> None:
    dim = (grey // 2).astype(np.uint8)
    np.testing.assert_array_equal(lbp_histogram(dim), lbp_histogram(dim + np.uint8(100)))
    assert lbp_histogram(np.full((SIDE, SIDE), 77, np.uint8))[57] == 1


def test_gist_is_that_of_whole_filters(photo: NDArray[np.uint8]) -> None:
    """Oliva and Torralba's filters over the whole band in float64, every pixel's response."""
    filters, _ = transfer_functions()
    picture = even_contrast(photo).astype(np.float64)
    cell = INNER // GIST_CELLS
    expected = np.zeros((3, FILTERS, GIST_CELLS, GIST_CELLS))
    for channel in range(3):
        spectrum = np.fft.fft2(picture[channel])
        for place, passes in enumerate(filters):
            size = np.abs(np.fft.ifft2(spectrum * passes))[MARGIN:-MARGIN, MARGIN:-MARGIN]
            for row in range(GIST_CELLS):
                for column in range(GIST_CELLS):
                    part = size[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
                    expected[channel, place, row, column] = part.mean()
    found = gist(photo)
    assert found.shape == (960,)
    # What the half band leaves out, and every second pixel for all of them.
    assert np.abs(found - expected.ravel()).max() < 0.03 * expected.max()
    assert np.corrcoef(found, expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(("scale", "period"), [(0, 3), (1, 6), (2, 12)])
def test_a_grating_excites_the_filter_of_its_size_and_orientation(scale: int, period: int) -> None:
    wave = np.cos(2 * np.pi * np.arange(INNER) / period)
    across = np.repeat(wave[None], INNER, 0)
    for picture, quarter in ((across, 0), (across.T, 1)):
        grey = np.repeat(np.repeat(127 + 100 * picture, 2, 0), 2, 1).astype(np.uint8)
        found = gist(np.repeat(grey[:, :, None], 3, 2)).reshape(3, FILTERS, -1).mean(axis=(0, 2))
        first = sum(gist_module.ORIENTATIONS[:scale])
        turns = gist_module.ORIENTATIONS[scale]
        assert found.argmax() == first + quarter * turns // 2


def test_contrast_is_evened_out(photo: NDArray[np.uint8]) -> None:
    dim = (photo // 3 + 60).astype(np.uint8)
    bright, weak = gist(photo), gist(dim)
    assert np.corrcoef(bright, weak)[0, 1] > 0.9
    np.testing.assert_allclose(gist(plain(9, 99, 199)), 0, atol=1e-5)
