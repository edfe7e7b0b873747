"""Kernel densities and the words of relevance models against plain loops in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from engine.numerics.density import KERNELS, SMOOTHING, Density, KernelName
from engine.numerics.relevance import bernoulli_words, multinomial_words, posterior


def parts(x: NDArray[np.float32]) -> list[float]:
    """Positive and negative parts of a vector as one histogram."""
    both = [max(float(value), 0.0) for value in x] + [max(-float(value), 0.0) for value in x]
    total = sum(both)
    return [value / total if total else 0.0 for value in both]


def unit(x: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in x))
    return [value / length if length else 0.0 for value in x]


def divergence(
    kernel: KernelName,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    training: NDArray[np.float32],
) -> float:
    """By the definition, one pair at a time."""
    p, q = parts(x), parts(y)
    if kernel == "laplace":
        return sum(abs(a - b) for a, b in zip(p, q, strict=True))
    if kernel == "chi2":
        return sum((a - b) ** 2 / (a + b) for a, b in zip(p, q, strict=True) if a + b) / 2
    if kernel == "multinomial":
        histograms = [parts(row) for row in training]
        mean = [sum(column) / len(histograms) for column in zip(*histograms, strict=True)]
        return -sum(
            a * math.log((SMOOTHING * b + (1 - SMOOTHING) * m) / m)
            for a, b, m in zip(p, q, mean, strict=True)
            if m
        )
    left, right = [float(value) for value in x], [float(value) for value in y]
    if kernel == "hellinger":
        left = [math.copysign(math.sqrt(abs(value)), value) for value in left]
        right = [math.copysign(math.sqrt(abs(value)), value) for value in right]
    return sum((a - b) ** 2 for a, b in zip(unit(left), unit(right), strict=True)) / 2


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("signed", [False, True])
def test_divergences_are_those_of_a_plain_loop(
    kernel: KernelName, signed: bool, rng: np.random.Generator
) -> None:
    training_ND = rng.standard_normal((7, 5)).astype(np.float32)
    queries_BD = rng.standard_normal((4, 5)).astype(np.float32)
    if not signed:
        training_ND, queries_BD = np.maximum(training_ND, 0), np.maximum(queries_BD, 0)
    training_ND[3] = 0
    queries_BD[1] = 0
    queries_BD[2] = training_ND[0]
    found_BN = Density(kernel, training_ND).divergences(queries_BD)
    expected = [[divergence(kernel, x, y, training_ND) for y in training_ND] for x in queries_BD]
    assert found_BN.dtype == np.float32
    np.testing.assert_allclose(found_BN, expected, atol=3e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_comes_of_no_queries_and_zeros_are_no_trouble(kernel: KernelName) -> None:
    density = Density(kernel, np.zeros((3, 4), dtype=np.float32))
    assert density.divergences(np.zeros((0, 4), dtype=np.float32)).shape == (0, 3)
    np.testing.assert_array_equal(density.divergences(np.zeros((2, 4), dtype=np.float32)), 0)


def test_the_multinomial_prefers_the_picture_with_the_same_words() -> None:
    training_ND = np.array([[3, 1, 0], [0, 1, 3]], dtype=np.float32)
    found_BN = Density("multinomial", training_ND).divergences(training_ND)
    # p = (3/8, 2/8, 3/8); a picture's own (3/4, 1/4, 0) at λ = 0.8: ratios 1.8, 1 and 0.2.
    same, other = -0.75 * math.log(1.8), -0.75 * math.log(0.2)
    np.testing.assert_allclose(found_BN, [[same, other], [other, same]], rtol=1e-6)


def test_words_of_two_pictures_by_hand() -> None:
    """Densities 3 : 1; the first carries sea and sky, the second sea alone."""
    labels_NV = sparse.csr_matrix(np.array([[1, 1], [1, 0]], dtype=np.float32))
    weights_BN = posterior(np.log(np.array([[3.0, 1.0]], dtype=np.float32)))
    np.testing.assert_allclose(weights_BN, [[0.75, 0.25]], rtol=1e-6)
    # Bernoulli, μ = 2, N = 2: sea (2·1 + 2)/4; sky (2·0.75 + 1)/4.
    np.testing.assert_allclose(bernoulli_words(weights_BN, labels_NV, 2), [[1, 0.625]], rtol=1e-6)
    # Multinomial, μ = 1, p = (2/3, 1/3): the first (1 + 2/3)/3 and (1 + 1/3)/3, the second
    # (1 + 2/3)/2 and (1/3)/2.
    sea, sky = 0.75 * 5 / 9 + 0.25 * 5 / 6, 0.75 * 4 / 9 + 0.25 * 1 / 6
    np.testing.assert_allclose(multinomial_words(weights_BN, labels_NV, 1), [[sea, sky]], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 5),
    st.floats(1e-3, 1e4),
    st.integers(0, 99),
)
def test_words_are_those_of_a_plain_loop(
    batch: int, pictures: int, tags: int, mu: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    carried_NV = rng.random((pictures, tags)) < 0.4
    carried_NV[np.arange(pictures), rng.integers(0, tags, pictures)] = True
    labels_NV = sparse.csr_matrix(carried_NV.astype(np.float32))
    weights_BN = posterior(rng.normal(0, 5, (batch, pictures)).astype(np.float32))
    np.testing.assert_allclose(weights_BN.sum(1), 1, rtol=1e-5)
    bernoulli_BV = bernoulli_words(weights_BN, labels_NV, mu)
    multinomial_BV = multinomial_words(weights_BN, labels_NV, mu)
    counts_V = carried_NV.sum(0)
    for row in range(batch):
        for tag in range(tags):
            coin = draw = 0.0
            for j in range(pictures):
                weight, has = float(weights_BN[row, j]), float(carried_NV[j, tag])
                coin += weight * (mu * has + counts_V[tag]) / (mu + pictures)
                background = mu * counts_V[tag] / counts_V.sum()
                draw += weight * (background + has) / (mu + carried_NV[j].sum())
            assert bernoulli_BV[row, tag] == pytest.approx(coin, abs=1e-5)
            assert multinomial_BV[row, tag] == pytest.approx(draw, abs=1e-5)
    np.testing.assert_allclose(multinomial_BV.sum(1), 1, rtol=1e-4)
    assert min(bernoulli_BV.min(), multinomial_BV.min()) >= 0
    assert bernoulli_BV.max() <= 1
