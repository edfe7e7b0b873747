"""Folders for what a job needs while it runs, where all of its workers see them."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import ConfigError
from engine.storage.files import absolute, is_remote, local_path, shown
from jobs.store import Store


@contextmanager
def scratch_beside(out: Path) -> Iterator[str]:
    """A temporary folder beside `out`, which workers share with us if they share that place.

    Raises:
        ConfigError: nothing can be written there.
    """
    place = out.absolute().parent
    with _parents(place, out):
        try:
            scratch = tempfile.TemporaryDirectory(prefix=".tagloom-", dir=place)
        except OSError as error:
            raise _unwritable(out, error) from error
        with scratch as work:
            yield work


@contextmanager
def _parents(place: Path, out: Path) -> Iterator[None]:
    """Within the block, a folder is there; what had to be made goes again if nothing came in.

    Raises:
        ConfigError: it cannot be made for `out`.
    """
    made = [parent for parent in (place, *place.parents) if not parent.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        yield
    finally:
        for parent in made:
            if any(parent.iterdir()):
                break
            parent.rmdir()


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{out}: cannot be written ({error}); name a place that can be written")


@contextmanager
def scratch_for(out: str, scratch: str | None = None) -> Iterator[str]:
    """A temporary folder that all workers see, for a job that writes to `out`, a path or a URL.

    Args:
        scratch: a folder to make it in. None: beside `out`; of a URL, in this machine's own
            temporary folder, where Ray runs on this machine alone.

    Raises:
        ConfigError: nothing can be written there, or other nodes would not see it.
    """
    if scratch is not None:
        check_scratch(scratch)
        with scratch_beside(local_path(scratch) / "scratch") as work:
            yield work
    elif not is_remote(out):
        with scratch_beside(local_path(out)) as work:
            yield work
    elif os.environ.get("RAY_ADDRESS"):
        raise ConfigError(
            f"{shown(out)}: is a URL, and RAY_ADDRESS names a cluster, whose workers must share a "
            "folder while they learn; name one that all nodes mount by --scratch"
        )
    else:
        with tempfile.TemporaryDirectory(prefix="tagloom-") as work:
            yield work


def check_scratch(scratch: str) -> None:
    """Refuse a URL.

    Raises:
        ConfigError: it is one.
    """
    if is_remote(scratch):
        raise ConfigError(
            f"--scratch {shown(scratch)}: is a URL, but what is kept there is mapped into "
            "memory; name a folder, on storage that all nodes mount where there are several"
        )


@contextmanager
def made_for(store: Store) -> Iterator[None]:
    """Within the block, a local store's parents are there; those made go if nothing came in.

    Raises:
        ConfigError: they cannot be made.
    """
    if not store.is_local:
        yield
        return
    folder = Path(store.path("."))
    with _parents(folder.parent, folder):
        yield


@contextmanager
def shared_folder(store: Store) -> Iterator[Store]:
    """A folder that all workers see, for what they map into memory: the store, if it is one.

    Raises:
        ConfigError: see `scratch_for`.
    """
    if store.is_local:
        yield store
    else:
        with scratch_for(store.url) as work:
            yield Store(work)


@contextmanager
def scratch_store(out: str) -> Iterator[Store]:
    """A temporary store beside `out`, a path or a URL, that all workers see if they see that place.

    Raises:
        ConfigError: nothing can be written there.
    """
    if not is_remote(out):
        with scratch_beside(local_path(out)) as work:
            yield Store(work)
        return
    store = Store(f"{absolute(out)}.scratch-{secrets.token_hex(4)}")
    try:
        yield store
    finally:
        store.remove("")
