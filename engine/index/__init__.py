"""Nearest neighbours by inner product: FAISS, beside an exact oracle in plain NumPy."""

from engine.index.build import (
    RunShards,
    ShardWork,
    build_index,
    build_shard,
    entry_after_change,
)
from engine.index.build_sharded import build_sharded
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
from engine.index.shard_files import load_index, load_map, load_shard, save_index
from engine.index.sharded import LocalShards, ShardedIndex, ShardMap, Shards
from engine.index.shortlist import Shortlist
from engine.index.vectors import ArrayVectors, Vectors

__all__ = [
    "EXACT_UP_TO",
    "ArrayVectors",
    "ExactIndex",
    "FaissIndex",
    "Index",
    "IndexEntry",
    "IndexWish",
    "Kind",
    "LocalShards",
    "RunShards",
    "ShardMap",
    "ShardWork",
    "ShardedIndex",
    "Shards",
    "Shortlist",
    "Vectors",
    "build_index",
    "build_shard",
    "build_sharded",
    "choose_plan",
    "entry_after_change",
    "load_index",
    "load_map",
    "load_shard",
    "memory_size",
    "parse_memory",
    "save_index",
    "spell_memory",
    "to_best_device",
]
