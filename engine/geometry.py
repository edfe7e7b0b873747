"""Pixels to the square that a backbone takes, and to thumbnails; arrays are uint8 RGB [H, W, 3]."""

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = Literal["reference", "scaled", "vectorised"]
"""How bytes become the backbone's square: 'reference' is Pillow's full decoding and resizing;
'scaled' has libjpeg decode big JPEGs at a fraction of their size first, within 1.5 levels of it on
the average; 'vectorised' also resizes by torch's kernel, within 2 levels more, in a third of the
time (0.2 of 0.5 ms), for which every worker imports torch (2 s)."""

OVERSAMPLING = 3
"""A scaled picture is still at least this many times the size that it is resized to."""

_LONGEST = 8
"""Above this ratio of its sides a picture is not resized whole before it is cropped."""


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes a backbone's square of `size` pixels; bicubic throughout.

    squash: straight to the square, whatever the aspect. crop: the short side to `resize_to`,
    then the centre of it, as torchvision and timm evaluate; squash has no use for `resize_to`.

    Raises ValueError for a size below 1, or a crop larger than what it is cut from.
    """

    mode: Literal["squash", "crop"]
    size: int
    resize_to: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, found {self.size}")
        if self.mode == "crop" and self.resize_to < self.size:
            raise ValueError(f"resize_to must be at least size, {self.size}: {self.resize_to}")

    def least_side(self, pixels: Pixels) -> int | None:
        """How many pixels each side must keep in a scaled decoding; None: no scaling."""
        if pixels == "reference":
            return None
        return OVERSAMPLING * (self.resize_to if self.mode == "crop" else self.size)


def load_resizer(pixels: Pixels) -> None:
    """Have what `fit_to` needs ready in this process, with one thread: a worker has one core."""
    if pixels == "vectorised":
        import torch

        torch.set_num_threads(1)


def fit_to(
    pixels_HW3: NDArray[np.uint8], geometry: Geometry, pixels: Pixels = "reference"
) -> NDArray[np.uint8]:
    """The backbone's square of a picture [H, W, 3], uint8 [size, size, 3]."""
    if pixels == "vectorised":
        return _by_torch(pixels_HW3, geometry)
    return _by_pillow(pixels_HW3, geometry)


def thumbnail(pixels_HW3: NDArray[np.uint8], side: int) -> bytes:
    """A JPEG of a picture [H, W, 3], its longer side `side` pixels and the other at least one."""
    image = Image.fromarray(pixels_HW3)
    longer = max(image.size)
    width, height = (max(1, round(length * side / longer)) for length in image.size)
    out = BytesIO()
    image.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
    return out.getvalue()


def _by_pillow(pixels_HW3: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Pillow's bicubic, whose support widens when shrinking (antialiased).

    The ImageNet figures of EfficientNet-Lite were measured with it. Memory stays bounded for any
    aspect ratio: of a tall strip Pillow 13 shrinks the height first, before the width can grow.
    """
    image = Image.fromarray(pixels_HW3)
    width, height = image.size
    size = geometry.size
    box = (0.0, 0.0, float(width), float(height))
    if geometry.mode == "crop":
        # Resizing the box, not the whole to be cut after, gives the same pixels and never makes
        # the long side: of 1 x 5,000 px, with a short side of 256, that is 1.3 M px long.
        short = min(width, height)
        left, right = _centre(width, width * geometry.resize_to // short, size)
        top, bottom = _centre(height, height * geometry.resize_to // short, size)
        box = (left, top, right, bottom)
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _by_torch(pixels_HW3: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """The same filter in integers, several pixels an instruction; it cannot resize from a box."""
    import torch
    from torch.nn.functional import interpolate

    height, width, _ = pixels_HW3.shape
    size = geometry.size
    target = (size, size)
    if geometry.mode == "crop":
        short = min(width, height)
        if max(width, height) > _LONGEST * short:
            return _by_pillow(pixels_HW3, geometry)
        target = (height * geometry.resize_to // short, width * geometry.resize_to // short)
    # Torch takes no memory that is read-only, nor warns of it only once.
    owned = pixels_HW3 if pixels_HW3.flags.writeable else pixels_HW3.copy()
    picture_13HW = torch.from_numpy(owned).permute(2, 0, 1)[None]
    resized = interpolate(picture_13HW, target, mode="bicubic", antialias=True)
    square: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    top, left = (round((length - size) / 2) for length in target)
    return square[top : top + size, left : left + size]


def _centre(length: int, resized: int, size: int) -> tuple[float, float]:
    """Where, along a side of `length`, the centre `size` of that side `resized` lies.

    The rounding of the offset is torchvision's CenterCrop's.
    """
    first = round((resized - size) / 2)
    scale = length / resized
    return first * scale, min((first + size) * scale, length)
