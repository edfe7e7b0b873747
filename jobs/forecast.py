"""From measured figures and a cluster to time, bottleneck, cost, and machines for a deadline."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from jobs.chunks import chunk_runs
from jobs.measured import Measured
from jobs.pipeline import Limit, Outcome, Pipeline, Runs, Segment
from jobs.simulation import simulate

SIZES = (10**6, 10**7, 10**8, 10**9, 10**10)
"""Pictures of the jobs that a plan tells of beside the one that is asked for."""

AHEAD = 2
"""Chunks that Ray Data gives a worker at a time (twice its `max_concurrency` of 1)."""

SEEDS = 9
_WORKERS = 512
"""Workers that are simulated: of a larger cluster a slice, with its share of what all share."""

_MOST_NODES = 100_000
ON_CPU = ("decode", "resize", "reading", "folding", "other")
"""What stays on a CPU where a GPU embeds; the rest of a picture's way is with the GPU's worker."""

EMBED = "embed"


class Cluster(BaseModel):
    """Machines that are all alike, and what they share.

    Attributes:
        cpus: CPUs that Ray is told of, a machine: so many workers.
        cores: processors that there are; None: as many.
        gpus: of a machine; each embeds for a worker of its own.
        gpu_speedup: how many times faster a GPU embeds than a worker on a CPU.
        network: bytes a second of a machine.
        storage: bytes a second of the storage; None: no limit.
        requests: a second that the storage takes; None: no limit.
        listing: pictures a second that it lists; None: as measured.
        object_store: bytes of Ray's object store, a machine.
        failures: of one machine, an hour.
        back: seconds until a lost machine is there again.
        spread: sigma of the lognormal factor on a chunk's time; None: as measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpus: PositiveInt
    cores: PositiveInt | None = None
    gpus: NonNegativeInt = 0
    gpu_speedup: PositiveFloat | None = None
    network: PositiveFloat = 1.25e9
    storage: PositiveFloat | None = None
    requests: PositiveFloat | None = None
    listing: PositiveFloat | None = None
    object_store: PositiveFloat = 8e9
    failures: NonNegativeFloat = 0.0
    back: NonNegativeFloat = 120.0
    spread: NonNegativeFloat | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "Cluster":
        if self.gpus and self.gpu_speedup is None:
            raise ValueError(
                "how fast a GPU embeds cannot be measured without one; say how many times faster "
                "than a worker on a CPU, with --gpu-speedup"
            )
        if self.gpus >= self.cpus:
            raise ValueError(
                f"each GPU's worker needs a CPU, and decoding at least one more: {self.gpus} GPUs "
                f"need {self.gpus + 1} CPUs a node, not {self.cpus}"
            )
        return self


