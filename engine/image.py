"""Bytes to pixels: every image error is born here, under a closed list of codes.

Pillow does the decoding; this file decides what is let in, how large, and what each failure is
called. Sizes are in pixels, arrays are uint8 RGB [H, W, 3].
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from engine.image_cut import is_cut, is_damaged


class ImageErrorCode(StrEnum):
    """Why a picture has no pixels. Closed: nothing outside this list is ever reported."""

    EMPTY = "empty"  # no bytes at all
    NOT_AN_IMAGE = "not_an_image"  # no picture format known here begins like this
    UNSUPPORTED = "unsupported"  # a picture, but of a format or pixel type not decoded here
    TRUNCATED = "truncated"  # the bytes end before the picture does
    CORRUPT = "corrupt"  # the bytes are all there, and break the rules of their format
    TOO_LARGE = "too_large"  # over the limit on bytes or on pixels
    UNREADABLE_URI = "unreadable_uri"  # the bytes could not be fetched; raised by a source
    DUPLICATE_ID = "duplicate_id"  # an earlier row has the same id; raised by a source


class ImageError(Exception):
    """One picture that cannot be used: a code and a reason in words.

    Belongs to the picture, not to the job: the decode stage catches it and writes it in the row.
    """

    def __init__(self, code: ImageErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


@dataclass(frozen=True)
class DecodeLimits:
    """What is refused unread: over `max_bytes` encoded, or over `max_pixels` (H * W) declared.

    Raises ValueError for a limit below 1.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pixels) < 1:
            raise ValueError(f"max_bytes and max_pixels must be at least 1: {self}")


