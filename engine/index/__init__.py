"""Nearest neighbours by inner product: FAISS, beside an exact oracle in plain NumPy."""

from engine.index.build import (
    ArrayVectors,
    RunShards,
    ShardWork,
    Vectors,
    build_index,
    build_shard,
    entry_after_change,
)
from engine.index.choice import (
    EXACT_UP_TO,
    IndexWish,
    Kind,
    choose_plan,
    memory_size,
    parse_memory,
    spell_memory,
)
from engine.index.entry import IndexEntry
from engine.index.exact import ExactIndex, Index
from engine.index.faiss_index import FaissIndex, to_best_device

__all__ = [
    "EXACT_UP_TO",
    "ArrayVectors",
    "ExactIndex",
    "FaissIndex",
    "Index",
    "IndexEntry",
    "IndexWish",
    "Kind",
    "RunShards",
    "ShardWork",
    "Vectors",
    "build_index",
    "build_shard",
    "choose_plan",
    "entry_after_change",
    "memory_size",
    "parse_memory",
    "spell_memory",
    "to_best_device",
]
