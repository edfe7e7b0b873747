"""Boltzmann machines against loops in float64, and what contrastive divergence must do."""

import itertools
import math

import numpy as np
import pytest
import torch

from engine.group import Solo
from engine.numerics.rbm import ConvolutionalRbm, Machine, Rbm
from engine.optimisation import Optimisation
from engine.training import Batch, train
from engine.training.draws import unit_draws


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def shaken(machine: Machine) -> Machine:
    """In float64, with no weight and no bias near 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        for one in machine.parameters():
            one.copy_(0.5 * torch.randn_like(one))
    return machine.double()


def gradients(machine: Machine, visible: np.ndarray, draws: np.ndarray) -> list[np.ndarray]:
    machine(torch.from_numpy(visible), torch.from_numpy(draws)).sum().backward()
    found = [machine.weights, machine.hidden_bias, machine.visible_bias]
    return [one.grad.numpy() for one in found]


@pytest.mark.parametrize("is_gaussian", [False, True])
def test_the_gradient_is_one_step_of_contrastive_divergence(
    is_gaussian: bool, rng: np.random.Generator
) -> None:
    machine = shaken(Rbm(5, 3, is_gaussian))
    v, u = rng.random((4, 5)), rng.random((4, 3))
    w, b, c = (one.detach().numpy().copy() for one in machine.parameters())
    step_w, step_b, step_c = np.zeros((5, 3)), np.zeros(3), np.zeros(5)
    for n in range(4):
        p = [sigmoid(b[j] + sum(v[n, i] * w[i, j] for i in range(5))) for j in range(3)]
        h = [1.0 if u[n, j] < p[j] else 0.0 for j in range(3)]
        back = [c[i] + sum(h[j] * w[i, j] for j in range(3)) for i in range(5)]
        again = back if is_gaussian else [sigmoid(x) for x in back]
        q = [sigmoid(b[j] + sum(again[i] * w[i, j] for i in range(5))) for j in range(3)]
        for i, j in itertools.product(range(5), range(3)):
            step_w[i, j] += v[n, i] * p[j] - again[i] * q[j]
        step_b += np.array(p) - np.array(q)
        step_c += v[n] - np.array(again)
    for found, step in zip(gradients(machine, v, u), (step_w, step_b, step_c), strict=True):
        np.testing.assert_allclose(found, -step, atol=1e-12)


@pytest.mark.parametrize("is_gaussian", [False, True])
@pytest.mark.parametrize(("width", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_the_convolutional_gradient_is_that_of_a_loop(
    is_gaussian: bool, width: int, stride: int, rng: np.random.Generator
) -> None:
    """Two maps of 4 by 4, two filters, one position of one filter at a time."""
    side, filters, channels = 4, 2, 2
    out, pad = side // stride, width // 2
    machine = shaken(ConvolutionalRbm(channels, filters, width, stride, is_gaussian))
    v, u = rng.random((2, channels, side, side)), rng.random((2, filters, out, out))
    w, b, c = (one.detach().numpy().copy() for one in machine.parameters())
    step_w, step_b, step_c = np.zeros_like(w), np.zeros_like(b), np.zeros_like(c)

    def window(y: int, x: int) -> list[tuple[int, int, int, int]]:
        """Pairs of a place in the filter and a place in the map."""
        places = []
        for dy, dx in itertools.product(range(width), range(width)):
            row, column = y * stride + dy - pad, x * stride + dx - pad
            if 0 <= row < side and 0 <= column < side:
                places.append((dy, dx, row, column))
        return places

    positions = list(itertools.product(range(filters), range(out), range(out)))

    def hidden(maps: np.ndarray) -> dict[tuple[int, int, int], float]:
        return {
            (k, y, x): sigmoid(
                b[k]
                + sum(
                    w[k, m, dy, dx] * maps[m, row, column]
                    for dy, dx, row, column in window(y, x)
                    for m in range(channels)
                )
            )
            for k, y, x in positions
        }

    for n in range(2):
        p = hidden(v[n])
        back = np.zeros((channels, side, side)) + c[:, None, None]
        for k, y, x in positions:
            if u[n, k, y, x] < p[k, y, x]:
                for dy, dx, row, column in window(y, x):
                    back[:, row, column] += w[k, :, dy, dx]
        again = back if is_gaussian else 1 / (1 + np.exp(-back))
        q = hidden(again)
        for k, y, x in positions:
            for dy, dx, row, column in window(y, x):
                step_w[k, :, dy, dx] += (
                    p[k, y, x] * v[n][:, row, column] - q[k, y, x] * again[:, row, column]
                )
            step_b[k] += p[k, y, x] - q[k, y, x]
        step_c += (v[n] - again).sum(axis=(1, 2))
    for found, step in zip(gradients(machine, v, u), (step_w, step_b, step_c), strict=True):
        np.testing.assert_allclose(found, -step / out**2, atol=1e-12)


@pytest.mark.parametrize("is_gaussian", [False, True])
def test_the_free_energy_sums_over_every_hidden_state(
    is_gaussian: bool, rng: np.random.Generator
) -> None:
    machine = shaken(Rbm(4, 3, is_gaussian))
    w, b, c = (one.detach().numpy() for one in machine.parameters())
    v = rng.random(4)
    total = 0.0
    for h in itertools.product((0.0, 1.0), repeat=3):
        own = 0.5 * ((v - c) ** 2).sum() if is_gaussian else -(v @ c)
        total += math.exp(-(own - v @ w @ np.array(h) - b @ np.array(h)))
    found = machine.free_energy(torch.from_numpy(v[None])).detach()
    assert float(found[0]) == pytest.approx(-math.log(total))


def test_an_uneven_side_is_refused() -> None:
    machine = ConvolutionalRbm(1, 1, 3, 2, True)
    with pytest.raises(ValueError, match="side is 5 and stride is 2"):
        machine(torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 3, 3))


def reconstruction_error(machine: Machine, visible: torch.Tensor) -> float:
    with torch.no_grad():
        found = machine.reconstruct(visible, torch.full((len(visible), 8), 0.5))
        return float((found - visible).square().mean())


def test_a_machine_that_was_taught_knows_its_pictures(rng: np.random.Generator) -> None:
    """Two patterns with noise: after CD-1 it gives back the pattern, not the noise."""
    patterns = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=np.float32)
    which = rng.integers(0, 2, 200)
    pictures = np.abs(patterns[which] - (rng.random((200, 6)) < 0.05)).astype(np.float32)
    torch.manual_seed(0)
    machine = Rbm(6, 8, is_gaussian=False)
    before = reconstruction_error(machine, torch.from_numpy(patterns))

    def loss(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        draws = torch.from_numpy(unit_draws(batch.draws_B, 8, (0, batch.epoch)))
        found: torch.Tensor = network(torch.from_numpy(pictures[batch.rows_B]), draws).sum()
        return found

    settings = Optimisation(learning_rate=0.05, epochs=30, batch=20, schedule="constant")
    train(machine, loss, [str(n) for n in range(200)], settings, Solo())
    after = reconstruction_error(machine, torch.from_numpy(patterns))
    assert before > 0.2
    assert after < 0.02
