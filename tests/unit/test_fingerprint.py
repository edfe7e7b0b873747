"""Hashes of files, of pixels and of looks, and the stage that makes them."""

import io

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from engine import schema
from engine.fingerprint import hash_distance, perceptual_hash, pixels_digest
from engine.fingerprint_stage import (
    BYTES_DIGEST,
    FINGERPRINT,
    HEIGHT,
    PERCEPTUAL,
    PIXELS_DIGEST,
    WIDTH,
    fingerprint_stage,
)
from engine.geometry import Geometry
from engine.image import DecodeLimits, decode
from engine.picture_stages import decode_stage
from engine.sample import SamplePicture
from engine.stage import Plan

GEOMETRY = Geometry(mode="crop", size=32, resize_to=36)


def png(pixels_HW3: NDArray[np.uint8], note: str = "") -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", note)
    sink = io.BytesIO()
    Image.fromarray(pixels_HW3).save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def bits(one: int, other: int) -> int:
    return int(hash_distance(np.array([one], np.uint64), np.array([other], np.uint64))[0])


def test_the_stage_hashes_what_it_decodes(pictures: list[SamplePicture]) -> None:
    jpeg = pictures[0].jpeg
    full_HW3 = decode(jpeg, DecodeLimits())
    other_HW3 = decode(pictures[1].jpeg, DecodeLimits())
    data = [jpeg, png(full_HW3), b"<html>", png(full_HW3, "other"), png(other_HW3)]
    batch = pa.table({schema.IMAGE_ID: list("abcde"), schema.BYTES: data})
    made = fingerprint_stage(DecodeLimits(), GEOMETRY)
    plan = Plan((made,), (schema.PIXELS, *FINGERPRINT))
    found = plan.workers()(batch)
    assert found.column(schema.ERROR).to_pylist() == [None, None, "not_an_image", None, None]
    files, pixels = (found.column(name).to_pylist() for name in (BYTES_DIGEST, PIXELS_DIGEST))
    assert len(set(files)) == 5  # the picture that is none has no digest
    assert pixels[0] == pixels[1] == pixels[3] == pixels_digest(full_HW3) != pixels[4]
    assert found.column(PERCEPTUAL)[0] == found.column(PERCEPTUAL)[3]
    height, width, _ = full_HW3.shape
    assert (found.column(HEIGHT)[0].as_py(), found.column(WIDTH)[0].as_py()) == (height, width)
    # And the backbone sees what it sees elsewhere.
    plain = Plan((decode_stage(DecodeLimits(), GEOMETRY, None),), (schema.PIXELS,)).workers()(batch)
    assert found.column(schema.PIXELS).equals(plain.column(schema.PIXELS))


def test_pixels_of_another_shape_are_others() -> None:
    flat = np.zeros((4, 6, 3), np.uint8)
    assert pixels_digest(flat) != pixels_digest(flat.reshape(6, 4, 3))


def test_the_hash_knows_a_smaller_copy_but_no_turned_or_mirrored_one(
    pictures: list[SamplePicture],
) -> None:
    for picture in pictures[:5]:
        image = Image.fromarray(decode(picture.jpeg, DecodeLimits()))
        mine = perceptual_hash(np.array(image))
        half = image.resize((image.width // 2, image.height // 2))
        assert bits(mine, perceptual_hash(np.array(half))) <= 4
        for change in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180):
            assert bits(mine, perceptual_hash(np.array(image.transpose(change)))) > 16


def test_any_shape_has_a_hash() -> None:
    for shape in ((1, 1, 3), (1, 3000, 3), (2, 2, 3)):
        found = perceptual_hash(np.full(shape, 200, np.uint8))
        assert 0 <= found < 2**64


def test_distances_count_bits() -> None:
    assert [bits(0, 0), bits(0, 2**64 - 1), bits(0b1011, 0b0001)] == [0, 64, 2]
