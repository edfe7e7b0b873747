"""A discrete-event simulation of an annotate job: when its last part is in the store.

Workers of a machine share its processors: each chunk is worked on at the speed that the number of
busy workers leaves it. What several workers share otherwise, such as a network or a store, serves
chunks in the order in which they begin; a chunk ends when its worker and all of these are done
with it, for reading and writing go on beside the work. Nothing here knows of Ray or of pictures.
"""

import math
import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from engine.errors import ConfigError
from jobs.pipeline import Node, Outcome, Pipeline, Runs, Task, Unit, Worker

GRAIN = 16
"""Chunks are simulated in units of one, then of ever more, and towards the end of ever fewer: a
unit is at most this part of a worker's share of the chunks before it, and of those after it."""

_HOPELESS = 1000
"""Failures of each machine without a finished chunk between them: the job will never end."""


def simulate(
    pipeline: Pipeline, nodes: int, runs: Runs, seed: int = 0, grain: int | None = GRAIN
) -> Outcome:
    """Run a job on `nodes` machines.

    Args:
        grain: see `GRAIN`; None: chunk by chunk, whose time grows with the number of chunks.
    """
    return _Simulation(pipeline, nodes, runs, seed, grain).run()


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
        self.queues: list[deque[Unit]] = [deque() for _ in segments]
        self.hungry: list[deque[Worker]] = [deque() for _ in segments]
        self.between = 0
        self.window = segments[0].window * nodes if len(segments) > 1 else math.inf
        self.askers = segments[0].slots * nodes
        self.free = [0.0] * len(pipeline.limits)
        self.needed = [0.0] * len(pipeline.limits)
        self.busy = [0.0] * len(segments)
        self.failures = self.redone = self.fruitless = 0
        self.nodes = [Node([0.0] * len(pipeline.limits)) for _ in range(nodes)]
        for node in self.nodes:
            node.workers = [
                Worker(node, place)
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

    def start(self, node: Node) -> None:
        for worker in node.workers:
            self.begin(worker, None, self.pipeline.segments[worker.place].start, self.now)

    def fail(self, node: Node) -> None:
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

    def lose(self, task: Task, unit: Unit) -> None:
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
        rest = Unit(unit.chunks - done, unit.rows, unit.home)
        if done:
            self.between += 1
            self.deliver(Unit(done, unit.rows), worker)
        self.give_back(rest, worker)

    def give_back(self, unit: Unit, worker: Worker) -> None:
        if worker.place == 0:
            self.between -= 1
            self.queues[0].appendleft(unit)
        elif unit.home is worker.node:
            self.redo(unit)
        else:
            self.queues[worker.place].appendleft(unit)
            self.feed(worker.place)

    def redo(self, unit: Unit) -> None:
        """From the beginning: the memory that held it is gone."""
        self.between -= 1
        self.redone += unit.chunks
        self.queues[0].appendleft(Unit(unit.chunks, unit.rows))

    # Its processors.

    def pass_time(self, node: Node) -> None:
        if node.tasks:
            node.own_time += (self.now - node.since) / self.slowdown(len(node.tasks))
        node.since = self.now

    def slowdown(self, busy: int) -> float:
        table = self.pipeline.slowdowns
        return table[min(busy, len(table)) - 1]

    def expect(self, node: Node) -> None:
        """Note when the machine's next task will be done, if nothing changes before."""
        node.version += 1
        if node.tasks:
            left = max(0.0, node.tasks[0][0] - node.own_time)
            self.at(self.now + left * self.slowdown(len(node.tasks)), self.due, node, node.version)

    def due(self, node: Node, version: int) -> None:
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

    def begin(self, worker: Worker, unit: Unit | None, work: float, served: float) -> None:
        node = worker.node
        self.pass_time(node)
        own = node.own_time
        worker.task = Task(worker, unit, own, own + work, self.now, served)
        self.count += 1
        heappush(node.tasks, (own + work, self.count, worker.task))
        self.expect(node)

    def finish(self, task: Task) -> None:
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

    def fill(self, worker: Worker) -> None:
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

    def work_on(self, worker: Worker) -> None:
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

    def serve(self, node: Node, unit: Unit) -> float:
        """When all limits will be done with a unit that is begun now."""
        served = self.now
        for place, limit in enumerate(self.pipeline.limits):
            need = unit.chunks * (unit.rows * limit.per_picture + limit.per_chunk)
            free = node.free if limit.is_per_node else self.free
            free[place] = max(free[place], self.now) + need / limit.rate
            served = max(served, free[place])
            self.needed[place] += need
        return served

    def release(self, node: Node, unit: Unit, chunks: int) -> None:
        """Take back what was asked of all limits for chunks that were not begun after all."""
        for place, limit in enumerate(self.pipeline.limits):
            need = chunks * (unit.rows * limit.per_picture + limit.per_chunk)
            free = node.free if limit.is_per_node else self.free
            free[place] = max(self.now, free[place] - need / limit.rate)
            self.needed[place] -= need

    # Chunks on their way.

    def next_unit(self, place: int) -> Unit | None:
        if not self.has_unit(place):
            return None
        if place == 0:
            self.between += 1
        return self.queues[place].popleft() if self.queues[place] else self.take()

    def has_unit(self, place: int) -> bool:
        if place:
            return bool(self.queues[place])
        return self.between < self.window and bool(self.queues[0] or self.left)

    def take(self) -> Unit:
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
        return Unit(size, rows)

    def deliver(self, unit: Unit, worker: Worker) -> None:
        """To the store, or to the next segment."""
        following = worker.place + 1
        if following < len(self.queues):
            self.queues[following].append(Unit(unit.chunks, unit.rows, worker.node))
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
