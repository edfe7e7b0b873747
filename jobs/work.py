"""What a worker did with a chunk, and when: the figures that `tagloom profile` adds up."""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

BESIDE = "beside"
"""Name of the worker that is no worker of Ray's, but works while Ray starts."""

LOADING, READING, WRITING = "loading models", "reading", "writing"


@dataclass(frozen=True)
class Work:
    """One worker's time on one chunk.

    Attributes:
        worker: tells the workers of a job apart.
        rows: of the chunk.
        began, ended: Unix time in seconds, which other processes can compare with theirs.
        seconds: wall seconds by what they went into; what is missing to `ended - began` went
            into nothing that has a name.
        imports: CPU seconds that the worker's process had used when it became a worker.
    """

    worker: str
    rows: int
    began: float
    ended: float
    seconds: Mapping[str, float]
    imports: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Work":
        return cls(**json.loads(text))


class Stopwatch:
    """Adds up wall seconds by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Count the block's time under `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began


def since(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """What was added between two readings of figures that only grow."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in now.items()}


class Diary:
    """What a job's driver waited for, phase after phase, and what its workers did.

    Attributes:
        marks: phases in order, with the Unix time at which each ended.
        works: what was added, if it keeps that: a large job's would fill the driver.
    """

    def __init__(self, began: float | None = None, keeps: bool = False) -> None:
        self.keeps = keeps
        self.began = time.time() if began is None else began
        self.marks: list[tuple[str, float]] = []
        self.works: list[Work] = []

    def add(self, works: Iterable[Work]) -> None:
        """Note what was done; kept only by a diary that is asked to."""
        if self.keeps:
            self.works.extend(works)

    def mark(self, phase: str, at: float | None = None) -> None:
        """End a phase, which began where the one before ended; `at` is a Unix time, now if None."""
        self.marks.append((phase, time.time() if at is None else at))
