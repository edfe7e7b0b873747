"""Parts of FAISS indexes, copied into exactly the memory that they need.

FAISS's own `merge_from` and `add` grow their C++ vectors by doubling, and so take up to twice what
is stored: more than a strict budget allows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray


def entries(ivf: faiss.IndexIVF, place: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Ids [n] and codes [n, bytes] of one inverted list; views that live as long as the index."""
    lists = ivf.invlists
    size = lists.list_size(place)
    if size == 0:
        return np.zeros(0, np.int64), np.zeros((0, ivf.code_size), np.uint8)
    ids = faiss.rev_swig_ptr(lists.get_ids(place), size)
    codes = faiss.rev_swig_ptr(lists.get_codes(place), size * ivf.code_size)
    return ids, codes.reshape(size, ivf.code_size)


def fill_lists(
    ivf: faiss.IndexIVF,
    parts: Sequence[Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]]],
) -> None:
    """Replace all inverted lists; each part gives (ids, codes) of list 0, 1, 2 ...

    A list holds what the parts have of it in the order of the parts.
    """
    lists = faiss.ArrayInvertedLists(ivf.nlist, ivf.code_size)
    total = 0
    for place, pieces in enumerate(zip(*parts, strict=True)):
        lists.resize(place, sum(len(ids) for ids, _ in pieces))
        begin = 0
        for ids, codes in pieces:
            if len(ids) == 0:
                continue
            kept_ids = np.ascontiguousarray(ids, dtype=np.int64)
            kept_codes = np.ascontiguousarray(codes)
            lists.update_entries(
                place, begin, len(ids), faiss.swig_ptr(kept_ids), faiss.swig_ptr(kept_codes)
            )
            begin += len(ids)
        total += begin
    ivf.replace_invlists(lists, True)
    lists.this.disown()
    ivf.ntotal = total


def kept_entries(
    ivf: faiss.IndexIVF, kept_N: NDArray[np.bool_]
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Each list without the rows that go; those that stay are counted anew, without gaps."""
    renumbered_N = np.cumsum(kept_N) - 1
    for place in range(ivf.nlist):
        ids, codes = entries(ivf, place)
        stay = kept_N[ids]
        yield renumbered_N[ids[stay]], codes[stay]


def all_entries(ivf: faiss.IndexIVF) -> Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Each list as it is."""
    return (entries(ivf, place) for place in range(ivf.nlist))


def flat_codes(flat: faiss.IndexFlatCodes) -> NDArray[np.uint8]:
    """The codes [N, bytes] of a flat index; a view that keeps the index alive."""
    if flat.ntotal == 0:
        return np.zeros((0, flat.code_size), np.uint8)
    codes: NDArray[np.uint8] = faiss.rev_swig_ptr(flat.codes.data(), flat.ntotal * flat.code_size)
    held: NDArray[np.uint8] = np.asarray(_Held(codes.__array_interface__, flat))
    return held.reshape(flat.ntotal, flat.code_size)


@dataclass(frozen=True)
class _Held:
    """Memory of an index as NumPy takes it: the array keeps this object, and so its owner."""

    __array_interface__: dict[str, object]
    owner: faiss.IndexFlatCodes


def fill_flat(flat: faiss.IndexFlatCodes, parts: Iterable[NDArray[np.uint8]], total: int) -> None:
    """Replace the codes of a flat index by `total` codes, which come in parts [n, bytes]."""
    flat.codes.resize(total * flat.code_size)
    flat.ntotal = total
    stored = flat_codes(flat)
    begin = 0
    for codes in parts:
        stored[begin : begin + len(codes)] = codes
        begin += len(codes)
    assert begin == total, (begin, total)
