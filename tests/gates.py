"""An input one picture of which a server withholds: a job on it is certain to be in its midst."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.sample import SamplePicture

ROWS = 400
GATED = 390
PATIENCE = 280


@dataclass
class Gate:
    """A server of one picture, which is held back until `open` is set."""

    picture: bytes
    open: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(scope="session")
def gate_server(pictures: list[SamplePicture]) -> Iterator[tuple[Gate, str]]:
    gate = Gate(pictures[0].jpeg)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(gate.picture)

        def do_HEAD(self) -> None:
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            gate.asked.set()
            gate.open.wait(PATIENCE)
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(gate.picture)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                # Whoever asked was killed meanwhile.
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Tests are silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield gate, f"http://127.0.0.1:{server.server_port}/gated.jpg"
        gate.open.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def gate(gate_server: tuple[Gate, str]) -> Iterator[Gate]:
    """Shut, and nobody has asked."""
    gate, _ = gate_server
    gate.open.clear()
    gate.asked.clear()
    yield gate
    gate.open.set()


@pytest.fixture(scope="session")
def gated_rows(
    gate_server: tuple[Gate, str],
    pictures: list[SamplePicture],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """400 rows, three of them broken, one behind the gate. Not to be written to."""
    data: list[bytes | None] = [pictures[row % len(pictures)].jpeg for row in range(ROWS)]
    uris: list[str | None] = [None] * ROWS
    data[3], data[200], data[399] = b"", b"<html>", b"\xff\xd8\xff"
    data[GATED], uris[GATED] = None, gate_server[1]
    path = tmp_path_factory.mktemp("gated") / "in.parquet"
    pq.write_table(pa.table({"id": range(ROWS), "bytes": data, "uri": uris}), path)
    return path
