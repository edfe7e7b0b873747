"""A discrete-event simulation of an annotate job: when its last part is in the store.

Workers of a machine share its processors: each chunk is worked on at the speed that the number of
busy workers leaves it. What several workers share otherwise, such as a network or a store, serves
chunks in the order in which they begin; a chunk ends when its worker and all of these are done
with it, for reading and writing go on beside the work. Nothing here knows of Ray or of pictures.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from engine.errors import ConfigError

GRAIN = 16
"""Chunks are simulated in units of one, then of ever more, and towards the end of ever fewer: a
unit is at most this part of a worker's share of the chunks before it, and of those after it."""

_HOPELESS = 1000
"""Failures of each machine without a finished chunk between them: the job will never end."""


@dataclass(frozen=True)
class Segment:
    """Stages that one worker runs one after another.

    Attributes:
        slots: workers on each machine.
        seconds: for a picture, of a worker that is alone on its machine.
        start: seconds of work, shared like any other, until a new worker can begin.
        window: chunks a machine that may be in work or on their way between segments; counts for
            the first of several segments alone.
    """

    slots: int
    seconds: float
    start: float = 0.0
    window: int = 1


@dataclass(frozen=True)
class Limit:
    """What workers share and what has a rate, such as a network.

    Attributes:
        rate: units a second.
        per_picture, per_chunk: units that each needs.
        is_per_node: every machine has one of its own.
    """

    name: str
    rate: float
    per_picture: float = 0.0
    per_chunk: float = 0.0
    is_per_node: bool = False


@dataclass(frozen=True)
class Pipeline:
    """A job on machines that are all alike.

    Attributes:
        slowdowns: how many times longer work takes, by the number of busy workers on the machine;
            the first entry is for one.
        gap: seconds of a worker between two chunks.
        before, after: seconds before workers can be started, and after the last part.
        ahead: chunks that a worker is given at a time, one of them in work.
        spread: sigma of the lognormal factor, of mean 1, on the time of each chunk.
        failures: of one machine, a second.
        back: seconds until a lost machine is there again; its workers must then start.
    """

    segments: tuple[Segment, ...]
    slowdowns: tuple[float, ...] = (1.0,)
    limits: tuple[Limit, ...] = ()
    gap: float = 0.0
    before: float = 0.0
    after: float = 0.0
    ahead: int = 1
    spread: float = 0.0
    failures: float = 0.0
    back: float = 0.0


Runs = Sequence[tuple[int, int]]
"""Chunks in order: how many pictures each has, and how many such chunks follow one another."""


@dataclass(frozen=True)
class Outcome:
    """What a simulated job came to.

    Attributes:
        seconds: from its begin to its end.
        idle: of these, the seconds before any worker could begin, and after the last part.
        busy: share of that time in which the workers of each segment worked, in order.
        used: share of each limit that was used, by name.
        failures: machines that were lost.
        redone: chunks that were begun again for that.
    """

    seconds: float
    idle: float
    busy: tuple[float, ...]
    used: dict[str, float]
    failures: int
    redone: int


def simulate(
    pipeline: Pipeline, nodes: int, runs: Runs, seed: int = 0, grain: int | None = GRAIN
) -> Outcome:
    """Run a job on `nodes` machines.

    Args:
        grain: see `GRAIN`; None: chunk by chunk, whose time grows with the number of chunks.
    """
    return _Simulation(pipeline, nodes, runs, seed, grain).run()


@dataclass(eq=False)
class _Unit:
    """Chunks of one size that a worker does one after another.

    Attributes:
        home: the machine whose memory holds it, behind the first segment.
    """

    chunks: int
    rows: int
    home: "_Node | None" = None


@dataclass(eq=False)
class _Worker:
    node: "_Node"
    place: int
    given: deque[_Unit] = field(default_factory=deque)
    task: "_Task | None" = None
    is_up: bool = False
    is_hungry: bool = False


@dataclass(eq=False)
class _Task:
    """A worker's work on a unit, or (None) on its own start.

    Attributes:
        began, done: in the machine's own time, see `_Node`.
        at: the time it began.
        served: the time at which all limits are done with it.
    """

    worker: _Worker
    unit: _Unit | None
    began: float
    done: float
    at: float
    served: float
    is_lost: bool = False


@dataclass(eq=False)
class _Node:
    """A machine, whose own time passes the more slowly the more of its workers are busy."""

    free: list[float]
    workers: list[_Worker] = field(default_factory=list)
    tasks: list[tuple[float, int, _Task]] = field(default_factory=list)
    own_time: float = 0.0
    since: float = 0.0
    version: int = 0