# The classes themselves, not Image.open: it tries every plugin there is on hostile bytes, and
# warns by a limit that is global to the process where ours belongs to the call.
_OPENERS: dict[str, Callable[[BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\1\0", "ICO"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    *((b"P%d" % kind + blank, "Netpbm") for kind in range(1, 8) for blank in (b"\n", b" ")),
)
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"}

# All that Pillow 13 was read, or fuzzed, to raise on hostile bytes.
_HOSTILE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
)
# MemoryError: within the limits of size, it is Pillow's word for a declared buffer that cannot be.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
# Pillow's own words, where the type of its exception does not tell these from a broken file.
_TELLING = (
    (ImageErrorCode.TOO_LARGE, ("too large", "too much memory")),
    (ImageErrorCode.UNSUPPORTED, ("unsupported", "not yet supported", "cannot handle")),
    (ImageErrorCode.UNSUPPORTED, ("unknown pixel mode", "unknown data organization")),
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EIGHT_BIT_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _TILE_WIDTH, _TILE_LENGTH = 258, 262, 274, 322, 323


def decode(data: bytes, limits: DecodeLimits, least_side: int | None = None) -> NDArray[np.uint8]:
    """The upright RGB pixels [H, W, 3], uint8 and full size, of JPEG, PNG, WebP, GIF, BMP or TIFF.

    The first frame counts; EXIF orientation is applied; whatever is transparent is laid on white;
    CMYK is converted without its profile (JPEGs taken as Adobe's, inverted); 16 bits keep their
    high byte. Float and 32-bit integer samples, whose range no header tells, are `unsupported`.
    A JPEG with noise amid its scan, yet with its end in place, decodes as libjpeg makes of it.
    With `least_side`, libjpeg leaves out a JPEG's high frequencies and gives it at a half, a
    quarter or an eighth of its size, as long as both sides keep that many pixels.

    Raises ImageError, and for the picture's own faults nothing else.
    """
    if not data:
        raise ImageError(ImageErrorCode.EMPTY, "there are no bytes")
    if len(data) > limits.max_bytes:
        reason = f"{len(data)} bytes, over the limit of {limits.max_bytes}"
        raise ImageError(ImageErrorCode.TOO_LARGE, reason)
    kind = _sniff(data)
    if kind is None:
        reason = f"begins with {data[:8]!r}, as no known picture format does"
        raise ImageError(ImageErrorCode.NOT_AN_IMAGE, reason)
    if kind not in _OPENERS:
        reason = f"{kind} pictures are not decoded; convert it to one of {', '.join(_OPENERS)}"
        raise ImageError(ImageErrorCode.UNSUPPORTED, reason)
    try:
        image = _OPENERS[kind](BytesIO(data))
        for what, (width, height) in _declared_sizes(image):
            if width * height > limits.max_pixels:
                limit = f"over the limit of {limits.max_pixels}"
                reason = f"{kind} {what} of {width} x {height} pixels, {limit}"
                raise ImageError(ImageErrorCode.TOO_LARGE, reason)
        if is_damaged(kind, data):
            raise _broken(kind, data, "its pixel data fail the format's own check")
        if least_side is not None and isinstance(image, JpegImageFile):
            image.draft(image.mode, (least_side, least_side))
        image.load()
        rgb = _to_rgb(image)
        turn = _TURNS.get(_orientation(image))
        return np.array(rgb if turn is None else rgb.transpose(turn))
    except _BOMBS as error:
        raise ImageError(ImageErrorCode.TOO_LARGE, f"{kind}: {error or 'memory'}") from error
    except _HOSTILE as error:
        raise _broken(kind, data, str(error)) from error


def _sniff(data: bytes) -> str | None:
    """The format the bytes begin like, supported or not; None if it is no picture's."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    # Two letters are too few: text begins with BM as well.
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIC or AVIF"
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    is_svg = head.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in head
    return "SVG" if head.startswith(b"<svg") or (is_svg and b"<html" not in head) else None


def _broken(kind: str, data: bytes, detail: str) -> ImageError:
    """The error for bytes of a `kind` that did not decode, named after Pillow's word for it."""
    detail = f"{kind}: {detail}"[:200]
    if "truncated" in detail or is_cut(kind, data):
        return ImageError(ImageErrorCode.TRUNCATED, f"ends before the picture does ({detail})")
    for code, phrases in _TELLING:
        if any(phrase in detail.lower() for phrase in phrases):
            return ImageError(code, detail)
    return ImageError(ImageErrorCode.CORRUPT, f"cannot be decoded ({detail})")


def _declared_sizes(image: ImageFile.ImageFile) -> list[tuple[str, tuple[int, int]]]:
    """What decoding will make room for: the picture, and a TIFF's tile, however small the first."""
    sizes = [("picture", image.size)]
    if isinstance(image, TiffImageFile) and _TILE_WIDTH in image.tag_v2:
        tile = image.tag_v2[_TILE_WIDTH], image.tag_v2.get(_TILE_LENGTH, 1)
        sizes.append(("tile", tile))
    return sizes


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 to 8. A broken EXIF block costs the turn, not the picture."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except _HOSTILE:
        return 1
    return orientation if isinstance(orientation, int) else 1


def _to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """A loaded picture of any mode as RGB, on white where it is transparent."""
    if image.mode.startswith("I;16"):
        return _grey_of_16_bits(image).convert("RGB")
    if image.mode not in _EIGHT_BIT_MODES:
        reason = f"{image.format} with pixels of type {image.mode!r}, not 8-bit nor 16-bit grey"
        raise ImageError(ImageErrorCode.UNSUPPORTED, reason)
    if image.mode == "P" and image.palette is None:
        # Pillow only asserts this, on the way to a grey picture of palette indices.
        raise ImageError(
            ImageErrorCode.CORRUPT, f"{image.format} of palette colours has no palette"
        )
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        # Of 16-bit RGB Pillow keeps the high bytes, but the transparent colour whole.
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba)
    return canvas


def _grey_of_16_bits(image: ImageFile.ImageFile) -> Image.Image:
    """16-bit grey scaled to 8 bits; Pillow's own conversion clips at 255 instead."""
    grey_HW = np.asarray(image).astype(np.uint16)
    bits = 16
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (bits,))[0]
        if image.tag_v2.get(_PHOTOMETRIC) == 0:
            grey_HW = ~grey_HW
    scaled_HW = (grey_HW >> (bits - 8)).astype(np.uint8)
    if "transparency" in image.info:
        scaled_HW[grey_HW == image.info["transparency"]] = 255
    return Image.fromarray(scaled_HW)
