"""A real S3 API on loopback, behind a proxy that injects what goes wrong with one.

The proxy's port is taken when Ray starts, so that workers find it in their environment; the store
behind it starts when a test first asks for it.
"""

import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.storage.settings import CACHE, PATIENCE

SECRET = "a-secret-that-nothing-may-tell"
BUCKET = "tagloom"

Kind = Literal["slow_down", "reset", "cut", "slow", "forbidden"]

_SLOW_DOWN = (
    b"<?xml version='1.0'?>\n<Error><Code>SlowDown</Code><Message>Reduce it</Message></Error>"
)
_FORBIDDEN = b"<Error><Code>AccessDenied</Code><Message>No</Message></Error>"


@dataclass
class Fault:
    """What goes wrong with requests.

    Attributes:
        kind: the answer is 503 SlowDown or 403 AccessDenied, the connection is reset or is cut in
            the middle of the body, or the second half of the body comes late.
        asked: a pattern of the request, such as 'PUT .*part-'.
        times: how often.
        happened: how often it did.
    """

    kind: Kind
    asked: str
    times: int
    happened: int = 0


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the store, but for those that meet a fault."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store: tuple[str, int] | None = None
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault_of(self, asked: str) -> Kind | None:
        """The fault that a request meets, which is counted."""
        with self.lock:
            self.requests.append(asked)
            for fault in self.faults:
                if fault.happened < fault.times and re.search(fault.asked, asked):
                    fault.happened += 1
                    return fault.kind
        return None

    @contextmanager
    def counted(self, path: str) -> Iterator[None]:
        """Count a request for a picture as long as it is under way."""
        one = int(path.endswith(".jpg"))
        with self.lock:
            self.under_way += one
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            yield
        finally:
            with self.lock:
                self.under_way -= one

    def handle_error(self, request: object, client_address: object) -> None:
        """Tests are silent, and clients go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.server.fault_of(f"{self.command} {self.path}")
        if kind == "reset":
            self._hang_up()
        elif kind in ("slow_down", "forbidden"):
            said = _SLOW_DOWN if kind == "slow_down" else _FORBIDDEN
            self._answer(503 if kind == "slow_down" else 403, {}, said, None)
        else:
            with self.server.counted(self.path):
                self._ask(body, kind)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _ask(self, body: bytes, kind: Kind | None) -> None:
        assert self.server.store is not None, "the test does not ask for the object store"
        connection = HTTPConnection(*self.server.store, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name != "Expect"}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "content-length")
        }
        length = answer.getheader("Content-Length") or str(len(data))
        self._answer(answer.status, {**kept, "Content-Length": length}, data, kind)
        connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, kind: Kind | None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2 if kind in ("cut", "slow") else len(body)
        self.wfile.write(body[:half])
        self.wfile.flush()
        if kind == "cut":
            self._hang_up()
        elif kind == "slow":
            time.sleep(0.2)
            self.wfile.write(body[half:])

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are silent."""


@dataclass
class ObjectStore:
    """The store, for a test to fill, to look into, and to disturb."""

    proxy: Proxy
    fs: fsspec.AbstractFileSystem
    faults: list[Fault] = field(default_factory=list)

    def disturb(self, *faults: Fault) -> None:
        """Have the faults happen from now on, and count requests from now on."""
        self.proxy.requests.clear()
        self.proxy.most_under_way = 0
        self.proxy.faults = list(faults)

    def put(self, folder: Path, url: str) -> None:
        """Copy a folder into the store, past the faults."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.fs.pipe_file(f"{url}/{path.relative_to(folder)}", path.read_bytes())

    def names(self, url: str) -> set[str]:
        """Of all that is under a URL."""
        root = url.removeprefix("s3://")
        return {path.removeprefix(f"{root}/") for path in self.fs.find(root)}

    def rows(self, url: str) -> list[dict[str, object]]:
        """Of all the parts under a URL."""
        names = sorted(name for name in self.names(url) if name.startswith("part-"))
        data = [self.fs.cat_file(f"{url}/{name}") for name in names]
        return [row for part in data for row in pq.read_table(pa.BufferReader(part)).to_pylist()]


@pytest.fixture(scope="session")
def store_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Where processes of the tests look for S3, and how patient they are with it."""
    settings = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        CACHE: str(tmp_path_factory.mktemp("cache")),
        PATIENCE: "3",
    }
    with Proxy() as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in {**settings, "AWS_ENDPOINT_URL": proxy.url}.items():
            patch.setenv(name, value)
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def _store(store_proxy: Proxy) -> Iterator[ObjectStore]:
    # Here, not above: it takes a second, and most tests need no store.
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    store_proxy.store = server.get_host_and_port()
    host, port = store_proxy.store
    fs = fsspec.filesystem(
        "s3", endpoint_url=f"http://{host}:{port}", use_listings_cache=False, asynchronous=False
    )
    fs.mkdir(BUCKET)
    yield ObjectStore(store_proxy, fs)
    server.stop()


@pytest.fixture
def object_store(_store: ObjectStore) -> Iterator[ObjectStore]:
    """An S3 API with an empty bucket `BUCKET`, without faults."""
    _store.disturb()
    yield _store
    _store.disturb()
    if paths := _store.fs.find(BUCKET):
        _store.fs.rm(paths)
