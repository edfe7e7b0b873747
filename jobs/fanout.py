"""An index fanned out over Ray: each actor holds some shards, wherever the cluster has room."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from threadpoolctl import threadpool_limits

from engine.bundle import Bundle
from engine.errors import ConfigError
from engine.index import LocalShards, ShardMap, Shortlist, load_map, load_shard, spell_memory
from engine.index.shortlist import joined
from engine.picture_stages import MakeScore
from engine.stage import Plan
from engine.storage.bundles import FetchedBundle
from engine.storage.files import shown

F = TypeVar("F", np.float32, np.float64)

IndexWay = Literal["auto", "merged", "fan-out"]
"""Each worker has a merged index of its own, or all ask actors; 'auto': merged while it fits."""

RESTARTS = 16
"""Times that an actor may die and be started again, and that one question is asked anew."""

READY_SECONDS = 900.0
"""Within which all the actors must have room and have read their shards."""


class ShardHolder:
    """What one actor does: it searches some neighbouring shards of an index."""

    def __init__(self, folder: Path, places: range, first: tuple[int, ...]) -> None:
        threadpool_limits(1)
        self._shards = LocalShards(tuple(load_shard(folder, place) for place in places), first)

    def ready(self) -> None:
        """Answers once the shards are read."""

    def shortlist(self, queries_BL: NDArray[np.float32], most: int) -> Shortlist:
        """The `most` candidates among its shards."""
        return joined(self._shards.shortlists(queries_BL, most), most)

    def similarities(self, queries_BL: NDArray[F]) -> NDArray[F]:
        """The inner products with all its vectors."""
        return np.concatenate(self._shards.similarities(queries_BL), axis=1)


@dataclass(frozen=True)
class RayShards:
    """The shards of an index held by actors, in the order of the shards; see `engine.index.Shards`.

    All actors work on a question at the same time.
    """

    actors: tuple["ActorHandle[ShardHolder]", ...]

    def shortlists(self, queries_BL: NDArray[np.float32], most: int) -> Sequence[Shortlist]:
        """See `Shards`."""
        asked = [actor.shortlist.remote(queries_BL, most) for actor in self.actors]
        found: list[Shortlist] = ray.get(asked)
        return found

    def similarities(self, queries_BL: NDArray[F]) -> Sequence[NDArray[F]]:
        """See `Shards`."""
        asked = [actor.similarities.remote(queries_BL) for actor in self.actors]
        found: list[NDArray[F]] = ray.get(asked)
        return found


def check_way(bundle: Bundle, way: IndexWay) -> None:
    """Refuse to fan out what is in one piece, or not where actors on any node could read it.

    Raises:
        ConfigError: no index of the bundle is in shards, or the bundle was fetched from a URL.
    """
    if way == "fan-out" and isinstance(bundle, FetchedBundle):
        raise ConfigError(
            f"{shown(bundle.url)}: the shards of a bundle at a URL cannot be fanned out; name its "
            "copy in a folder that all nodes see, or leave --index out"
        )
    if way == "fan-out" and not bundle.shard_maps:
        raise ConfigError(
            f"{bundle.folder}: no index of it is in shards that could be fanned out; fit it with "
            "--max-shard-memory, or leave --index out"
        )


def fanned_out(plan: Plan, way: IndexWay, limit: int | None) -> Plan:
    """The plan, with the shards of its indexes held by actors if that is asked for or needed.

    The actors end when the plan that comes back is no longer held.

    Args:
        limit: bytes of memory for the indexes of a worker, and for the shards of an actor; None:
            what a node has for each of its CPUs, and for an actor what a node has.

    Raises:
        ConfigError: the cluster has no room for the shards.
    """
    makes = {stage.name: stage.make for stage in plan.stages if isinstance(stage.make, MakeScore)}
    folders = {name: make.folder / "annotators" / make.name for name, make in makes.items()}
    maps = {name: one for name, folder in folders.items() if (one := load_map(folder))}
    if way == "merged" or not maps:
        return plan
    room = _Room.of_cluster()
    total = sum(sum(one.bytes) for one in maps.values())
    if way == "auto" and total <= (limit or room.worker):
        return plan
    room.check(total)
    most = min(limit or room.node, room.node)
    shards = {name: hold_shards(folders[name], one, most, room.cpus) for name, one in maps.items()}
    wait_for([actor for one in shards.values() for actor in one.actors])
    stages = [
        replace(stage, make=replace(makes[stage.name], shards=shards[stage.name]))
        if stage.name in shards
        else stage
        for stage in plan.stages
    ]
    return replace(plan, stages=tuple(stages))


def hold_shards(folder: Path, shard_map: ShardMap, limit: int, most: int) -> RayShards:
    """Start actors that hold an index's shards.

    Args:
        folder: the annotator's, which all nodes see.
        limit: bytes that an actor may hold.
        most: actors, if fewer can hold everything.

    Raises:
        ConfigError: a single shard is larger than the limit.
    """
    actors = []
    for places in groups(shard_map.bytes, limit, most):
        chosen = slice(places.start, places.stop)
        holder = ray.remote(ShardHolder).options(
            num_cpus=0,
            memory=sum(shard_map.bytes[chosen]),
            scheduling_strategy="SPREAD",
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
        )
        # Ray's types say that a class may come back.
        started = holder.remote(folder, places, shard_map.first[chosen])
        actors.append(cast("ActorHandle[ShardHolder]", started))
    return RayShards(tuple(actors))


def groups(sizes: Sequence[int], limit: int, most: int) -> list[range]:
    """Neighbouring shards by actor: at most `limit` bytes each, and evenly for `most` actors.

    More are needed where the limit is low.

    Raises:
        ConfigError: a single shard is larger than the limit.
    """
    if max(sizes) > limit:
        raise ConfigError(
            f"a shard of the index takes {spell_memory(max(sizes))}, and an actor may hold "
            f"{spell_memory(limit)}; raise --max-index-memory, or fit again with a smaller "
            "--max-shard-memory"
        )
    held = range(max(sizes), limit + 1)
    # The least that each may hold for so few of them; where that is too much, as much as allowed.
    place = bisect_left(held, True, key=lambda cap: len(_filled(sizes, cap)) <= most)
    return _filled(sizes, held[min(place, len(held) - 1)])


def _filled(sizes: Sequence[int], cap: int) -> list[range]:
    """Neighbouring shards, each time as many as do not exceed `cap`."""
    found, start, held = [], 0, 0
    for place, size in enumerate(sizes):
        if held + size > cap:
            found.append(range(start, place))
            start, held = place, 0
        held += size
    return [*found, range(start, len(sizes))]


def wait_for(actors: Sequence["ActorHandle[ShardHolder]"]) -> None:
    """Wait until all actors have read their shards.

    Raises:
        ConfigError: some found no room in time.
    """
    asked: list[ray.ObjectRef[None]] = [actor.ready.remote() for actor in actors]
    done, rest = ray.wait(asked, num_returns=len(asked), timeout=READY_SECONDS)
    ray.get(done)
    if rest:
        raise ConfigError(
            f"{len(rest)} of {len(actors)} actors that hold the index's shards did not start "
            f"within {READY_SECONDS:.0f} s; the cluster's memory is taken: add nodes, or wait for "
            "other jobs to end"
        )


@dataclass(frozen=True)
class _Room:
    """What Ray has to give.

    Attributes:
        worker: bytes for each CPU of the node that has least.
        node: bytes of the node that has most.
        total: bytes of all the nodes.
    """

    worker: int
    node: int
    total: int
    cpus: int

    @classmethod
    def of_cluster(cls) -> "_Room":
        known = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in known if node["Alive"]]
        memories = [int(node.get("memory", 0)) for node in nodes]
        workers = [node.get("memory", 0) / node["CPU"] for node in nodes if node.get("CPU")]
        cpus = sum(int(node.get("CPU", 0)) for node in nodes)
        return cls(int(min(workers, default=0)), max(memories), sum(memories), max(1, cpus))

    def check(self, needed: int) -> None:
        """Refuse what would wait for ever.

        Raises:
            ConfigError: the shards do not fit the nodes.
        """
        if needed > self.total:
            raise ConfigError(
                f"the index takes {spell_memory(needed)}, and the cluster's nodes have "
                f"{spell_memory(self.total)} to give; add nodes"
            )
