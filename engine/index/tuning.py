"""How far a search looks: the least that finds the share of the nearest neighbours wished for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.index.choice import IndexPlan, IndexWish
from engine.index.exact import Found

QUERIES = 200
"""Vectors that recall is measured on."""

FACTORS = (1, 2, 4, 8, 16)
"""How many times the neighbours asked for may be ranked anew."""

MOST_EFFORT = 4096
"""efSearch at most."""

_SAME = 1e-6
"""Similarities nearer than this are equal: which of such vectors is found does not count."""


class Measurable(Protocol):
    """An index in one piece or in shards."""

    @property
    def is_lossless(self) -> bool: ...

    @property
    def bytes(self) -> int: ...

    def search(self, queries_BL: NDArray[np.float32], nearest: int) -> Found: ...


@dataclass(frozen=True)
class Sample:
    """Queries whose nearest neighbours are known.

    Attributes:
        queries_QL: stored vectors.
        rows_Q: where they are stored: nobody is their own neighbour.
        truth: their nearest by exact search, themselves left out.
    """

    queries_QL: NDArray[np.float32]
    rows_Q: NDArray[np.int64]
    truth: Found


def without_self(found: Found, rows_Q: NDArray[np.int64], nearest: int) -> Found:
    """Leave each query's own row out of what was found; at most `nearest` others stay."""
    similarities_QM, rows_QM = found
    order_QM = np.argsort(rows_QM == rows_Q[:, None], axis=1, kind="stable")
    width = min(nearest, rows_QM.shape[1] - 1)
    similarities_QM = np.take_along_axis(similarities_QM, order_QM, axis=1)
    return similarities_QM[:, :width], np.take_along_axis(rows_QM, order_QM, axis=1)[:, :width]


def recall_at(index: Measurable, sample: Sample, nearest: int) -> float:
    """Share of each query's k nearest that the index finds; 1 where nothing is to be found.

    One as near as the k-th nearest counts as found, if the index keeps whole vectors: where many
    are equally near, exact search chooses no better.
    """
    true_similarities_QK, true_rows_QK = (part[:, :nearest] for part in sample.truth)
    wanted = true_rows_QK.shape[1]
    if wanted == 0:
        return 1.0
    found = index.search(sample.queries_QL, wanted + 1)
    similarities_QK, rows_QK = without_self(found, sample.rows_Q, wanted)
    hits_QK = (rows_QK[:, :, None] == true_rows_QK[:, None, :]).any(axis=2)
    if index.is_lossless:
        hits_QK |= similarities_QK >= true_similarities_QK[:, -1:] - _SAME
    return float(hits_QK.sum() / true_rows_QK.size)


def tune(
    stored: Sequence[faiss.Index],
    index: Measurable,
    plan: IndexPlan,
    wish: IndexWish,
    sample: Sample,
) -> dict[str, int]:
    """Set what decides how far a search looks, and say to what.

    The rule: the least number of lists (or efSearch of a graph) whose recall on the sample
    reaches the one wished for; found by doubling and then halving, for recall grows with it. Of
    codes with a store beside them, first the least factor is taken with which a look into all the
    lists misses half of what may be missed: the other half is left to the lists. Nothing is
    timed, so the same vectors give the same index. Where nothing reaches it, the most is taken.

    Args:
        stored: what is searched: an index, or all the shards of one.
        index: searches it on the CPU.
    """

    def reaches() -> bool:
        return recall_at(index, sample, wish.nearest) >= wish.recall

    if plan.kind == "flat":
        return {}
    if plan.kind == "hnsw":

        def put_effort(value: int) -> None:
            for one in stored:
                one.hnsw.efSearch = value

        effort = _least(put_effort, reaches, wish.nearest, MOST_EFFORT)
        put_effort(effort)
        return {"effort": effort}

    def put_probes(value: int) -> None:
        for one in stored:
            lists_of(one).nprobe = value

    if plan.store == "none":
        probes = _least(put_probes, reaches, 1, plan.lists)
        put_probes(probes)
        return {"probes": probes}
    put_probes(plan.lists)
    for factor in FACTORS:
        for one in stored:
            one.k_factor = factor
        if recall_at(index, sample, wish.nearest) >= (1 + wish.recall) / 2:
            break
    probes = _least(put_probes, reaches, 1, plan.lists)
    put_probes(probes)
    return {"probes": probes, "factor": factor}


def _least(put: Callable[[int], None], reaches: Callable[[], bool], least: int, most: int) -> int:
    """The least value in [least, most] that reaches, for a test that greater values pass too."""
    low, high = least - 1, min(least, most)
    while True:
        put(high)
        if reaches():
            break
        if high == most:
            return most
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        put(middle)
        low, high = (low, middle) if reaches() else (middle, high)
    return high


def lists_of(stored: faiss.Index) -> faiss.IndexIVF:
    """The inverted lists of an index, under its store if it has one."""
    is_refined = isinstance(stored, faiss.IndexRefine)
    return faiss.downcast_index(stored.base_index) if is_refined else stored
