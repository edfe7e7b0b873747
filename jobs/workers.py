"""How many workers train by gradient descent, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass

from ray.train import ScalingConfig

from engine.config import FitConfig, TrainingConfig
from engine.errors import ConfigError
from jobs.progress import check_log
from jobs.session import cluster_resources

CPUS = 0.9
"""What a worker asks for of a CPU: the rest is for the tasks that read its pictures."""


@dataclass(frozen=True)
class Workers:
    """How many workers train, and on what."""

    number: int
    gpu: bool

    @property
    def backend(self) -> str:
        """What torch.distributed talks over."""
        return "nccl" if self.gpu else "gloo"

    @property
    def scaling(self) -> ScalingConfig:
        """The same for Ray Train."""
        resources = {"CPU": CPUS, "GPU": 1.0} if self.gpu else {"CPU": CPUS}
        return ScalingConfig(
            num_workers=self.number, use_gpu=self.gpu, resources_per_worker=resources
        )


def choose_workers(settings: TrainingConfig, resources: Mapping[str, float]) -> Workers:
    """One worker a GPU, or one on the CPU, where the settings name no number.

    Args:
        resources: of the cluster, as Ray names them: 'CPU', 'GPU'.

    Raises:
        ConfigError: there are too few CPUs or GPUs for the workers.
    """
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    number = settings.workers or max(1, gpus)
    if gpus:
        if number > gpus:
            raise ConfigError(
                f"training.workers is {number}, but there are {gpus} GPUs, one for each worker; "
                f"set it to {gpus} or less, or add GPUs"
            )
    elif number > cpus:
        raise ConfigError(
            f"training.workers is {number}, but there are {cpus} CPUs, one for each worker; set it "
            f"to {cpus} or less, or add CPUs"
        )
    if number > cpus:
        raise ConfigError(
            f"training.workers is {number}, and there are {cpus} CPUs beside the GPUs, one for "
            f"each worker; set it to {cpus} or less, or add CPUs"
        )
    return Workers(number, gpus > 0)


def check_training(config: FitConfig) -> None:
    """Refuse more workers than there is room for, before any picture is read.

    Raises:
        ConfigError: see `choose_workers` and `jobs.progress.check_log`.
    """
    if any(recipe.by_gradient for recipe in config.annotators.values()):
        choose_workers(config.training, cluster_resources())
        check_log(config.training.log)
