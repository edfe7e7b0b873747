"""How training goes on, while it does: workers write a line an epoch, and the job tells of it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from engine.errors import ConfigError

LINES = "progress.jsonl"
EVERY = 5.0
"""Seconds between two lines that the job tells, the last one aside."""

_POLL = 0.25
_NOT_SCALARS = frozenset(("epoch", "epochs"))


class Log(Protocol):
    """What an event writer of TensorBoard does here."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object:
        """Note one figure of an epoch."""
        ...

    def close(self) -> object:
        """Write what is left, and release the file."""
        ...


def append_line(folder: Path, epoch: int, figures: Mapping[str, float], part: str = "") -> None:
    """Note an epoch's figures in a folder that the job reads; by one worker alone.

    Args:
        part: the run's name, where a training has several.
    """
    with (folder / LINES).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"part": part, "epoch": epoch, **figures}) + "\n")


def described(kind: str, figures: Mapping[str, float], part: str = "") -> str:
    """One line of news about an epoch."""
    name = f"'{kind}', {part}" if part else f"'{kind}'"
    parts = [f"loss {figures['loss']:.4g}"]
    if figures["figure"] != figures["loss"]:
        parts.append(f"validation figure {figures['figure']:.4g}")
    parts.append(f"{figures['pictures_per_second']:,.0f} pictures/s")
    left = figures["seconds_left"]
    parts.append(f"{left / 60:,.0f} min left" if left >= 120 else f"{left:.0f} s left")
    return f"{name}, epoch {figures['epoch']:.0f} of {figures['epochs']:.0f}: {', '.join(parts)}"


def check_log(folder: Path | None) -> None:
    """Refuse to log for TensorBoard where that cannot be, before any picture is read.

    Raises:
        ConfigError: the library is not there, or `folder` is a file.
    """
    if folder is None:
        return
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"training.log is '{folder}', but tensorboardX, which writes such logs, is not "
            "installed; pip install 'tagloom[tensorboard]', or leave training.log out"
        ) from error
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"training.log is '{folder}', which is a file; name a folder")


def open_log(folder: Path, kind: str) -> Log:
    """A writer of a run of its own in the folder: `ranked-lstm`, then `ranked-lstm-2`, ..."""
    from tensorboardX import SummaryWriter

    number, run = 1, folder / kind
    while run.exists():
        number += 1
        run = folder / f"{kind}-{number}"
    log: Log = SummaryWriter(str(run))
    return log


@contextmanager
def told(
    folder: Path, kind: str, say: Callable[[str], None], log: Path | None, every: float = EVERY
) -> Iterator[None]:
    """Within the block, tell of each line that a worker appends in `folder`.

    Args:
        log: a folder for TensorBoard, which gets every line; None: none.
        every: seconds; of the lines that come in between, the job tells the last.
    """
    with ExitStack() as stack:
        writer = None
        if log is not None:
            writer = open_log(log, kind)
            stack.callback(writer.close)
        is_over = threading.Event()
        teller = _Teller(folder / LINES, kind, say, writer, every)
        thread = threading.Thread(target=teller.follow, args=(is_over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


class _Teller:
    def __init__(
        self, path: Path, kind: str, say: Callable[[str], None], log: Log | None, every: float
    ) -> None:
        self.path = path
        self.kind = kind
        self.say = say
        self.log = log
        self.every = every
        self.read = 0
        self.waiting: tuple[Mapping[str, float], str] | None = None

    def follow(self, is_over: threading.Event) -> None:
        """Until it is over, and then once more, for what came last."""
        since = self.every
        while not is_over.wait(_POLL):
            since += _POLL
            self.look()
            if self.waiting is not None and since >= self.every:
                self.tell()
                since = 0.0
        self.look()
        self.tell()

    def look(self) -> None:
        """Read the lines that are whole."""
        if not self.path.exists():
            return
        whole = self.path.read_bytes()[self.read :]
        whole = whole[: whole.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            figures = json.loads(line)
            part = figures.pop("part")
            self.waiting = (figures, part)
            if self.log is not None:
                group = f"training/{part}" if part else "training"
                for name in sorted(figures.keys() - _NOT_SCALARS):
                    self.log.add_scalar(f"{group}/{name}", figures[name], int(figures["epoch"]))

    def tell(self) -> None:
        """Say what is still to be said."""
        if self.waiting is not None:
            self.say(described(self.kind, *self.waiting))
            self.waiting = None
