"""CCA against solvers that share no code with it, and the sums that it is solved from."""

import threading
from concurrent.futures import ThreadPoolExecutor
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
from engine.numerics.cca import fit_cca, noise_level, solve_cca
from engine.numerics.moments import Moments, merged, stream_moments

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


@BOUNDED
@given(
    rows=st.integers(12, 60),
    d=st.integers(1, 8),
    e=st.integers(1, 8),
    regulariser=st.floats(1e-3, 10),
    seed=st.integers(0, 2**31),
)
def test_it_solves_the_eigenproblem_of_any_shape(
    rows: int, d: int, e: int, regulariser: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x_ND = rng.standard_normal((rows, d)) * rng.uniform(0.1, 10, d) + rng.uniform(-9, 9, d)
    y_NE = rng.standard_normal((rows, e)) + x_ND[:, :1]
    cca = fit_cca(x_ND, y_NE, regulariser)
    least = min(d, e)
    assert cca.weights_x_DL.shape == (d, least)
    assert cca.weights_y_EL.shape == (e, least)
    correlations, _ = generalised_eigenvalues(x_ND, y_NE, regulariser)
    np.testing.assert_allclose(cca.correlations_L, correlations[:least], atol=1e-7)


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


def test_a_width_that_is_given_shares_the_variance_out() -> None:
    moments = Moments.of(*views())
    plain, twice = solve_cca(moments, 0.2), solve_cca(moments, 0.4, widths=(12, 8))
    np.testing.assert_allclose(twice.weights_x_DL, plain.weights_x_DL)
    np.testing.assert_allclose(twice.correlations_L, plain.correlations_L)


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


def test_constant_features_are_refused_or_dropped_with_their_names() -> None:
    x_ND, y_NE = views()
    still_ND = np.insert(x_ND, [2, 4], [7.0, 1e9 / 3], axis=1)
    with pytest.raises(CorpusError, match="features 2 and 5 of the pictures' embeddings never"):
        fit_cca(still_ND, y_NE)
    with pytest.raises(CorpusError, match="feature 0 of the tags' vectors never varies"):
        fit_cca(x_ND, np.insert(y_NE, 0, 0.1, axis=1), 0.1)
    for regulariser in (0.0, 0.1):
        moments = Moments.of(still_ND.astype(np.float32), y_NE)
        cca = solve_cca(moments, regulariser, constant="drop")
        assert (cca.constant_x, cca.constant_y) == ((2, 5), ())
        assert (cca.weights_x_DL[[2, 5]] == 0).all()
        assert np.isfinite(cca.weights_x_DL).all()
    plain, cca = fit_cca(x_ND, y_NE), solve_cca(Moments.of(still_ND, y_NE), 0.0, constant="drop")
    np.testing.assert_allclose(cca.correlations_L, plain.correlations_L, atol=1e-9)


def test_many_constant_features_are_counted() -> None:
    x_ND, y_NE = views()
    with pytest.raises(CorpusError, match="features 6, 7, 8, 9, 10 and 15 others of the pictures'"):
        fit_cca(np.pad(x_ND, ((0, 0), (0, 20))), y_NE)


def test_a_copied_feature_changes_nothing() -> None:
    x_ND, y_NE = views()
    plain = fit_cca(x_ND, y_NE)
    cca = fit_cca(np.column_stack([x_ND, x_ND[:, 0]]), y_NE)
    np.testing.assert_allclose(cca.correlations_L, plain.correlations_L, atol=1e-6)
    assert np.isfinite(cca.weights_x_DL).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", [3, 400])
def test_a_feature_that_is_not_finite_is_named(value: float, block: int) -> None:
    x_ND, y_NE = views()
    y_NE[77, 1] = value
    edges = range(0, 400, block)
    blocks = [(x_ND[start : start + block], y_NE[start : start + block]) for start in edges]
    for constant in ("refuse", "drop"):
        with pytest.raises(CorpusError, match="feature 1 of the tags' vectors is NaN, infinite"):
            solve_cca(stream_moments(blocks), 0.1, constant=constant)
    x_ND[3, [0, 5]] = value
    with pytest.raises(CorpusError, match="features 0 and 5 of the pictures' embeddings are NaN"):
        fit_cca(x_ND, y_NE, 0.1)


def test_views_of_different_length_are_refused() -> None:
    x_ND, y_NE = views(rows=30)
    with pytest.raises(CorpusError, match="differ in length: 30 rows of x and 29 of y"):
        fit_cca(x_ND, y_NE[:-1])


@pytest.mark.parametrize("regulariser", [0.0, 0.1])
@pytest.mark.parametrize("rows", [2, 3, 5])
def test_fewer_pictures_than_dimensions_still_correlate(rows: int, regulariser: float) -> None:
    cca = fit_cca(*views(rows=rows), regulariser)
    assert 1 <= cca.weights_x_DL.shape[1] <= 4
    assert np.isfinite(cca.weights_x_DL).all()
    assert np.isfinite(cca.weights_y_EL).all()
    assert (cca.correlations_L <= 1).all()
    if not regulariser:
        # Whatever the views hold, N points in N - 1 dimensions fit perfectly.
        assert cca.weights_x_DL.shape[1] == min(rows - 1, 4)
        np.testing.assert_allclose(cca.correlations_L, 1, atol=1e-9)
    assert fit_cca(*views(rows=rows), regulariser, "auto").weights_x_DL.shape[1] == 1


@pytest.mark.parametrize("regulariser", [0.0, 0.05])
def test_the_rule_keeps_the_shared_causes_and_no_noise(regulariser: float) -> None:
    rng = np.random.default_rng(0)
    causes = rng.standard_normal((2000, 3))
    x_ND = rng.standard_normal((2000, 60))
    y_NE = rng.standard_normal((2000, 20))
    assert fit_cca(x_ND, y_NE, regulariser, "auto").weights_x_DL.shape == (60, 1)
    x_ND[:, :3] += causes
    y_NE[:, 5:8] += causes
    cca = fit_cca(x_ND, y_NE, regulariser, "auto")
    assert cca.weights_x_DL.shape == (60, 3)
    assert cca.weights_y_EL.shape == (20, 3)
    assert (cca.correlations_L > cca.noise).all()
    assert fit_cca(x_ND, y_NE, regulariser).correlations_L[3] < cca.noise


@pytest.mark.parametrize(("d", "e", "regulariser"), [(80, 40, 0.0), (80, 40, 0.1), (300, 20, 0.1)])
def test_unrelated_views_stay_about_the_noise_level(d: int, e: int, regulariser: float) -> None:
    rng = np.random.default_rng(1)
    spread_D = np.arange(1, d + 1) ** (-0.5 if regulariser else 0.0)
    ratios = []
    for _ in range(5):
        x_ND = rng.standard_normal((400, d)) * spread_D
        cca = fit_cca(x_ND, rng.standard_normal((400, e)), regulariser)
        ratios.append(cca.correlations_L[0] / cca.noise)
    assert max(ratios) < 1.05
    assert np.mean(ratios) > (0.97 if not regulariser else 0.75)


def test_the_noise_level_has_its_known_ends() -> None:
    assert noise_level(1, 1, 1e6) == pytest.approx(2e-3, rel=1e-3)
    assert noise_level(30, 70, 100) == 1
    assert noise_level(300, 70, 100) == 1


def test_binary_and_word_views_work_with_a_vocabulary_of_20_000() -> None:
    """The text view is as wide as the word vectors, whatever the number of tags."""
    rng = np.random.default_rng(0)
    words_VE = rng.standard_normal((20_000, 24)).astype(np.float32)
    tags_NT = rng.integers(0, 20_000, (600, 3))
    y_NE = words_VE[tags_NT].mean(axis=1)
    x_ND = y_NE @ rng.standard_normal((24, 30)) + 0.1 * rng.standard_normal((600, 30))
    cca = fit_cca(x_ND, y_NE, 0.01, "auto")
    assert cca.weights_y_EL.shape == (24, 24)


def assert_same(one: Moments, other: Moments) -> None:
    assert one.count == other.count
    for name in ("mean_x_D", "mean_y_E", "xx_DD", "xy_DE", "yy_EE"):
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
    x_ND = np.array([[1e4], [1e-3], [-1e4]], np.float32)
    moments = Moments.of(x_ND, x_ND)
    assert moments.xx_DD.dtype == np.float64
    assert moments.xx_DD[0, 0] == pytest.approx(2e8 + 2e-6 / 3, rel=1e-15)


@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_a_mean_huge_beside_the_spread_does_no_harm(block: int) -> None:
    """Mean 1e8 and spread 1: raw second moments would leave no digit of the variance."""
    rng = np.random.default_rng(0)
    # Steps of 1/64 are exact in float64 at 1e8, so the truth is known to the last digit.
    x_ND = np.round(rng.standard_normal((1000, 4)) * 64) / 64
    y_NE = np.round((x_ND[:, :2] + rng.standard_normal((1000, 2))) * 64) / 64
    edges = range(0, 1000, block)
    far = stream_moments((x_ND[e : e + block] + 1e8, y_NE[e : e + block] - 1e8) for e in edges)
    near = Moments.of(x_ND, y_NE)
    for name in ("xx_DD", "xy_DE", "yy_EE"):
        np.testing.assert_allclose(getattr(far, name), getattr(near, name), rtol=1e-9, atol=1e-5)
    ours, truth = solve_cca(far, 0.0), solve_cca(near, 0.0)
    np.testing.assert_allclose(ours.correlations_L, truth.correlations_L, atol=1e-8)
    naive = ((x_ND + 1e8) ** 2).sum(0) - 1000 * (x_ND + 1e8).mean(0) ** 2
    assert np.abs(naive - np.diag(near.xx_DD)).max() > 10


def test_an_empty_block_adds_nothing() -> None:
    x_ND, y_NE = views(rows=5)
    empty, full = Moments.of(x_ND[:0], y_NE[:0]), Moments.of(x_ND, y_NE)
    for both in (empty + full, full + empty, empty + empty + full):
        assert_same(both, full)
    assert (empty + empty).count == 0


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 100])
def test_parts_merge_as_a_tree_in_order(count: int) -> None:
    class Joined(str):
        depth = 0

        def __add__(self, other: str) -> "Joined":
            both = Joined(str.__add__(self, other))
            both.depth = 1 + max(self.depth, getattr(other, "depth", 0))
            return both

    total = merged(Joined(chr(97 + number % 26)) for number in range(count))
    assert total == "".join(chr(97 + number % 26) for number in range(count))
    assert total.depth <= int(np.ceil(np.log2(count)))


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


