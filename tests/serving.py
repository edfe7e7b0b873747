"""Servers for the tests: the application by itself, on the tests' own Ray, or as a process."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
from fastapi import FastAPI
from playwright.sync_api import Browser, sync_playwright
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.handle import DeploymentHandle
from starlette.testclient import TestClient

from engine.bundle import load_bundle
from serve.app import build
from serve.batching import Job
from serve.config import Settings
from serve.fetch import Fetcher
from serve.gate import Traffic
from serve.http import make_app
from serve.metrics import Metrics
from serve.pipeline import Pipeline, Run, open_bundle
from serve.stages import Fold, Folded, layout

APP = "tagloom-test"
LOOPBACK = ("127.0.0.1", 50_000)


def direct(settings: Settings) -> Run:
    """Folds without batching, which needs Serve."""
    ref, bundle = open_bundle(settings)
    ((whole,),) = layout(bundle, "fused")
    fold = Fold(ref, whole.stages, settings.max_pixels)
    lock = threading.Lock()

    def locked(job: Job) -> Folded:
        with lock:
            return fold(job.want, job.table)

    async def run(job: Job) -> Folded:
        return await asyncio.to_thread(locked, job)

    return run


def application(
    settings: Settings,
    run: Run,
    keys: tuple[bytes, ...] = (),
    traffic: Traffic | None = None,
    fetcher: Fetcher | None = None,
) -> FastAPI:
    """The HTTP application over one run for all the stages."""
    ref, bundle = open_bundle(settings)
    metrics = Metrics("test")
    pipeline = Pipeline(settings, ref, bundle, {"all": run}, metrics)

    async def exposition() -> bytes:
        return metrics.text()

    return make_app(settings, keys, pipeline, traffic or Traffic(), exposition, fetcher)


def client(app: FastAPI, address: tuple[str, int] = LOOPBACK) -> TestClient:
    return TestClient(app, client=address, raise_server_exceptions=False)


def quick(bundle: Path, **others: object) -> Settings:
    """Settings whose replicas fit many times into the tests' two CPUs."""
    scaling = {"cpus": 0.1}
    values = {"bundle": str(bundle), "ingress": scaling, "embed": scaling, "annotator": scaling}
    return Settings.model_validate({**values, "fuse": scaling, "health_period": 1.0, **others})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine, without a window."""
    executable = shutil.which("chromium")
    assert executable, "no chromium on the PATH: apt-get install chromium"
    arguments = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[str, DeploymentHandle]]:
    """The application on the tests' Ray: its address, and its ingress. Serve ends with it."""
    port = free_port()
    ray_serve.start(
        proxy_location=ProxyLocation.HeadOnly, http_options=HTTPOptions(host="127.0.0.1", port=port)
    )
    try:
        handle = ray_serve.run(build(settings), name=APP)
        yield f"http://127.0.0.1:{port}", handle
    finally:
        ray_serve.shutdown()


@dataclass
class Server:
    """A running `tagloom serve`."""

    process: "subprocess.Popen[str]"
    url: str
    folder: Path
    said: list[str] = field(default_factory=list)

    def wait_for(self, text: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not any(text in line for line in self.said):
            assert time.monotonic() < until, (text, self.said)
            assert self.process.poll() is None, self.said
            time.sleep(0.05)


def start(folder: Path, *options: str) -> Server:
    port = free_port()
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
        "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "jobs", "serve", "--bundle", str(folder)),
            *("--port", str(port), *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    server = Server(process, f"http://127.0.0.1:{port}", folder)

    def listen() -> None:
        assert process.stdout is not None
        with process.stdout:
            server.said.extend(process.stdout)

    threading.Thread(target=listen, daemon=True).start()
    return server


def stop(server: Server) -> None:
    """However the test ended, nothing that it started goes on."""
    if server.process.poll() is None:
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.terminate()
        try:
            server.process.wait(60)
        except subprocess.TimeoutExpired:
            for process in (*children, psutil.Process(server.process.pid)):
                if process.is_running():
                    process.kill()
            server.process.wait(10)


def told(body: dict[str, Any]) -> str:
    """The bundle that answered, or the error's code."""
    return str(body.get("bundle_id") or body["error"]["code"])


class Load:
    """Requests from several threads until it ends, and how each was answered."""

    def __init__(
        self,
        url: str,
        jpegs: list[bytes],
        clients: int,
        tell: Callable[[dict[str, Any]], str] = told,
    ) -> None:
        self._url, self._jpegs, self._tell = url, jpegs, tell
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        self.answers: list[tuple[float, float, int, str]] = []
        """Begun, ended, status or 0, and what is told of the answer or of its want."""

    def _run(self) -> None:
        files = [("file", (f"{place}.jpg", jpeg)) for place, jpeg in enumerate(self._jpegs)]
        with httpx2.Client(timeout=60) as http:
            while not self._over.is_set():
                begun = time.monotonic()
                try:
                    answer = http.post(f"{self._url}/v1/annotate", files=files)
                    said = self._tell(answer.json())
                    self.answers.append((begun, time.monotonic(), answer.status_code, said))
                except (httpx2.TransportError, ValueError) as error:
                    self.answers.append((begun, time.monotonic(), 0, type(error).__name__))
                    time.sleep(0.05)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def replicas(url: str) -> set[str]:
    text = httpx2.get(f"{url}/metrics", timeout=30).text
    return {
        line.partition('replica="')[2].partition('"')[0]
        for line in text.splitlines()
        if line.startswith("tagloom_queue_pictures")
    }


def await_replicas(url: str, count: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while len(replicas(url)) != count:
        assert time.monotonic() < until, replicas(url)
        time.sleep(0.3)


def retouch(folder: Path, note: str) -> None:
    """Another bundle of the same files: its manifest says something more."""
    manifest = load_bundle(folder).manifest.model_copy(update={"notes": (note,)})
    content = {"id": manifest.id, **json.loads(manifest.model_dump_json())}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
