"""CCA against solvers that share no code with it, and the sums that it is solved from."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import linalg
from sklearn import cross_decomposition

from engine.errors import CorpusError
from engine.numerics.cca import solve_cca
from engine.numerics.moments import Moments, stream_moments

BOUNDED = settings(max_examples=50, derandomize=True, deadline=None, database=None)
Views = tuple[NDArray[np.float64], NDArray[np.float64]]


def views(rows: int = 400, seed: int = 0) -> Views:
    """Two views of 6 and 4 features that share three hidden causes, off the origin."""
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((rows, 3)) * [3.0, 2.0, 1.0]
    x_ND = causes @ rng.standard_normal((3, 6)) + rng.standard_normal((rows, 6)) + 5
    y_NE = causes @ rng.standard_normal((3, 4)) + rng.standard_normal((rows, 4)) - 2
    return x_ND, y_NE


def generalised_eigenvalues(
    x_ND: NDArray[np.float64], y_NE: NDArray[np.float64], reg: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eq. 2 of Murthy et al. 2015 as it stands: Cxy Cyy⁻¹ Cyx w = λ² Cxx w, from np.cov."""
    covariance = np.cov(x_ND.T, y_NE.T, bias=True)
    d = x_ND.shape[1]
    c_xx, c_yy, c_xy = covariance[:d, :d], covariance[d:, d:], covariance[:d, d:]
    c_xx = c_xx + reg * np.trace(c_xx) / len(c_xx) * np.eye(len(c_xx))
    c_yy = c_yy + reg * np.trace(c_yy) / len(c_yy) * np.eye(len(c_yy))
    squares, directions = linalg.eigh(c_xy @ linalg.solve(c_yy, c_xy.T), c_xx)
    return np.sqrt(np.maximum(squares[::-1], 0)), directions[:, ::-1]


@pytest.mark.parametrize("regulariser", [0.0, 0.1, 2.0])
def test_it_solves_the_generalised_eigenproblem(regulariser: float) -> None:
    x_ND, y_NE = views()
    cca = solve_cca(Moments.of(x_ND, y_NE), regulariser)
    correlations, directions_DD = generalised_eigenvalues(x_ND, y_NE, regulariser)
    assert cca.weights_x_DL.shape == (6, 4)
    assert cca.weights_y_EL.shape == (4, 4)
    np.testing.assert_allclose(cca.correlations_L, correlations[:4], atol=1e-9)
    for place in range(4):
        ours, theirs = cca.weights_x_DL[:, place], directions_DD[:, place]
        cosine = ours @ theirs / linalg.norm(ours) / linalg.norm(theirs)
        assert abs(cosine) == pytest.approx(1, abs=1e-7)


def test_it_finds_the_correlations_that_sklearn_finds() -> None:
    x_ND, y_NE = views()
    cca = solve_cca(Moments.of(x_ND, y_NE), 0.0)
    model = cross_decomposition.CCA(n_components=3, max_iter=5000, tol=1e-12).fit(x_ND, y_NE)
    theirs_x, theirs_y = model.transform(x_ND, y_NE)
    for place in range(3):
        theirs = np.corrcoef(theirs_x[:, place], theirs_y[:, place])[0, 1]
        assert cca.correlations_L[place] == pytest.approx(theirs, abs=1e-5)


def test_projections_correlate_as_it_says_and_are_uncorrelated_among_themselves() -> None:
    x_ND, y_NE = views()
    cca = solve_cca(Moments.of(x_ND, y_NE), 0.0)
    u_NL = (x_ND - cca.mean_x_D) @ cca.weights_x_DL
    v_NL = (y_NE - cca.mean_y_E) @ cca.weights_y_EL
    np.testing.assert_allclose(u_NL.T @ u_NL / len(u_NL), np.eye(4), atol=1e-8)
    np.testing.assert_allclose(v_NL.T @ v_NL / len(v_NL), np.eye(4), atol=1e-8)
    np.testing.assert_allclose(u_NL.T @ v_NL / len(u_NL), np.diag(cca.correlations_L), atol=1e-8)


def test_dimensions_keep_the_most_correlated_directions() -> None:
    moments = Moments.of(*views())
    whole, cut = solve_cca(moments, 0.1), solve_cca(moments, 0.1, dimensions=2)
    assert (np.diff(whole.correlations_L) <= 0).all()
    np.testing.assert_array_equal(cut.correlations_L, whole.correlations_L[:2])
    np.testing.assert_array_equal(cut.weights_x_DL, whole.weights_x_DL[:, :2])