class Scripted:
    """One of several ranks whose sums are made by all of them taking turns in threads."""

    def __init__(self, rank: int, meeting: "Meeting") -> None:
        self.rank, self.size, self.meeting = rank, meeting.size, meeting

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.sum(self.gather(values), axis=0)
        return total

    def gather(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        return self.meeting.exchange(self.rank, values)


class Meeting:
    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=20)
        self.brought: list[NDArray[np.generic]] = [np.empty(0)] * size

    def exchange(self, rank: int, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        self.brought[rank] = values
        self.barrier.wait()
        all_of_them = list(self.brought)
        self.barrier.wait()
        return all_of_them


def test_ranks_of_different_size_and_place_give_the_moments_of_all_rows() -> None:
    x_ND, y_NE = views(rows=100)
    x_ND, y_NE = x_ND + 1e8, y_NE - 1e7
    parts = [slice(0, 3), slice(3, 90), slice(90, 100)]
    meeting = Meeting(3)

    def work(rank: int) -> Moments:
        mine = Moments.of(x_ND[parts[rank]], y_NE[parts[rank]])
        return mine.over(Scripted(rank, meeting))

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(work, range(3)))
    whole = Moments.of(x_ND, y_NE)
    for one in found:
        assert one.count == 100
        np.testing.assert_allclose(one.mean_x_D, whole.mean_x_D, rtol=1e-15)
        for name in ("xx_DD", "xy_DE", "yy_EE"):
            np.testing.assert_allclose(
                getattr(one, name), getattr(whole, name), rtol=1e-8, atol=1e-5
            )
