"""Decoding: every format and pixel type comes out right, every bad picture gets a code."""

import pickle
import struct
import zlib
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from engine.image import DecodeLimits, ImageError, ImageErrorCode, decode

LIMITS = DecodeLimits(max_pixels=4_000_000)
BOUNDED = settings(max_examples=150, derandomize=True, deadline=None, database=None)
# Twelve flat blocks, each far from the others: a turn, a mix-up of channels or a cut shows.
BLOCKS = np.random.default_rng(7).integers(0, 256, (3, 4, 3), dtype=np.uint8)
SCENE = BLOCKS.repeat(16, axis=0).repeat(16, axis=1)
PICTURE = Image.fromarray(SCENE)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


def tiff(data: bytes, **changed: int) -> bytes:
    """A one-strip grey TIFF of 2 x 1 pixels, or what `changed` makes of it."""
    fields = {"t256": 2, "t257": 1, "t258": 8, "t259": 1, "t262": 1, "t273": 0, "t277": 1}
    fields |= {"t279": len(data)} | changed
    start = 8 + 2 + 12 * len(fields) + 4
    fields |= {name: start for name in ("t273", "t324") if name in fields}
    entries = (struct.pack("<HHII", int(name[1:]), 4, 1, fields[name]) for name in sorted(fields))
    return struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + b"".join(entries) + bytes(4) + data


def gif(width: int, height: int) -> bytes:
    """A GIF whose screen and frame declare a size its one code of data cannot fill."""
    screen = struct.pack("<HHBBB", width, height, 0, 0, 0)
    frame = struct.pack("<4HB", 0, 0, width, height, 0)
    return b"GIF89a" + screen + b"," + frame + b"\x02\x02\x44\x01\0;"


