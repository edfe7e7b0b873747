"""Files by path or URL: the file system of it, asked again where a store fails for a moment."""

import io
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import fsspec
from botocore.exceptions import BotoCoreError, ClientError
from fsspec import AbstractFileSystem
from fsspec.config import conf

from engine.errors import ConfigError
from engine.storage.patience import CutShortError, is_outage, patience, persist, status_of

CONNECTIONS = 64
"""Of one process to one object store."""

_BUFFER = 4 * 1024 * 1024
"""Bytes that are fetched at the least, where a file is read bit by bit."""

_EXTRAS = {"gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "adl": "az"}
_OF_THE_FILE = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_S3 = ("s3", "s3a")
_HTTP = ("http", "https")


def open_fs(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a path or URL, and the path as that file system spells it.

    That of a URL asks again what fails for a moment, and reads through connections that are cut.

    Raises:
        ConfigError: there is no file system for such URLs here. Its methods raise it too: the
            store does not answer in the end, or does not allow what is asked of it.
    """
    fs, root = _open_plain(url)
    return (fs if "file" in fs.protocol else PatientFiles(fs)), root


def address(fs: AbstractFileSystem, path: str) -> str:
    """How to name a file so that any worker finds it: a plain path if it is local, else a URL."""
    return path if "file" in fs.protocol else str(fs.unstrip_protocol(path))


def absolute(url: str) -> str:
    """A path or URL that means the same in every process: whole, without `~` or a last slash.

    Raises:
        ConfigError: there is no file system for such URLs here.
    """
    return url if "::" in url else address(*_open_plain(url))


def is_remote(name: str) -> bool:
    """Whether it is a URL, and not one of a file here."""
    return "://" in name and not name.startswith(("file://", "local://"))


def local_path(name: str) -> Path:
    """The path of a name that is not remote."""
    return Path(open_fs(name)[1]) if "://" in name else Path(name)


def read_most(url: str, most: int) -> bytes:
    """The first `most` bytes of a file, read by one try: see `storage.patience.persist`.

    Raises:
        CutShortError: fewer came than the store says that there are.
        Exception: whatever the file system of the URL raises.
    """
    if url.startswith("/"):
        # Without fsspec, to which '::' in a name means something.
        with open(url, "rb") as plain:
            return plain.read(most)
    fs, path = _open_plain(url)
    with fs.open(path, "rb") as file:
        data: bytes = file.read(most)
        _check_whole(url, data, most, 0, getattr(file, "size", None))
    return data


def _protocols(fs: AbstractFileSystem) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _check_whole(name: str, data: bytes, asked: int, start: int, size: object) -> None:
    if isinstance(size, int) and len(data) < min(asked, size - start):
        raise CutShortError(f"{name}: {len(data):,} of {min(asked, size - start):,} bytes came")


def _open_plain(url: str) -> tuple[AbstractFileSystem, str]:
    protocol = url.partition("://")[0] if "://" in url and "::" not in url else ""
    try:
        fs, root = fsspec.core.url_to_fs(url, **_options(protocol))
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        mend = f"install it with pip install 'tagloom[{extra}]'" if extra else "install it"
        raise ConfigError(f"{shown(url)}: cannot be reached ({error}); {mend}") from error
    except ValueError as error:
        raise ConfigError(
            f"{shown(url)}: cannot be reached ({error}); give a path, or a URL of a kind that "
            "fsspec knows here"
        ) from error
    if protocol in _S3:
        # botocore and we ask again; a third round would multiply theirs and ours.
        fs.retries = 1
    return fs, str(root)


def _options(protocol: str) -> Mapping[str, object]:
    """How a kind of store is talked to, under what fsspec's own configuration says of it."""
    if protocol in _S3:
        config: dict[str, object] = {"max_pool_connections": CONNECTIONS}
        if not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & set(os.environ):
            config["retries"] = {"mode": "standard", "total_max_attempts": 3}
        given = conf.get("s3", {}).get("config_kwargs", {})
        # Other processes write here too: what a listing said is not kept for an answer.
        return {"config_kwargs": {**config, **given}, "use_listings_cache": False}
    if protocol in _HTTP:
        timeout = aiohttp.ClientTimeout(total=300, sock_connect=10, sock_read=30)
        given = conf.get(protocol, {}).get("client_kwargs", {})
        return {"client_kwargs": {"timeout": timeout, **given}}
    return {"use_listings_cache": False} if protocol in _EXTRAS else {}


class PatientFiles:
    """A remote file system whose calls are tried again; what it does not know is passed on.

    A call that fails in the end raises a ConfigError that names the place, unless the error says
    something of the file, such as that there is none.
    """

    _CALLS = frozenset(
        {
            *("cat_file", "cp_file", "find", "get_file", "glob", "info", "ls", "makedirs", "mkdir"),
            *("pipe_file", "put_file", "rm", "rm_file", "size"),
        }
    )

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs

    def __reduce__(self) -> "tuple[type[PatientFiles], tuple[AbstractFileSystem]]":
        return PatientFiles, (self._fs,)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        return partial(self._try, found) if name in self._CALLS else found

    # By `info`, for fsspec's own ways take every error for an absence.
    def exists(self, path: str) -> bool:
        """Whether a file or a folder is there."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        """Whether a file is there."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Whether a folder is there."""
        return self._type(path) == "directory"

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """A file; one that is read goes on where its connection was cut."""
        if "r" not in mode:
            return self._try(self._fs.open, path, mode, **options)
        # Else what is asked for brings s3fs's 50 MB more with it.
        cache = {"cache_type": "none"} if {*_S3, *_HTTP, *_EXTRAS} & _protocols(self._fs) else {}
        raw = _PatientFile(partial(self._fs.open, path, "rb", **cache), self._url(path))
        buffered = io.BufferedReader(raw, _BUFFER)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, **options)

    def _type(self, path: str) -> str | None:
        try:
            return str(self._try(self._fs.info, path)["type"])
        except FileNotFoundError:
            return None

    def _try(self, call: Callable[..., Any], path: str, *arguments: Any, **named: Any) -> Any:
        return _persist(partial(call, path, *arguments, **named), self._url(path))

    def _url(self, path: object) -> str:
        return shown(str(self._fs.unstrip_protocol(path))) if isinstance(path, str) else str(path)


class _PatientFile(io.RawIOBase):
    """A remote file that is opened again, where it was, when reading it fails for a moment."""

    def __init__(self, opening: Callable[[], BinaryIO], url: str) -> None:
        super().__init__()
        self._opening = opening
        self._url = url
        self._at = 0
        self._file: BinaryIO | None = _persist(opening, url)
        self.size = getattr(self._file, "size", None)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence, self.size)
        if start is None:
            raise io.UnsupportedOperation(f"{self._url}: its length is not known")
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = _persist(partial(self._read, len(view)), self._url, self._drop)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _read(self, most: int) -> bytes:
        if self._file is None:
            self._file = self._opening()
        if self._file.tell() != self._at:
            self._file.seek(self._at)
        data = self._file.read(most)
        _check_whole(self._url, data, most, self._at, self.size)
        return data

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _persist(call: Callable[[], Any], url: str, between: Callable[[], None] | None = None) -> Any:
    """As `storage.patience.persist`, but an error of the store ends as one that names it."""
    try:
        return persist(call, between=between)
    except (OSError, BotoCoreError, ClientError, aiohttp.ClientError) as error:
        if is_outage(error):
            raise ConfigError(
                f"{url}: the store fails ({_said(error)}), and did so for {patience():g} s; see "
                "that it can be reached, and run the same command again: a job goes on where it "
                "stopped"
            ) from error
        if isinstance(error, _OF_THE_FILE):
            raise
        raise ConfigError(
            f"{url}: the store does not do it ({_said(error)}); see that the address is right, and "
            "the credentials and the endpoint in the environment, and run the same command again"
        ) from error


def _said(error: BaseException) -> str:
    text = str((isinstance(error, OSError) and error.strerror) or error).strip().splitlines()
    status = status_of(error)
    said = text[0] if text else type(error).__name__
    return said if status is None else f"{said}, status {status}"


def shown(url: str) -> str:
    """A URL without the password and the query in it: those of signed URLs are secret."""
    return re.sub(r"(?<=://)[^/@]*@", "", url).partition("?")[0] if "://" in url else url


__all__ = [
    "CONNECTIONS",
    "PatientFiles",
    "absolute",
    "address",
    "is_remote",
    "local_path",
    "open_fs",
    "read_most",
    "shown",
]