def test_the_sign_of_a_direction_is_settled() -> None:
    x_ND, y_NE = views()
    cca = solve_cca(Moments.of(x_ND, y_NE), 0.1)
    largest_L = np.abs(cca.weights_x_DL).argmax(axis=0)
    assert (cca.weights_x_DL[largest_L, range(4)] > 0).all()
    turned = solve_cca(Moments.of(x_ND, -y_NE), 0.1)
    np.testing.assert_allclose(turned.weights_x_DL, cca.weights_x_DL, atol=1e-9)
    np.testing.assert_allclose(turned.weights_y_EL, -cca.weights_y_EL, atol=1e-9)


@BOUNDED
@given(st.floats(1e-4, 1e4), st.floats(1e-4, 1e4))
def test_the_regulariser_means_the_same_at_any_scale(scale_x: float, scale_y: float) -> None:
    x_ND, y_NE = views(rows=60)
    plain = solve_cca(Moments.of(x_ND, y_NE), 0.3)
    scaled = solve_cca(Moments.of(x_ND * scale_x, y_NE * scale_y), 0.3)
    np.testing.assert_allclose(scaled.correlations_L, plain.correlations_L, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        np.abs(scaled.weights_x_DL[:, 0]) * scale_x, np.abs(plain.weights_x_DL[:, 0]), rtol=1e-5
    )


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e6 / 3])
@pytest.mark.parametrize("which", ["pictures' embeddings", "tags' vectors"])
def test_a_view_that_never_varies_is_refused(constant: float, which: str) -> None:
    x_ND, y_NE = views(rows=37)
    (x_ND if which.startswith("pictures") else y_NE)[:] = constant
    with pytest.raises(CorpusError, match=which):
        solve_cca(Moments.of(x_ND, y_NE), 0.1)


def test_a_single_picture_is_refused() -> None:
    with pytest.raises(CorpusError, match="at least two pictures"):
        solve_cca(Moments.of(*views(rows=1)), 0.1)


def test_features_without_variance_drop_out() -> None:
    x_ND, y_NE = views()
    with_dead_ND = np.column_stack([x_ND, np.full(len(x_ND), 7.0), x_ND[:, 0]])
    plain = solve_cca(Moments.of(x_ND, y_NE), 0.0)
    cca = solve_cca(Moments.of(with_dead_ND, y_NE), 0.0)
    np.testing.assert_allclose(cca.correlations_L, plain.correlations_L, atol=1e-6)
    assert np.isfinite(cca.weights_x_DL).all()


def assert_same(one: Moments, other: Moments) -> None:
    assert one.count == other.count
    for name in ("sum_x_D", "sum_y_E", "xx_DD", "xy_DE", "yy_EE"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-8)


@BOUNDED
@given(st.lists(st.integers(0, 50), max_size=6), st.randoms(use_true_random=False))
def test_moments_add_up_over_any_split_in_any_order(cuts: list[int], shuffle: Random) -> None:
    x_ND, y_NE = views(rows=50)
    edges = [0, *sorted(cuts), 50]
    blocks = [(x_ND[start:end], y_NE[start:end]) for start, end in pairwise(edges)]
    shuffle.shuffle(blocks)
    assert_same(stream_moments(blocks), Moments.of(x_ND, y_NE))


def test_moments_of_float32_are_summed_in_float64() -> None:
    x_ND = np.full((3, 1), 1e-3, np.float32)
    x_ND[0] = 1e4
    moments = Moments.of(x_ND, x_ND)
    assert moments.xx_DD.dtype == np.float64
    assert moments.xx_DD[0, 0] == pytest.approx(1e8 + 2e-6, rel=1e-15)


class Two:
    """A group of two whose other rank has the same rows."""

    rank, size = 0, 2

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values * 2

    def gather(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        return [values, values]


def test_moments_over_a_group_are_those_of_all_its_rows() -> None:
    x_ND, y_NE = views(rows=20)
    doubled = Moments.of(np.concatenate([x_ND, x_ND]), np.concatenate([y_NE, y_NE]))
    assert_same(Moments.of(x_ND, y_NE).over(Two()), doubled)