def webp_header(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + b"VP8 " + bytes(8)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def code_of(data: bytes, limits: DecodeLimits = LIMITS) -> ImageErrorCode:
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    assert caught.value.reason
    return caught.value.code


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


GREY16 = Image.fromarray(np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16))
LOSSLESS = {
    "png": encode(PICTURE, "PNG"),
    "png-palette": encode(PICTURE.quantize(16), "PNG"),
    "webp-lossless": encode(PICTURE, "WEBP", lossless=True),
    "gif": encode(PICTURE.quantize(16), "GIF"),
    "gif-animated": encode(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)]),
    "bmp": encode(PICTURE, "BMP"),
    "tiff": encode(PICTURE, "TIFF"),
    "tiff-lzw": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff-deflate": encode(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "bigtiff": encode(PICTURE, "TIFF", big_tiff=True),
}
LOSSY = {
    "jpeg": encode(PICTURE, "JPEG", quality=95),
    "jpeg-progressive": encode(PICTURE, "JPEG", quality=95, progressive=True),
    "jpeg-cmyk": encode(PICTURE.convert("CMYK"), "JPEG", quality=95),
    "jpeg-thumbnailed": encode(PICTURE, "JPEG", exif=b"Exif\0\0" + encode(PICTURE, "JPEG")),
    "webp": encode(PICTURE, "WEBP", quality=95),
    "tiff-jpeg": encode(PICTURE, "TIFF", compression="jpeg", quality=95),
}
VALID = LOSSLESS | LOSSY | {"png-16": encode(GREY16, "PNG"), "tiff-16": encode(GREY16, "TIFF")}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_come_out_as_they_went_in(name: str) -> None:
    pixels = decode(LOSSLESS[name], LIMITS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, SCENE)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_come_out_near(name: str) -> None:
    pixels = decode(LOSSY[name], LIMITS)
    middles = pixels[8::16, 8::16].astype(int)
    assert pixels.shape == SCENE.shape
    assert np.abs(middles - BLOCKS).max() <= 20


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("1", 1, "PNG", (255, 255, 255)),
        ("1", 0, "TIFF", (0, 0, 0)),
        ("L", 90, "JPEG", (90, 90, 90)),
        ("L", 90, "BMP", (90, 90, 90)),
        ("LA", (90, 0), "PNG", (255, 255, 255)),
        ("LA", (90, 255), "TIFF", (90, 90, 90)),
        ("RGBA", (200, 0, 0, 0), "PNG", (255, 255, 255)),
        ("RGBA", (200, 0, 100, 51), "PNG", (244, 204, 224)),
        ("RGBA", (200, 0, 0, 0), "WEBP", (255, 255, 255)),
        ("RGBA", (200, 10, 0, 255), "TIFF", (200, 10, 0)),
        ("CMYK", (255, 0, 0, 0), "TIFF", (0, 255, 255)),
        ("CMYK", (255, 0, 0, 0), "JPEG", (0, 255, 255)),
        ("CMYK", (0, 0, 0, 255), "JPEG", (0, 0, 0)),
        ("YCbCr", (128, 128, 128), "TIFF", (128, 128, 128)),
        ("PA", (0, 0), "TIFF", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb_on_white(
    mode: str, colour: Any, kind: str, expected: tuple[int, int, int]
) -> None:
    pixels = decode(encode(Image.new(mode, (16, 16), colour), kind), LIMITS)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(kind: str) -> None:
    picture = PICTURE.quantize(16)
    transparent = np.asarray(picture) == picture.getpixel((0, 0))
    pixels = decode(encode(picture, kind, transparency=picture.getpixel((0, 0))), LIMITS)
    assert (pixels[transparent] == 255).all()
    np.testing.assert_array_equal(pixels[~transparent], SCENE[~transparent])


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3), (16, 16, 4)])
def test_16_bits_keep_their_high_byte(extension: str, shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(3).integers(0, 65536, shape, dtype=np.uint16)
    samples[..., 3:] = 65535
    high = (samples >> 8).astype(np.uint8)
    expected = high[..., 2::-1] if high.ndim == 3 else np.dstack([high] * 3)
    data = cv2.imencode(extension, samples)[1].tobytes()
    np.testing.assert_array_equal(decode(data, LIMITS), expected)


def test_16_bits_in_their_rarer_forms() -> None:
    two = struct.pack("<2H", 0xFF00, 0x1234)
    assert decode(tiff(two, t258=16, t262=0), LIMITS)[0, :, 0].tolist() == [0x00, 0xED]
    assert decode(tiff(b"\xff\xf8\x00", t258=12), LIMITS)[0, :, 0].tolist() == [0xFF, 0x80]
    key = png_chunk(b"tRNS", struct.pack(">H", 0x1234))
    grey = b"\0" + struct.pack(">2H", 0x1234, 0x5678)
    assert decode(png(2, 1, 16, 0, grey, key), LIMITS)[0, :, 0].tolist() == [0xFF, 0x56]
    key = png_chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
    colours = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x3456, 0x789A, 0xBCDE)
    expected = [[255, 255, 255], [0x34, 0x78, 0xBC]]
    assert decode(png(2, 1, 16, 2, colours, key), LIMITS)[0].tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "tiff-lzw"])
