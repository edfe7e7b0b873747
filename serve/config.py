"""What a server is told: one frozen model, the same for the command line, YAML and tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from engine.errors import ConfigError
from engine.overrides import override_setting

Topology = Literal["fused", "split"]


def _listed(value: object) -> object:
    """`serve run serve.app:build url_hosts=a,b` can only pass strings."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scaling(_Part):
    """One deployment: what a replica asks for, how many there are, how it batches.

    Attributes:
        cpus, gpus: CPU slots and GPUs of a replica, each possibly fractional.
        batch: pictures folded at a time, at most.
        wait: seconds that a batch waits for more pictures; with 0 it takes what came while the
            one before was folded.
        target_ongoing: requests in progress a replica that the autoscaler aims at.
        upscale_delay, downscale_delay, look_back: seconds.
    """

    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 1
    batch: PositiveInt = 16
    wait: float = Field(default=0.0, ge=0)
    target_ongoing: PositiveFloat = 16.0
    upscale_delay: float = Field(default=10.0, ge=0)
    downscale_delay: float = Field(default=120.0, ge=0)
    look_back: float = Field(default=30.0, gt=10)


class Settings(_Part):
    """A server over one bundle.

    Attributes:
        bundle: its folder, which every node that runs a replica must have, or its URL.
        vocabulary: a TOML file of vocabulary rules, see `engine.vocabulary_rules`; it is read
            where the server is started. None: those that the bundle was fitted with alone.
        topology: 'fused': the whole way of a picture in the replica that takes the request;
            'split': decode and embed, each annotator, and the fusion in deployments of their own.
        ingress: what takes the requests; under 'fused' it holds the models too.
        embed, fuse: under 'split'.
        annotators: under 'split', by the annotator's name; those without an entry take `annotator`.
        queue: requests in progress a replica, and pictures waiting in it, at most; more get 503.
        max_body_bytes: of a request's body.
        max_pictures: in a request.
        max_pixels: of a picture; None: the bundle's own limit, which is the most in any case.
        request_timeout: seconds, from a request's first byte to its answer.
        drain_timeout: seconds that a stopping replica gives the requests in flight.
        key_file: API keys, one a line; `#` begins a comment.
        key_variable: the environment variable that may hold API keys, divided by commas. Without
            any key only this machine itself (loopback) is answered.
        cors_origins: origins that a browser's scripts may call from; empty: none.
        url_hosts: hosts that pictures may be fetched from by URL, https alone; empty: none.
        url_bytes, url_timeout, url_redirects: of one picture fetched by URL.
        surge: in a rolling update, extra replicas started before old ones stop, in per cent.
        health_period: seconds between health checks, and so until a dead replica is noticed; every
            tenth tags a picture if nobody else's was tagged meanwhile.
    """

    bundle: str
    vocabulary: str | None = None
    topology: Topology = "fused"
    ingress: Scaling = Scaling()
    embed: Scaling = Scaling()
    annotator: Scaling = Scaling()
    annotators: dict[str, Scaling] = {}
    fuse: Scaling = Scaling()
    queue: PositiveInt = 64
    max_body_bytes: PositiveInt = 32 * 1024 * 1024
    max_pictures: PositiveInt = 32
    max_pixels: PositiveInt | None = None
    request_timeout: PositiveFloat = 30.0
    drain_timeout: PositiveFloat = 30.0
    key_file: str | None = None
    key_variable: str = "TAGLOOM_API_KEYS"
    cors_origins: Names = ()
    url_hosts: Names = ()
    url_bytes: PositiveInt = 16 * 1024 * 1024
    url_timeout: PositiveFloat = 10.0
    url_redirects: int = Field(default=3, ge=0)
    surge: int = Field(default=100, ge=0, le=100)
    health_period: PositiveFloat = 1.0

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, values: object) -> object:
        """`serve run serve.app:build ingress.max_replicas=2` passes flat names and strings."""
        if not isinstance(values, dict):
            return values
        nested = {name: value for name, value in values.items() if "." not in name}
        for name in values.keys() - nested.keys():
            override_setting(nested, f"{name}={values[name]}", str)
        return nested

    def scaling(self, name: str) -> Scaling:
        """Of a deployment by its name: 'embed', 'fuse', or 'score-<annotator>'."""
        if name in ("embed", "fuse"):
            return self.embed if name == "embed" else self.fuse
        return self.annotators.get(name.removeprefix("score-"), self.annotator)


def load_settings(bundle: str, key_file: Path | None, assignments: Sequence[str]) -> Settings:
    """Settings of the command line; an assignment is `name=value` or `part.name=value`.

    Raises:
        ConfigError: there is no such setting, or its value breaks its rules.
    """
    values: dict[str, object] = {"bundle": bundle}
    if key_file is not None:
        values["key_file"] = str(key_file)
    for assignment in assignments:
        override_setting(values, assignment, str)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise ConfigError(f"setting '{name}': {fault['msg'].lower()}") from error


def read_keys(settings: Settings, environment: dict[str, str]) -> tuple[bytes, ...]:
    """The API keys of the file and the environment together; none: an empty tuple.

    Raises:
        ConfigError: the file cannot be read, or holds no key.
    """
    keys = [key.strip() for key in environment.get(settings.key_variable, "").split(",")]
    if settings.key_file is not None:
        try:
            lines = Path(settings.key_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"key_file {settings.key_file} cannot be read ({error}); name a text file with "
                "one API key a line"
            ) from error
        found = [line.partition("#")[0].strip() for line in lines]
        if not any(found):
            raise ConfigError(f"key_file {settings.key_file} holds no key; write one a line")
        keys.extend(found)
    return tuple(key.encode() for key in dict.fromkeys(keys) if key)
