"""Servers for the tests: the application by itself, and Ray Serve on the tests' own Ray."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.handle import DeploymentHandle
from starlette.testclient import TestClient

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
