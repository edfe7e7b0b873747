"""What a simulation of a job is told, what it gives, and what it keeps of machines and work."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


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


@dataclass(eq=False)
class Unit:
    """Chunks of one size that a worker does one after another.

    Attributes:
        home: the machine whose memory holds it, behind the first segment.
    """

    chunks: int
    rows: int
    home: "Node | None" = None


@dataclass(eq=False)
class Worker:
    node: "Node"
    place: int
    given: deque[Unit] = field(default_factory=deque)
    task: "Task | None" = None
    is_up: bool = False
    is_hungry: bool = False


@dataclass(eq=False)
class Task:
    """A worker's work on a unit, or (None) on its own start.

    Attributes:
        began, done: in the machine's own time, see `Node`.
        at: the time it began.
        served: the time at which all limits are done with it.
    """

    worker: Worker
    unit: Unit | None
    began: float
    done: float
    at: float
    served: float
    is_lost: bool = False


@dataclass(eq=False)
class Node:
    """A machine, whose own time passes the more slowly the more of its workers are busy."""

    free: list[float]
    workers: list[Worker] = field(default_factory=list)
    tasks: list[tuple[float, int, Task]] = field(default_factory=list)
    own_time: float = 0.0
    since: float = 0.0
    version: int = 0
