"""The mini-batch loop: its arithmetic against plain NumPy, and stopping, going on, and refusing."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from engine.errors import ConfigError, CorpusError, TrainingError
from engine.group import Solo
from engine.optimisation import Optimisation
from engine.training import Batch, FolderCheckpoints, Trained, train
from engine.training.device import choose_device
from engine.training.order import Places, epoch_batches

N, D, E = 50, 6, 3
IDS = tuple(f"picture-{row}" for row in range(N))


def drawn(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    x_ND = rng.standard_normal((N, D)).astype(np.float32)
    y_NE = (x_ND @ rng.standard_normal((D, E)) + 0.1 * rng.standard_normal((N, E))).astype("f4")
    return x_ND, y_NE


X_ND, Y_NE = drawn()


def squares(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Half the squared error of a batch."""
    x_BD = torch.from_numpy(X_ND[batch.rows_B])
    error_BE = network(x_BD) - torch.from_numpy(Y_NE[batch.rows_B])
    return error_BE.square().sum() / 2


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(D, E)


def deep() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(D, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, E)
    )


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.clone() for name, one in network.state_dict().items()}


def same(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(weights(left).values(), weights(right).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_makes_the_steps_that_the_formulas_make() -> None:
    """Nesterov's momentum as torch documents it, in float64, with decay, clipping and cosine."""
    settings = Optimisation(
        optimiser="sgd", learning_rate=0.1, weight_decay=0.0, epochs=3, batch=16, clip=1.5
    )
    network = linear()
    w_DE = network.weight.detach().numpy().T.astype(np.float64)
    b_E = network.bias.detach().numpy().astype(np.float64)
    momentum = [np.zeros_like(w_DE), np.zeros_like(b_E)]
    places = Places.agree(IDS, Solo())
    step, losses = 0, []
    for epoch in range(3):
        total = 0.0
        for share in epoch_batches(places, 0, epoch, 16):
            x_BD, y_BE = X_ND[share.rows_B].astype(np.float64), Y_NE[share.rows_B]
            error_BE = x_BD @ w_DE + b_E - y_BE
            total += (error_BE**2).sum() / 2
            gradients = [x_BD.T @ error_BE / len(x_BD), error_BE.mean(0)]
            norm = math.sqrt(sum((one**2).sum() for one in gradients))
            rate = 0.1 * 0.5 * (1 + math.cos(math.pi * step / 12))
            for place, gradient in enumerate(gradients):
                clipped = gradient * min(1.0, 1.5 / norm)
                momentum[place] = clipped if step == 0 else 0.9 * momentum[place] + clipped
                change = rate * (clipped + 0.9 * momentum[place])
                if place == 0:
                    w_DE = w_DE - change
                else:
                    b_E = b_E - change
            step += 1
        losses.append(total / N)
    found = train(network, squares, IDS, settings, Solo())
    np.testing.assert_allclose(network.weight.detach().numpy().T, w_DE, atol=1e-5)
    np.testing.assert_allclose(network.bias.detach().numpy(), b_E, atol=1e-5)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)


def test_it_finds_what_least_squares_finds() -> None:
    settings = Optimisation(learning_rate=0.1, epochs=60, batch=10)
    network = linear()
    train(network, squares, IDS, settings, Solo())
    ones_ND = np.hstack([X_ND, np.ones((N, 1))])
    expected = np.linalg.lstsq(ones_ND, Y_NE, rcond=None)[0]
    np.testing.assert_allclose(network.weight.detach().numpy().T, expected[:-1], atol=2e-3)
    np.testing.assert_allclose(network.bias.detach().numpy(), expected[-1], atol=2e-3)


def test_batches_whose_gradients_are_added_make_the_step_of_one_large_batch() -> None:
    large, small = linear(), linear()
    train(large, squares, IDS, Optimisation(epochs=2, batch=24), Solo())
    train(small, squares, IDS, Optimisation(epochs=2, batch=6, accumulate=4), Solo())
    torch.testing.assert_close(small.weight, large.weight, atol=1e-6, rtol=0)


def test_neither_the_order_of_the_pictures_nor_the_generator_outside_matters() -> None:
    order = np.random.default_rng(1).permutation(N)

    def shuffled(network: nn.Module, batch: Batch) -> torch.Tensor:
        return squares(network, Batch(order[batch.rows_B], batch.draws_B, 0, batch.device))

    one, other = linear(), linear()
    torch.manual_seed(7)
    train(one, squares, IDS, Optimisation(epochs=2), Solo())
    after = torch.rand(3)
    train(other, shuffled, [IDS[row] for row in order], Optimisation(epochs=2), Solo())
    assert same(one, other)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), after)


def test_another_seed_is_another_order() -> None:
    one, other = linear(), linear()
    train(one, squares, IDS, Optimisation(epochs=1, batch=8), Solo())
    train(other, squares, IDS, Optimisation(epochs=1, batch=8, seed=1), Solo())
    assert not same(one, other)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_every_picture_is_in_one_batch_of_an_epoch(pictures: int, batch: int, epoch: int) -> None:
    places = Places.agree([str(row) for row in range(pictures)], Solo())
    shares = epoch_batches(places, 3, epoch, batch)
    rows = np.concatenate([share.rows_B for share in shares])
    assert sorted(rows.tolist()) == list(range(pictures))
    assert [share.pictures for share in shares] == [len(share.rows_B) for share in shares]
    assert max(len(share.rows_B) for share in shares) <= batch
    assert all(((share.draws_B >= 0) & (share.draws_B < 1)).all() for share in shares)


