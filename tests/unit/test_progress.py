"""What a job tells of training while it goes on, and what it writes for TensorBoard."""

import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from engine.errors import ConfigError
from engine.group import Solo
from engine.optimisation import Optimisation
from engine.training import FolderCheckpoints, train
from engine.training.checkpoints import Write
from jobs.progress import append_line, check_log, described, told

FIGURES = {
    "loss": 12.5,
    "figure": 12.5,
    "epochs": 20,
    "pictures_per_second": 1234.5,
    "seconds_left": 42.4,
}


def events(folder: Path) -> Iterator[tuple[str, int, float]]:
    """(tag, epoch, value) of the one event file in a folder of TensorFlow's records."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4
        for value in event.summary.value:
            yield value.tag, event.step, value.simple_value


def test_a_line_of_news() -> None:
    assert described("x", {"epoch": 3, **FIGURES}) == (
        "'x', epoch 3 of 20: loss 12.5, 1,234 pictures/s, 42 s left"
    )
    judged = {"epoch": 20, **FIGURES, "figure": 0.25, "seconds_left": 7200}
    assert described("x", judged) == (
        "'x', epoch 20 of 20: loss 12.5, validation figure 0.25, 1,234 pictures/s, 120 min left"
    )


def test_every_epoch_is_logged_and_the_last_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        folder = tmp_path / f"job{len(said)}"
        folder.mkdir()
        with told(folder, "x", said.append, tmp_path / "log", every=1e9):
            for epoch in (1, 2, 3):
                append_line(folder, epoch, {**FIGURES, "loss": 4.0 / epoch})
    assert len(said) == 2
    assert said[0] == (
        "'x', epoch 3 of 20: loss 1.333, validation figure 12.5, 1,234 pictures/s, 42 s left"
    )
    for run in ("x", "x-2"):
        found = list(events(tmp_path / "log" / run))
        losses = [(step, value) for tag, step, value in found if tag == "training/loss"]
        assert losses == [(1, 4.0), (2, 2.0), (3, pytest.approx(4 / 3))]
        assert {tag for tag, _, _ in found} == {
            f"training/{name}" for name in FIGURES if name != "epochs"
        }


def test_runs_of_one_training_are_told_apart(tmp_path: Path) -> None:
    said: list[str] = []
    with told(tmp_path, "x", said.append, tmp_path / "log"):
        append_line(tmp_path, 2, FIGURES, "stage-2")
    assert said == ["'x', stage-2, epoch 2 of 20: loss 12.5, 1,234 pictures/s, 42 s left"]
    tags = {tag for tag, _, _ in events(tmp_path / "log" / "x")}
    assert "training/stage-2/loss" in tags


def test_news_come_while_training_goes_on_and_half_a_line_is_none(tmp_path: Path) -> None:
    said: list[str] = []
    with told(tmp_path, "x", said.append, None, every=0.0):
        append_line(tmp_path, 1, FIGURES)
        with (tmp_path / "progress.jsonl").open("a") as lines:
            lines.write('{"epoch": 2, "loss')
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        assert said == ["'x', epoch 1 of 20: loss 12.5, 1,234 pictures/s, 42 s left"]
    assert len(said) == 1


def test_what_the_loop_tells_of_each_epoch(tmp_path: Path) -> None:
    kept: list[tuple[int, dict[str, float]]] = []

    class Heard(FolderCheckpoints):
        def keep(
            self, epoch: int, write: Write, figures: dict[str, float], is_writer: bool
        ) -> None:
            kept.append((epoch, figures))

    network = torch.nn.Linear(2, 1)
    x_ND = torch.from_numpy(np.random.default_rng(0).standard_normal((10, 2)).astype("f4"))
    settings = Optimisation(epochs=3, batch=4)
    train(
        network,
        lambda network, batch: network(x_ND[batch.rows_B]).square().sum(),
        [f"p{row}" for row in range(10)],
        settings,
        Solo(),
        checkpoints=Heard(tmp_path),
    )
    assert [epoch for epoch, _ in kept] == [1, 2, 3]
    for epoch, figures in kept:
        assert figures.keys() == FIGURES.keys()
        assert figures["epochs"] == 3
        assert figures["pictures_per_second"] > 0
        assert (figures["seconds_left"] == 0) == (epoch == 3)


def test_a_log_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_log(None)
    check_log(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="which is a file; name a folder"):
        check_log(tmp_path / "file")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"pip install 'tagloom\[tensorboard\]'"):
        check_log(tmp_path / "new")
    check_log(None)
