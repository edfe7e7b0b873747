"""ML-Decoder's attention head in NumPy: what a fitted one needs, without torch."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

_EPSILON = np.float32(1e-5)

Weights = Mapping[str, NDArray[np.float32]]


def decode(
    features_BD: NDArray[np.float32], weights: Weights, levels: Sequence[int], heads: int, tags: int
) -> NDArray[np.float32]:
    """Log-odds float32 [B, V] of features, as `engine.training.decoder.Decoder` computes them.

    Args:
        features_BD: float32 [B, D], the levels side by side.
        weights: what `Decoder.arrays` gave: K queries of width W, weights [in, out].
        levels: their widths, which add up to D.
        heads: of the attention.
        tags: V.
    """
    parts = np.split(features_BD, np.cumsum(levels)[:-1], axis=1)
    tokens_BTW = np.stack(
        [
            np.maximum(part @ weights[f"token{n}"] + weights[f"token{n}_bias"], 0)
            for n, part in enumerate(parts)
        ],
        axis=1,
    )
    query_KW = _normalised(weights["queries"], weights, "norm1")
    found_BKW = _attended(query_KW, tokens_BTW, weights, heads)
    hidden_BKW = _normalised(query_KW + found_BKW, weights, "norm2")
    wide_BKH = np.maximum(_linear(hidden_BKW, weights, "wide"), 0)
    hidden_BKW = _normalised(hidden_BKW + _linear(wide_BKH, weights, "narrow"), weights, "norm3")
    # A product a group, for all the pictures at once.
    logits_KBE = hidden_BKW.transpose(1, 0, 2) @ weights["out"]
    batch, each = logits_KBE.shape[1], logits_KBE.shape[2]
    logits_BV = logits_KBE.transpose(1, 0, 2).reshape(batch, len(query_KW) * each)[:, :tags]
    found: NDArray[np.float32] = logits_BV + features_BD @ weights["direct"] + weights["bias"]
    return found


def _attended(
    query_KW: NDArray[np.float32], tokens_BTW: NDArray[np.float32], weights: Weights, heads: int
) -> NDArray[np.float32]:
    """Scaled dot-product attention of the queries to the tokens, [B, K, W]."""
    batch, tokens, width = tokens_BTW.shape
    size = width // heads
    query_HKS = _linear(query_KW, weights, "query").reshape(-1, heads, size).transpose(1, 0, 2)
    key_BHTS = _linear(tokens_BTW, weights, "key").reshape(batch, tokens, heads, size)
    value_BHTS = _linear(tokens_BTW, weights, "value").reshape(batch, tokens, heads, size)
    key_BHST = key_BHTS.transpose(0, 2, 3, 1)
    share_BHKT = softmax(query_HKS @ key_BHST / np.sqrt(np.float32(size)), axis=-1)
    mixed_BHKS = share_BHKT @ value_BHTS.transpose(0, 2, 1, 3)
    joined_BKW = mixed_BHKS.transpose(0, 2, 1, 3).reshape(batch, len(query_KW), width)
    return _linear(joined_BKW, weights, "mix")


def _linear(x: NDArray[np.float32], weights: Weights, name: str) -> NDArray[np.float32]:
    product: NDArray[np.float32] = x @ weights[f"{name}_weight"] + weights[f"{name}_bias"]
    return product


def _normalised(x: NDArray[np.float32], weights: Weights, name: str) -> NDArray[np.float32]:
    """Layer normalisation of the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    scaled: NDArray[np.float32] = centred / np.sqrt(variance + _EPSILON)
    return scaled * weights[f"{name}_scale"] + weights[f"{name}_shift"]
