"""Which job an output belongs to: a run may go on with its own output alone."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.cut import TopK
from engine.embed import Compute
from engine.errors import ConfigError
from jobs.chunks import Chunk
from jobs.lease import LEASE
from jobs.store import Store

JOB = "job.json"

M = TypeVar("M", bound=BaseModel)


class Job(BaseModel):
    """What makes two runs the same job; a run may go on only with the same one's output.

    Attributes:
        fingerprint, rows: of the input; None until it is listed to its end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str
    fingerprint: str | None
    rows: int | None
    bundle: str
    bundle_id: str
    top_k: TopK
    compute: Compute | None = None
    vocabulary: str | None = None


def noted(
    store: Store, file: str, kind: type[M], own: Collection[str] = (), holds: str = "job"
) -> M | None:
    """What an earlier run noted of its job in the store, if there was one.

    Args:
        file: where it is noted, as `kind`.
        own: names of what a run may have left before it noted its job.
        holds: what the store ought to hold, for the message.

    Raises:
        ConfigError: something else is there.
    """
    if store.is_file(file):
        try:
            return kind.model_validate_json(store.read(file))
        except ValidationError as error:
            raise ConfigError(
                f"{store.url}: its {file} is not of this version; name another output"
            ) from error
    if set(store.names()) - {LEASE, *own}:
        raise ConfigError(
            f"{store.url}: is not empty and holds no {holds} of this program; name a new or an "
            "empty folder, or the output of an earlier run of the same job"
        )
    return None


def check_same(store: Store, earlier: Job | None, job: Job) -> None:
    """Refuse to go on with another job's output.

    Raises:
        ConfigError: the job whose output is there is not this one.
    """
    if earlier is None:
        return
    before, now = earlier.model_dump(), job.model_dump()
    unknown = {name for name in ("fingerprint", "rows") if before[name] is None}
    changed = {name for name in now if before[name] != now[name]} - {"bundle"} - unknown
    if changed:
        listed = ", ".join(
            f"{name} was {json.dumps(before[name])} and is {json.dumps(now[name])}"
            for name in sorted(changed)
        )
        raise ConfigError(
            f"{store.url}: holds the output of a different job ({listed}); name another output, "
            "or run the same job again to go on with it"
        )


def check_unchanged(store: Store, digests: Mapping[str, str], chunks: Iterable[Chunk]) -> None:
    """Refuse to go on with an output of which a part was made from other rows than are there now.

    Args:
        digests: of the parts that are there, by chunk.
        chunks: all that the input gives now.

    Raises:
        ConfigError: the input has changed.
    """
    now = {chunk.name: chunk.digest for chunk in chunks}
    changed = sorted(name for name, digest in digests.items() if now.get(name) != digest)
    if changed:
        raise ConfigError(
            f"{store.url}: the input has changed since {len(changed)} of its {len(digests)} parts "
            f"were made (the first is that of chunk {changed[0]}); name another output, or put the "
            "input back as it was"
        )


def check_apart(source: str, store: Store) -> None:
    """Refuse an output that would become part of its own input.

    Raises:
        ConfigError: it lies within.
    """
    if f"{store.url}/".startswith(f"{source}/"):
        raise ConfigError(
            f"{store.url}: lies within the input {source}, which would change by it; name an "
            "output elsewhere"
        )
