"""Which pictures make which batch: drawn from the seed and the ids, whoever has the pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorpusError
from engine.group import Group


@dataclass(frozen=True)
class Places:
    """Every picture's place among those of all the ranks: the order of a hash of their ids.

    Attributes:
        pictures: N, of all the ranks.
        rows_N: int64, this rank's row of the picture at each place; -1 where another rank has it.
        digest: of all the ids.
    """

    pictures: int
    rows_N: NDArray[np.int64]
    digest: str

    @classmethod
    def agree(cls, ids: Sequence[str], group: Group) -> "Places":
        """Find them with the other ranks.

        Raises:
            CorpusError: two pictures have one id, or there are none.
        """
        mine = np.array(
            [int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "big") for one in ids],
            dtype=np.uint64,
        )
        every = np.sort(np.concatenate([part.astype(np.uint64) for part in group.gather(mine)]))
        if not len(every):
            raise CorpusError("there is no picture to train on; add tagged pictures")
        if (every[1:] == every[:-1]).any():
            raise CorpusError("two of the pictures to train on have the same id; make ids unique")
        rows_N = np.full(len(every), -1, dtype=np.int64)
        rows_N[np.searchsorted(every, mine)] = np.arange(len(mine))
        return cls(len(every), rows_N, hashlib.sha256(every.tobytes()).hexdigest())


@dataclass(frozen=True)
class Share:
    """This rank's part of one batch.

    Attributes:
        rows_B: its rows; draws_B: one number in [0, 1) a picture.
        pictures: of the batch, over all the ranks.
    """

    rows_B: NDArray[np.int64]
    draws_B: NDArray[np.float64]
    pictures: int


def epoch_batches(places: Places, seed: int, epoch: int, batch: int) -> list[Share]:
    """This rank's share of each batch of an epoch."""
    rng = np.random.default_rng((seed, epoch))
    order_N = rng.permutation(places.pictures)
    draws_N = rng.random(places.pictures)
    shares = []
    for start in range(0, places.pictures, batch):
        chosen = order_N[start : start + batch]
        rows = places.rows_N[chosen]
        is_mine = rows >= 0
        shares.append(Share(rows[is_mine], draws_N[chosen][is_mine], len(chosen)))
    return shares
