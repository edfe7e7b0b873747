"""Ray Serve's side: the ingress, and one generic deployment that folds a slice of the stages."""

import logging
import math
import os
import sys
import time

from fastapi import FastAPI
from ray import serve as ray_serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve.batching import Batcher, Job
from serve.config import Settings, read_keys
from serve.errors import RequestError
from serve.gate import Traffic
from serve.http import make_app
from serve.metrics import Metrics, merged
from serve.pipeline import Pipeline, Run
from serve.stages import BundleRef, Folded, layout, reopen

CHECKS_A_PROBE = 10
"""Health checks, most of which only see that the replica answers, to one that tags a picture."""


class SliceDeployment:
    """Folds a slice of the stages over whatever pictures come, in batches."""

    def __init__(
        self, settings: Settings, ref: BundleRef, name: str, stages: tuple[str, ...]
    ) -> None:
        self._batcher = Batcher(stages, settings.scaling(name), settings.max_pixels)
        self._batcher.load(ref)

    async def fold(self, job: Job) -> Folded:
        """Fold a job's rows."""
        return await self._batcher(job)


class Ingress:
    """Takes the requests; under the fused topology it holds the models as well."""

    def __init__(
        self, settings: Settings, ref: BundleRef, slices: dict[str, DeploymentHandle[Folded]]
    ) -> None:
        """Load the bundle.

        Raises:
            BundleError: it is no longer the one that the application was built for.
        """
        _log_to_stderr()
        self._settings = settings
        self._keys = read_keys(settings, dict(os.environ))
        metrics = Metrics(ray_serve.get_replica_context().replica_id.unique_id)
        bundle = reopen(ref)
        self._batcher: Batcher | None = None
        runs: dict[str, Run] = {name: _remote(handle) for name, handle in slices.items()}
        if settings.topology == "fused":
            ((whole,),) = layout(bundle, "fused")
            self._batcher = Batcher(whole.stages, settings.ingress, settings.max_pixels)
            self._batcher.load(ref)
            runs[whole.name] = self._batcher
        self._pipeline = Pipeline(settings, ref, bundle, runs, metrics)
        self._traffic = Traffic()
        self._last_tagged = -math.inf

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self._settings, self._keys, self._pipeline, self._traffic, self._exposition)

    async def check_health(self) -> None:
        """Tag a real picture, unless one was tagged within the last few checks.

        Raises:
            RuntimeError: it got no tags.
        """
        if self._batcher is not None:
            self._last_tagged = max(self._last_tagged, self._batcher.last_success)
        if time.monotonic() - self._last_tagged >= CHECKS_A_PROBE * self._settings.health_period:
            await self._pipeline.probe()
            self._last_tagged = time.monotonic()

    async def figures(self) -> str:
        """This replica's metrics."""
        return self._pipeline.metrics.text().decode()

    async def drain(self) -> int:
        """Refuse new requests from now on; how many are still in progress."""
        self._traffic.stopping = True
        return self._traffic.open

    async def _exposition(self) -> bytes:
        """All the ingress replicas' metrics: a scrape reaches one of them by chance."""
        context = ray_serve.get_replica_context()
        itself = ray_serve.get_deployment_handle(context.deployment, context.app_name)
        return merged(await itself.broadcast("figures").results_async(timeout_s=5))


def _remote(handle: DeploymentHandle[Folded]) -> Run:
    async def run(job: Job) -> Folded:
        try:
            folded: Folded = await handle.fold.remote(job)
        except (RayActorError, BackPressureError, DeploymentUnavailableError) as error:
            reason = "a part of the server is busy or restarting; try again in 1 s"
            raise RequestError(503, "unavailable", reason, retry_after=1) from error
        return folded

    return run


def _log_to_stderr() -> None:
    """One JSON object a line, where Ray collects a worker's output."""
    logger = logging.getLogger("tagloom.serve")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
