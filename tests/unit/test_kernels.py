"""Kernel CCA by feature maps against the kernel eigenproblem that it stands for."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg
from sklearn.metrics.pairwise import additive_chi2_kernel

from engine.errors import CorpusError
from engine.numerics.cca import fit_cca, solve_cca
from engine.numerics.kernels import Chi2Map, chi2_distances
from engine.numerics.moments import Moments


def histograms(rows: int, features: int, seed: int = 0) -> NDArray[np.float64]:
    """Non-negative, with many zeros, as a ReLU leaves them."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.standard_normal((rows, features)), 0)


def views(rows: int = 60) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Histograms, and a view that is no linear function of them."""
    x_ND = histograms(rows, 12)
    rng = np.random.default_rng(1)
    y_NE = np.column_stack([np.abs(x_ND[:, :3] - x_ND[:, 3:6]), rng.standard_normal(rows)])
    return x_ND, y_NE + 0.1 * rng.standard_normal((rows, 4))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("rows", "others"), [(1, 1), (63, 3), (130, 20), (0, 5)])
def test_distances_are_those_of_a_loop_and_of_sklearn(rows: int, others: int, dtype: type) -> None:
    x_ND, y_MD = histograms(rows, 17).astype(dtype), histograms(others, 17, 1).astype(dtype)
    found_NM = chi2_distances(x_ND, y_MD)
    assert found_NM.dtype == dtype
    assert found_NM.shape == (rows, others)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    for n in range(rows):
        for m in range(others):
            total = sum(
                (a - b) ** 2 / (a + b)
                for a, b in zip(x_ND[n].tolist(), y_MD[m].tolist(), strict=True)
                if a + b
            )
            assert found_NM[n, m] == pytest.approx(total, rel=tolerance)
    if rows:
        theirs = -additive_chi2_kernel(x_ND.astype(np.float64), y_MD.astype(np.float64))
        np.testing.assert_allclose(found_NM, theirs, rtol=tolerance)


def test_two_pictures_worked_by_hand() -> None:
    x_ND = np.array([[1.0, 0.0, 3.0], [3.0, 0.0, 1.0]])
    np.testing.assert_allclose(chi2_distances(x_ND, x_ND), [[0, 2], [2, 0]])
    mapped = Chi2Map.of(x_ND)
    assert mapped.distance == 2
    features = mapped(x_ND)
    np.testing.assert_allclose(features @ features.T, [[1, np.exp(-0.5)], [np.exp(-0.5), 1]])


def test_a_distance_does_not_depend_on_the_batch() -> None:
    x_ND = histograms(200, 40).astype(np.float32)
    whole = chi2_distances(x_ND, x_ND[:30])
    np.testing.assert_array_equal(chi2_distances(x_ND[70:83], x_ND[:30]), whole[70:83])


def test_a_negative_feature_is_named() -> None:
    x_ND = histograms(4, 6)
    broken = x_ND.copy()
    broken[2, 5] = -0.25
    for pair in ((broken, x_ND), (x_ND, broken)):
        with pytest.raises(CorpusError, match=r"feature 5 of row 2 is -0.25, and the χ² kernel"):
            chi2_distances(*pair)
    with pytest.raises(CorpusError, match="behind a ReLU"):
        Chi2Map.of(x_ND)(broken)
    for value in (np.nan, np.inf):
        broken[2, 5] = value
        with pytest.raises(CorpusError, match=f"feature 5 of row 2 is {value}"):
            Chi2Map.of(broken)


def test_inner_products_of_landmarks_are_the_kernel() -> None:
    x_ND = histograms(50, 12)
    mapped = Chi2Map.of(x_ND)
    distances = -additive_chi2_kernel(x_ND)
    assert mapped.distance == pytest.approx(distances[~np.eye(50, dtype=bool)].mean())
    features = mapped(x_ND)
    kernel = np.exp(-distances / 2 / mapped.distance)
    np.testing.assert_allclose(features @ features.T, kernel, atol=1e-9)


def test_equal_landmarks_are_no_obstacle() -> None:
    x_ND = histograms(5, 6)
    twice = Chi2Map.of(np.concatenate([x_ND, x_ND]))
    assert twice.whiten_MR.shape == (10, 5)
    features = twice(x_ND)
    assert np.isfinite(features).all()
    np.testing.assert_allclose((features**2).sum(axis=1), 1, atol=1e-9)
    alike = Chi2Map.of(np.ones((3, 2), dtype=np.float32))
    np.testing.assert_allclose(alike(np.ones((2, 2), dtype=np.float32)) ** 2, 1, atol=1e-6)


def kernel_correlations(
    kernel_x: NDArray[np.float64], kernel_y: NDArray[np.float64], r_x: float, r_y: float
) -> NDArray[np.float64]:
    """Eq. 3 of Murthy et al. 2015 as it stands, by SciPy's generalised eigenproblem.

    [0, KxKy; KyKx, 0] v = rho [Kx² + rx Kx, 0; 0, Ky² + ry Ky] v, with centred kernels; a little
    on the diagonal makes the right side definite, for a centred kernel is singular.
    """
    n = len(kernel_x)
    centre = np.eye(n) - 1 / n
    k_x, k_y = centre @ kernel_x @ centre, centre @ kernel_y @ centre
    zero = np.zeros((n, n))
    a = np.block([[zero, k_x @ k_y], [k_y @ k_x, zero]])
    b_x, b_y = k_x @ k_x + r_x * k_x, k_y @ k_y + r_y * k_y
    b = np.block([[b_x, zero], [zero, b_y]]) + 1e-9 * np.eye(2 * n)
    values = linalg.eigh((a + a.T) / 2, (b + b.T) / 2, eigvals_only=True)
    return np.maximum(values[::-1][:n], 0)


@pytest.mark.parametrize("regulariser", [0.05, 1.0])
@pytest.mark.parametrize("on_text", [False, True])
def test_exact_kernel_cca_solves_its_eigenproblem(regulariser: float, on_text: bool) -> None:
    x_ND, y_NE = views()
    n = len(x_ND)
    map_x = Chi2Map.of(x_ND)
    features_x = map_x(x_ND)
    kernel_x = np.exp(additive_chi2_kernel(x_ND) / 2 / map_x.distance)
    if on_text:
        binary = (histograms(n, 6, 3) > 0.3).astype(np.float64)
        map_y = Chi2Map.of(binary)
        features_y = map_y(binary)
        kernel_y = np.exp(additive_chi2_kernel(binary) / 2 / map_y.distance)
    else:
        features_y = y_NE
        kernel_y = y_NE @ y_NE.T
    moments = Moments.of(features_x, features_y)
    cca = solve_cca(moments, regulariser, constant="drop")
    # The regulariser of Eq. 3 adds to sums over the pictures, ours to means over them.
    r_x = regulariser * np.trace(moments.xx_DD) / len(moments.xx_DD)
    r_y = regulariser * np.trace(moments.yy_EE) / len(moments.yy_EE)
    expected = kernel_correlations(kernel_x, kernel_y, r_x, r_y)
    count = min(4, len(cca.correlations_L))
    np.testing.assert_allclose(cca.correlations_L[:count], expected[:count], atol=1e-5)


def test_kernel_cca_sees_what_linear_cca_cannot() -> None:
    x_ND, y_NE = views(rows=300)
    mapped = Chi2Map.of(x_ND[:150])
    unseen_x, unseen_y = x_ND[150:], y_NE[150:]

    def correlation(seen: NDArray[np.float64], unseen: NDArray[np.float64]) -> float:
        cca = fit_cca(seen, y_NE[:150], 0.1)
        u = (unseen - cca.mean_x_D) @ cca.weights_x_DL[:, 0]
        v = (unseen_y - cca.mean_y_E) @ cca.weights_y_EL[:, 0]
        return float(np.corrcoef(u, v)[0, 1])

    linear = correlation(x_ND[:150], unseen_x)
    kernel = correlation(mapped(x_ND[:150]), mapped(unseen_x))
    assert kernel > linear + 0.1


def test_nystroem_approaches_the_exact_kernel_as_landmarks_grow() -> None:
    x_ND = histograms(300, 10)
    exact = np.exp(additive_chi2_kernel(x_ND) / 2 / Chi2Map.of(x_ND).distance)
    errors = []
    for landmarks in (10, 50, 150, 300):
        features = Chi2Map.of(x_ND[:landmarks])(x_ND)
        errors.append(np.abs(features @ features.T - exact).mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.02
    assert errors[3] < 1e-3


def test_arrays_give_the_map_back_to_the_bit() -> None:
    x_ND = histograms(20, 6).astype(np.float32)
    mapped = Chi2Map.of(x_ND)
    again = Chi2Map.from_arrays(mapped.arrays("kernel"), "kernel")
    assert again is not None
    np.testing.assert_array_equal(again(x_ND), mapped(x_ND))
    assert Chi2Map.from_arrays(mapped.arrays("kernel"), "other") is None
