"""Tags one after the other: targets to learn from, greedy decoding, and orders told as scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.group import Group

NOTHING = -1
"""Stands where a picture has no tag any more."""

Step = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""The next step's log-probabilities float32 [B, V] (or [B, V + 1], see `decode_greedily`), from the
tags [B, t] chosen in the t steps so far. It is called once a step, t = 0, 1, ..., so it may keep a
state between the calls."""


@dataclass(frozen=True)
class Targets:
    """Lists of tags as one matrix.

    Attributes:
        tags_NT: int64, places on the V axis in their given order, `NOTHING` behind a list's end.
        lengths_N: int64, from 1 to T.
        shortened: how many of the lists were longer than the limit.
    """

    tags_NT: NDArray[np.int64]
    lengths_N: NDArray[np.int64]
    shortened: int

    @property
    def is_tag_NT(self) -> NDArray[np.bool_]:
        """Where there is a tag."""
        is_tag_NT: NDArray[np.bool_] = self.tags_NT != NOTHING
        return is_tag_NT


def padded_targets(lists: Sequence[NDArray[np.int64]], limit: int) -> Targets:
    """The first `limit` tags of each list; T is the longest list's length, or the limit.

    Args:
        lists: as `engine.corpus.Corpus.tag_lists` gives them, none of them empty.
    """
    full_N = np.array([len(one) for one in lists], dtype=np.int64)
    lengths_N = np.minimum(full_N, limit)
    steps = int(lengths_N.max(initial=0))
    place_NT = np.broadcast_to(np.arange(steps), (len(lists), steps))
    is_tag_NT = place_NT < lengths_N[:, None]
    tags_NT = np.full((len(lists), steps), NOTHING, dtype=np.int64)
    if len(lists):
        starts_N = np.cumsum(full_N) - full_N
        tags_NT[is_tag_NT] = np.concatenate(lists)[(starts_N[:, None] + place_NT)[is_tag_NT]]
    return Targets(tags_NT, lengths_N, int((full_N > limit).sum()))


def shortened_note(kind: str, targets: Targets, limit: int, group: Group) -> tuple[str, ...]:
    """What to tell of the lists of all the ranks that were cut; nothing if none was."""
    shortened = int(group.sum(np.array([float(targets.shortened)]))[0])
    if not shortened:
        return ()
    return (
        f"{kind} learned from the first {limit} tags of {shortened:,} pictures that have more; "
        "raise its limit to use them all",
    )


@dataclass(frozen=True)
class Decoded:
    """What a batch was decoded to.

    Attributes:
        tags_BT: int64, the tags in the order they were taken, none twice; `NOTHING` where a picture
            had its end before.
        taken_BT: float32, the probability of each when it was taken; 0 where there is none.
        largest_BV: float32, the largest probability of each tag at any step up to the end.
    """

    tags_BT: NDArray[np.int64]
    taken_BT: NDArray[np.float32]
    largest_BV: NDArray[np.float32]

    @property
    def lengths_B(self) -> NDArray[np.int64]:
        """How many tags each picture got."""
        lengths_B: NDArray[np.int64] = (self.tags_BT != NOTHING).sum(axis=1)
        return lengths_B


def decode_greedily(
    step: Step, batch: int, tags: int, limit: int, has_end: bool = False
) -> Decoded:
    """At each step take the likeliest tag that was not taken yet, for all the pictures at once.

    Of equally likely tags the first of the vocabulary is taken.

    Args:
        step: gives the log-probabilities; where `has_end`, those of the end stand in column V. It
            is asked for pictures past their end as well, whose tags are then `NOTHING`; the answer
            is not used.
        batch: B.
        tags: V.
        limit: of the steps; there are no more than V.
    """
    steps = min(limit, tags)
    tags_BT = np.full((batch, steps), NOTHING, dtype=np.int64)
    taken_BT = np.zeros((batch, steps), dtype=np.float32)
    largest_BV = np.zeros((batch, tags), dtype=np.float32)
    is_free_BV = np.ones((batch, tags + has_end), dtype=np.bool_)
    goes_on_B = np.ones(batch, dtype=np.bool_)
    for number in range(steps):
        if not goes_on_B.any():
            break
        log_BV = step(tags_BT[:, :number])
        chosen_B = np.where(is_free_BV, log_BV, -np.inf).argmax(axis=1)
        probability_BV = np.exp(log_BV[:, :tags])
        largest_BV = np.where(
            goes_on_B[:, None], np.maximum(largest_BV, probability_BV), largest_BV
        )
        goes_on_B = goes_on_B & (chosen_B < tags)
        rows_M = np.flatnonzero(goes_on_B)
        chosen_M = chosen_B[rows_M]
        tags_BT[rows_M, number] = chosen_M
        taken_BT[rows_M, number] = probability_BV[rows_M, chosen_M]
        is_free_BV[rows_M, chosen_M] = False
    return Decoded(tags_BT, taken_BT, largest_BV)


def ordered_scores(decoded: Decoded) -> NDArray[np.float32]:
    """Scores float32 [B, V] in [0, 1] whose rank is the order of the decoded tags.

    The tag taken at step t of T, from 0, with probability p has the score

        1/2 + (T - 1 - t + 1/4 + p/2) / (2·T),

    so each step has a band of its own, an earlier one above a later one, with a gap of at least
    1 / (4·T) between the scores of two bands: for any T below a million, no two of them are equal
    in float32. Within a band a surer tag has more, which tells pictures apart. A tag that was not
    taken has half the largest probability it had at any step: at most 1/2, below all that were.
    """
    steps = decoded.tags_BT.shape[1]
    scores_BV = (decoded.largest_BV.clip(0, 1) / 2).astype(np.float32)
    if not steps:
        return scores_BV
    below_T = steps - 1 - np.arange(steps)
    in_band_BT = 0.25 + decoded.taken_BT.clip(0, 1).astype(np.float64) / 2
    bands_BT = 0.5 + (below_T + in_band_BT) / (2 * steps)
    rows, places = np.nonzero(decoded.tags_BT != NOTHING)
    scores_BV[rows, decoded.tags_BT[rows, places]] = bands_BT[rows, places]
    return scores_BV
