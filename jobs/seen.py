"""The ids that a listing has met, so that one which comes again is noticed."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_DIGEST = 16


class Seen:
    """Ids by 128 bits of a hash: 16 bytes an id, and no two different ids are taken for one.

    Hashes lie in sorted runs, each at least twice as long as the next, so that what is added or
    looked up costs the logarithm of what is there.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.bytes_]] = []

    def add(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Take more ids in; the places among them of those that came before, here or earlier."""
        new = np.array([_digest(one) for one in ids], dtype=f"S{_DIGEST}")
        if not len(new):
            return np.empty(0, dtype=np.int64)
        values, first, inverse = np.unique(new, return_index=True, return_inverse=True)
        is_known = np.zeros(len(values), dtype=np.bool_)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, values), len(run) - 1)
            is_known |= run[places] == values
        self._keep(values[~is_known])
        again = np.arange(len(new)) != first[inverse]
        return np.flatnonzero(again | is_known[inverse]).astype(np.int64)

    def _keep(self, run: NDArray[np.bytes_]) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)


def _digest(image_id: str) -> bytes:
    return hashlib.blake2b(image_id.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
