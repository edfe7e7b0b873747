"""What a job tells the person who started it: steps, progress, figures; all on standard error."""

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
    TimeRemainingColumn,
)
from rich.table import Table


class Console:
    """Standard error, so that what a job prints as its result can be piped."""

    def __init__(self, quiet: bool = False) -> None:
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
    def progress(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar; call what it gives with the number of pictures done."""
        done = 0
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console) as bars:
            task = bars.add_task(text, total=total, rate="")

            def advance(count: int) -> None:
                nonlocal done
                done += count
                bars.advance(task, count)
                speed = bars.tasks[0].speed
                bars.update(task, rate=f"{speed:,.0f}/s" if speed else "")

            yield advance
        if not self._console.is_terminal:
            self.say(f"{text}: {done:,} done")

    @contextmanager
    def steps(self, text: str, total: int) -> Iterator[Callable[[str], None]]:
        """A bar over `total` steps; call what it gives with each step's name as it begins."""
        with self.progress(text, total) as advance:
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
        for place, heading in enumerate(headings):
            table.add_column(heading, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)
