"""What is listed beside the driver comes as it is listed, and a job tells a changed input."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, CorpusError
from jobs.beside import listing
from jobs.chunks import Chunk
from jobs.job import Job, check_same, check_unchanged
from jobs.source import take_inventory
from jobs.store import Store
from tests.inputs import write_files

PATIENCE = 120


def test_the_listing_of_another_process_is_that_of_this_one(tmp_path: Path) -> None:
    root = write_files(tmp_path / "in", {f"{number:03d}.jpg": b"x" for number in range(300)})
    expected = take_inventory(str(root), Store(str(tmp_path / "work")), is_corpus=False)
    store = Store(str(tmp_path / "beside"))
    with listing(str(root), store) as beside:
        held = beside.hold(None)
        assert tuple(beside.chunks()) == held
    assert [one.digest for one in held] == [one.digest for one in expected.chunks]
    assert [one.rows for one in held] == [64, 64, 64, 64, 44]
    totals = beside.totals
    assert totals is not None
    assert (totals.rows, totals.fingerprint) == (300, expected.fingerprint)
    with listing(str(root), store, most=100) as beside:
        assert beside.hold(None) == held[:2]
    assert beside.totals is not None
    assert beside.totals.rows == 128


def test_what_is_wrong_with_an_input_is_told_as_it_is(tmp_path: Path) -> None:
    with (
        listing(str(tmp_path / "nothing"), Store(str(tmp_path / "work"))) as beside,
        pytest.raises(CorpusError, match="nothing: there is nothing at that path"),
    ):
        beside.hold(3.0)


def test_a_listing_that_is_killed_is_told(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    # To open it is to wait for whoever writes to it.
    os.mkfifo(root / "x.parquet")
    with listing(str(root), Store(str(tmp_path / "work"))) as beside:
        (lister,) = (
            process
            for process in psutil.Process().children()
            if any("spawn_main" in word for word in process.cmdline())
        )
        lister.kill()
        with pytest.raises(CorpusError, match="the process that lists it was killed"):
            beside.hold(None)


@pytest.fixture
def withheld(tmp_path: Path) -> Iterator[tuple[str, threading.Event]]:
    """A Parquet file behind a server that gives its end and not its beginning; set once asked."""
    file, asked, over = tmp_path / "in.parquet", threading.Event(), threading.Event()
    # More than a reader fetches ahead lies between the two.
    bulk = [os.urandom(1 << 20) for _ in range(16)]
    pq.write_table(pa.table({"id": range(16), "bytes": bulk}), file, compression="none")
    data = file.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self) -> None:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            if int(first) < len(data) // 2:
                asked.set()
                over.wait(PATIENCE)
                return
            body = data[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Tests are silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/in.parquet", asked
        over.set()
        server.shutdown()
        thread.join()


def test_a_job_that_ends_in_an_error_does_not_wait_for_a_store_that_hangs(
    withheld: tuple[str, threading.Event], tmp_path: Path
) -> None:
    url, asked = withheld
    with listing(url, Store(str(tmp_path / "work"))):
        (lister,) = multiprocessing.active_children()
        assert asked.wait(PATIENCE)
    assert lister.exitcode == 0


def test_parts_of_other_rows_are_not_gone_on_with(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    chunks = [Chunk(name, "listing", "x", 0, 1, digest=f"{name}!") for name in "abc"]
    check_unchanged(store, {"a": "a!", "c": "c!"}, chunks)
    for digests in ({"a": "a!", "b": "?"}, {"b": "", "d": "d!"}):
        with pytest.raises(ConfigError, match=r"input has changed since [12] of its 2 parts"):
            check_unchanged(store, digests, chunks)


def test_a_job_that_was_killed_while_it_listed_may_go_on(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    job = Job(input="x", fingerprint="f", rows=3, bundle="b", bundle_id="i", top_k=5)
    check_same(store, job.model_copy(update={"fingerprint": None, "rows": None}), job)
    with pytest.raises(ConfigError, match=r"rows was 4 and is 3\)"):
        check_same(store, job.model_copy(update={"rows": 4}), job)
