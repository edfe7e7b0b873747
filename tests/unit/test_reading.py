"""Reading a chunk: pictures come from wherever a row points, and what fails is the row's error."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import CorpusError
from jobs.chunks import Chunk
from jobs.reading import ahead, read_chunk
from jobs.source import take_inventory
from jobs.store import Store

LIMIT = 1000


def _read(uris: list[str | None], folder: Path) -> list[dict[str, object]]:
    pq.write_table(pa.table({"uri": pa.array(uris, pa.string())}), folder / "x.parquet")
    chunk = Chunk("0", "parquet", str(folder / "x.parquet"), 0, len(uris), "x")
    return [row for table in read_chunk(chunk, 32, LIMIT) for row in table.to_pylist()]


class _Pages(BaseHTTPRequestHandler):
    """A server that knows nothing of ranges, as many do not."""

    def do_GET(self) -> None:
        self._answer(send=True)

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def _answer(self, send: bool) -> None:
        size = {"/1.jpg": 10, "/big.jpg": LIMIT + 1, "/full.jpg": LIMIT}.get(self.path)
        body = b"x" * (size or 0)
        self.send_response(500 if self.path == "/broken" else 200 if size else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are silent."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{pages.server_port}"
        pages.shutdown()
        thread.join()


def test_pictures_from_the_web(server: str, tmp_path: Path) -> None:
    paths = ["1.jpg", "gone.jpg", "big.jpg", "full.jpg", "broken"]
    rows = _read([f"{server}/{path}" for path in paths], tmp_path)
    assert [row["error"] for row in rows] == [
        None,
        "unreadable_uri",
        "too_large",
        None,
        "unreadable_uri",
    ]
    assert rows[0]["bytes"] == b"x" * 10
    assert rows[3]["bytes"] == b"x" * LIMIT
    assert f"{server}/gone.jpg" in str(rows[1]["reason"])
    assert rows[2]["reason"] == f"{server}/big.jpg: more than 1,000 bytes"


def test_pictures_from_files_and_object_storage(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe_file("/bucket/1.jpg", b"remote")
    for name in ("1.jpg", "a::b*.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "big.jpg").write_bytes(b"x" * (LIMIT + 1))
    uris = [
        str(tmp_path / "1.jpg"),
        f"file://{tmp_path}/1.jpg",
        "1.jpg",
        "memory://bucket/1.jpg",
        str(tmp_path / "a::b*.jpg"),
        str(tmp_path / "big.jpg"),
    ]
    rows = _read(uris, tmp_path)
    assert [row["bytes"] for row in rows] == [b"1.jpg"] * 3 + [b"remote", b"a::b*.jpg", None]
    assert [row["error"] for row in rows] == [None] * 5 + ["too_large"]


@pytest.mark.parametrize(
    "uri",
    [
        "/nowhere/1.jpg",
        "/",
        "nowhere.jpg",
        "memory://bucket/nowhere.jpg",
        "nosuch://bucket/1.jpg",
        "gs://bucket/1.jpg",
        "github://x",
        "http://127.0.0.1:1/1.jpg",
        "http://[bad/1.jpg",
        "zip://1.jpg::/nowhere.zip",
        "a\0b.jpg",
    ],
)
def test_an_address_that_cannot_be_read_is_the_error_of_its_row(uri: str, tmp_path: Path) -> None:
    (row,) = _read([uri], tmp_path)
    assert (row["error"], row["bytes"]) == ("unreadable_uri", None)
    assert row["reason"]


def test_a_row_without_picture_and_address_is_empty(tmp_path: Path) -> None:
    rows = _read([None, ""], tmp_path)
    assert [row["error"] for row in rows] == ["empty", "empty"]
    assert rows[0]["reason"] == "the row has neither bytes nor an address"


def test_input_that_changed_on_the_way_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"bytes": [b"1", b"2", b"3"]}), path)
    (chunk,) = take_inventory(str(path), Store(str(tmp_path / "work")), False).chunks
    pq.write_table(pa.table({"bytes": [b"1", b"2"]}), path)
    with pytest.raises(CorpusError, match="held 3 rows from 0 on when the job began, and 2 now"):
        list(read_chunk(chunk, 32, LIMIT))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match=f"^{path}: cannot be read"):
        list(read_chunk(chunk, 32, LIMIT))
    path.unlink()
    with pytest.raises(CorpusError, match=f"^{path}: cannot be read"):
        list(read_chunk(chunk, 32, LIMIT))


def test_a_damaged_column_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"bytes": [bytes(range(256)) * 8] * 4}), path, compression="zstd")
    (chunk,) = take_inventory(str(path), Store(str(tmp_path / "work")), False).chunks
    data = bytearray(path.read_bytes())
    data[30:80] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=f"^{path}: cannot be read .*fetch or write it again"):
        list(read_chunk(chunk, 32, LIMIT))


def test_reading_ahead_keeps_order_and_tells_errors() -> None:
    def tables(fails: bool) -> Iterator[pa.Table]:
        for number in range(5):
            yield pa.table({"number": [number]})
        if fails:
            raise CorpusError("changed")

    numbers = [table.column("number")[0].as_py() for table in ahead(tables(fails=False))]
    assert numbers == [0, 1, 2, 3, 4]
    taken = ahead(tables(fails=True))
    assert [next(taken).num_rows for _ in range(5)] == [1] * 5
    with pytest.raises(CorpusError, match="changed"):
        next(taken)
