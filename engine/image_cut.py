"""Whether a picture's bytes are all there and unharmed, told by its format's own structure."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_TIFF_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TIFF_STRIPS_AND_TILES = ((273, 279), (324, 325))


def is_cut(kind: str, data: bytes) -> bool:
    """Whether bytes of `kind` (JPEG, PNG, WebP, GIF, BMP or TIFF) end before the picture does.

    For naming a failure: a picture without its end mark may have every pixel, and decode.
    """
    return _IS_CUT[kind](data)


def is_damaged(kind: str, data: bytes) -> bool:
    """Whether Pillow might fill in, without a word, for pixels that are lost.

    It does for a few JPEGs that go on in zeros instead of ending, as a download that stopped in
    a file of full length, and it leaves the checksums of a PNG's pixel data unread.
    """
    return _jpeg_is_cut(data) if kind == "JPEG" else kind == "PNG" and _png_fails_checksum(data)


def _jpeg_is_cut(data: bytes) -> bool:
    """Whether a JPEG has no end after its first scan; an EXIF thumbnail's end does not count."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at) < 0
        padding = data[at + 1] == 0xFF
        at += 1 if padding else 2 + int.from_bytes(data[at + 2 : at + 4])
    return at + 4 > len(data)


def _png_fails_checksum(data: bytes) -> bool:
    """Whether a chunk of pixel data, there to its end, differs from its CRC."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return False
        if name == b"IDAT" and zlib.crc32(view[at + 4 : end]) != int.from_bytes(
            view[end : end + 4]
        ):
            return True
        at = end + 4
    return False


def _tiff_is_cut(data: bytes) -> bool:
    """Whether a TIFF's first directory, or what that points to, lies past the end of the bytes.

    BigTIFF is not looked into.
    """
    order = "<" if data[:1] == b"I" else ">"
    if data[2:4] in (b"+\0", b"\0+"):
        return False
    if len(data) < 8:
        return True
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return True
    (entries,) = struct.unpack_from(order + "H", data, start)
    if start + 2 + 12 * entries > len(data):
        return True
    listed: dict[int, NDArray[np.int64]] = {}
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        size = _TIFF_SIZES.get(kind, 1)
        inline = count * size <= 4
        where = at + 8 if inline else struct.unpack_from(order + "I", data, at + 8)[0]
        if where + count * size > len(data):
            return True
        if kind in (3, 4):
            numbers = np.frombuffer(data, f"{order}u{size}", count, where)
            listed[tag] = numbers.astype(np.int64)
    return any(
        bool(np.any(listed[offsets] + listed[counts] > len(data)))
        for offsets, counts in _TIFF_STRIPS_AND_TILES
        if offsets in listed and counts in listed and len(listed[offsets]) == len(listed[counts])
    )


_IS_CUT: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _jpeg_is_cut,
    "PNG": lambda data: b"IEND" not in data,
    "WebP": lambda data: len(data) < 8 + int.from_bytes(data[4:8], "little"),
    "GIF": lambda data: not data.rstrip(b"\0").endswith(b";"),
    "BMP": lambda data: len(data) < int.from_bytes(data[2:6], "little"),
    "TIFF": _tiff_is_cut,
}
