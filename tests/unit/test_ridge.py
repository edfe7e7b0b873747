"""Ridge regression from additive sums: scikit-learn's answer, however pictures are dealt out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import Ridge

from engine.numerics.principal import principal_axes
from engine.numerics.ridge import RidgeSums, solve_ridge


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    pictures=st.integers(2, 40),
    width=st.integers(1, 12),
    tags=st.integers(1, 5),
    strength=st.floats(0.05, 5.0),
)
def test_it_is_scikit_learns_ridge(
    seed: int, pictures: int, width: int, tags: int, strength: float
) -> None:
    """More features than pictures, too."""
    rng = np.random.default_rng(seed)
    x_ND = rng.normal(size=(pictures, width)) + 3
    labels_NV = sparse.csr_matrix((rng.random((pictures, tags)) < 0.4).astype(np.float32))
    cut = pictures // 2
    sums = RidgeSums.of(x_ND[:cut], labels_NV[:cut]) + RidgeSums.of(x_ND[cut:], labels_NV[cut:])
    ((weights_DV, intercept_V),) = solve_ridge(sums, [strength])
    penalty = strength * x_ND.var(axis=0).sum()
    peer = Ridge(alpha=penalty).fit(x_ND, labels_NV.toarray())
    expected = peer.predict(x_ND).reshape(pictures, tags)
    np.testing.assert_allclose(x_ND @ weights_DV + intercept_V, expected, atol=1e-4)


def test_a_hand_worked_case() -> None:
    """x = -1, 1 and y = 0, 1: the slope is cov / (var + strength · var / 2) = 0.5 / 1.5."""
    sums = RidgeSums.of(np.array([[-1.0], [1.0]]), sparse.csr_matrix([[0.0], [1.0]]))
    ((weights_DV, intercept_V),) = solve_ridge(sums, [1.0])
    np.testing.assert_allclose(weights_DV, [[1 / 3]], atol=1e-6)
    np.testing.assert_allclose(intercept_V, [0.5], atol=1e-6)


def test_features_that_never_vary_give_the_frequency() -> None:
    labels_NV = sparse.csr_matrix([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    sums = RidgeSums.of(np.ones((4, 3)), labels_NV)
    ((weights_DV, intercept_V),) = solve_ridge(sums, [0.5])
    np.testing.assert_allclose(weights_DV, 0, atol=1e-6)
    np.testing.assert_allclose(np.ones(3) @ weights_DV + intercept_V, [1.0, 0.25], atol=1e-5)


@pytest.mark.parametrize("components", [3, 6])
def test_principal_axes_are_those_of_the_covariance(components: int) -> None:
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(300, 20)) * 0.6 ** np.arange(20) @ rng.normal(size=(20, 20))
    covariance_DD = np.cov(x_ND.T, bias=True)
    axes_DL = principal_axes(covariance_DD, components, seed=0).astype(np.float64)
    np.testing.assert_allclose(axes_DL.T @ axes_DL, np.eye(components), atol=1e-5)
    kept = np.trace(axes_DL.T @ covariance_DD @ axes_DL)
    best = np.linalg.eigvalsh(covariance_DD)[-components:].sum()
    assert kept > 0.99 * best
    again = principal_axes(covariance_DD, components, seed=0)
    np.testing.assert_array_equal(again, axes_DL.astype(np.float32))


def test_all_components_need_no_rotation() -> None:
    np.testing.assert_array_equal(principal_axes(np.diag([3.0, 1.0]), 5, 0), np.eye(2))
