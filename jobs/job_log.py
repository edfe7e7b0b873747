"""One line of JSON for each part that a job writes: in Ray's logs, and in a file of the driver's.

A line names chunks and parts, never addresses, so that no credentials in a URL can get into it.
"""

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import ConfigError
from jobs.sink import Receipt, part_name

Note = Callable[[Receipt], None]


def part_line(receipt: Receipt) -> str:
    """A part as a line: what it is, what became of its pictures, where its time went.

    The seconds are those of all the workers that the chunk went through; `time` is UTC.
    """
    seconds: Counter[str] = Counter()
    for work in receipt.works:
        seconds.update(dict(work.seconds))
    return json.dumps(
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": "part",
            "chunk": receipt.chunk,
            "part": part_name(receipt.chunk),
            "rows": receipt.rows,
            "failed": receipt.failed,
            "errors": dict(receipt.errors),
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "workers": [work.worker for work in receipt.works],
        }
    )


def worker_note() -> Note:
    """Note parts in this worker's log among those of the Ray session."""
    return _note(logging.StreamHandler(sys.stderr), "tagloom.jobs.worker")


@contextmanager
def driver_note(path: Path | None) -> Iterator[Note | None]:
    """Note parts at the end of a file, as they are done; None: nowhere.

    Raises:
        ConfigError: the file cannot be written.
    """
    if path is None:
        yield None
        return
    is_new = not path.exists()
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--log {path}: cannot be written ({error.strerror}); name a file in a folder that is "
            "there and may be written to"
        ) from error
    try:
        yield _note(handler, "tagloom.jobs.driver")
    finally:
        logging.getLogger("tagloom.jobs.driver").removeHandler(handler)
        handler.close()
        if is_new and path.stat().st_size == 0:
            path.unlink()  # nothing half-written of a job that never began


def _note(handler: logging.Handler, name: str) -> Note:
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return lambda receipt: logger.info("%s", part_line(receipt))
