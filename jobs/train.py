"""Runs a fit by gradient descent on the workers of Ray Train: data in, checkpoints out."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import ray
import ray.train
from ray.train import Checkpoint, DataConfig, FailureConfig, RunConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2.api.report_config import CheckpointUploadMode

from engine.annotators import REGISTRY
from engine.config import TrainingConfig
from engine.corpus import Corpus
from engine.division import Divisible
from engine.errors import TagloomError, TrainingError
from engine.group import Group
from engine.recipe import Annotator, Recipe
from engine.torch_group import Torch
from engine.training import FolderCheckpoints
from engine.vocab import Vocabulary
from jobs.parts import fit_in_parts
from jobs.progress import append_line, told
from jobs.session import cluster_resources
from jobs.shards import deal, gather_shard, write_shards
from jobs.unfinished import Unfinished
from jobs.workers import choose_workers

_LOOK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
"""How often Ray Train looks at its workers, in seconds. What they report waits for that: by its own
2 s no epoch would be shorter."""

_RUN, _FITTED, _NOTES, _FAILURE = "run", "fitted", "notes.json", "failure.json"
_ERRORS = {kind.__name__: kind for kind in TagloomError.__subclasses__()}


@dataclass(frozen=True)
class TrainedFit:
    """How this job fits a recipe: by the workers of Ray Train, if it learns by gradient descent.

    One that falls into parts is shared out part by part instead, unless a number of workers is
    named: then these share its pictures.

    What was trained is kept as long as the fit is unfinished, and with it the last checkpoints of
    what was being trained.
    """

    begun: Unfinished
    settings: TrainingConfig
    say: Callable[[str], None]

    def __call__(
        self, recipe: Recipe, corpus: Corpus, vocabulary: Vocabulary, group: Group
    ) -> Annotator:
        if not recipe.by_gradient:
            return recipe.fit(corpus, vocabulary, group)
        name = f"training-{recipe.kind}-{_training_digest(recipe, corpus, vocabulary)[:16]}"
        folder = self.begun.restore(name)
        if (folder / _NOTES).exists():
            return _fitted(recipe, folder)
        folder.mkdir(exist_ok=True)
        _keep_only(folder, _RUN)
        keep = partial(self.begun.keep, name, (_RUN,))
        if isinstance(recipe, Divisible) and self.settings.workers is None:
            fitted = fit_in_parts(recipe, corpus, vocabulary, folder, self.settings, self.say)
            _save(fitted, folder)
        else:
            fitted = fit_on_workers(
                recipe, corpus, vocabulary, folder, self.settings, self.say, keep
            )
        _keep_only(folder, _FITTED, _NOTES)
        self.begun.keep(name, (_FITTED, _NOTES))
        return fitted


def _keep_only(folder: Path, *names: str) -> None:
    """Remove all else that is in a folder."""
    for path in folder.iterdir():
        if path.name in names:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _training_digest(recipe: Recipe, corpus: Corpus, vocabulary: Vocabulary) -> str:
    """Of what is learned from what; how the pictures are embedded aside."""
    digest = hashlib.sha256(f"{recipe.kind} {recipe.model_dump_json()}".encode())
    digest.update(f" {vocabulary.digest} ".encode() + "\n".join(corpus.ids).encode())
    for one in (corpus.labels_NV.indptr, corpus.labels_NV.indices):
        digest.update(np.ascontiguousarray(one, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _save(fitted: Annotator, folder: Path) -> None:
    """Whole once the notes are there."""
    shutil.rmtree(folder / _FITTED, ignore_errors=True)
    (folder / _FITTED).mkdir()
    fitted.save(folder / _FITTED)
    draft = folder / f".{_NOTES}"
    draft.write_text(json.dumps(fitted.notes), encoding="utf-8")
    draft.replace(folder / _NOTES)


def _fitted(recipe: Recipe, folder: Path) -> Annotator:
    fitted = REGISTRY[recipe.kind].annotator.load(folder / _FITTED)
    fitted.notes = tuple(json.loads((folder / _NOTES).read_text(encoding="utf-8")))
    return fitted


def fit_on_workers(
    recipe: Recipe,
    corpus: Corpus,
    vocabulary: Vocabulary,
    folder: Path,
    settings: TrainingConfig,
    say: Callable[[str], None],
    keep: Callable[[], None] = lambda: None,
) -> Annotator:
    """Fit a recipe by Ray Train in a folder that all workers share.

    Args:
        folder: empty, or with the checkpoints of a run that was stopped.
        keep: called by a worker when a checkpoint is in the folder.

    Raises:
        ConfigError: there is no room for the workers.
        TagloomError: the recipe raised it in a worker.
        TrainingError: workers died more often than `settings.restarts` allows.
    """
    workers = choose_workers(settings, cluster_resources())
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    os.environ.setdefault(*_LOOK)
    shards = write_shards(corpus, folder, workers.number)
    for snapshot in folder.glob(f"{_RUN}/*.json"):
        # What Ray Train knows of a run that was stopped; checkpoints are found by their folders.
        snapshot.unlink()
    trainer = TorchTrainer(
        _train,
        train_loop_config={
            "recipe": recipe,
            "vocabulary": vocabulary,
            "folder": str(folder),
            "keep": keep,
        },
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
    return _fitted(recipe, folder)


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

    def __init__(self, job: Path, keep: Callable[[], None], part: str = "") -> None:
        self._job = job
        self._keep = keep
        self._part = part
        self._folder = FolderCheckpoints(job / _RUN / part)

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
            append_line(self._job, epoch, figures, self._part)
            self._keep()
        last = self.latest() if is_writer else None
        ray.train.report(
            {"epoch": epoch, **figures},
            checkpoint=None if last is None else Checkpoint(str(last)),
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )

    def part(self, name: str) -> "ReportedCheckpoints":
        return ReportedCheckpoints(self._job, self._keep, f"{self._part}/{name}".strip("/"))


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
    recipe, vocabulary, keep = (settings[name] for name in ("recipe", "vocabulary", "keep"))
    assert isinstance(recipe, Recipe)
    assert isinstance(vocabulary, Vocabulary)
    assert callable(keep)
    group = Torch(str(device))
    try:
        corpus = gather_shard(ray.train.get_dataset_shard("train"))
        checkpoints = ReportedCheckpoints(folder, keep)
        fitted = recipe.resumable_fit(corpus, vocabulary, group, checkpoints)
    except TagloomError as error:
        content = json.dumps({"type": type(error).__name__, "message": str(error)})
        draft = folder / f".{_FAILURE}.{group.rank}"
        draft.write_text(content, encoding="utf-8")
        os.replace(draft, folder / _FAILURE)
        raise
    if group.rank == 0:
        _save(fitted, folder)
    # No rank leaves before the annotator is written.
    group.sum(np.zeros(1))


def _raise_failure(folder: Path) -> None:
    path = folder / _FAILURE
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        raise _ERRORS[content["type"]](content["message"])
