"""One job at a time into an output: who is refused, who takes over, and that nothing is left."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from engine.errors import ConfigError
from jobs.annotate import preparing
from jobs.console import Console
from jobs.job import JOB, Job
from jobs.lease import LEASE, held
from jobs.runner import RunSettings
from jobs.source import SCRATCH
from jobs.store import Store

QUIET = Console(quiet=True)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    fsspec.filesystem("memory").store.clear()
    yield Store(str(tmp_path / "out") if request.param == "local" else "memory://bucket/out")
    fsspec.filesystem("memory").store.clear()


def _names(store: Store) -> list[str]:
    return Store(f"{store.url}/{LEASE}").names()


def _text(store: Store) -> dict[str, object]:
    (name,) = _names(store)
    found: dict[str, object] = json.loads(store.read(f"{LEASE}/{name}"))
    return found


def _leave(store: Store, number: int = 1, **holder: object) -> None:
    """A lease as a job leaves that was killed."""
    with held(store, QUIET):
        content = _text(store)
    content["token"] = "another"
    content["holder"] = {**content["holder"], **holder}  # type: ignore[dict-item]
    store.write(f"{LEASE}/{number:06d}.json", json.dumps(content).encode())


def test_the_second_job_is_refused_and_told_who_holds(store: Store) -> None:
    with held(store, QUIET) as lease:
        since = _text(store)["since"]
        expected = f"^{store.url}: another job writes there .process {os.getpid()} on .*{since}.*;"
        with pytest.raises(ConfigError, match=expected.replace("+", r"\+")), held(store, QUIET):
            pass
        assert _names(store) == ["000001.json"]
        lease.check()
    assert not store.exists() or store.names() == []


def test_a_job_that_ended_is_followed_at_once(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    _leave(store, 7, pid=ended.pid)
    with held(store, QUIET, patience=1e9):
        assert _names(store) == ["000008.json"]


def test_a_process_that_is_not_waited_for_has_ended(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as zombie:
        assert zombie.stdout is not None
        zombie.stdout.read()
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        _leave(store, pid=zombie.pid)
        with held(store, QUIET, patience=1e9):
            assert _names(store) == ["000002.json"]


@pytest.mark.parametrize("holder", [{"machine": "another", "host": "far"}, {"began": 0.0}])
def test_what_cannot_be_asked_is_waited_for(
    store: Store, holder: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    """Another machine's process, and one whose id this machine has given again."""
    _leave(store, **holder)
    with held(store, Console(), patience=0.01):
        assert _names(store) == ["000002.json"]
    said = capfd.readouterr().err
    assert f"is held by process {os.getpid()} on {holder.get('host', '')}" in said
    assert "waiting 0 s to see whether it still runs" in said


def test_a_file_that_says_nothing_is_waited_for_too(store: Store) -> None:
    store.write(f"{LEASE}/000003.json", b'{"holder"')
    with held(store, QUIET, patience=0.01):
        assert _names(store) == ["000004.json"]


def test_another_machines_job_is_alive_when_it_renews(store: Store) -> None:
    _leave(store, machine="another")
    name = f"{LEASE}/000001.json"
    content = json.loads(store.read(name))
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.005):
            content["renewals"] += 1
            store.write(name, json.dumps(content).encode())

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with (
            pytest.raises(ConfigError, match="another job writes there"),
            held(store, QUIET, patience=1e9),
        ):
            pass
    finally:
        over.set()
        thread.join()


def test_a_lease_is_renewed_and_its_loss_is_told(store: Store) -> None:
    def overtaken() -> None:
        with held(store, QUIET, renewed=0.005) as lease:
            while _text(store)["renewals"] == 0:
                lease.check()
            holder = {"host": "far", "machine": "another", "pid": 1, "began": 0}
            other = {"holder": holder, "token": "x", "since": "2026"}
            store.write(f"{LEASE}/000002.json", json.dumps(other).encode())
            while True:
                lease.check()

    with pytest.raises(ConfigError, match=f"^{store.url}: another job took over .*process 1 on"):
        overtaken()
    # The other one's is left alone.
    assert "000002.json" in _names(store)


def test_a_store_that_cannot_be_written_is_told_and_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"), held(Store(str(tmp_path / "file")), QUIET):
        pass
    inside = Store(str(tmp_path / "file" / "out"))
    with pytest.raises(ConfigError, match="cannot be written"), held(inside, QUIET):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_of_many_that_begin_at_once_one_is_let_in(store: Store) -> None:
    start, end = threading.Barrier(8), threading.Barrier(8)
    let_in: list[int] = []

    def compete(number: int) -> None:
        start.wait()
        try:
            with held(store, QUIET):
                let_in.append(number)
                end.wait()
        except ConfigError:
            end.wait()

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(let_in) == 1
    assert _names(store) == []


def test_a_refused_job_touches_nothing_of_the_firsts(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    job = Job(input="in", fingerprint="", rows=1, bundle="", bundle_id="", top_k=5)
    store.write(JOB, job.model_dump_json().encode())
    store.write(f"{SCRATCH}/listing.arrow", b"the first's")
    with (
        held(store, QUIET),
        pytest.raises(ConfigError, match="another job writes there"),
        preparing("in", "bundle", store.url, 5, QUIET, RunSettings()),
    ):
        pass
    assert store.names() == [SCRATCH, JOB]
    assert store.read(f"{SCRATCH}/listing.arrow") == b"the first's"
