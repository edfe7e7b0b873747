"""`tagloom serve`: Ray Serve on this machine, from the first picture to the last one in flight."""

import ipaddress
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.handle import DeploymentHandle

from engine.errors import ConfigError, TagloomError
from serve.app import build
from serve.batching import BUNDLES_KEPT
from serve.config import Settings, read_keys
from serve.pipeline import open_bundle
from serve.proxies import Proxy, choose_proxy, free_ports, proxy_environment

APP = "tagloom"


def run(
    settings: Settings, host: str, port: int, say: Callable[[str], None], proxy: Proxy = "auto"
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in flight and stop.

    SIGHUP deploys the bundle that is in the settings' folder by then: new replicas take over when
    they have loaded it, and old ones end with their last request.

    Args:
        proxy: who takes the port. 'python': Ray Serve's own proxy. 'haproxy': HAProxy, which costs
            a request less. 'auto': 'haproxy' where it can be had.

    Raises:
        TagloomError: the settings or the bundle cannot be used.
    """
    _check_host(settings, host)
    chosen = choose_proxy(proxy, host, os.environ)
    open_bundle(settings)
    if port == 0:
        (port,) = free_ports(1)
    heard: list[int] = []

    with _scratch() as scratch, _ray(settings, proxy_environment(chosen, settings, scratch)):
        copies = None if os.environ.get("RAY_ADDRESS") else scratch / "bundles"
        # After Ray, which sets handlers of its own.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: heard.append(number))
        ray_serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=host, port=port),
        )
        try:
            handle = _deploy(settings, copies)
            say(f"serving at http://{_shown(host)}:{port}/ (stop with Ctrl-C)")
            while not {signal.SIGTERM, signal.SIGINT} & set(heard):
                # A wait without end would not be broken off by a signal that another thread got.
                time.sleep(0.2)
                if signal.SIGHUP in heard:
                    heard.remove(signal.SIGHUP)
                    _deploy_again(settings, copies, say)
            say("stopping: no new requests; those in flight are being answered")
            _drain(handle, settings.drain_timeout)
        finally:
            stop_serve: Callable[[], None] = ray_serve.shutdown
            stop_serve()
    say("stopped")


_QUIET = {"enable_access_log": False, "log_level": "WARNING"}


def _deploy(settings: Settings, copies: Path | None) -> DeploymentHandle[object]:
    """Deploy a copy of the bundle: who puts another in its place does not take it from replicas.

    Raises:
        TagloomError: the bundle cannot be used.
    """
    ref, _ = open_bundle(settings)
    if copies is not None:
        copy = copies / ref.id
        if not copy.exists():
            shutil.copytree(ref.folder, copy)
        settings = settings.model_copy(update={"bundle": str(copy)})
    handle = ray_serve.run(build(settings), name=APP, logging_config=_QUIET)
    if copies is not None:
        for old in sorted(copies.iterdir(), key=lambda copy: copy.stat().st_ctime)[:-BUNDLES_KEPT]:
            shutil.rmtree(old)
    return handle


def _deploy_again(settings: Settings, copies: Path | None, say: Callable[[str], None]) -> None:
    try:
        _, bundle = open_bundle(settings)
        _deploy(settings, copies)
    except TagloomError as error:
        say(f"the old bundle goes on, for the new one cannot be used: {error}")
        return
    say(f"serving bundle {bundle.id}")


def _drain(handle: DeploymentHandle[object], seconds: float) -> None:
    """Have every replica refuse new requests, and wait until none is in progress."""
    until = time.monotonic() + seconds
    while sum(handle.broadcast("drain").results(timeout_s=seconds)) > 0:
        if time.monotonic() > until:
            return
        time.sleep(0.1)


def _check_host(settings: Settings, host: str) -> None:
    """See that nobody but this machine is answered without a key.

    Raises:
        ConfigError: they would be.
    """
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback and not read_keys(settings, dict(os.environ)):
        raise ConfigError(
            f"--host {host} lets other machines in, but there are no API keys; name a file of "
            f"keys with --key-file, or put some into {settings.key_variable}"
        )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder of this server's own; nobody else may read it."""
    with tempfile.TemporaryDirectory(prefix="tagloom-serve-") as folder:
        yield Path(folder)


@contextmanager
def _ray(settings: Settings, environment: dict[str, str]) -> Iterator[None]:
    """The cluster that RAY_ADDRESS names, or Ray on this machine, stopped at the end.

    Like the jobs' own session, which serving may not import, but with slots for replicas.

    Args:
        environment: more of it, for the processes of a Ray that is started here.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.update(environment)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray tells of its own controller's end as of a failure.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
    else:
        ray.init(
            "local",
            # Slots, not cores: a rolling update runs two of each replica for a while.
            num_cpus=_slots(settings),
            include_dashboard=False,
            object_store_memory=256 * 1024**2,
            logging_level=logging.WARNING,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    try:
        yield
    finally:
        ray.shutdown()


def _slots(settings: Settings) -> int:
    parts = [settings.ingress]
    if settings.topology == "split":
        _, bundle = open_bundle(settings)
        names = ["embed", "fuse", *(f"score-{name}" for name in bundle.manifest.annotators)]
        parts += [settings.scaling(name) for name in names]
    return 1 + int(sum(2 * part.max_replicas * max(1.0, part.cpus) for part in parts))


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