class _Simulation:
    def __init__(
        self, pipeline: Pipeline, nodes: int, runs: Runs, seed: int, grain: int | None
    ) -> None:
        self.pipeline = pipeline
        self.grain = grain
        self.random = random.Random(seed)
        self.now = self.last = 0.0
        self.first: float | None = None
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.count = 0
        self.runs = deque((rows, count) for rows, count in runs if count)
        self.left = self.unfinished = self.total = sum(count for _, count in self.runs)
        segments = pipeline.segments
        self.queues: list[deque[_Unit]] = [deque() for _ in segments]
        self.hungry: list[deque[_Worker]] = [deque() for _ in segments]
        self.between = 0
        self.window = segments[0].window * nodes if len(segments) > 1 else math.inf
        self.askers = segments[0].slots * nodes
        self.free = [0.0] * len(pipeline.limits)
        self.needed = [0.0] * len(pipeline.limits)
        self.busy = [0.0] * len(segments)
        self.failures = self.redone = self.fruitless = 0
        self.nodes = [_Node([0.0] * len(pipeline.limits)) for _ in range(nodes)]
        for node in self.nodes:
            node.workers = [
                _Worker(node, place)
                for place, segment in enumerate(segments)
                for _ in range(segment.slots)
            ]

    def run(self) -> Outcome:
        for node in self.nodes:
            self.at(self.pipeline.before, self.start, node)
            if self.pipeline.failures:
                self.at(self.next_failure(self.pipeline.before), self.fail, node)
        while self.unfinished:
            self.now, _, action, arguments = heappop(self.events)
            action(*arguments)
        seconds = max(self.last, self.pipeline.before) + self.pipeline.after
        machines = len(self.nodes)
        return Outcome(
            seconds,
            (self.first or 0.0) + self.pipeline.after,
            tuple(
                busy / (segment.slots * machines * seconds)
                for busy, segment in zip(self.busy, self.pipeline.segments, strict=True)
            ),
            {
                limit.name: needed / limit.rate / seconds / (machines if limit.is_per_node else 1)
                for limit, needed in zip(self.pipeline.limits, self.needed, strict=True)
            },
            self.failures,
            self.redone,
        )

    def at(self, time: float, action: Callable[..., None], *arguments: object) -> None:
        self.count += 1
        heappush(self.events, (time, self.count, action, arguments))

    # A machine's life.

    def next_failure(self, after: float) -> float:
        return after + self.random.expovariate(self.pipeline.failures)

    def start(self, node: _Node) -> None:
        for worker in node.workers:
            self.begin(worker, None, self.pipeline.segments[worker.place].start, self.now)

    def fail(self, node: _Node) -> None:
        """Lose a machine and the chunks in work on it; what it has finished stays."""
        self.failures += 1
        self.fruitless += 1
        if self.fruitless > _HOPELESS * len(self.nodes):
            raise ConfigError(
                "machines fail so often that no chunk is ever finished; give a lower failure rate"
            )
        self.pass_time(node)
        node.tasks.clear()
        self.expect(node)
        for worker in node.workers:
            worker.is_up = False
        for worker in node.workers:
            task, worker.task = worker.task, None
            while worker.given:
                self.give_back(worker.given.pop(), worker)
            if task is not None:
                task.is_lost = True
                if task.unit is not None:
                    self.lose(task, task.unit)
        for place in range(1, len(self.queues)):
            for unit in [unit for unit in self.queues[place] if unit.home is node]:
                self.queues[place].remove(unit)
                self.redo(unit)
        self.feed(0)
        self.at(self.now + self.pipeline.back, self.start, node)
        self.at(self.next_failure(self.now + self.pipeline.back), self.fail, node)

    def lose(self, task: _Task, unit: _Unit) -> None:
        """Keep those of a unit's chunks that were finished one after another, and redo the rest."""
        worker = task.worker
        if task.done > worker.node.own_time:
            self.busy[worker.place] += self.now - task.at
        shares = [1.0]
        if task.done > task.began:
            shares.append((worker.node.own_time - task.began) / (task.done - task.began))
        if task.served > task.at:
            shares.append((self.now - task.at) / (task.served - task.at))
        done = min(int(min(shares) * unit.chunks), unit.chunks - 1)
        self.redone += 1
        if worker.place == 0:
            self.release(worker.node, unit, unit.chunks - done - 1)
        rest = _Unit(unit.chunks - done, unit.rows, unit.home)
        if done:
            self.between += 1
            self.deliver(_Unit(done, unit.rows), worker)
        self.give_back(rest, worker)

    def give_back(self, unit: _Unit, worker: _Worker) -> None:
        if worker.place == 0:
            self.between -= 1
            self.queues[0].appendleft(unit)
        elif unit.home is worker.node:
            self.redo(unit)
        else:
            self.queues[worker.place].appendleft(unit)
            self.feed(worker.place)

    def redo(self, unit: _Unit) -> None:
        """From the beginning: the memory that held it is gone."""
        self.between -= 1
        self.redone += unit.chunks
        self.queues[0].appendleft(_Unit(unit.chunks, unit.rows))

    # Its processors.

    def pass_time(self, node: _Node) -> None:
        if node.tasks:
            node.own_time += (self.now - node.since) / self.slowdown(len(node.tasks))
        node.since = self.now

    def slowdown(self, busy: int) -> float:
        table = self.pipeline.slowdowns
        return table[min(busy, len(table)) - 1]

    def expect(self, node: _Node) -> None:
        """Note when the machine's next task will be done, if nothing changes before."""
        node.version += 1
        if node.tasks:
            left = max(0.0, node.tasks[0][0] - node.own_time)
            self.at(self.now + left * self.slowdown(len(node.tasks)), self.due, node, node.version)

    def due(self, node: _Node, version: int) -> None:
        if version != node.version:
            return
        self.pass_time(node)
        _, _, task = heappop(node.tasks)
        self.expect(node)
        self.busy[task.worker.place] += 0.0 if task.unit is None else self.now - task.at
        if task.served > self.now:
            self.at(task.served, self.finish, task)
        else:
            self.finish(task)

    # A worker's.

    def begin(self, worker: _Worker, unit: _Unit | None, work: float, served: float) -> None:
        node = worker.node
        self.pass_time(node)
        own = node.own_time
        worker.task = _Task(worker, unit, own, own + work, self.now, served)
        self.count += 1
        heappush(node.tasks, (own + work, self.count, worker.task))
        self.expect(node)

    def finish(self, task: _Task) -> None:
        if task.is_lost:
            return
        worker = task.worker
        worker.task = None
        worker.is_up = True
        if self.first is None:
            self.first = self.now
        if task.unit is not None:
            self.deliver(task.unit, worker)
        self.work_on(worker)
        self.fill(worker)

    def fill(self, worker: _Worker) -> None:
        """Give a worker one more unit, and ask again after all others that are asked now."""
        load = len(worker.given) + (worker.task is not None)
        if not worker.is_up or load >= self.pipeline.ahead:
            return
        unit = self.next_unit(worker.place)
        if unit is None:
            if not worker.is_hungry:
                worker.is_hungry = True
                self.hungry[worker.place].append(worker)
            return
        worker.given.append(unit)
        if worker.task is None:
            self.work_on(worker)
        if load + 1 < self.pipeline.ahead:
            self.at(self.now, self.fill, worker)

    def work_on(self, worker: _Worker) -> None:
        if worker.task is not None or not worker.given:
            return
        unit = worker.given.popleft()
        segment = self.pipeline.segments[worker.place]
        work = unit.chunks * (unit.rows * segment.seconds + self.pipeline.gap)
        served = self.serve(worker.node, unit) if worker.place == 0 else self.now
        self.begin(worker, unit, work * self.factor(unit.chunks), served)

    def factor(self, chunks: int) -> float:
        """Mean of lognormal factors, itself taken as lognormal: of mean 1, and of their spread."""
        if not self.pipeline.spread:
            return 1.0
        variance = math.log1p(math.expm1(self.pipeline.spread**2) / chunks)
        return math.exp(self.random.gauss(0.0, math.sqrt(variance)) - variance / 2)

    def serve(self, node: _Node, unit: _Unit) -> float:
        """When all limits will be done with a unit that is begun now."""
        served = self.now
        for place, limit in enumerate(self.pipeline.limits):
            need = unit.chunks * (unit.rows * limit.per_picture + limit.per_chunk)
            free = node.free if limit.is_per_node else self.free
            free[place] = max(free[place], self.now) + need / limit.rate
            served = max(served, free[place])
            self.needed[place] += need
        return served

    def release(self, node: _Node, unit: _Unit, chunks: int) -> None:
        """Take back what was asked of all limits for chunks that were not begun after all."""
        for place, limit in enumerate(self.pipeline.limits):
            need = chunks * (unit.rows * limit.per_picture + limit.per_chunk)
            free = node.free if limit.is_per_node else self.free
            free[place] = max(self.now, free[place] - need / limit.rate)
            self.needed[place] -= need

    # Chunks on their way.

    def next_unit(self, place: int) -> _Unit | None:
        if not self.has_unit(place):
            return None
        if place == 0:
            self.between += 1
        return self.queues[place].popleft() if self.queues[place] else self.take()

    def has_unit(self, place: int) -> bool:
        if place:
            return bool(self.queues[place])
        return self.between < self.window and bool(self.queues[0] or self.left)

    def take(self) -> _Unit:
        """The next chunks of the input."""
        rows, count = self.runs[0]
        size = 1
        if self.grain is not None:
            share = self.grain * self.askers
            size = max(1, min(self.left // share, (self.total - self.left) // share, count))
        self.left -= size
        self.runs[0] = (rows, count - size)
        if count == size:
            self.runs.popleft()
        return _Unit(size, rows)

    def deliver(self, unit: _Unit, worker: _Worker) -> None:
        """To the store, or to the next segment."""
        following = worker.place + 1
        if following < len(self.queues):
            self.queues[following].append(_Unit(unit.chunks, unit.rows, worker.node))
            self.feed(following)
            return
        self.unfinished -= unit.chunks
        self.last = self.now
        self.fruitless = 0
        self.between -= 1
        if worker.place:
            self.feed(0)

    def feed(self, place: int) -> None:
        """Ask the workers that have waited longest, while there is something for them."""
        hungry = self.hungry[place]
        while hungry and self.has_unit(place):
            worker = hungry.popleft()
            worker.is_hungry = False
            self.fill(worker)
