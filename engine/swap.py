"""Puts a folder that was made under another name in its place, in one step."""

import ctypes
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def put_in_place(draft: Path, folder: Path) -> None:
    """Give `draft` the name `folder`; what has that name gets the draft's, to be removed by then.

    Whoever opens `folder` finds the old or the new one whole, whatever is killed when: Linux
    exchanges two names at once. A file system that cannot do that sees two renames, and for an
    instant between them no folder of that name.
    """
    if not folder.exists():
        draft.rename(folder)
    elif not _exchange(draft, folder):
        aside = draft.with_name(f"{draft.name}.old")
        folder.rename(aside)
        draft.rename(folder)
        aside.rename(draft)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names; False where this system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
