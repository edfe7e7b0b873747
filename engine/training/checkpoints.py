"""Where a training run leaves its state after each epoch, and finds it again."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from engine.errors import TrainingError

Write = Callable[[Path], None]
"""Fills an empty folder with a checkpoint."""

_PREFIX = "epoch-"


class Checkpoints(Protocol):
    """What `train` tells of each epoch's end. Every rank makes the same calls."""

    def latest(self) -> Path | None:
        """The folder of the last whole checkpoint; None: begin at the beginning."""
        ...

    def keep(self, epoch: int, write: Write, figures: Mapping[str, float], is_writer: bool) -> None:
        """Keep the state after an epoch.

        Args:
            epoch: how many are done.
            write: called by the rank that `is_writer` alone, for all have the same state.
            figures: of this epoch, by name: 'loss', 'figure' (what it was judged by), 'epochs' (at
                most), 'pictures_per_second' and 'seconds_left' (at most).
        """
        ...

    def part(self, name: str) -> "Checkpoints":
        """Those of one of several runs that make up a training, each gone on with by itself."""
        ...


class FolderCheckpoints:
    """Checkpoints as folders of one folder: `epoch-0001`, `epoch-0002`, each whole or not there.

    Attributes:
        most: only so many of the last are kept.
    """

    def __init__(self, folder: Path, most: int = 2) -> None:
        self.folder = folder
        self.most = most

    def latest(self) -> Path | None:
        """By the names in the folder: what was only begun has another name."""
        found = self._whole()
        return found[-1] if found else None

    def keep(self, epoch: int, write: Write, figures: Mapping[str, float], is_writer: bool) -> None:
        if not is_writer:
            return
        target = self.folder / f"{_PREFIX}{epoch:06d}"
        draft = self.folder / f".{target.name}.{os.getpid()}.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            write(draft)
            (draft / "figures.json").write_text(json.dumps(dict(figures)), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in self._whole()[: -self.most]:
            shutil.rmtree(old)

    def part(self, name: str) -> "FolderCheckpoints":
        """Those in the sub-folder of that name."""
        return FolderCheckpoints(self.folder / name, self.most)

    def _whole(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*"))


def read_json(path: Path, expected: str) -> dict[str, object]:
    """Read a checkpoint's JSON and see that it is of this run.

    Args:
        expected: digest of the settings and of the pictures' number.

    Raises:
        TrainingError: it is of another run.
    """
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("run") != expected:
        raise TrainingError(
            f"{path.parent}: this checkpoint is of a run with other settings or other pictures; "
            "name another folder for the checkpoints, or delete this one"
        )
    return content
