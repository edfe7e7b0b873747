"""The loss of a picture's tags as a distribution, against its equations and at its extremes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.numerics.soft_labels import label_divergence


def loss_of_one(similarities: list[float], tags: list[int], temperature: float) -> float:
    """Sun et al., Eq. 5 to 7, for one picture in Python's floats."""
    raised = [math.exp(s / temperature) for s in similarities]
    p = [one / sum(raised) for one in raised]
    q = [one / sum(tags) for one in tags]
    return -sum(
        q_l * math.log(p_l) + (1 - q_l) * math.log(1 - p_l) for p_l, q_l in zip(p, q, strict=True)
    )


@pytest.mark.parametrize("temperature", [0.18, 1.0])
def test_the_loss_is_what_its_equations_say(temperature: float, rng: np.random.Generator) -> None:
    s = rng.normal(0, 1, (6, 5))
    y = (rng.random((6, 5)) < 0.4).astype(float)
    y[:, 0] = 1
    found = label_divergence(torch.from_numpy(s), torch.from_numpy(y), temperature)
    for row in range(6):
        expected = loss_of_one(s[row].tolist(), y[row].astype(int).tolist(), temperature)
        assert float(found[row]) == pytest.approx(expected, rel=1e-9)


def test_two_tags_alike_by_hand() -> None:
    """p = (1/2, 1/2), q = (1, 0): log 2 for what is there and log 2 for what is not."""
    found = label_divergence(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), 1.0)
    assert float(found[0]) == pytest.approx(2 * math.log(2))


def test_its_gradient_is_that_of_finite_differences(rng: np.random.Generator) -> None:
    values = rng.normal(0, 1, (3, 4))
    labels = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.float64)
    s = torch.from_numpy(values.copy()).requires_grad_()
    label_divergence(s, labels, 0.18).sum().backward()
    assert s.grad is not None
    for row in range(3):
        for tag in range(4):
            sides = []
            for sign in (1, -1):
                moved = values.copy()
                moved[row, tag] += sign * 1e-6
                sides.append(float(label_divergence(torch.from_numpy(moved), labels, 0.18).sum()))
            assert float(s.grad[row, tag]) == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-4)


@given(
    st.lists(st.floats(-300, 300, width=32), min_size=2, max_size=6),
    st.integers(0, 5),
    st.booleans(),
)
def test_neither_loss_nor_gradient_is_ever_not_finite(
    values: list[float], tag: int, every: bool
) -> None:
    s = torch.tensor([values], dtype=torch.float32, requires_grad=True)
    labels = torch.full((1, len(values)), float(every))
    labels[0, tag % len(values)] = 1
    loss = label_divergence(s, labels, 1.0)
    loss.sum().backward()
    assert s.grad is not None
    assert math.isfinite(float(loss.detach()))
    assert float(loss.detach()) >= 0
    assert bool(torch.isfinite(s.grad).all())
