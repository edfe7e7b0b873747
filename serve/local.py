"""`tagloom serve`: Ray Serve on this machine, from the first picture to the last one in flight."""

import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.handle import DeploymentHandle

from engine.errors import ConfigError, TagloomError
from serve.app import build
from serve.config import Settings, read_keys
from serve.pipeline import open_bundle

APP = "tagloom"


def run(
    settings: Settings, host: str, port: int, say: Callable[[str], None], direct: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in flight and stop.

    SIGHUP deploys the bundle that is in the settings' folder by then: new replicas take over when
    they have loaded it, and old ones end with their last request.

    Args:
        direct: the one replica listens itself, without Serve's proxy before it: a hop less, and
            no other replica beside it, so no autoscaling and no swap.

    Raises:
        TagloomError: the settings or the bundle cannot be used.
    """
    _check_host(settings, host)
    if direct:
        _listen_directly(settings, port)
    open_bundle(settings)
    heard: list[int] = []

    with _ray(settings):
        # After Ray, which sets handlers of its own.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: heard.append(number))
        ray_serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=host, port=_free_port() if direct else port),
        )
        try:
            handle = ray_serve.run(build(settings), name=APP, logging_config=_QUIET)
            say(f"serving at http://{_shown(host)}:{port}/ (stop with Ctrl-C)")
            while not {signal.SIGTERM, signal.SIGINT} & set(heard):
                # A wait without end would not be broken off by a signal that another thread got.
                time.sleep(0.2)
                if signal.SIGHUP in heard:
                    heard.remove(signal.SIGHUP)
                    if direct:
                        say("a direct server cannot swap its bundle; stop it and start it again")
                    else:
                        _deploy_again(settings, say)
            say("stopping: no new requests; those in flight are being answered")
            _drain(handle, settings.drain_timeout)
        finally:
            stop_serve: Callable[[], None] = ray_serve.shutdown
            stop_serve()
    say("stopped")


_QUIET = {"enable_access_log": False, "log_level": "WARNING"}


def _deploy_again(settings: Settings, say: Callable[[str], None]) -> None:
    try:
        _, bundle = open_bundle(settings)
        ray_serve.run(build(settings), name=APP, logging_config=_QUIET)
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


def _listen_directly(settings: Settings, port: int) -> None:
    """Have Ray Serve's replica take the port itself.

    Raises:
        ConfigError: there would be more than one.
    """
    if settings.topology != "fused" or settings.ingress.max_replicas > 1:
        raise ConfigError(
            "--direct is for one replica that holds everything; leave it out, or set "
            "topology=fused and ingress.max_replicas=1"
        )
    if port == 0:
        raise ConfigError("--direct wants a port of its own; name one with --port")
    os.environ["RAY_SERVE_ENABLE_DIRECT_INGRESS"] = "1"
    os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"] = str(port)
    os.environ["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"] = str(port + 1)
    # A replica that died has its place taken at once.
    os.environ["RAY_SERVE_PORT_QUARANTINE_S"] = "0"
    # The replica is told to drain before it is stopped; no balancer has to notice.
    os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] = "0.1"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


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
def _ray(settings: Settings) -> Iterator[None]:
    """The cluster that RAY_ADDRESS names, or Ray on this machine, stopped at the end."""
    if ray.is_initialized():
        yield
        return
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
