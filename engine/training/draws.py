"""Random numbers for every unit of a network, the same whichever rank has the picture."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_TURNS = 1 << 20
_KEPT = 128
"""Layers whose numbers are kept from batch to batch."""


@lru_cache(_KEPT)
def _turns_and_starts(
    units: int, key: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(key)
    return rng.integers(1, _TURNS, units).astype(np.float64), rng.random(units)


def unit_draws(
    draws_B: NDArray[np.float64], units: int, key: tuple[int, ...]
) -> NDArray[np.float32]:
    """Numbers in [0, 1), float32 [B, U], from one number a picture: for dropout and sampling.

    Unit u takes the fraction of turns_u · draw + start_u, with whole turns and a start that are
    drawn from `key` alone. For a draw that is uniform that is uniform too, and any two units with
    different turns are independent in their first moments.

    Args:
        draws_B: one a picture and epoch, such as `Batch.draws_B`.
        key: not negative; of the layer and the epoch.
    """
    turns_U, start_U = _turns_and_starts(units, key)
    found_BU = draws_B[:, None] * turns_U + start_U
    found_BU -= np.floor(found_BU)
    # Rounded to float32 the largest would be 1.
    fractions_BU: NDArray[np.float32] = np.minimum(found_BU, np.float32(1 - 2**-24)).astype("f4")
    return fractions_BU