def test_exif_orientation_gives_the_upright_picture(kind: str, orientation: int) -> None:
    # A camera held that way stores the scene turned back.
    stored = {
        1: SCENE,
        2: SCENE[:, ::-1],
        3: SCENE[::-1, ::-1],
        4: SCENE[::-1],
        5: SCENE.swapaxes(0, 1),
        6: np.rot90(SCENE, 1),
        7: SCENE[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(SCENE, -1),
    }[orientation]
    lossless: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    options = {"compression": "tiff_lzw"} if kind == "tiff-lzw" else lossless
    picture = Image.fromarray(np.ascontiguousarray(stored))
    data = encode(picture, kind.split("-")[0].upper(), exif=turned(orientation), **options)
    np.testing.assert_array_equal(decode(data, LIMITS), SCENE)


@pytest.mark.filterwarnings("ignore")
def test_a_broken_exif_block_costs_the_turn_and_not_the_picture() -> None:
    upright = decode(encode(PICTURE, "JPEG"), LIMITS)
    for exif in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0nonsense", b"?"):
        np.testing.assert_array_equal(decode(encode(PICTURE, "JPEG", exif=exif), LIMITS), upright)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><svg></svg></html>", "not_an_image"),
        (b"BMW, and other words that only begin like a bitmap", "not_an_image"),
        (b'{"tags": []}', "not_an_image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not_an_image"),
        (bytes(100), "not_an_image"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported"),
        (b"%PDF-1.7", "unsupported"),
        (b"\0\0\0\x18ftypheic", "unsupported"),
        (encode(PICTURE, "PPM"), "unsupported"),
        (encode(PICTURE, "ICO"), "unsupported"),
        (encode(Image.new("F", (3, 2)), "TIFF"), "unsupported"),
        (encode(Image.new("I", (3, 2)), "TIFF"), "unsupported"),
        (encode(Image.new("LAB", (3, 2)), "TIFF"), "unsupported"),
        (tiff(bytes(16), t258=64), "unsupported"),
        (LOSSY["jpeg"].replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), "unsupported"),
        (png(0, 5, 8, 2, b""), "corrupt"),
        (png(2, 2, 8, 3, bytes(6)), "corrupt"),
        (png(2, 2, 8, 2, bytes(14)).replace(b"IDAT", b"IDAX"), "corrupt"),
        (b"GIF89a\x04\0\x04\0\0\0\0;", "corrupt"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_use_says_why(data: bytes, code: str) -> None:
    assert code_of(data) == code


@pytest.mark.parametrize("name", VALID)
@pytest.mark.filterwarnings("ignore")
def test_a_picture_cut_in_half_is_truncated(name: str) -> None:
    data = VALID[name]
    assert code_of(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize(
    "data",
    [
        encode(PICTURE, "PNG"),
        encode(PICTURE.resize((96, 96)), "JPEG", quality=50, optimize=True),
    ],
)
def test_a_download_that_stopped_in_a_file_of_full_length_is_truncated(data: bytes) -> None:
    # Zeros are sound codes in both of these scans: Pillow alone makes up the rest in silence.
    missing = len(data) // 3
    zeroed = data[:-missing] + bytes(missing)
    Image.open(BytesIO(zeroed)).load()
    assert code_of(zeroed) == "truncated"


def test_a_png_whose_pixels_fail_their_checksum_is_corrupt() -> None:
    data = bytearray(png(2, 2, 8, 2, bytes(14)))
    data[data.index(b"IDAT") + 8] ^= 1
    assert code_of(bytes(data)) == "corrupt"


def test_a_tiff_cut_in_its_last_strip_is_truncated() -> None:
    whole = tiff(zlib.compress(bytes(2)), t259=8)
    assert decode(whole, LIMITS).shape == (1, 2, 3)
    # libtiff says only that the strip would not decode.
    assert code_of(whole[:-4]) == "truncated"


@pytest.mark.parametrize(
    "data",
    [
        png(60_000, 60_000, 8, 2, bytes(100)),
        png(2**31, 2**31, 8, 2, b""),
        gif(3000, 3000),
        gif(65_535, 65_535),
        encode(Image.new("RGB", (3000, 3000)), "WEBP"),
        webp_header(16_383, 16_383),
        encode(Image.new("1", (3000, 3000)), "BMP"),
        encode(Image.new("1", (3000, 3000)), "TIFF", compression="group4"),
        tiff(bytes(100), t256=60_000, t257=60_000),
        tiff(zlib.compress(bytes(100)), t259=8, t322=32_768, t323=32_768, t324=0, t325=20),
        encode(PICTURE.resize((3000, 3000)), "JPEG"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_bomb_is_refused_by_its_header(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise AssertionError("a pixel was decoded")

    for opener in (ImageFile.ImageFile, *ImageFile.ImageFile.__subclasses__()):
        monkeypatch.setattr(opener, "load", load)
    assert code_of(data) == "too_large"


def test_the_limits_are_inclusive_and_also_on_bytes() -> None:
    data = LOSSLESS["png"]
    pixels = SCENE.shape[0] * SCENE.shape[1]
    just = DecodeLimits(max_bytes=len(data), max_pixels=pixels)
    assert decode(data, just).shape == SCENE.shape
    assert code_of(data, DecodeLimits(max_bytes=len(data) - 1)) == "too_large"
    assert code_of(data, DecodeLimits(max_pixels=pixels - 1)) == "too_large"


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt"])
def test_a_bomb_in_a_side_chunk_is_refused(name: bytes) -> None:
    chunk = png_chunk(name, b"x\0\0" + zlib.compress(bytes(20_000_000)))
    assert code_of(png(2, 2, 8, 2, bytes(14), chunk)) == "too_large"


def survives(data: bytes) -> None:
    """Decodes to pixels, or raises ImageError: anything else fails the test."""
    try:
        pixels = decode(data, LIMITS)
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.size


@pytest.mark.parametrize("name", VALID)
@pytest.mark.filterwarnings("ignore")
def test_mutated_bytes_never_crash(name: str) -> None:
    edits = st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.booleans()),
        min_size=1,
        max_size=6,
    )

    @BOUNDED
    @given(edits=edits)
    def check(edits: list[tuple[float, int, bool]]) -> None:
        data = bytearray(VALID[name])
        for where, value, in_header in edits:
            data[int(where * min(len(data), 300 if in_header else len(data)))] = value
        survives(bytes(data))

    check()


@pytest.mark.parametrize("name", [name for name in VALID if name.startswith("png")])
@pytest.mark.filterwarnings("ignore")
def test_mutated_png_chunks_with_right_checksums_never_crash(name: str) -> None:
    chunks, at = [], 8
    while at < len(VALID[name]):
        (length,) = struct.unpack_from(">I", VALID[name], at)
        chunks.append((VALID[name][at + 4 : at + 8], VALID[name][at + 8 : at + 8 + length]))
        at += 12 + length
    names = st.sampled_from([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"fcTL", b"acTL", b"eXIf"])
    replacements = st.tuples(st.integers(0, 9), names, st.binary(max_size=30))

    @BOUNDED
    @given(edits=st.lists(replacements, min_size=1, max_size=3))
    def check(edits: list[tuple[int, bytes, bytes]]) -> None:
        edited = list(chunks)
        for index, kind, body in edits:
            edited[index % len(edited)] = (kind, body)
        survives(VALID[name][:8] + b"".join(png_chunk(*chunk) for chunk in edited))

    check()


@pytest.mark.parametrize("name", VALID)
@pytest.mark.filterwarnings("ignore")
def test_a_prefix_is_the_whole_picture_or_none(name: str) -> None:
    data = VALID[name]
    whole = decode(data, LIMITS)

    @BOUNDED
    @given(cut=st.integers(0, len(data) - 1))
    def check(cut: int) -> None:
        try:
            pixels = decode(data[:cut], LIMITS)
        except ImageError:
            return
        np.testing.assert_array_equal(pixels, whole)

    check()


def test_the_codes_are_a_closed_list() -> None:
    assert [str(code) for code in ImageErrorCode] == [
        "empty",
        "not_an_image",
        "unsupported",
        "truncated",
        "corrupt",
        "too_large",
        "unreadable_uri",
        "duplicate_id",
    ]


def test_an_error_crosses_a_process_border_whole() -> None:
    error = ImageError(ImageErrorCode.CORRUPT, "a reason")
    there = pickle.loads(pickle.dumps(error))
    assert (there.code, there.reason, str(there)) == (error.code, "a reason", "corrupt: a reason")
