"""Ray for the length of a job: a cluster that is joined, or Ray on this machine alone."""

import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import ray

from engine.errors import ConfigError
from engine.storage.settings import CACHE, PATIENCE

T = TypeVar("T")

_SETTINGS = (
    *("AWS_CA_BUNDLE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", CACHE, PATIENCE),
)
"""What a cluster's workers are told of the driver's environment: where the stores are.

No credentials: Ray shows a job's environment to whoever sees its dashboard. Nodes have their own.
"""


@contextmanager
def ray_session(cpus: int | None = None) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, or start Ray here; stop what was started.

    A Ray that this process is connected to already is used and left as it is.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray Data's own actors make Ray's core write an error line about restarts that cannot fail.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(
                logging_level=logging.WARNING,
                log_to_driver=False,
                runtime_env=storage_environment(os.environ),
            )
        except ConnectionError as error:
            raise ConfigError(
                f"RAY_ADDRESS is '{address}', but no Ray cluster answers there ({error}); start "
                "it, correct the address (with RAY_AUTH_MODE=token where it asks for a token), or "
                "unset RAY_ADDRESS to run on this machine alone"
            ) from error
    else:
        ray.init(
            "local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=512 * 1024**2,
            logging_level=logging.WARNING,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    try:
        yield
    finally:
        ray.shutdown()


def storage_environment(given: Mapping[str, str]) -> dict[str, dict[str, str]] | None:
    """The runtime environment of a job that joins a cluster; None: the cluster's own.

    Workers of a submitted job have that job's environment already, which must not be given twice.
    """
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in given:
        return None
    told = {name: given[name] for name in _SETTINGS if name in given}
    return {"env_vars": told} if told else None


@contextmanager
def running(preparing: AbstractContextManager[T], cpus: int | None = None) -> Iterator[T]:
    """A `ray_session`, entered while a thread enters `preparing`; gives what that gives.

    Ray takes seconds to start, most of which it waits.
    """
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        prepared = pool.submit(stack.enter_context, preparing)
        with ray_session(cpus):
            yield prepared.result()


def cluster_resources() -> dict[str, float]:
    """What the cluster has, as Ray names it."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found
