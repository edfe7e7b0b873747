"""How far a job is: what is done, how fast it goes, how long it has yet. Arithmetic alone."""

import time
from collections import deque
from collections.abc import Callable

SPAN = 120.0
"""Seconds that the speed is taken over; chunks end in bursts, so that less would flicker."""

_LEAST = 5.0
"""Seconds of work that a speed must rest on, the start aside."""


class Pace:
    """Counts what ends.

    Attributes:
        total: how many there are; None: not known yet.
        done: how many have ended, those of an earlier run among them.
        failed: how many of these failed.
    """

    def __init__(
        self,
        total: int | None,
        done: int = 0,
        failed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.done = done
        self.failed = failed
        self._clock = clock
        self._began = clock()
        self._own = 0
        self._ends: deque[tuple[float, int]] = deque()

    def add(self, count: int, failed: int = 0) -> None:
        """Note that `count` have ended just now, `failed` of them badly."""
        now = self._clock()
        self.done += count
        self.failed += failed
        self._own += count
        self._ends.append((now, count))
        while self._ends[0][0] < now - SPAN and len(self._ends) > 2:
            self._ends.popleft()

    @property
    def speed(self) -> float | None:
        """How many a second, lately; None before anything ended."""
        if not self._own:
            return None
        # From the first end on: what came before it is start-up, or the chunk that it ends.
        span = self._ends[-1][0] - self._ends[0][0]
        if span >= _LEAST:
            return (sum(count for _, count in self._ends) - self._ends[0][1]) / span
        whole = self._clock() - self._began
        return self._own / whole if whole > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None while that cannot be known."""
        speed = self.speed
        if self.total is None or not speed:
            return None
        return max(0, self.total - self.done) / speed

    def described(self, unit: str) -> str:
        """In words, such as '3,000 of 9,000 pictures, 150/s, 2 failed, 40 s left'."""
        of = "" if self.total is None else f" of {self.total:,}"
        return ", ".join([f"{self.done:,}{of} {unit}", *self.remarks()])

    def remarks(self) -> list[str]:
        """Speed, failures and time left: those of them that there are to tell."""
        speed, left = self.speed, self.left
        told = []
        if speed:
            told.append(f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.2g}/s")
        if self.failed:
            told.append(f"{self.failed:,} failed")
        if left:
            told.append(f"{duration(left)} left")
        return told


def duration(seconds: float) -> str:
    """Seconds in the two units that matter."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
