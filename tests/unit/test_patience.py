"""Which faults are waited for: those of a store that throttles, and never those of the file."""

import errno
import socket
from collections.abc import Callable
from http.client import IncompleteRead

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from engine.errors import ConfigError
from engine.storage.patience import CutShortError, is_outage, is_passing, patience, persist
from engine.storage.settings import PATIENCE


def _s3(code: str, status: int = 400) -> ClientError:
    about = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(about, "GetObject")


def _web(status: int) -> aiohttp.ClientResponseError:
    return aiohttp.ClientResponseError(None, (), status=status)


class _AzureError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.status_code = status


class _GoogleError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.code = status


def _from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


URL = {"endpoint_url": "http://x"}


@pytest.mark.parametrize(
    "error",
    [
        _s3("SlowDown"),
        _s3("RequestTimeout"),
        _s3("", 429),
        _s3("Unheard", 503),
        _web(503),
        _web(429),
        _AzureError(503),
        _GoogleError(429),
        TimeoutError(),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError(errno.EBUSY, "Please reduce your request rate"),
        aiohttp.ClientPayloadError("Response payload is not completed"),
        aiohttp.ServerDisconnectedError(),
        IncompleteRead(b"", 10),
        ConnectionClosedError(**URL),
        ReadTimeoutError(**URL),
        CutShortError("5 of 10 bytes came"),
        _from(FileNotFoundError("x"), _web(503)),
    ],
    ids=repr,
)
def test_faults_that_pass(error: Exception) -> None:
    assert is_passing(error)
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        _s3("NoSuchKey", 404),
        _s3("AccessDenied", 403),
        _s3("404", 404),
        _web(404),
        _AzureError(403),
        FileNotFoundError("x"),
        _from(FileNotFoundError("x"), _web(404)),
        PermissionError("x"),
        IsADirectoryError("x"),
        OSError(errno.EINVAL, "416"),
        NoCredentialsError(),
        ValueError("503"),
        _from(EndpointConnectionError(**URL), socket.gaierror(socket.EAI_NONAME, "no such name")),
    ],
    ids=repr,
)
def test_faults_that_stay(error: Exception) -> None:
    assert not is_passing(error)
    assert not is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        EndpointConnectionError(**URL),
        _from(EndpointConnectionError(**URL), socket.gaierror(socket.EAI_AGAIN, "later")),
    ],
    ids=repr,
)
def test_a_store_that_is_away_is_waited_for_but_not_for_each_of_its_pictures(
    error: Exception,
) -> None:
    assert is_outage(error)
    assert not is_passing(error)


def _failing(errors: list[Exception]) -> Callable[[], str]:
    def call() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    return call


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited."""
    taken: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", taken.append)
    return taken


def test_the_wait_grows_and_is_drawn(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "1000")
    dropped: list[int] = []
    errors: list[Exception] = [_s3("SlowDown") for _ in range(12)]
    assert persist(_failing(errors), between=lambda: dropped.append(1)) == "done"
    assert len(naps) == len(dropped) == 12
    assert len(set(naps)) == 12
    limits = [min(20.0, 0.25 * 2**place) for place in range(12)]
    assert all(0 <= nap <= limit for nap, limit in zip(naps, limits, strict=True))
    assert max(naps) > 1


def test_tries_and_patience_end(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [_s3("SlowDown") for _ in range(9)]
    with pytest.raises(ClientError, match="SlowDown"):
        persist(_failing(errors), is_passing, tries=5)
    assert (len(errors), len(naps)) == (4, 4)
    monkeypatch.setenv(PATIENCE, "0")
    with pytest.raises(ClientError, match="SlowDown"):
        persist(_failing(errors))
    assert (len(errors), len(naps)) == (3, 4)
    with pytest.raises(FileNotFoundError):
        persist(_failing([FileNotFoundError("gone")]))
    assert len(naps) == 4


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_patience_is_a_number_of_seconds(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, text)
    with pytest.raises(ConfigError, match=f"{PATIENCE} is '{text}'; give a number of seconds"):
        patience()
