"""What tells whether two pictures are the same: hashes of bytes, of pixels, and of how it looks."""

import hashlib

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

DIGEST_BYTES = 32
"""Of a SHA-256."""

HASH_BITS = 64
"""Of the perceptual hash, and so the largest distance between two."""


def bytes_digest(data: bytes) -> bytes:
    """SHA-256 of a picture's file."""
    return hashlib.sha256(data).digest()


def pixels_digest(pixels_HW3: NDArray[np.uint8]) -> bytes:
    """SHA-256 of a picture's height, width and RGB pixels, whatever the file they came from."""
    height, width, _ = pixels_HW3.shape
    digest = hashlib.sha256(f"{height}x{width};".encode())
    digest.update(np.ascontiguousarray(pixels_HW3).data)
    return digest.digest()


def perceptual_hash(pixels_HW3: NDArray[np.uint8]) -> int:
    """pHash of a picture: 64 bits, which differ in few places where two pictures look alike.

    The signs, about their median, of the 8 x 8 lowest frequencies of the cosine transform of the
    picture in grey, squashed to 32 x 32. A mirror image or a turned one has another hash.
    """
    found = imagehash.phash(Image.fromarray(pixels_HW3), hash_size=8)
    return int.from_bytes(np.packbits(found.hash).tobytes(), "big")


def hash_distance(one_N: NDArray[np.uint64], other_N: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Bits, 0 to 64, in which perceptual hashes differ, pair by pair: int64 [N].

    Shapes that NumPy broadcasts give what they broadcast to.
    """
    distance_N: NDArray[np.int64] = np.bitwise_count(one_N ^ other_N).astype(np.int64)
    return distance_N