class Prices(BaseModel):
    """What is paid, in any currency.

    Attributes:
        node_hour: for a machine.
        gigabyte: for what comes from and goes to storage.
        million_requests: to the storage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    node_hour: NonNegativeFloat = 0.0
    gigabyte: NonNegativeFloat = 0.0
    million_requests: NonNegativeFloat = 0.0


@dataclass(frozen=True)
class Forecast:
    """A job of a size on a number of machines; where chance is in it, medians over seeds.

    Attributes:
        seconds, low, high: from the command to its end: the median, and 5 and 95 per cent.
        bottleneck: what is used most.
        used: share of the time in which each resource is used.
        cost: for machines, traffic and requests.
        lost: machines that fail on the way.
    """

    pictures: int
    nodes: int
    seconds: float
    low: float
    high: float
    pictures_per_second: float
    bottleneck: str
    used: Mapping[str, float]
    cost: float
    lost: float


@dataclass(frozen=True)
class Plan:
    """What can be asked of measured figures."""

    measured: Measured
    cluster: Cluster
    prices: Prices = field(default_factory=Prices)

    def forecast(self, pictures: int, nodes: int) -> Forecast:
        """Simulate a job."""
        runs, machines, share = self._slice(pictures, nodes)
        pipeline = self._pipeline(runs, share, nodes)
        seeds = range(SEEDS if pipeline.spread or pipeline.failures else 1)
        found = [simulate(pipeline, machines, runs, seed) for seed in seeds]
        low, seconds, high = np.quantile([one.seconds for one in found], (0.05, 0.5, 0.95)).tolist()
        used = self._used(found)
        return Forecast(
            pictures,
            nodes,
            seconds,
            low,
            high,
            pictures / seconds,
            max(used, key=used.__getitem__),
            used,
            self._cost(pictures, nodes, seconds),
            statistics.mean(one.failures for one in found) / share,
        )

    def nodes_for(self, pictures: int, deadline: float) -> int | None:
        """The fewest machines with which 19 jobs of 20 are done in `deadline` seconds.

        None: no number of them is enough, as what they share or their start takes too long.
        """

        def is_enough(nodes: int) -> bool:
            return self.forecast(pictures, nodes).high <= deadline

        return fewest(is_enough, self._least_nodes(pictures, deadline), _MOST_NODES)

    def _least_nodes(self, pictures: int, deadline: float) -> int:
        """With fewer there are not the workers for it, whatever else there is."""
        busy = max(segment.seconds / segment.slots for segment in self._segments(1))
        return max(1, min(_MOST_NODES, math.floor(pictures * busy / deadline)))

    def _slice(self, pictures: int, nodes: int) -> tuple[Runs, int, float]:
        """Chunks and machines that are simulated, and what share of all machines these are."""
        runs = chunk_runs(pictures)
        (size, count), *rest = runs
        if nodes == 1 and self.measured.early and (rest or count > 1):
            # Where Ray starts for this job alone, the first chunk is done by then.
            runs = [(size, count - 1), *rest]
        machines = min(nodes, max(1, _WORKERS // self.cluster.cpus))
        share = machines / nodes
        sliced, before = [], 0
        for rows, count in runs:
            sliced.append((rows, round((before + count) * share) - round(before * share)))
            before += count
        return sliced, machines, share

    def _segments(self, rows: int) -> tuple[Segment, ...]:
        """What a machine's workers do; chunks have at most `rows` pictures."""
        one, cluster = self.measured, self.cluster
        if not cluster.gpus:
            return (Segment(cluster.cpus, one.seconds, one.start),)
        assert cluster.gpu_speedup is not None
        on_cpu = math.fsum(seconds for part, seconds in one.parts.items() if part in ON_CPU)
        embed = one.parts.get(EMBED, 0.0)
        rest = one.seconds - on_cpu - embed + embed / cluster.gpu_speedup
        window = max(1, int(cluster.object_store / (rows * max(1.0, one.pixels))))
        return (
            Segment(cluster.cpus - cluster.gpus, on_cpu, one.start, window),
            Segment(cluster.gpus, rest, one.start),
        )

    def _pipeline(self, runs: Runs, share: float, nodes: int) -> Pipeline:
        one, cluster = self.measured, self.cluster
        handed = one.pixels * (nodes - 1) / nodes if cluster.gpus else 0.0
        moved = one.read + one.written
        limits = [
            Limit("network", cluster.network, moved + handed, is_per_node=True),
            Limit("listing", (cluster.listing or one.listed) * share, 1.0),
            Limit("driver", share / one.driver, per_chunk=1.0),
        ]
        if cluster.storage:
            limits.append(Limit("storage", cluster.storage * share, moved))
        if cluster.requests:
            rate = cluster.requests * share
            limits.append(Limit("requests", rate, one.requests, one.requests_a_chunk))
        return Pipeline(
            self._segments(max((rows for rows, _ in runs), default=1)),
            one.slowdowns(cluster.cpus, cluster.cores or cluster.cpus),
            tuple(limits),
            one.gap,
            one.before + one.waiting,
            one.after,
            AHEAD,
            one.spread if cluster.spread is None else cluster.spread,
            cluster.failures / 3600,
            cluster.back,
        )

    def _used(self, found: list[Outcome]) -> dict[str, float]:
        names = ("CPU workers", "GPU workers") if self.cluster.gpus else ("workers",)
        used = {
            name: statistics.fmean(one.busy[place] for one in found)
            for place, name in enumerate(names)
        }
        for name in found[0].used:
            used[name] = statistics.fmean(one.used[name] for one in found)
        used["start and end"] = statistics.fmean(one.idle / one.seconds for one in found)
        return used

    def _cost(self, pictures: int, nodes: int, seconds: float) -> float:
        one, prices = self.measured, self.prices
        chunks = sum(count for _, count in chunk_runs(pictures))
        requests = pictures * one.requests + chunks * one.requests_a_chunk
        return (
            prices.node_hour * nodes * seconds / 3600
            + prices.gigabyte * pictures * (one.read + one.written) / 1e9
            + prices.million_requests * requests / 1e6
        )


def fewest(is_enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest number from `least` to `most` that is enough, if those above it are, too.

    Steps up until one is enough, and halves what lies between; None: not even `most` is.
    """
    low, high = least - 1, least
    step = max(1, least // 8)
    while not is_enough(high):
        if high == most:
            return None
        low, high = high, min(most, high + step)
        step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high
