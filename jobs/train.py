"""Runs a fit by gradient descent on the workers of Ray Train: data in, checkpoints out."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
import ray.train
from ray.train import Checkpoint, DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2.api.report_config import CheckpointUploadMode

from engine.annotators import REGISTRY
from engine.config import FitConfig, TrainingConfig
from engine.corpus import Corpus
from engine.division import Divisible
from engine.errors import ConfigError, TagloomError, TrainingError
from engine.group import Group
from engine.recipe import Annotator, Recipe
from engine.torch_group import Torch
from engine.training import FolderCheckpoints
from engine.vocab import Vocabulary
from jobs.parts import fit_in_parts
from jobs.progress import append_line, check_log, told
from jobs.shards import deal, gather_shard, write_shards

CPUS = 0.9
"""What a worker asks for of a CPU: the rest is for the tasks that read its pictures."""

_RUN, _FITTED, _FAILURE = "run", "fitted", "failure.json"
_ERRORS = {kind.__name__: kind for kind in TagloomError.__subclasses__()}


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
        choose_workers(config.training, _resources())
        check_log(config.training.log)


def _resources() -> dict[str, float]:
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


@dataclass(frozen=True)
class TrainedFit:
    """How this job fits a recipe: by the workers of Ray Train, if it learns by gradient descent.

    One that falls into parts is shared out part by part instead, unless a number of workers is
    named: then these share its pictures.

    Attributes:
        work: a folder that all workers share.
    """

    work: Path
    settings: TrainingConfig
    say: Callable[[str], None]

    def __call__(
        self, recipe: Recipe, corpus: Corpus, vocabulary: Vocabulary, group: Group
    ) -> Annotator:
        if not recipe.by_gradient:
            return recipe.fit(corpus, vocabulary, group)
        folder = self.work / f"training-{recipe.kind}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            if isinstance(recipe, Divisible) and self.settings.workers is None:
                return fit_in_parts(recipe, corpus, vocabulary, folder, self.settings, self.say)
            return fit_on_workers(recipe, corpus, vocabulary, folder, self.settings, self.say)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def fit_on_workers(
    recipe: Recipe,
    corpus: Corpus,
    vocabulary: Vocabulary,
    folder: Path,
    settings: TrainingConfig,
    say: Callable[[str], None],
) -> Annotator:
    """Fit a recipe by Ray Train in an empty folder that all workers share.

    Raises:
        ConfigError: there is no room for the workers.
        TagloomError: the recipe raised it in a worker.
        TrainingError: workers died more often than `settings.restarts` allows.
    """
    workers = choose_workers(settings, _resources())
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    shards = write_shards(corpus, folder, workers.number)
    trainer = TorchTrainer(
        _train,
        train_loop_config={"recipe": recipe, "vocabulary": vocabulary, "folder": str(folder)},
        scaling_config=workers.scaling,
        torch_config=TorchConfig(backend=workers.backend),
        run_config=RunConfig(
            name=_RUN,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=settings.restarts),
        ),
        datasets={"train": shards},
        dataset_config=Dealt(),
    )
    try:
        with told(folder, recipe.kind, say, settings.log):
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        _raise_failure(folder)
        raise TrainingError(
            f"training '{recipe.kind}' failed {settings.restarts + 1} times, the last time by: "
            f"{str(error).strip().splitlines()[-1]}; look at the worker's memory, or raise "
            "training.restarts"
        ) from error
    _raise_failure(folder)
    say(f"'{recipe.kind}' was trained by {workers.number} worker(s) over {workers.backend}")
    fitted = REGISTRY[recipe.kind].annotator.load(folder / _FITTED)
    fitted.notes = tuple(json.loads((folder / "notes.json").read_text(encoding="utf-8")))
    return fitted


class Dealt(DataConfig):
    """Gives each worker whole blocks, and every time the same ones.

    Ray Train's own way makes all the shares one length by leaving pictures out, and deals them by
    who asks first: a run that goes on after a worker died would see other shares.
    """

    def configure(  # type: ignore[no-untyped-def]
        self, datasets, world_size, worker_handles, worker_node_ids, **kwargs
    ) -> list[dict[str, ray.data.DataIterator]]:
        given = {name: deal(dataset, world_size) for name, dataset in datasets.items()}
        return [
            {name: parts[rank].iterator() for name, parts in given.items()}
            for rank in range(world_size)
        ]


class ReportedCheckpoints:
    """Checkpoints of a run in its job's folder, of which Ray Train and the job are told.

    The last one is found by what is in the folder: after a worker is killed Ray Train may still
    hold an earlier one for the last.
    """

    def __init__(self, folder: Path) -> None:
        self._job = folder
        self._folder = FolderCheckpoints(folder / _RUN)

    def latest(self) -> Path | None:
        return self._folder.latest()

    def keep(
        self,
        epoch: int,
        write: Callable[[Path], None],
        figures: Mapping[str, float],
        is_writer: bool,
    ) -> None:
        self._folder.keep(epoch, write, figures, is_writer)
        if is_writer:
            append_line(self._job, epoch, figures)
        last = self.latest() if is_writer else None
        ray.train.report(
            {"epoch": epoch, **figures},
            checkpoint=None if last is None else Checkpoint(str(last)),
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )

    def part(self, name: str) -> "ReportedCheckpoints":
        return ReportedCheckpoints(self._folder.folder / name)


def _train(settings: dict[str, object]) -> None:
    """What each worker runs."""
    # Imported here, in the worker: what reads this file need not pay the seconds.
    import torch
    from threadpoolctl import threadpool_limits

    folder = Path(str(settings["folder"]))
    if (folder / _FAILURE).exists():
        # It would fail again: the same pictures and settings give the same error.
        return
    threadpool_limits(1)
    torch.set_num_threads(1)
    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    recipe, vocabulary = settings["recipe"], settings["vocabulary"]
    assert isinstance(recipe, Recipe)
    assert isinstance(vocabulary, Vocabulary)
    group = Torch(str(device))
    try:
        corpus = gather_shard(ray.train.get_dataset_shard("train"))
        checkpoints = ReportedCheckpoints(folder)
        fitted = recipe.resumable_fit(corpus, vocabulary, group, checkpoints)
    except TagloomError as error:
        content = json.dumps({"type": type(error).__name__, "message": str(error)})
        draft = folder / f".{_FAILURE}.{group.rank}"
        draft.write_text(content, encoding="utf-8")
        os.replace(draft, folder / _FAILURE)
        raise
    if group.rank == 0:
        shutil.rmtree(folder / _FITTED, ignore_errors=True)
        (folder / _FITTED).mkdir()
        fitted.save(folder / _FITTED)
        (folder / "notes.json").write_text(json.dumps(fitted.notes), encoding="utf-8")
    # No rank leaves before the annotator is written.
    group.sum(np.zeros(1))


def _raise_failure(folder: Path) -> None:
    path = folder / _FAILURE
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        raise _ERRORS[content["type"]](content["message"])
