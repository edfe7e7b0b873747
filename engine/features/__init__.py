"""The twelve hand-crafted features of Sun et al.: what they are called, and how wide each is."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from engine.features import codebook, colour, edges, gist, lbp, wavelets

FEATURES: Mapping[str, int] = MappingProxyType(
    {
        "hsv-histogram": colour.HSV_WIDTH,
        "lab-moments": colour.LAB_WIDTH,
        "edge-directions": edges.WIDTH,
        "wavelet-texture": wavelets.WIDTH,
        "lbp": lbp.WIDTH,
        "gist": gist.WIDTH,
        "sift-dense": codebook.WIDTH,
        "sift-harris": codebook.WIDTH,
        "c-sift-dense": codebook.WIDTH,
        "c-sift-harris": codebook.WIDTH,
        "rgb-sift-dense": codebook.WIDTH,
        "rgb-sift-harris": codebook.WIDTH,
    }
)
"""Name -> numbers a picture. The last six are bags of visual words: which descriptor, and on which
points."""


def feature_slices(names: Sequence[str] = tuple(FEATURES)) -> dict[str, slice]:
    """Where each feature lies when those named stand side by side."""
    slices, start = {}, 0
    for name in names:
        slices[name] = slice(start, start + FEATURES[name])
        start += FEATURES[name]
    return slices
