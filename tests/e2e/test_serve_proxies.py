"""`tagloom serve` by who takes its port: HAProxy before two replicas, and one replica by itself."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from engine.bundle import load_bundle
from engine.sample import SamplePicture
from tests.serving import Load, Server, await_replicas, start, stop

BACK = 60.0
"""Seconds for a replica to be back at the very latest, on a machine that does much else."""


@pytest.fixture
def server(bundle_folder: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    running = start(bundle_folder, *request.param, "--set", "health_period=1")
    try:
        running.wait_for("serving at")
        yield running
    finally:
        stop(running)


@pytest.fixture(scope="module")
def jpegs(pictures: list[SamplePicture]) -> list[bytes]:
    return [one.jpeg for one in pictures[:2]]


NONE = ("--proxy", "none")
HAPROXY = (
    *("--proxy", "haproxy", "--set", "ingress.cpus=0.5"),
    *("--set", "ingress.min_replicas=2", "--set", "ingress.max_replicas=2"),
)
by_proxy = pytest.mark.parametrize(
    "server", [NONE, HAPROXY], ids=["none", "haproxy"], indirect=True
)


def family(server: Server, name: str) -> list[psutil.Process]:
    """The server's processes of a name."""
    found = []
    for one in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if name in " ".join(one.cmdline()):
                found.append(one)
    return found


def listeners(processes: list[psutil.Process]) -> set[tuple[str, int]]:
    return {
        (one.laddr.ip, one.laddr.port)
        for process in processes
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }


@by_proxy
def test_a_killed_replica_is_back_and_the_end_loses_nothing(
    server: Server, jpegs: list[bytes]
) -> None:
    port = int(server.url.rpartition(":")[2])
    # Ray's own ports of a worker are on every address, and want its token.
    balancers = family(server, "haproxy.cfg")
    taken = listeners(balancers or family(server, "ServeReplica"))
    assert ("127.0.0.1", port) in taken
    if balancers:
        assert {address for address, _ in taken} == {"127.0.0.1"}

    count = len(family(server, "ServeReplica"))
    victim = family(server, "ServeReplica")[0]
    with Load(server.url, jpegs, clients=3) as load:
        time.sleep(1)
        os.kill(victim.pid, signal.SIGKILL)
        killed = time.monotonic()
        await_good(server.url, jpegs[0])
        while len(family(server, "ServeReplica")) < count:
            assert time.monotonic() < killed + BACK
            time.sleep(0.2)
    if balancers:
        # What the dead replica had, the other one was asked.
        assert {status for _, _, status, _ in load.answers} <= {200, 503}
    await_replicas(server.url, count, BACK)

    with Load(server.url, jpegs, clients=3) as load:
        time.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        server.process.wait(60)
    flying = {status for begun, ended, status, _ in load.answers if begun < told - 0.3 < ended}
    assert flying == {200}
    assert server.process.returncode == 0
    assert {said for _, _, status, said in load.answers if status == 503} <= {"stopping"}
    assert {said for _, _, status, said in load.answers if status == 200} == {
        load_bundle(server.folder).id
    }


def await_good(url: str, jpeg: bytes) -> None:
    until = time.monotonic() + BACK
    while True:
        with suppress(httpx2.TransportError):
            headers = {"content-type": "image/jpeg"}
            answer = httpx2.post(f"{url}/v1/annotate", content=jpeg, headers=headers, timeout=30)
            if answer.status_code == 200:
                return
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_replica_by_itself_says_that_it_cannot_swap(
    bundle_folder: Path, jpegs: list[bytes]
) -> None:
    server = start(bundle_folder, *NONE)
    try:
        server.wait_for("serving at")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("cannot be swapped")
        await_good(server.url, jpegs[0])
    finally:
        stop(server)
