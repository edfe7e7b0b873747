"""A command in a process of its own that a test kills."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil


@dataclass
class Victim:
    """The process, and what it was seen to have started."""

    process: "subprocess.Popen[str]"
    started: list[psutil.Process] = field(default_factory=list)

    def look(self) -> list[psutil.Process]:
        """What it has started by now, which its own end would hide."""
        self.started = psutil.Process(self.process.pid).children(recursive=True)
        return self.started


@contextmanager
def victim(command: Sequence[str]) -> Iterator[Victim]:
    """Run `tagloom` with these words; at the end nothing is left of it or of what was seen."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    found = Victim(process)
    try:
        yield found
    finally:
        for one in (process, *found.started):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.communicate()
