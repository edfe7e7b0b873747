"""Runs a command on a Ray cluster by its job submission API, and tells its log and its end."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

import typer

from engine.errors import ConfigError
from jobs.console import Console

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

ADDRESS = "RAY_API_SERVER_ADDRESS"
"""The variable that Ray heeds before any address that it is given."""

_POLLED = 0.5


@dataclass(frozen=True)
class Entrypoint:
    """What the cluster runs, and what it must have for it.

    Attributes:
        command: for a shell.
        environment: as Ray's `runtime_env` is written.
        cpus, gpus, memory: reserved for the command itself, beside its workers; memory in bytes.
    """

    command: str
    environment: Mapping[str, object] = field(default_factory=dict)
    cpus: float | None = None
    gpus: float | None = None
    memory: int | None = None
    submission_id: str | None = None


def run(entrypoint: Entrypoint, address: str, console: Console, follow: bool) -> int:
    """Run a command on a cluster.

    Args:
        follow: tell its log and wait for its end; else its name is printed.

    Returns:
        Its exit code; 128 and the signal's number if a signal ended it, 130 if following did.

    Raises:
        ConfigError: the cluster cannot be reached, or does not take the job.
    """
    # Here, not above: Ray takes seconds that --help has no use for.
    from ray.dashboard.modules.job.utils import redact_url_password
    from ray.job_submission import JobSubmissionClient

    shown = redact_url_password(address)
    with _reaching(shown), _as_environment(ADDRESS, address):
        client = JobSubmissionClient(address)
        name = client.submit_job(
            entrypoint=entrypoint.command,
            runtime_env=dict(entrypoint.environment),
            submission_id=entrypoint.submission_id,
            entrypoint_num_cpus=entrypoint.cpus,
            entrypoint_num_gpus=entrypoint.gpus,
            entrypoint_memory=entrypoint.memory,
        )
    if not follow:
        typer.echo(json.dumps({"submission_id": name, "address": shown}))
        return 0
    console.say(f"job {name} is at {shown}")
    try:
        with _reaching(shown), interrupts() as is_interrupted:
            details = follow_log(client, name, is_interrupted)
    except KeyboardInterrupt:
        console.say(
            f"job {name} goes on; look again with 'ray job logs --follow {name} --address "
            f"{shown}', stop it with 'ray job stop {name} --address {shown}'"
        )
        return 130
    code = details.driver_exit_code
    if details.status == "SUCCEEDED":
        return 0
    if details.status == "STOPPED":
        console.error(f"job {name} was stopped")
    elif code is None:
        console.error(f"job {name} did not run: {details.message}")
    if code is not None and code < 0:
        return 128 - code
    return code or 1


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Within the block Ctrl-C sets an event before it raises, for it may come out as another error.

    A connection that it breaks off may fail as it is closed, and that error hides the interrupt.
    Who started the program may have it ignore Ctrl-C; then it does.
    """
    is_interrupted = threading.Event()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield is_interrupted
        return

    def note(number: int, frame: FrameType | None) -> None:
        is_interrupted.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield is_interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def follow_log(
    client: "JobSubmissionClient", name: str, is_interrupted: threading.Event
) -> "JobDetails":
    """Tell a job's log until it ends, however often the connection to it does.

    Raises:
        KeyboardInterrupt: as soon as the event is set.
    """
    from aiohttp import ClientError

    log = Log()
    while True:
        try:
            asyncio.run(log.tell(client.tail_job_logs(name)))
        except (RuntimeError, ClientError):
            # Whether it is there at all is asked next.
            is_interrupted.wait(_POLLED)
        if is_interrupted.is_set():
            raise KeyboardInterrupt
        details = client.get_job_info(name)
        if details.status.is_terminal():
            log.end()
            return details
        is_interrupted.wait(_POLLED)


@dataclass
class Log:
    """A job's log: its result, lines of JSON, to stdout and the rest to stderr."""

    told: int = 0
    rest: str = ""

    async def tell(self, texts: AsyncIterator[str]) -> None:
        """Tell a log that is sent from its beginning, but for what was told already."""
        place = 0
        async for text in texts:
            new = text[max(0, self.told - place) :]
            place += len(text)
            self.told = max(self.told, place)
            *lines, self.rest = (self.rest + new).split("\n")
            for line in lines:
                typer.echo(line, err=not _is_result(line))

    def end(self) -> None:
        """Tell what came after the last new line."""
        if self.rest:
            typer.echo(self.rest, err=not _is_result(self.rest))


def _is_result(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Tell what the cluster answers as an error that the user can mend."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise ConfigError(
            f"{address}: asks for a token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to that of the cluster"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{address}: no Ray cluster answers there ({error}); name its dashboard, such as "
            "http://HEAD:8265"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{address}: the cluster does not take the job ({error})") from error


@contextmanager
def _as_environment(name: str, value: str) -> Iterator[None]:
    """Set a variable: Ray heeds its own before the address that it is given."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
