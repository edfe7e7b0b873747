"""Ray clusters of several nodes for the tests: real `ray start` processes, on loopback alone."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PATIENCE = 280
# Not 127.0.0.1, in place of which Ray takes an address that others can reach.
_HEAD = "127.0.0.2"
_TOKEN = "token-of-the-tests"
_STORE = 100 * 1024**2


def wait_until(happened: Callable[[], object], job: "subprocess.Popen[str] | None" = None) -> None:
    """Wait for what must happen while `job` runs."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        assert job is None or job.poll() is None, job.communicate()
        time.sleep(0.02)


@dataclass(frozen=True)
class Node:
    """A `ray start --block` and all that came of it."""

    process: subprocess.Popen[bytes]

    def processes(self) -> list[psutil.Process]:
        """Itself, its raylet, the workers and the drivers of submitted jobs; [] if it is dead."""
        if self.process.poll() is not None:
            return []
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def has(self, name: str) -> bool:
        """Whether one of its processes goes by a name."""
        for process in self.processes():
            try:
                if name in " ".join(process.cmdline()):
                    return True
            except psutil.Error:
                continue
        return False

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        group = self.processes()
        for process in group:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        psutil.wait_procs(group, timeout=PATIENCE)


@dataclass
class Cluster:
    """A head, and nodes that joined it.

    Attributes:
        environment: of whoever is to use it.
        address: what RAY_ADDRESS is for a driver.
        dashboard: where jobs are submitted.
        nodes: the head is the first.
    """

    environment: dict[str, str]
    folder: str
    address: str = ""
    dashboard: str = ""
    nodes: list[Node] = field(default_factory=list)

    def start(self, nodes: int, cpus: int = 1) -> None:
        """A head and other nodes, each of `cpus` CPUs, in place of those that were killed."""
        port, dashboard, client = _free_ports(3)
        self.address, self.dashboard = f"{_HEAD}:{port}", f"http://127.0.0.1:{dashboard}"
        options = {
            "--port": port,
            "--dashboard-host": "127.0.0.1",
            "--dashboard-port": dashboard,
            "--ray-client-server-port": client,
            "--temp-dir": self.folder,
            "--num-cpus": cpus,
        }
        words = [str(word) for pair in options.items() for word in pair]
        self.nodes = [self._node(_HEAD, "--head", *words)]
        wait_until(lambda: _listens(port))
        while len(self.nodes) < nodes:
            self.join(cpus)
        self.await_nodes(nodes)

    def join(self, cpus: int = 1) -> Node:
        """Start another node, without waiting for it."""
        ip = f"127.0.0.{len(self.nodes) + 2}"
        node = self._node(ip, "--address", self.address, "--num-cpus", str(cpus))
        self.nodes.append(node)
        return node

    def await_nodes(self, count: int) -> None:
        """Wait until so many nodes are alive, by what the head knows."""
        wait_until(lambda: self._alive() == count)

    def kill(self) -> None:
        for node in reversed(self.nodes):
            node.kill()

    def job(self, name: str) -> dict[str, object]:
        """What the cluster says of a submitted job; {} before it has heard of it."""
        answer = self._ask("GET", f"/api/jobs/{name}")
        found: dict[str, object] = {} if answer.status_code == 404 else answer.json()
        return found

    def stop_job(self, name: str) -> None:
        """Ask for it; of no matter to a job that has ended or was never there."""
        self._ask("POST", f"/api/jobs/{name}/stop")

    def _alive(self) -> int:
        try:
            answer = self._ask("GET", "/nodes?view=summary")
        except httpx2.TransportError:
            return 0
        if answer.status_code != 200:
            return 0
        summary = answer.json()["data"]["summary"]
        return sum(one["raylet"].get("state") == "ALIVE" for one in summary)

    def _ask(self, method: str, path: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        return httpx2.request(method, f"{self.dashboard}{path}", headers=headers, timeout=60)

    def _node(self, ip: str, *options: str) -> Node:
        (agent,) = _free_ports(1)
        words = [str(Path(sys.executable).parent / "ray"), "start", "--block", *options]
        words += ["--node-ip-address", ip, "--dashboard-agent-listen-port", str(agent)]
        words += ["--object-store-memory", str(_STORE), "--disable-usage-stats"]
        words += ["--min-worker-port", "0", "--max-worker-port", "0"]
        silent = subprocess.DEVNULL
        return Node(
            subprocess.Popen(
                words, env=self.environment, stdout=silent, stderr=silent, start_new_session=True
            )
        )


@contextmanager
def cluster_of(nodes: int, cpus: int = 1) -> Iterator[Cluster]:
    """A cluster of so many nodes; all of it is killed in the end."""
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        # A killed node is missed after two seconds, not fifteen.
        "RAY_health_check_period_ms": "400",
        # Where `python` is this one.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    # Short, for the sockets in it have paths of at most 107 bytes.
    cluster = Cluster(environment, tempfile.mkdtemp(prefix="tl-", dir="/tmp"))
    try:
        cluster.start(nodes, cpus)
        yield cluster
    finally:
        cluster.kill()
        shutil.rmtree(cluster.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster_of_two() -> Iterator[Cluster]:
    with cluster_of(2) as cluster:
        yield cluster


@pytest.fixture
def two_nodes(cluster_of_two: Cluster) -> Cluster:
    """A head and another node, each of one CPU; new ones if the head was killed."""
    if not cluster_of_two.nodes[0].processes():
        cluster_of_two.kill()
        cluster_of_two.start(2)
    return cluster_of_two


def parts(output: Path) -> list[Path]:
    """The part files of a job's output."""
    return sorted(output.glob("part-*.parquet"))


def counts(output: Path) -> dict[str, object]:
    """What a job's manifest says of its rows."""
    account: dict[str, object] = json.loads((output / "manifest.json").read_text())
    return {name: account[name] for name in ("rows", "tagged", "failed", "errors", "parts")}


def canonical(output: Path) -> bytes:
    """All rows of a job's output sorted by id, as one Arrow IPC file."""
    table = pa.concat_tables(pq.read_table(part) for part in parts(output))
    # The footers count what is in a part.
    table = table.replace_schema_metadata(None).sort_by("image_id").combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((_HEAD, port)) == 0


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