def test_two_pictures_of_one_id_are_refused() -> None:
    with pytest.raises(CorpusError, match="same id"):
        Places.agree(["a", "b", "a"], Solo())
    with pytest.raises(CorpusError, match="no picture"):
        Places.agree([], Solo())


FULL = Optimisation(
    epochs=6, batch=16, learning_rate=0.02, weight_decay=0.01, schedule="plateau", patience=1,
    average=0.9, stop_after=4, clip=5.0, warmup=0.1,
)  # fmt: skip


def judged(network: nn.Module) -> float:
    with torch.inference_mode():
        output: torch.Tensor = network(torch.from_numpy(X_ND))
    return float((output - torch.from_numpy(Y_NE)).square().mean())


def run(network: nn.Module, folder: Path | None, loss: Callable[..., torch.Tensor]) -> Trained:
    checkpoints = None if folder is None else FolderCheckpoints(folder)
    return train(network, loss, IDS, FULL, Solo(), figure=judged, checkpoints=checkpoints)


@pytest.mark.parametrize("call", [0, 3, 4, 9, 22])
def test_stopped_anywhere_it_goes_on_to_the_same_numbers(call: int, tmp_path: Path) -> None:
    """With dropout, batch norm, Adam, an average, a plateau schedule and early stopping."""
    straight = deep()
    expected = run(straight, None, squares)
    calls = 0

    def interrupted(network: nn.Module, batch: Batch) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == call + 1:
            raise KeyboardInterrupt
        return squares(network, batch)

    with pytest.raises(KeyboardInterrupt):
        run(deep(), tmp_path, interrupted)
    assert (FolderCheckpoints(tmp_path).latest() is None) == (call < 4)
    resumed = deep()
    assert run(resumed, tmp_path, squares) == expected
    assert same(resumed, straight)
    again = deep()
    assert run(again, tmp_path, squares) == expected
    assert same(again, straight)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_training as t
calls = 0
def killed(network, batch):
    global calls
    calls += 1
    if calls == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    return t.squares(network, batch)
