"""Geometry: the reference is Pillow's bicubic, and the faster ways stay near to it."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from engine.geometry import Geometry, Pixels, fit_to, thumbnail
from engine.image import DecodeLimits, ImageError, decode

LIMITS = DecodeLimits(max_pixels=4_000_000)
BOUNDED = settings(max_examples=150, derandomize=True, deadline=None, database=None)
# Twelve flat blocks, each far from the others: a turn or a mix-up of channels shows.
BLOCKS = np.random.default_rng(7).integers(0, 256, (3, 4, 3), dtype=np.uint8)
SCENE = BLOCKS.repeat(16, axis=0).repeat(16, axis=1)
PICTURE = Image.fromarray(SCENE)
SQUASH, CROP = Geometry("squash", 56), Geometry("crop", 56, 64)


def photo(height: int, width: int) -> NDArray[np.uint8]:
    """Blocks with gradients and grain in them, uint8 [H, W, 3]."""
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-6, 7, smooth.shape)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def jpeg(pixels_HW3: NDArray[np.uint8], **options: Any) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels_HW3).save(out, "JPEG", quality=92, **options)
    return out.getvalue()


@given(
    height=st.integers(2, 300),
    width=st.integers(2, 300),
    geometry=st.sampled_from([SQUASH, CROP]),
)
@BOUNDED
def test_torchs_resizing_stays_within_two_levels(
    height: int, width: int, geometry: Geometry
) -> None:
    pixels = photo(height, width)
    reference = fit_to(pixels, geometry).astype(int)
    fast = fit_to(pixels, geometry, "vectorised")
    assert fast.dtype == np.uint8
    difference = np.abs(fast - reference)
    assert difference.max() <= 2
    assert difference.mean() <= 0.5


@pytest.mark.parametrize("geometry", [SQUASH, CROP])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_scaled_decoding_stays_within_a_level_and_a_half_on_average(
    geometry: Geometry, options: dict[str, Any]
) -> None:
    data = jpeg(photo(900, 1200), **options)
    scaled = decode(data, LIMITS, geometry.least_side("scaled"))
    least = geometry.least_side("scaled")
    assert least is not None
    assert least <= min(scaled.shape[:2]) < 900
    found = fit_to(scaled, geometry, "scaled").astype(int)
    reference = fit_to(decode(data, LIMITS), geometry)
    assert np.abs(found - reference).mean() <= 1.5
    assert np.quantile(np.abs(found - reference), 0.999) <= 20


def test_a_small_picture_is_not_scaled_and_a_turned_one_still_turned() -> None:
    small = jpeg(photo(100, 90))
    np.testing.assert_array_equal(decode(small, LIMITS, 112), decode(small, LIMITS))
    turn = Image.Exif()
    turn[274] = 6
    large = jpeg(photo(400, 800), exif=turn)
    assert decode(large, LIMITS, 112).shape == (400, 200, 3)


def test_a_picture_cut_short_is_an_error_when_scaled_too() -> None:
    data = jpeg(photo(800, 800))
    with pytest.raises(ImageError, match="truncated"):
        decode(data[: len(data) // 2], LIMITS, 112)


def test_the_reference_is_never_decoded_smaller() -> None:
    ways: tuple[Pixels, ...] = ("reference", "vectorised", "scaled")
    assert [SQUASH.least_side(way) for way in ways] == [None, 168, 168]
    assert CROP.least_side("scaled") == 192


def test_pixels_that_may_not_be_written_to_are_taken() -> None:
    pixels = photo(40, 60)
    pixels.flags.writeable = False
    assert fit_to(pixels, SQUASH, "vectorised").shape == (56, 56, 3)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.integers(1, 32),
    margin=st.integers(0, 8),
)
@BOUNDED
def test_crop_is_resizing_the_short_side_then_cutting(
    height: int, width: int, size: int, margin: int
) -> None:
    # Low contrast: where bicubic overshoots, Pillow clips between its two passes, whose order
    # depends on the box.
    noise = np.random.default_rng(height * 100 + width).integers(80, 176, (height, width, 3))
    image = Image.fromarray(noise.astype(np.uint8))
    resize_to = size + margin
    short = min(width, height)
    new_width, new_height = width * resize_to // short, height * resize_to // short
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    reference = image.resize((new_width, new_height), Image.Resampling.BICUBIC)
    expected = np.asarray(reference.crop((left, top, left + size, top + size)))
    pixels = fit_to(np.asarray(image), Geometry("crop", size, resize_to))
    assert pixels.shape == (size, size, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_squash_is_pillows_antialiased_bicubic() -> None:
    expected = np.asarray(PICTURE.resize((24, 24), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(fit_to(SCENE, Geometry("squash", 24)), expected)
    stripes = np.tile(np.array([0, 255], np.uint8), 500)[None, :, None].repeat(64, 0).repeat(3, 2)
    assert np.abs(fit_to(stripes, Geometry("squash", 20)).astype(int) - 127).max() <= 3


def test_a_long_strip_is_cropped_without_being_resized_whole() -> None:
    strip = np.full((1, 200_000, 3), 77, np.uint8)
    assert (fit_to(strip, Geometry("crop", 224, 256), "vectorised") == 77).all()


@pytest.mark.parametrize("mode", ["squash", "crop"])
@pytest.mark.parametrize("shape", [(200_000, 1, 3), (1, 200_000, 3), (1, 1, 3)])
def test_a_strip_takes_no_more_room_than_it_has(
    mode: Any, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    resize = Image.Image.resize
    made: list[tuple[int, int]] = []

    def watched(self: Image.Image, size: tuple[int, int], *args: Any, **named: Any) -> Image.Image:
        made.append(size)
        return resize(self, size, *args, **named)

    monkeypatch.setattr(Image.Image, "resize", watched)
    pixels = fit_to(np.full(shape, 77, np.uint8), Geometry(mode, 224, 256))
    assert (pixels == 77).all()
    assert pixels.shape == (224, 224, 3)
    assert made == [(224, 224)]


@pytest.mark.parametrize(("size", "resize_to"), [(0, 0), (224, 223)])
def test_an_impossible_geometry_is_refused(size: int, resize_to: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Geometry("crop", size, resize_to)


@pytest.mark.parametrize(
    ("shape", "expected"), [((48, 64), (48, 64)), ((64, 48), (64, 48)), ((5000, 1), (64, 1))]
)
def test_a_thumbnail_has_its_longer_side(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    data = thumbnail(np.full((*shape, 3), 90, np.uint8), 64)
    pixels = decode(data, LIMITS)
    assert data.startswith(b"\xff\xd8\xff")
    assert pixels.shape == (*expected, 3)
    assert np.abs(pixels.astype(int) - 90).max() <= 2
