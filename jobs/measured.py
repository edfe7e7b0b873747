"""What annotating costs here: the figures of a job on a sample, from which others are foretold."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from engine.errors import CorpusError
from jobs.work import BESIDE, LOADING, Diary, Work

_ENOUGH = 64
"""Pictures that a worker's later chunks must have; with fewer, its first chunk counts as well."""


class Measured(BaseModel):
    """Figures of one bundle on one kind of picture on one kind of machine.

    Attributes:
        pictures: that were measured.
        workers: that were busy at the same time, at most.
        parts: seconds a picture of a worker that is alone on its machine, by what it does.
        contention: what one more busy worker on the machine adds to the time of each, as a share
            of what it needs alone.
        spread: sigma of the logarithm of a chunk's time, of what contention does not explain.
        gap: seconds of a worker between two chunks.
        driver: seconds of the driver's process for a chunk.
        before: seconds from the command to where workers are asked for.
        waiting: seconds from there to a worker's first chunk that are not the worker's own work.
        start: seconds of imports, models and first use, of a worker alone on its machine.
        after: seconds from the last part to the end of the command.
        early: pictures that a process beside Ray did while Ray started.
        read, written: bytes a picture that come from and go to storage.
        requests, requests_a_chunk: to the storage, for a picture and for a chunk.
        pixels: bytes of a decoded picture, which is handed over where a GPU embeds.
        listed: pictures a second that the input was listed at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input: str
    bundle_id: str
    pictures: PositiveInt
    workers: PositiveInt
    parts: Mapping[str, NonNegativeFloat]
    contention: NonNegativeFloat
    spread: NonNegativeFloat
    gap: NonNegativeFloat
    driver: PositiveFloat
    before: NonNegativeFloat
    waiting: NonNegativeFloat
    start: NonNegativeFloat
    after: NonNegativeFloat
    early: int = Field(ge=0)
    read: NonNegativeFloat
    written: NonNegativeFloat
    requests: NonNegativeFloat
    requests_a_chunk: NonNegativeFloat
    pixels: NonNegativeFloat
    listed: PositiveFloat

    @property
    def seconds(self) -> float:
        """Of a worker alone on its machine, for a picture."""
        return math.fsum(self.parts.values())

    def slowdowns(self, workers: int, cores: int) -> tuple[float, ...]:
        """How many times longer work takes, by the number of busy workers, from 1 to `workers`.

        Between one worker and as many as were measured it grows by a straight line; of more, it
        is held; and beyond the machine's cores, workers take turns.
        """
        return tuple(
            (1 + self.contention * (min(busy, cores, self.workers) - 1)) * max(1.0, busy / cores)
            for busy in range(1, workers + 1)
        )


@dataclass(frozen=True)
class Timing:
    """What workers needed; see `Measured` for what the figures are.

    Attributes:
        waiting, start: see `Measured`.
    """

    pictures: int
    workers: int
    parts: Mapping[str, float]
    contention: float
    spread: float
    gap: float
    waiting: float
    start: float


@dataclass(frozen=True)
class _Seen:
    """A worker's time on a chunk, and how many were busy meanwhile, itself among them."""

    work: Work
    busy: float
    is_first: bool

    @property
    def seconds(self) -> float:
        return self.work.ended - self.work.began - self.work.seconds.get(LOADING, 0.0)


