"""`tagloom serve` behind HAProxy: a replica that is killed, and the server's own end."""

import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from engine.bundle import load_bundle
from engine.sample import SamplePicture
from tests.serving import Load, Server, await_replicas, start, stop

ALL = 2
BACK = 120.0
"""Seconds for a replica to be back at the very latest, on a machine that does much else."""


@pytest.fixture(scope="module")
def jpegs(pictures: list[SamplePicture]) -> list[bytes]:
    return [one.jpeg for one in pictures[:2]]


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


def test_killed_replicas_are_back_and_the_end_loses_nothing(
    bundle_folder: Path, jpegs: list[bytes]
) -> None:
    replicas = ("ingress.cpus=0.5", f"ingress.min_replicas={ALL}", f"ingress.max_replicas={ALL}")
    settings = (*replicas, "health_period=1")
    options = [part for one in settings for part in ("--set", one)]
    server = start(bundle_folder, "--proxy", "haproxy", *options)
    try:
        server.wait_for("serving at")
        # Ray's own ports of a worker are on every address, and want its token.
        taken = listeners(family(server, "haproxy.cfg"))
        assert ("127.0.0.1", int(server.url.rpartition(":")[2])) in taken
        assert {address for address, _ in taken} == {"127.0.0.1"}
        # What the dead replica had, another one is asked.
        assert statuses_when_killed(server, jpegs, 1) == {200}
        await_replicas(server.url, ALL, BACK)
        # With none left at once: what waits for a new one is answered too, or told to come again.
        assert statuses_when_killed(server, jpegs, ALL) <= {200, 503}
        await_replicas(server.url, ALL, BACK)
        end(server, jpegs)
    finally:
        stop(server)


def statuses_when_killed(server: Server, jpegs: list[bytes], count: int) -> set[int]:
    """Kill some replicas under load, until their places are taken; what was answered meanwhile."""
    with Load(server.url, jpegs, clients=3) as load:
        time.sleep(1)
        victims = family(server, "ServeReplica")[:count]
        for victim in victims:
            victim.kill()
        killed = time.monotonic()
        while any(one.is_running() for one in victims) or len(family(server, "ServeReplica")) < ALL:
            assert time.monotonic() < killed + BACK
            time.sleep(0.2)
        await_good(server.url, jpegs[0])
    return {status for _, _, status, _ in load.answers}


def end(server: Server, jpegs: list[bytes]) -> None:
    """Under load; what is in flight is answered."""
    with Load(server.url, jpegs, clients=3) as load:
        time.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        server.process.wait(60)
    flying = {status for begun, ended, status, _ in load.answers if begun < told - 0.3 < ended}
    assert flying == {200}
    assert server.process.returncode == 0
    assert {said for _, _, status, said in load.answers if status == 503} <= {
        "stopping",
        "unavailable",
    }
    assert {said for _, _, status, said in load.answers if status == 200} == {
        load_bundle(server.folder).id
    }


def await_good(url: str, jpeg: bytes) -> None:
    until = time.monotonic() + BACK
    headers = {"content-type": "image/jpeg"}
    while True:
        answer = httpx2.post(f"{url}/v1/annotate", content=jpeg, headers=headers, timeout=30)
        if answer.status_code == 200:
            return
        assert answer.status_code == 503
        assert time.monotonic() < until
        time.sleep(0.1)
