"""What a job tells the person who started it: steps, progress, figures; all on standard error."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from jobs.pace import Pace

EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""

_COLUMNS = (
    SpinnerColumn(),
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[told]}"),
    TimeElapsedColumn(),
)


class Advance:
    """A job's progress: call it with how many pictures ended, and how many of these failed."""

    def __init__(self, pace: Pace, show: Callable[[], None]) -> None:
        self._pace = pace
        self._show = show

    def __call__(self, count: int, failed: int = 0) -> None:
        self._pace.add(count, failed)
        self._show()

    def expect(self, total: int | None) -> None:
        """Say how many there are in all, now that it is known, or known better."""
        self._pace.total = total
        self._show()


class Console:
    """Standard error, so that what a job prints as its result can be piped."""

    def __init__(self, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._console = rich.console.Console(stderr=True, quiet=quiet, highlight=False)

    def say(self, text: str) -> None:
        """One line of news."""
        self._console.print(text, markup=False, soft_wrap=True)

    def error(self, text: str) -> None:
        """What went wrong, and how to mend it."""
        self._console.print("error: " + text, style="bold red", markup=False, soft_wrap=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """A spinner beside a step of unknown length."""
        with self._console.status(text):
            yield

    @contextmanager
    def progress(
        self, text: str, total: int | None, done: int = 0, failed: int = 0, unit: str = "pictures"
    ) -> Iterator["Advance"]:
        """A bar, or a line now and then where there is no terminal; call what it gives.

        Args:
            total: None, if it is not known yet; see `Advance.expect`.
            done, failed: what an earlier run did; no part of the speed.
        """
        pace = Pace(total, done, failed, self._clock)
        if self._console.is_terminal and not self._console.quiet:
            with Progress(*_COLUMNS, console=self._console) as bars:
                task = bars.add_task(text, total=total, completed=done, told="")

                def show() -> None:
                    told = ", ".join(pace.remarks())
                    bars.update(task, completed=pace.done, total=pace.total, told=told)

                show()
                yield Advance(pace, show)
            return
        told_at = self._clock()

        def tell() -> None:
            nonlocal told_at
            if self._clock() - told_at >= EVERY:
                told_at = self._clock()
                self.say(f"{text}: {pace.described(unit)}")

        yield Advance(pace, tell)
        self.say(f"{text}: {pace.done:,} done" + (f", {pace.failed:,} failed" * bool(pace.failed)))

    @contextmanager
    def steps(self, text: str, total: int) -> Iterator[Callable[[str], None]]:
        """A bar over `total` steps; call what it gives with each step's name as it begins."""
        with self.progress(text, total, unit="steps") as advance:
            begun = 0

            def begin(step: str) -> None:
                nonlocal begun
                if begun:
                    advance(1)
                begun += 1
                self.say(step)

            yield begin
            advance(1)

    def table(self, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Figures under headings; what stands in the first column names the row."""
        table = Table(title=title)
        least = 1
        for place, heading in enumerate(headings):
            words = " ".join([heading, *(row[place] for row in rows)]).split()
            width = max(map(len, words), default=0)
            table.add_column(heading, justify="right" if place else "left", min_width=width)
            least += width + 3
        for row in rows:
            table.add_row(*row)
        if least > self._console.width:
            # A figure is never shortened, however narrow the screen: lines are broken instead.
            table.width = least
        self._console.print(table, crop=False)
