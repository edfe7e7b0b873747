"""Beam search for the likeliest sequence of tags, for all pictures and beams at once."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.sequence import NOTHING, Decoded

State = tuple[NDArray[np.float32], ...]
"""Arrays whose first axis is the rows, pictures times beams."""


class Propagation(Protocol):
    """A network that says the next tag from those before it, all rows at the same step."""

    def start(self, image_BX: NDArray[np.float32]) -> State:
        """The state before the first step, from what the network sees of each picture."""
        ...

    def step(self, state: State, last_R: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        """Log-probabilities float32 [R, V + 1] and the next state.

        Column V is END; a last tag V is START.
        """
        ...


def beam_search(
    network: Propagation,
    image_BX: NDArray[np.float32],
    tags: int,
    limit: int,
    beam: int = 1,
    least: int = 1,
) -> tuple[Decoded, NDArray[np.int64]]:
    """The sequence with the largest log-probability that a beam finds, no tag in it twice.

    That of a sequence is the sum over its tags, and END where this comes before the limit. With a
    beam of 1 it is `engine.sequence.decode_greedily`; with one as wide as there are sequences,
    exhaustive search. Of equals the first in the order of beams and tags is taken.

    Args:
        tags: V.
        limit: of the tags; there are no more than V.
        beam: K sequences of each picture that are followed.
        least: END is not taken before so many tags, as long as there are any.

    Returns:
        The sequences; and int64 [B], how many tags the network wants, one at least: those of the
        sequence, unless before `least` END was likelier already than the tag that was taken.
    """
    batch, steps, width = len(image_BX), min(limit, tags), tags + 1
    state = tuple(np.repeat(one, beam, axis=0) for one in network.start(image_BX))
    last_R = np.full(batch * beam, tags, dtype=np.int64)
    # All but one of the beams begin as dead ones, or they would all follow the same sequence.
    total_BK = np.where(np.arange(beam) == 0, 0.0, -np.inf) * np.ones((batch, 1))
    is_free_RO = np.ones((batch * beam, width), dtype=np.bool_)
    is_over_R = np.zeros(batch * beam, dtype=np.bool_)
    tags_RT = np.full((batch * beam, steps), NOTHING, dtype=np.int64)
    taken_RT = np.zeros((batch * beam, steps), dtype=np.float32)
    largest_RV = np.zeros((batch * beam, tags), dtype=np.float32)
    wanted_R = np.zeros(batch * beam, dtype=np.int64)
    for step in range(steps):
        # What is over only loses to what is likelier now; a live sequence never gains.
        if is_over_R.reshape(batch, beam)[:, 0].all():
            break
        log_RO, state = network.step(state, last_R)
        allowed_RO = np.where(is_free_RO, log_RO, -np.inf)
        if step < least:
            allowed_RO[:, tags] = -np.inf
        allowed_RO[is_over_R] = -np.inf
        allowed_RO[is_over_R, tags] = 0
        places_BK, total_BK = _best(
            (total_BK[:, :, None] + allowed_RO.reshape(batch, beam, width)).reshape(batch, -1), beam
        )
        from_R = (np.arange(batch)[:, None] * beam + places_BK // width).ravel()
        last_R = (places_BK % width).ravel()
        log_RO, state = log_RO[from_R], tuple(one[from_R] for one in state)
        is_over_R, is_free_RO, wanted_R = is_over_R[from_R], is_free_RO[from_R], wanted_R[from_R]
        tags_RT, taken_RT, largest_RV = tags_RT[from_R], taken_RT[from_R], largest_RV[from_R]
        live_L = np.flatnonzero(~is_over_R)
        probability_LV = np.exp(log_RO[live_L, :tags])
        largest_RV[live_L] = np.maximum(largest_RV[live_L], probability_LV)
        is_over_R = is_over_R | (last_R == tags)
        live_L = np.flatnonzero(~is_over_R)
        chosen_L = last_R[live_L]
        tags_RT[live_L, step] = chosen_L
        taken_RT[live_L, step] = np.exp(log_RO[live_L, chosen_L])
        is_free_RO[live_L, chosen_L] = False
        if 0 < step < least:
            wants_end_R = log_RO[:, tags] > log_RO[np.arange(len(log_RO)), last_R]
            wanted_R = np.where((wanted_R == 0) & wants_end_R, step, wanted_R)
    first_B = np.arange(batch) * beam
    decoded = Decoded(tags_RT[first_B], taken_RT[first_B], largest_RV[first_B])
    wanted_B = wanted_R[first_B]
    return decoded, np.where(wanted_B == 0, decoded.lengths_B, wanted_B)


def _best(
    totals_BX: NDArray[np.float64], beam: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places and values [B, K] of the largest, largest first; of equals the first."""
    if beam == 1:
        places_BK = totals_BX.argmax(axis=1)[:, None]
    else:
        places_BK = np.sort(np.argpartition(-totals_BX, beam, axis=1)[:, :beam], axis=1)
        values_BK = np.take_along_axis(totals_BX, places_BK, axis=1)
        order_BK = np.argsort(-values_BK, axis=1, kind="stable")
        places_BK = np.take_along_axis(places_BK, order_BK, axis=1)
    return places_BK, np.take_along_axis(totals_BX, places_BK, axis=1)
