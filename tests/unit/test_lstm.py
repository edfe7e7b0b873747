"""NumPy's LSTM step is torch's, and both are what the equations say."""

import math

import numpy as np
import pytest
import torch

from engine.numerics.lstm import Lstm

D, H, B = 5, 7, 4


def arrays_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: one.detach().numpy() for name, one in module.state_dict().items()}


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_numpy_steps_as_a_torch_cell_does(scale: float, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    cell = torch.nn.LSTMCell(D, H)
    lstm = Lstm.of(arrays_of(cell))
    hidden, memory = lstm.start(B)
    expected = (torch.zeros(B, H), torch.zeros(B, H))
    for _ in range(6):
        x_BD = (scale * rng.standard_normal((B, D))).astype(np.float32)
        hidden, memory = lstm.step(lstm.read(x_BD), hidden, memory)
        with torch.no_grad():
            expected = cell(torch.from_numpy(x_BD), expected)
        assert hidden.dtype == memory.dtype == np.float32
        np.testing.assert_allclose(hidden, expected[0], atol=1e-5)
        np.testing.assert_allclose(memory, expected[1], atol=1e-5)


def test_a_layer_of_torch_has_the_same_weights(rng: np.random.Generator) -> None:
    torch.manual_seed(1)
    layer = torch.nn.LSTM(D, H, batch_first=True)
    lstm = Lstm.of({f"rnn.{name}": one for name, one in arrays_of(layer).items()}, "rnn.")
    x_BD = rng.standard_normal((B, D)).astype(np.float32)
    read_BG, (hidden, memory) = lstm.read(x_BD), lstm.start(B)
    with torch.no_grad():
        expected_BTH, _ = layer(torch.from_numpy(x_BD)[:, None].expand(-1, 3, -1))
    for number in range(3):
        hidden, memory = lstm.step(read_BG, hidden, memory)
        np.testing.assert_allclose(hidden, expected_BTH[:, number], atol=1e-5)
    assert lstm.width == H


def test_a_step_is_what_the_equations_say(rng: np.random.Generator) -> None:
    """Yan et al. 2016, Eq. 4 to 9, one unit at a time in Python's floats."""
    draw = [rng.normal(0, 0.5, shape) for shape in ((4 * H, D), (4 * H, H), 4 * H, 4 * H)]
    wx, wh, bx, bh = draw
    x, before, cell = rng.standard_normal(D), rng.standard_normal(H), rng.standard_normal(H)
    hidden, memory = [], []
    for unit in range(H):

        def gate(number: int, unit: int = unit) -> float:
            row = number * H + unit
            return float(wx[row] @ x + wh[row] @ before + bx[row] + bh[row])

        def sigma(z: float) -> float:
            return 1 / (1 + math.exp(-z))

        memory.append(sigma(gate(1)) * cell[unit] + sigma(gate(0)) * math.tanh(gate(2)))
        hidden.append(sigma(gate(3)) * math.tanh(memory[-1]))
    lstm = Lstm(*(one.astype(np.float32) for one in draw))
    found = lstm.step(
        lstm.read(x[None].astype(np.float32)),
        before[None].astype(np.float32),
        cell[None].astype(np.float32),
    )
    np.testing.assert_allclose(found[0][0], hidden, atol=1e-5)
    np.testing.assert_allclose(found[1][0], memory, atol=1e-5)


def test_no_picture_is_no_row() -> None:
    torch.manual_seed(0)
    lstm = Lstm.of(arrays_of(torch.nn.LSTMCell(D, H)))
    hidden, memory = lstm.step(lstm.read(np.zeros((0, D), np.float32)), *lstm.start(0))
    assert hidden.shape == memory.shape == (0, H)
