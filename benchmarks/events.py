"""When rows came out of a job: the one measure of start-up and rate for every way of annotating.

A way appends a line with the Unix time and a number of rows for each output; lines this short are
written whole, so several processes may write to one file.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One run of one way.

    Attributes:
        first: seconds from the start of its process to its first output.
        steady: rows a second from when each process may have given its first output to the last
            output; what was out by then is left out.
        total: seconds from the start of its process to its last output.
    """

    first: float
    steady: float
    total: float


def note(file: Path, rows: int) -> None:
    """Say that `rows` more rows are out."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, f"{time.time():.6f} {rows}\n".encode())
    os.close(handle)


def read_run(file: Path, began: float, processes: int) -> Run:
    """The run whose outputs were noted in `file`."""
    lines = [line.split() for line in file.read_text().splitlines()]
    return measure([(float(at), int(rows)) for at, rows in lines], began, processes)


def measure(outputs: Sequence[tuple[float, int]], began: float, processes: int) -> Run:
    """From times and rows of outputs, in any order, of which there are more than processes.

    The first output of each process is left out: with two in step, the second one's would count
    as made in no time.
    """
    ordered = sorted(outputs)
    first, steady, last = ordered[0][0], ordered[processes - 1][0], ordered[-1][0]
    rows = sum(rows for _, rows in ordered[processes:])
    return Run(first - began, rows / (last - steady), last - began)
