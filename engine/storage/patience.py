"""Which faults of a store pass by themselves, and waiting for that: back-off with jitter.

A store that throttles or drops a connection is asked again. botocore does so by itself, three
times a request; what is done here covers the bodies that are cut short, and all other stores.
"""

import errno
import http.client
import os
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

import aiohttp
import urllib3.exceptions
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
)
from botocore.parsers import ResponseParserError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_any
from tenacity.stop import stop_after_attempt, stop_base, stop_before_delay
from tenacity.wait import wait_random_exponential

from engine.errors import ConfigError
from engine.storage.settings import PATIENCE

T = TypeVar("T")

SECONDS = 60.0
"""For so long a store is asked again, where `PATIENCE` does not say."""

TRIES = 5
"""Of one picture at its address."""

_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 509})
_CODES = frozenset(
    {
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServerBusy",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
        *(str(status) for status in _STATUS),
    }
)
_PASSING = (
    TimeoutError,
    ConnectionAbortedError,
    ConnectionResetError,
    BrokenPipeError,
    http.client.IncompleteRead,
    urllib3.exceptions.IncompleteRead,
    aiohttp.ClientPayloadError,
    aiohttp.ServerDisconnectedError,
    HTTPClientError,
    IncompleteReadError,
    # A throttled answer may be no XML at all.
    ResponseParserError,
)
_AWAY = (
    ConnectionRefusedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    aiohttp.ConnectionTimeoutError,
)
_ERRNOS = frozenset({errno.EBUSY, errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE, errno.EAGAIN})


class CutShortError(OSError):
    """A file ended before its length."""


def is_passing(error: BaseException) -> bool:
    """Whether an error, or what it came from, is likely gone when the same is asked again.

    Throttling, an answer of the kinds 408, 429 and 5xx, a time-out, a connection that was cut.
    """
    return not is_away(error) and any(map(_is_passing, _chain(error)))


def is_away(error: BaseException) -> bool:
    """Whether there is no connection to be had: nobody listens, or the name is not known."""
    return any(
        isinstance(link, (socket.gaierror, *_AWAY))
        or (isinstance(link, OSError) and link.errno == errno.ECONNREFUSED)
        for link in _chain(error)
    )


def is_outage(error: BaseException) -> bool:
    """Whether a store may do the same later, which does not want to now or is gone for a moment.

    One whose name is not known is rather misspelt than gone.
    """
    unknown = any(
        isinstance(link, socket.gaierror) and link.errno != socket.EAI_AGAIN
        for link in _chain(error)
    )
    return not unknown and (is_passing(error) or is_away(error))


def persist(
    call: Callable[[], T],
    passes: Callable[[BaseException], bool] = is_outage,
    tries: int | None = None,
    between: Callable[[], None] | None = None,
) -> T:
    """What `call` gives; an error that passes is waited for, longer every time, up to a limit.

    Args:
        tries: at the most; None: as many as there is patience for.
        between: is called before each further try.

    Raises:
        ConfigError: the patience that the environment names is no number of seconds.
    """
    stop: stop_base = stop_before_delay(patience())
    if tries is not None:
        stop = stop_any(stop, stop_after_attempt(tries))

    def before(_: RetryCallState) -> None:
        if between is not None:
            between()

    retrying = Retrying(
        stop=stop,
        wait=wait_random_exponential(multiplier=0.25, max=20),
        retry=retry_if_exception(passes),
        before_sleep=before,
        reraise=True,
    )
    return retrying(call)


def patience() -> float:
    """Seconds for which a store is asked again.

    Raises:
        ConfigError: the environment names no number of seconds.
    """
    text = os.environ.get(PATIENCE, "")
    try:
        seconds = float(text or SECONDS)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"{PATIENCE} is '{text}'; give a number of seconds, such as {SECONDS}")
    return seconds


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error, or what it came from, was made of."""
    return next(filter(None, map(_status, _chain(error))), None)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, ClientError) and error.response["Error"].get("Code") in _CODES:
        return True
    if isinstance(error, (CutShortError, *_PASSING)) or _status(error) in _STATUS:
        return True
    return isinstance(error, OSError) and error.errno in _ERRNOS


def _status(error: BaseException) -> int | None:
    """As botocore, aiohttp, gcsfs and Azure's client each call it."""
    if isinstance(error, ClientError):
        status: object = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        named = (getattr(error, name, None) for name in ("status", "status_code", "code"))
        status = next((value for value in named if value is not None), None)
    return status if isinstance(status, int) and 100 <= status < 600 else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            return
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
