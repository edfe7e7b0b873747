"""MS-CNN's process is killed with SIGKILL within a stage; the next one goes on from there."""

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy import sparse

from engine.annotators.ms_cnn import MsCnnRecipe
from engine.corpus import Corpus
from engine.embed.maps import maps_backbone
from engine.group import Solo
from engine.optimisation import Optimisation
from engine.quantity import QuantitySettings
from engine.tensors import Tensors
from engine.training import FolderCheckpoints
from engine.vocab import Vocabulary

PATIENCE = 120
PICTURES, BATCH, EPOCHS = 48, 8, 3
VOCABULARY = Vocabulary(("a", "b", "c"), (20, 20, 20))
SHORT = Optimisation(epochs=EPOCHS, batch=BATCH)
RECIPE = MsCnnRecipe(
    backbone="random",
    hidden=8,
    optimisation=SHORT,
    textual=SHORT,
    joint=SHORT,
    regressor=QuantitySettings(hidden=(4,), optimisation=SHORT),
)
STAGES = [
    "stage-1",
    "stage-2",
    "stage-4-visual-tags",
    "stage-4-visual-quantity",
    "stage-3",
    "stage-4-joint-tags",
    "stage-4-joint-quantity",
]
ORDER = [f"{stage}:{epoch}" for stage in STAGES for epoch in range(1, EPOCHS + 1)]

Moment = Literal["between two steps of epoch 2", "as epoch 2's checkpoint is written"]
MOMENTS: tuple[Moment, ...] = (
    "between two steps of epoch 2",
    "as epoch 2's checkpoint is written",
)


@dataclass(frozen=True)
class Halt:
    """A place where a process says that it has come there, and waits to be killed."""

    here: Connection

    def __call__(self) -> None:
        self.here.send("here")
        self.here.recv()


class Kept(FolderCheckpoints):
    """Notes what it keeps, and may halt with stage 2's second checkpoint written, not yet named."""

    def __init__(self, folder: Path, kept: list[str], halt: Halt | None = None) -> None:
        super().__init__(folder)
        self.kept = kept
        self.halt = halt

    def keep(
        self,
        epoch: int,
        write: Callable[[Path], None],
        figures: Mapping[str, float],
        is_writer: bool,
    ) -> None:
        name = f"{self.folder.name}:{epoch}"

        def begun(draft: Path) -> None:
            write(draft)
            if self.halt is not None and name == "stage-2:2":
                self.halt()

        super().keep(epoch, begun, figures, is_writer)
        self.kept.append(name)

    def part(self, name: str) -> "Kept":
        return Kept(self.folder / name, self.kept, self.halt)


@dataclass(frozen=True)
class HaltingMaps(Tensors):
    """Halts as the third batch of stage 2's second epoch is asked for."""

    first: Path
    halt: Halt
    taken: list[int] = field(default_factory=list)

    def take(self, rows_B: NDArray[np.int64]) -> NDArray[np.generic]:
        if self.first.exists():
            self.taken.append(len(rows_B))
        if len(self.taken) == 3:
            self.halt()
        return super().take(rows_B)


def drawn(halting: tuple[Path, Halt] | None = None) -> Corpus:
    """Tags that the maps and the social tags tell of; the maps may halt."""
    rng = np.random.default_rng(0)
    labels_NV = rng.random((PICTURES, 3)) < 0.4
    labels_NV[np.arange(PICTURES), rng.integers(0, 3, PICTURES)] = True
    width = sum(maps_backbone(RECIPE.backbone, RECIPE.grid).grids.widths)
    maps_NM = labels_NV @ rng.standard_normal((3, width)) + rng.standard_normal((PICTURES, width))
    values, rows = maps_NM.astype(np.float16), np.arange(PICTURES)
    maps = Tensors(values, rows) if halting is None else HaltingMaps(values, rows, *halting)
    return Corpus(
        tuple(f"p{row}" for row in range(PICTURES)),
        np.zeros((PICTURES, 4), dtype=np.float32),
        sparse.csr_matrix(labels_NV.astype(np.float32)),
        (4,),
        tuple(tuple(np.array(["x", "y", "z"])[row]) for row in labels_NV),
        columns={RECIPE.columns[0]: maps},
    )


def fit(folder: Path, halt: Halt | None = None, moment: Moment | None = None) -> list[str]:
    """Fit with checkpoints in a folder, save beside them; what was kept, in order."""
    kept: list[str] = []
    writing = halt if moment == MOMENTS[1] else None
    first = folder / "run" / "stage-2" / "epoch-000001"
    stepping = (first, halt) if halt is not None and moment == MOMENTS[0] else None
    checkpoints = Kept(folder / "run", kept, writing)
    fitted = RECIPE.resumable_fit(drawn(stepping), VOCABULARY, Solo(), checkpoints)
    (folder / "fitted").mkdir()
    fitted.save(folder / "fitted")
    return kept


def fit_until_killed(folder: Path, here: Connection, moment: Moment, threads: int) -> None:
    """What the process does that is killed."""
    torch.set_num_threads(threads)
    fit(folder, Halt(here), moment)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("alone")
    assert fit(folder) == ORDER
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_killed_within_stage_2_is_gone_on_with_there(
    moment: Moment, alone: Path, tmp_path: Path
) -> None:
    """The same weights to the bit: the threads, and so the order of every sum, are as many."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(
        target=fit_until_killed, args=(tmp_path, there, moment, torch.get_num_threads())
    )
    process.start()
    there.close()
    try:
        assert here.poll(PATIENCE)
        assert here.recv() == "here"
    finally:
        process.kill()
        process.join()
        here.close()
    assert process.exitcode == -signal.SIGKILL
    left = {path.name for path in (tmp_path / "run" / "stage-2").iterdir()}
    assert "epoch-000001" in left
    assert "epoch-000002" not in left
    assert any(name.startswith(".epoch-000002.") for name in left) == (moment == MOMENTS[1])
    assert fit(tmp_path) == ORDER[ORDER.index("stage-2:2") :]
    found, expected = (
        load_file(folder / "fitted" / "ms_cnn.safetensors") for folder in (tmp_path, alone)
    )
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
