"""One job at a time writes into an output: a lease in it, which its holder renews while it runs.

Leases are numbered files in a folder of the output, each created only where none of its name is;
the highest number holds. Where a store cannot create a file exclusively, two jobs that begin in
the same moment may both succeed; the lower one then finds the higher one and stops.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil
from botocore.exceptions import BotoCoreError

from engine.errors import ConfigError
from jobs.console import Console
from jobs.store import Store

LEASE = "_lease"
"""The folder of an output in which its leases lie, while a job runs."""

RENEWED = 10.0
"""Seconds between two renewals."""

PATIENCE = 60.0
"""Seconds after which a lease that is not renewed is taken over from another machine's job."""

_FIRST_LOOK = 0.2
# What a store was seen to raise when it is out of reach for a while.
_UNREACHABLE = (OSError, ConfigError, BotoCoreError)


@dataclass(frozen=True)
class _Process:
    """A process of some machine.

    Attributes:
        machine: tells machines and containers apart, also where their host names are the same.
        began: Unix time at which it started, for process ids are given again.
    """

    host: str
    machine: str
    pid: int
    began: float

    @classmethod
    def this(cls) -> "_Process":
        return cls(socket.gethostname(), _machine(), os.getpid(), psutil.Process().create_time())

    def state(self) -> Literal["gone", "running", "unknown"]:
        """What is certain of it; of another machine's process nothing is."""
        if self.machine != _machine():
            return "unknown"
        try:
            process = psutil.Process(self.pid)
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return "gone"
            # The clock may have been set since; a process id is not given again within seconds.
            same = abs(process.create_time() - self.began) < 5
        except psutil.NoSuchProcess:
            return "gone"
        return "running" if same else "unknown"


@dataclass(frozen=True)
class _Claim:
    """What a lease's file says.

    Attributes:
        token: unique, for the same number may be given again.
        since: when the job began, as ISO 8601 in UTC.
        renewals: how often it was renewed.
    """

    holder: _Process
    token: str
    since: str
    renewals: int = 0

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "_Claim | None":
        """None: it is not written to its end, or not by this program."""
        try:
            content = json.loads(text)
            return cls(**{**content, "holder": _Process(**content["holder"])})
        except (ValueError, TypeError, KeyError):
            return None

    def __str__(self) -> str:
        return f"process {self.holder.pid} on {self.holder.host}, since {self.since}"


@dataclass
class Lease:
    """A lease that this process holds, and renews in a thread."""

    _store: Store
    _folder: Store
    _number: int
    _claim: _Claim
    _over: threading.Event = field(default_factory=threading.Event)
    _lost: bool = False

    def check(self) -> None:
        """Refuse to go on if another job took over.

        Raises:
            ConfigError: one did.
        """
        if self._lost:
            _, other = _highest(self._folder)
            raise ConfigError(
                f"{self._store.url}: another job took over while this one did not renew its lease "
                f"there ({other or 'it has ended since'}); let it end, or stop it and run this "
                "command again"
            )

    def keep(self, renewed: float) -> None:
        """Renew every `renewed` seconds until `stop` is called or another job took over."""
        while not self._over.wait(renewed):
            try:
                self._lost = not self.is_mine()
                if self._lost:
                    return
                self._claim = replace(self._claim, renewals=self._claim.renewals + 1)
                self._folder.write(_name(self._number), self._claim.to_json())
            except _UNREACHABLE:
                # The job itself will meet it, if it lasts.
                continue

    def stop(self) -> None:
        """Let `keep` end."""
        self._over.set()

    def release(self) -> None:
        """Remove it."""
        try:
            if self.is_mine():
                self._folder.remove(_name(self._number))
        except _UNREACHABLE:
            # It lapses by itself; how the job ended is what has to be told.
            return

    def is_mine(self) -> bool:
        """Whether it is the one that holds."""
        number, claim = _highest(self._folder)
        return number == self._number and (claim is None or claim.token == self._claim.token)


@contextmanager
def held(
    store: Store, console: Console, patience: float = PATIENCE, renewed: float = RENEWED
) -> Iterator[Lease]:
    """Hold a store's lease; nothing of it is left afterwards, nor a store that was made for it.

    The lease of a process of this machine that ended, killed for instance, is taken over at once;
    another machine's after `patience` seconds in which it was not renewed.

    Args:
        renewed: seconds between two renewals.

    Raises:
        ConfigError: another job holds it, or took it over while this one was held up.
    """
    # Tells, too, if a file is where the store should be.
    store.names()
    existed = store.exists()
    folder = Store(f"{store.url}/{LEASE}")
    try:
        lease = _acquire(store, folder, console, patience)
        thread = threading.Thread(target=lease.keep, args=(renewed,), name="lease", daemon=True)
        thread.start()
        try:
            yield lease
        finally:
            lease.stop()
            thread.join()
            lease.release()
        lease.check()
    finally:
        folder.remove_if_empty()
        if not existed:
            store.remove_if_empty()


def _acquire(store: Store, folder: Store, console: Console, patience: float) -> Lease:
    claim = _Claim(_Process.this(), uuid.uuid4().hex, datetime.now(UTC).isoformat(" ", "seconds"))
    while True:
        number, _ = _highest(folder)
        if number and not _lapsed(store, folder, number, console, patience):
            continue
        if not folder.create(_name(number + 1), claim.to_json()):
            continue
        lease = Lease(store, folder, number + 1, claim)
        if not lease.is_mine():
            # Numbers began anew while this one was looking.
            continue
        for name in folder.names():
            if name != _name(number + 1):
                folder.remove(name)
        folder.sweep()
        return lease


def _lapsed(store: Store, folder: Store, number: int, console: Console, patience: float) -> bool:
    """Whether a lease's holder is dead; False: the lease is not there any more.

    Raises:
        ConfigError: the holder is alive.
    """
    deadline = time.monotonic() + patience
    first = _read(folder, number)
    look = _FIRST_LOOK
    while True:
        content = _read(folder, number)
        if content is None:
            return False
        claim = _Claim.from_json(content)
        state = "unknown" if claim is None else claim.holder.state()
        if state == "gone":
            return True
        if state == "running" or content != first:
            raise ConfigError(
                f"{store.url}: another job writes there ({claim or 'it does not say which'}); "
                "wait for its end, stop it, or name another output"
            )
        left = deadline - time.monotonic()
        if left <= 0:
            return True
        if look == _FIRST_LOOK:
            console.say(
                f"{store.url} is held by {claim or 'a job that does not say which'}; waiting "
                f"{patience:.0f} s to see whether it still runs"
            )
        time.sleep(min(look, left))
        look = min(2 * look, 2.0)


def _highest(folder: Store) -> tuple[int, _Claim | None]:
    """The number that holds and what its file says; 0 where there is none."""
    try:
        names = folder.names()
    except FileNotFoundError:
        # It was removed while it was being looked at.
        names = []
    numbers = [int(Path(name).stem) for name in names if Path(name).stem.isdigit()]
    if not numbers:
        return 0, None
    content = _read(folder, max(numbers))
    return max(numbers), None if content is None else _Claim.from_json(content)


def _read(folder: Store, number: int) -> bytes | None:
    try:
        return folder.read(_name(number))
    except FileNotFoundError:
        return None


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _machine() -> str:
    """What is the same for processes that see each other's ids, and for no others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        # Not Linux, where processes are not hidden from each other.
        return socket.gethostname()
