"""The typed builder: `serve run serve.app:build bundle=B`, or `import_path` of a Serve config."""

from ray import serve as ray_serve
from ray.serve import Application, Deployment
from ray.serve.config import AutoscalingConfig, BackpressureConfig

from serve.config import Settings
from serve.deployments import Ingress, SliceDeployment
from serve.pipeline import open_bundle
from serve.stages import layout

HEALTH_PATIENCE = 10.0
"""Seconds until a health check has failed; three in a row have the replica replaced."""

HANDLE_SLACK = 2
"""Requests that Serve lets into a replica beyond its queue, which then answers them itself."""


def build(args: Settings) -> Application:
    """The application of the settings.

    Raises:
        BundleError: there is no bundle where they say.
    """
    ref, bundle = open_bundle(args)
    slices: dict[str, Application] = {}
    if args.topology == "split":
        for level in layout(bundle, "split"):
            for part in level:
                deployed = _deployment(SliceDeployment, part.name, args)
                slices[part.name] = deployed.bind(args, ref, part.name, part.stages)
    return _deployment(ray_serve.ingress()(Ingress), "ingress", args).bind(args, ref, slices)


def _deployment(target: type, name: str, args: Settings) -> Deployment:
    """A class as a deployment: how it scales, what bounds it, how it ends."""
    scaling = args.ingress if name == "ingress" else args.scaling(name)
    threads = str(max(1, int(scaling.cpus)))
    return ray_serve.deployment(
        name=name,
        ray_actor_options={
            "num_cpus": scaling.cpus,
            "num_gpus": scaling.gpus,
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": threads}},
        },
        autoscaling_config=AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            target_ongoing_requests=scaling.target_ongoing,
            upscale_delay_s=scaling.upscale_delay,
            downscale_delay_s=scaling.downscale_delay,
            look_back_period_s=scaling.look_back,
        ),
        # A replica's own queue is the bound; Serve's beyond it only sees what a burst leaves over.
        max_ongoing_requests=HANDLE_SLACK * args.queue,
        max_queued_requests=args.queue,
        backpressure_config=BackpressureConfig(retry_after_s=1),
        graceful_shutdown_timeout_s=args.drain_timeout,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=args.health_period,
        health_check_timeout_s=max(HEALTH_PATIENCE, args.health_period),
        max_surge_percent=args.surge,
    )(target)
