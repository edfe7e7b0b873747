"""What fitted networks of modalities say of pictures: NumPy for vectors, torch for pixels."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.modalities.settings import PIXELS, PixelSettings
from engine.numerics.similarity import TEMPERATURES, Similarity, similarities

Arrays = dict[str, NDArray[np.float32]]
"""The weights of one modality by name: tags, weights0, bias0, weights1, ..."""

PICTURES = 16
"""In one pass of the network on pixels."""


def chances(
    view_B: NDArray[np.generic],
    view: str,
    similarity: Similarity,
    arrays: Mapping[str, NDArray[np.float32]],
    pixels: PixelSettings,
) -> NDArray[np.float32]:
    """p of Sun et al., Eq. 5: float32 [B, V], each row a distribution over the tags."""
    if view == PIXELS:
        found_BV = _of_pixels(view_B.astype(np.uint8, copy=False), similarity, arrays, pixels)
    else:
        found_BH = representation(view_B.astype(np.float32, copy=False), arrays)
        found_BV = similarities(found_BH, arrays["tags"], similarity)
    logits_BV = found_BV / np.float32(TEMPERATURES[similarity])
    logits_BV -= logits_BV.max(axis=1, keepdims=True)
    raised_BV: NDArray[np.float32] = np.exp(logits_BV)
    raised_BV /= raised_BV.sum(axis=1, keepdims=True)
    return raised_BV


def representation(
    x_BD: NDArray[np.float32], arrays: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """A picture through its dense network: float32 [B, H]."""
    found, place = x_BD, 0
    while f"weights{place}" in arrays:
        found = np.maximum(found @ arrays[f"weights{place}"] + arrays[f"bias{place}"], 0)
        place += 1
    return found


def _of_pixels(
    squares_BHWC: NDArray[np.uint8],
    similarity: Similarity,
    arrays: Mapping[str, NDArray[np.float32]],
    settings: PixelSettings,
) -> NDArray[np.float32]:
    # Here, not above: torch takes seconds that one who scores vectors need not pay.
    import torch

    from engine.modalities.networks import Comparison, PixelTrunk

    tags = len(arrays["tags"])
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        network = Comparison(PixelTrunk(settings), tags, similarity).fill(arrays)
        parts = [np.zeros((0, tags), dtype=np.float32)]
        for start in range(0, len(squares_BHWC), PICTURES):
            # A copy: what is mapped from a file is read-only, which torch does not take.
            squares = torch.from_numpy(squares_BHWC[start : start + PICTURES].copy())
            parts.append(network(squares, None).numpy())
    return np.concatenate(parts)