t.run(t.deep(), Path(sys.argv[1]), killed)
"""


def test_a_killed_process_is_gone_on_from(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.returncode == -signal.SIGKILL
    kept = FolderCheckpoints(tmp_path).latest()
    assert kept is not None
    assert kept.name == "epoch-000002"
    straight, resumed = deep(), deep()
    threads = torch.get_num_threads()
    # As the killed one had: how a sum is shared out decides its last bits.
    torch.set_num_threads(1)
    try:
        assert run(resumed, tmp_path, squares) == run(straight, None, squares)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert same(resumed, straight)


def test_a_half_written_checkpoint_is_none(tmp_path: Path) -> None:
    checkpoints = FolderCheckpoints(tmp_path)

    def broken(folder: Path) -> None:
        (folder / "state.json").write_text("{")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        checkpoints.keep(1, broken, {}, True)
    assert checkpoints.latest() is None
    assert list(tmp_path.iterdir()) == []
    checkpoints.keep(1, lambda _: pytest.fail("only the writer writes"), {}, False)
    for epoch in (1, 2, 3, 10):
        checkpoints.keep(epoch, lambda folder: None, {"loss": 0.5}, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-000003", "epoch-000010"]
    last = checkpoints.latest()
    assert last is not None
    assert json.loads((last / "figures.json").read_text()) == {"loss": 0.5}


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    settings = Optimisation(epochs=1)
    train(linear(), squares, IDS, settings, Solo(), checkpoints=FolderCheckpoints(tmp_path))
    other = settings.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(TrainingError, match="of a run with other settings"):
        train(linear(), squares, IDS, other, Solo(), checkpoints=FolderCheckpoints(tmp_path))


def test_a_loss_that_is_no_number_names_its_batch_and_keeps_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    settings = Optimisation(epochs=5, batch=10)

    def poisoned(network: nn.Module, batch: Batch) -> torch.Tensor:
        losses = squares(network, batch)
        return losses * math.nan if batch.epoch == 2 and 0 in batch.rows_B else losses

    checkpoints = FolderCheckpoints(tmp_path)
    with pytest.raises(
        TrainingError, match=r"batch of pictures 'picture-0', '.* and 2 more"
    ) as caught:
        train(linear(), poisoned, IDS, settings, Solo(), checkpoints=checkpoints)
    message = str(caught.value)
    assert message.startswith("epoch 3, step ")
    assert "loss is nan" in message
    assert f"the last checkpoint is {tmp_path / 'epoch-000002'}" in message
    mended = linear()
    train(mended, squares, IDS, settings, Solo(), checkpoints=checkpoints)
    whole = linear()
    train(whole, squares, IDS, settings, Solo())
    assert same(mended, whole)


def test_a_gradient_that_is_no_number_is_told_apart() -> None:
    def rooted(network: nn.Module, batch: Batch) -> torch.Tensor:
        return (network(torch.from_numpy(X_ND[batch.rows_B])) * 0).square().sum().sqrt()

    with pytest.raises(TrainingError, match="gradient is not finite"):
        train(linear(), rooted, IDS, Optimisation(epochs=1), Solo())


def test_early_stopping_keeps_the_best_epoch() -> None:
    figures = iter([3.0, 1.0, 2.0, 5.0, 0.0])
    seen: list[dict[str, torch.Tensor]] = []

    def figure(network: nn.Module) -> float:
        seen.append(weights(network))
        return next(figures)

    settings = Optimisation(epochs=5, stop_after=2)
    network = linear()
    found = train(network, squares, IDS, settings, Solo(), figure=figure)
    assert (found.figures, found.epoch) == ((3.0, 1.0, 2.0, 5.0), 2)
    assert torch.equal(network.weight, seen[1]["weight"])
    assert not torch.equal(network.weight, seen[3]["weight"])


def test_each_parameter_has_its_own_rate() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(D, D), nn.Linear(D, E))
    before = weights(network)
    rates = {"0.weight": 0.0, "0.bias": 1.0, "1.weight": 10.0, "1.bias": 1.0}
    settings = Optimisation(optimiser="adamw", epochs=1, batch=N, learning_rate=1e-3,
                            schedule="constant")  # fmt: skip
    train(network, squares, IDS, settings, Solo(), rate=lambda name: rates[name])
    after = weights(network)
    # Adam's first step is of the learning rate's size whatever the gradient.
    for name, rate in rates.items():
        moved = (after[name] - before[name]).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, rate * 1e-3), atol=1e-6, rtol=0)


def test_the_average_is_what_is_kept() -> None:
    averaged, plain = linear(), linear()
    settings = Optimisation(epochs=1, batch=N, schedule="constant", learning_rate=0.1)
    start = weights(averaged)["weight"]
    train(plain, squares, IDS, settings, Solo())
    train(averaged, squares, IDS, settings.model_copy(update={"average": 0.75}), Solo())
    # Of the first step's weights a tenth is kept.
    torch.testing.assert_close(averaged.weight, 0.1 * start + 0.9 * plain.weight)


def test_schedules() -> None:
    def factors(pictures: int = 8, **settings: object) -> list[float]:
        one = Optimisation.model_validate({"batch": 4, "epochs": 4, **settings})
        return [round(one.factor(step, pictures, ()), 4) for step in range(8)]

    assert factors(schedule="constant") == [1] * 8
    assert factors(schedule="constant", warmup=0.5) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert factors(schedule="cosine")[:5] == [1, 0.9619, 0.8536, 0.6913, 0.5]
    staircase = factors(schedule="staircase", decay=0.1, decay_every=2)
    assert staircase == [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1]
    plateau = Optimisation(schedule="plateau", patience=2, decay=0.5)
    worse = [3.0, 2.0, 2.5, 2.0, 1.0, 1.5, 1.5, 1.5, 1.5]
    found = [plateau.factor(0, 8, worse[:done]) for done in range(10)]
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


@pytest.mark.parametrize(
    ("precision", "gpus", "bf16", "rank", "device", "dtype"),
    [
        ("auto", 0, False, None, "cpu", torch.float32),
        ("auto", 1, True, None, "cuda", torch.bfloat16),
        ("auto", 2, False, None, "cuda", torch.float16),
        ("auto", 2, True, "cuda:1", "cuda:1", torch.bfloat16),
        ("auto", 2, True, "cpu", "cpu", torch.float32),
        ("float32", 1, True, None, "cuda", torch.float32),
        ("bfloat16", 0, False, None, "cpu", torch.bfloat16),
    ],
)
def test_device_and_precision(
    precision: str, gpus: int, bf16: bool, rank: str | None, device: str, dtype: torch.dtype
) -> None:
    chosen = choose_device(precision, gpus, bf16, rank)  # type: ignore[arg-type]
    assert (chosen.place, chosen.dtype) == (torch.device(device), dtype)


def test_float16_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="no GPU"):
        choose_device("float16", 0, False)


def test_mixed_precision_comes_near_float32() -> None:
    full, mixed = linear(), linear()
    settings = Optimisation(epochs=5, learning_rate=0.05)
    found = train(full, squares, IDS, settings, Solo())
    half = settings.model_copy(update={"precision": "bfloat16"})
    near = train(mixed, squares, IDS, half, Solo())
    assert mixed.weight.dtype == torch.float32
    assert not same(full, mixed)
    np.testing.assert_allclose(near.losses, found.losses, rtol=0.03)


def test_checkpoints_may_be_moved(tmp_path: Path) -> None:
    settings = Optimisation(epochs=2)
    one = linear()
    train(one, squares, IDS, settings, Solo(), checkpoints=FolderCheckpoints(tmp_path / "a"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    other = linear()
    train(other, squares, IDS, settings, Solo(), checkpoints=FolderCheckpoints(tmp_path / "b"))
    assert same(one, other)
