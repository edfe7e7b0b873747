"""Training by Ray Train: workers that are killed, settings that no machine has room for."""

import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.annotators.cnn_r import CnnR, CnnRRecipe
from engine.config import TrainingConfig
from engine.corpus import Corpus
from engine.embed import backbone
from engine.errors import ConfigError
from engine.fitting import Material, score_corpus
from engine.group import Solo
from engine.tensors import Pixels, Tensors
from jobs.shards import deal, gather_shard, write_shards
from jobs.train import fit_on_workers
from jobs.workers import Workers, choose_workers

PATIENCE = 280


def files(annotator: CnnR, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    annotator.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def train_workers() -> list[psutil.Process]:
    """The workers of Ray Train among the children of this process's own Ray."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_in_epoch(folder: Path, epoch: int, killed: list[int]) -> None:
    """Wait until so many epochs are done, and kill a worker in the one after."""
    deadline = time.monotonic() + PATIENCE
    workers: list[psutil.Process] = []
    while not (folder / "run" / f"epoch-{epoch:06d}").exists():
        if time.monotonic() > deadline:
            return
        # Looked for beforehand, for it takes as long as an epoch may.
        workers = workers if len(workers) == 2 else train_workers()
        time.sleep(0.005)
    if workers and not (folder / "run" / f"epoch-{epoch + 1:06d}").exists():
        workers[-1].kill()
        killed.append(workers[-1].pid)


def test_a_run_whose_worker_is_killed_ends_with_the_numbers_of_one_that_was_left_alone(
    cluster: None, material: Material, tmp_path: Path
) -> None:
    """Two ranks over gloo; one is killed in epoch 2, and epoch 1 is not done again."""
    recipe = CnnRRecipe.model_validate(
        {"tag_vectors": "binary", "optimisation": {"epochs": 3, "batch": 2, "average": 0.99}}
    )
    settings = TrainingConfig(workers=2)
    found = {}
    killed: list[int] = []
    for name in ("alone", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        watcher = threading.Thread(target=kill_in_epoch, args=(folder, 1, killed))
        if name == "killed":
            watcher.start()
        fitted = fit_on_workers(
            recipe, material.corpus, material.vocabulary, folder, settings, lambda _: None
        )
        if name == "killed":
            watcher.join()
        assert isinstance(fitted, CnnR)
        found[name] = files(fitted, tmp_path / f"{name}-files")
    assert killed, "the worker was to be killed in epoch 2"
    assert found["killed"] == found["alone"]


def test_one_worker_finds_what_this_process_finds_to_the_bit(
    cluster: None, material: Material, tmp_path: Path
) -> None:
    recipe = CnnRRecipe.model_validate({"tag_vectors": "binary", "optimisation": {"epochs": 2}})
    said: list[str] = []
    settings = TrainingConfig(workers=1, log=tmp_path / "log")
    corpus, vocabulary = material.corpus, material.vocabulary
    fitted = fit_on_workers(recipe, corpus, vocabulary, tmp_path, settings, said.append)
    here = recipe.fit(corpus, vocabulary, Solo())
    np.testing.assert_array_equal(score_corpus(fitted, corpus), score_corpus(here, corpus))
    *news, last = said
    assert last == "'cnn-r' was trained by 1 worker(s) over gloo"
    assert re.fullmatch(
        r"'cnn-r', epoch 2 of 2: loss 0\.\d+, [\d,]+ pictures/s, 0 s left", news[-1]
    )
    assert len(list((tmp_path / "log" / "cnn-r").glob("events.out.tfevents.*"))) == 1


def test_what_a_worker_finds_wrong_is_told_as_it_is(
    cluster: None, material: Material, tmp_path: Path
) -> None:
    corpus, vocabulary, settings = material.corpus, material.vocabulary, TrainingConfig(workers=1)
    recipe = CnnRRecipe.model_validate({"tag_vectors": "no-such-vectors"})
    with pytest.raises(ConfigError, match="there are no word vectors called 'no-such-vectors'"):
        fit_on_workers(recipe, corpus, vocabulary, tmp_path, settings, print)


@pytest.mark.parametrize(
    ("workers", "resources", "expected"),
    [
        (None, {"CPU": 8.0}, Workers(1, False)),
        (3, {"CPU": 8.0}, Workers(3, False)),
        (None, {"CPU": 8.0, "GPU": 4.0}, Workers(4, True)),
        (2, {"CPU": 8.0, "GPU": 4.0}, Workers(2, True)),
    ],
)
def test_workers_are_chosen_by_what_the_cluster_has(
    workers: int | None, resources: dict[str, float], expected: Workers
) -> None:
    chosen = choose_workers(TrainingConfig(workers=workers), resources)
    assert chosen == expected
    assert chosen.backend == ("nccl" if "GPU" in resources else "gloo")
    assert chosen.scaling.use_gpu == ("GPU" in resources)
    assert chosen.scaling.num_workers == expected.number


@pytest.mark.parametrize(
    ("workers", "resources", "message"),
    [
        (3, {"CPU": 2.0}, "training.workers is 3, but there are 2 CPUs"),
        (3, {"CPU": 8.0, "GPU": 2.0}, "training.workers is 3, but there are 2 GPUs"),
        (None, {"CPU": 2.0, "GPU": 4.0}, "is 4, and there are 2 CPUs beside the GPUs"),
        (None, {}, "training.workers is 1, but there are 0 CPUs"),
    ],
)
def test_more_workers_than_there_is_room_for_are_refused(
    workers: int | None, resources: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_workers(TrainingConfig(workers=workers), resources)


def test_blocks_come_back_as_they_were_and_every_time_to_the_same_worker(
    cluster: None, material: Material, tmp_path: Path
) -> None:
    size = backbone("random").geometry.size
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 255, (100, size, size, 3), dtype=np.uint8)
    rows = rng.permutation(100)[:70]
    part = material.corpus.subset(np.arange(70))
    maps = rng.standard_normal((70, 3, 2)).astype(np.float16)
    columns = {"maps": Tensors(maps, np.arange(70))}
    whole = replace(part, pixels=Pixels(squares, rows, "random"), columns=columns)
    blocks = write_shards(whole, tmp_path, 2)
    # Blocks of 18 pictures, shared out one by one.
    expected = (np.r_[0:18, 36:54], np.r_[18:36, 54:70])
    for _ in range(2):
        for dealt, rows_M in zip(deal(blocks, 2), expected, strict=True):
            check_same(gather_shard(dealt.iterator()), whole.subset(rows_M))


def check_same(left: Corpus, right: Corpus) -> None:
    np.testing.assert_array_equal(left.embeddings_ND, right.embeddings_ND)
    np.testing.assert_array_equal(left.labels_NV.toarray(), right.labels_NV.toarray())
    assert left.ids == right.ids
    assert (left.levels, left.social_tags) == (right.levels, right.social_tags)
    assert [one.tolist() for one in left.tag_lists()] == [one.tolist() for one in right.tag_lists()]
    assert left.places_NV is not None
    assert left.pixels is not None
    assert right.pixels is not None
    places = np.arange(len(right))
    np.testing.assert_array_equal(left.pixels.take(places), right.pixels.take(places))
    assert left.pixels.backbone == right.pixels.backbone
    assert left.columns.keys() == right.columns.keys() == {"maps"}
    maps = [one.columns["maps"].take(places) for one in (left, right)]
    np.testing.assert_array_equal(*maps)
