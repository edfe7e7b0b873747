"""Many uniform numbers from one: what a picture draws, whichever rank has it."""

import numpy as np
from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def spread_draws(draws_B: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), float64 [B, count]: a row depends on its draw alone.

    SplitMix64 (Steele, Lea and Flood 2014), started from the draw's bits.

    Args:
        draws_B: in [0, 1).
    """
    start_B1 = (draws_B * 2.0**53).astype(np.uint64)[:, None]
    with np.errstate(over="ignore"):
        bits = _mixed(_mixed(start_B1) + _STEP * np.arange(1, count + 1, dtype=np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * _MIXERS[0]
    bits = (bits ^ (bits >> np.uint64(27))) * _MIXERS[1]
    return bits ^ (bits >> np.uint64(31))