def timing(asked: float, diaries: Sequence[Diary]) -> Timing:
    """What the workers of several jobs needed, from the jobs' diaries.

    A chunk's time a picture is taken as c (1 + k (b - 1)), with b the mean number of busy workers
    while it was in work: c and k by least squares, each chunk weighed by its pictures. So the jobs
    must differ in how many workers were busy. A worker's first chunk is left out, as far as there
    are enough others: models warm up in it.

    Args:
        asked: Unix time at which the first job asked for its workers.
        diaries: the first is the one whose start counts: those that follow find libraries loaded.

    Raises:
        CorpusError: Ray's workers had nothing to do in one of them.
    """
    jobs = [_seen(diary) for diary in diaries]
    if not all(jobs):
        raise CorpusError(
            "the sample has too few pictures for Ray's workers to get any; give 200 or more"
        )
    counted = [one for seen in jobs for one in _later(seen)]
    rows_N = np.array([one.work.rows for one in counted], dtype=np.float64)
    each_N = np.array([one.seconds for one in counted]) / rows_N
    busy_N = np.array([one.busy for one in counted])
    alone, contention = _line(busy_N - 1, each_N, rows_N)
    residual_N = np.log(each_N / (alone * (1 + contention * (busy_N - 1))))
    spread = math.sqrt(float(np.average(residual_N**2, weights=rows_N)))
    gaps = [
        later.work.began - one.work.ended
        for seen in jobs
        for one, later in pairwise(seen)
        if one.work.worker == later.work.worker
    ]
    starts = [one for one in jobs[0] if one.is_first]
    slowdown = 1 + contention * (len(starts) - 1)
    usual = [one.work.rows * alone * (1 + contention * (one.busy - 1)) for one in starts]
    # What a first chunk takes more than another one; loading at the least.
    warming = [
        max(one.work.ended - one.work.began - seconds, one.work.seconds.get(LOADING, 0.0))
        for one, seconds in zip(starts, usual, strict=True)
    ]
    imports = float(np.mean([one.work.imports for one in starts]))
    first = float(np.mean([one.work.began for one in starts])) - asked
    return Timing(
        sum(one.work.rows for seen in jobs for one in seen),
        max(len({one.work.worker for one in seen}) for seen in jobs),
        _parts(counted, alone),
        contention,
        spread,
        float(np.mean(gaps)) if gaps else 0.0,
        max(0.0, first - imports),
        (imports + float(np.mean(warming))) / slowdown,
    )


def _seen(diary: Diary) -> list[_Seen]:
    """The chunks of Ray's workers, by worker and time; the part made beside them counts as busy."""
    found: list[_Seen] = []
    known: set[str] = set()
    for work in sorted(diary.works, key=attrgetter("worker", "began")):
        if work.worker == BESIDE:
            continue
        length = max(work.ended - work.began, 1e-9)
        others = sum(
            max(0.0, min(work.ended, other.ended) - max(work.began, other.began))
            for other in diary.works
            if other is not work
        )
        found.append(_Seen(work, 1 + others / length, work.worker not in known))
        known.add(work.worker)
    return found


def _later(seen: Sequence[_Seen]) -> list[_Seen]:
    later = [one for one in seen if not one.is_first]
    return later if sum(one.work.rows for one in later) >= _ENOUGH else list(seen)


def _line(
    x_N: NDArray[np.float64], y_N: NDArray[np.float64], weights_N: NDArray[np.float64]
) -> tuple[float, float]:
    """c and k of y = c (1 + k x); k is 0 where x does not vary or y does not grow with it."""
    mean_x = float(np.average(x_N, weights=weights_N))
    mean_y = float(np.average(y_N, weights=weights_N))
    variance = float(np.average((x_N - mean_x) ** 2, weights=weights_N))
    if variance > 1e-3:
        slope = float(np.average((x_N - mean_x) * (y_N - mean_y), weights=weights_N)) / variance
        alone = mean_y - slope * mean_x
        if slope > 0 and alone > 0:
            return alone, slope / alone
    return mean_y, 0.0


def _parts(counted: Sequence[_Seen], alone: float) -> dict[str, float]:
    """Seconds a picture by part, scaled so that they add up to `alone`."""
    spent: defaultdict[str, float] = defaultdict(float)
    for one in counted:
        named = {part: s for part, s in one.work.seconds.items() if part != LOADING}
        for part, seconds in named.items():
            spent[part] += seconds
        spent["other"] += max(0.0, one.seconds - math.fsum(named.values()))
    whole = math.fsum(spent.values())
    return {part: seconds * alone / whole for part, seconds in spent.items()}
