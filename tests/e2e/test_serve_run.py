"""Ray's own `serve run`, with the builder's arguments and with the configuration file, as typed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import ray
import yaml
from ray import serve as ray_serve

from engine.bundle import load_bundle
from engine.sample import SamplePicture
from serve.client import Client
from tests.serving import free_port

SERVE = Path(sys.executable).parent / "serve"
CONFIG = Path(__file__).parents[2] / "serve" / "serve-config.yaml"


@contextmanager
def running(address: str, *arguments: str) -> Iterator[psutil.Process]:
    """`serve run`, broken off by Ctrl-C; it and all that it started must end by that."""
    # A shell that started the tests in the background may have had SIGINT ignored.
    command = ["env", "--default-signal=INT", str(SERVE), "run", *arguments]
    said: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment(), "RAY_ADDRESS": address},
    ) as started:
        assert started.stdout is not None
        threading.Thread(target=said.extend, args=(started.stdout,), daemon=True).start()
        process = psutil.Process(started.pid)
        try:
            yield process
            children = process.children(recursive=True)
            process.send_signal(signal.SIGINT)
            assert started.wait(60) == 0, said
            _, left = psutil.wait_procs(children, timeout=20)
            assert not left
        finally:
            if started.poll() is None:
                children = process.children(recursive=True)
                for one in (process, *children):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def await_ready(url: str, process: psutil.Process) -> None:
    until = time.monotonic() + 150
    while True:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/v2/health/ready", timeout=5).status_code == 200:
                return
        assert time.monotonic() < until
        assert process.is_running()
        time.sleep(0.3)


def assert_tags(url: str, bundle: Path, jpeg: bytes) -> None:
    with Client(url) as client:
        answer = client.annotate([jpeg], top_k=3)
    assert answer.bundle_id == load_bundle(bundle).id
    assert len(answer.results[0].tags) == 3


def test_the_builder_takes_its_arguments_from_the_command_line(
    cluster: None, bundle_folder: Path, pictures: list[SamplePicture]
) -> None:
    address = ray.get_runtime_context().gcs_address
    port = free_port()
    start = [str(SERVE), "start", "--address", address, "--proxy-location", "HeadOnly"]
    subprocess.run(
        [*start, "--http-host", "127.0.0.1", "--http-port", str(port)],
        env=environment(),
        check=True,
        capture_output=True,
    )
    try:
        arguments = [f"{part}.cpus=0.1" for part in ("ingress", "embed", "annotator", "fuse")]
        arguments += [f"bundle={bundle_folder}", "topology=split", "ingress.max_replicas=2"]
        with running(address, "serve.app:build", *arguments) as process:
            url = f"http://127.0.0.1:{port}"
            await_ready(url, process)
            assert_tags(url, bundle_folder, pictures[0].jpeg)
            deployments = ray_serve.status().applications["default"].deployments
            assert {"ingress", "embed", "fuse", "score-linear"} <= set(deployments)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(url)
    finally:
        ray_serve.shutdown()


def test_the_configuration_file_runs(
    bundle_folder: Path, pictures: list[SamplePicture], tmp_path: Path
) -> None:
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    port = config["http_options"]["port"] = free_port()
    config["applications"][0]["args"]["bundle"] = str(bundle_folder)
    file = tmp_path / CONFIG.name
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    # A Ray of its own, on this machine: it ends with the command.
    with running("local", str(file)) as process:
        url = f"http://127.0.0.1:{port}"
        await_ready(url, process)
        assert_tags(url, bundle_folder, pictures[0].jpeg)
