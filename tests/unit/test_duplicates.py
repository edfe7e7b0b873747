"""Pairs by the rule, the components that they make, and which picture of a group is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import duplicates
from engine.duplicates import Contents, Groups, NearRule, Pictures, group_pictures, join_near
from engine.index import ArrayVectors, IndexWish, build_index
from engine.numerics.levels import unit_levels

RULE = NearRule(cosine=0.9, hash_distance=4)


def circle(degrees: NDArray[np.float64]) -> NDArray[np.float32]:
    """Unit vectors at angles of a plane: 20 degrees apart are near (cosine 0.94), 30 are not."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def joined(
    vectors_UL: NDArray[np.float32], perceptual_U: NDArray[np.uint64] | None = None
) -> NDArray[np.int64]:
    if perceptual_U is None:
        perceptual_U = np.zeros(len(vectors_UL), np.uint64)
    contents = Contents(ArrayVectors(vectors_UL), perceptual_U)
    index = build_index(contents.vectors, IndexWish()) if len(vectors_UL) > 1 else None
    return join_near(contents, index, RULE)


def by_brute_force(
    vectors_UL: NDArray[np.float32], perceptual_U: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Labels by Warshall's closure of the matrix of all pairs."""
    wide = vectors_UL.astype(np.float64)
    bits = np.array([[(int(a) ^ int(b)).bit_count() for b in perceptual_U] for a in perceptual_U])
    reach = (wide @ wide.T >= RULE.cosine) & (bits <= RULE.hash_distance)
    np.fill_diagonal(reach, True)
    for middle in range(len(reach)):
        reach |= reach[:, [middle]] & reach[[middle]]
    return reach.argmax(axis=1)


@st.composite
def drawn_contents(
    draw: st.DrawFn,
) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    count = draw(st.integers(2, 24))
    degrees = draw(st.lists(st.integers(0, 35), min_size=count, max_size=count))
    hashes = draw(st.lists(st.sampled_from([0, 0b111, 0b111111]), min_size=count, max_size=count))
    return circle(10.0 * np.array(degrees, dtype=np.float64)), np.array(hashes, dtype=np.uint64)


@settings(max_examples=60, deadline=None)
@given(drawn_contents(), st.randoms(use_true_random=False))
def test_components_are_those_of_all_pairs_in_any_order(
    drawn: tuple[NDArray[np.float32], NDArray[np.uint64]], random: object
) -> None:
    vectors_UL, perceptual_U = drawn
    labels_U = joined(vectors_UL, perceptual_U)
    np.testing.assert_array_equal(labels_U, by_brute_force(vectors_UL, perceptual_U))
    order = np.arange(len(vectors_UL))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled_U = joined(vectors_UL[order], perceptual_U[order])
    same = labels_U[order][:, None] == labels_U[order]
    np.testing.assert_array_equal(shuffled_U[:, None] == shuffled_U, same)


def test_a_chain_is_one_group_though_its_ends_are_far_apart() -> None:
    labels_U = joined(circle(np.array([0.0, 20, 40, 60, 80, 180, 200])))
    assert labels_U.tolist() == [0, 0, 0, 0, 0, 5, 5]


def test_near_vectors_with_far_hashes_are_not_duplicates() -> None:
    degrees, far = np.array([0.0, 1, 2]), np.array([0, 0b1111110, 0b1], np.uint64)
    assert joined(circle(degrees), far).tolist() == [0, 1, 0]


def test_a_crowd_larger_than_any_search_is_found_whole(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two crowds of more members than a search gives, none of which is far from another."""
    monkeypatch.setattr(duplicates, "FIRST", 2)
    monkeypatch.setattr(duplicates, "MOST", 64)
    monkeypatch.setattr(duplicates, "QUERIES", 50)
    crowd = 180
    centres = np.eye(8)[[0, 1]].repeat(crowd, axis=0)
    noisy_NL = centres + rng.normal(scale=0.01, size=centres.shape)
    order = rng.permutation(len(noisy_NL))
    labels_U = joined(unit_levels(noisy_NL[order], [8]))
    crowd_U = order >= crowd
    assert len(np.unique(labels_U)) == 2
    assert len(np.unique(labels_U[crowd_U])) == len(np.unique(labels_U[~crowd_U])) == 1


def test_a_single_content_is_alone() -> None:
    assert joined(circle(np.array([0.0]))).tolist() == [0]


def grouped(
    contents: list[int], files: list[int], area: list[int], against: list[bool], degrees: list[int]
) -> Groups:
    vectors_UL = circle(np.array(degrees, dtype=np.float64))
    pictures = Pictures(np.array(files), np.array(contents), np.array(area), np.array(against))
    perceptual_U = np.zeros(len(vectors_UL), np.uint64)
    held = Contents(ArrayVectors(vectors_UL), perceptual_U)
    return group_pictures(pictures, held, joined(vectors_UL))


def test_the_kept_one_is_against_then_largest_then_first() -> None:
    groups = grouped(
        contents=[0, 1, 2, 2, 3, 1, 4, 5],
        files=[0, 1, 2, 2, 3, 4, 5, 6],
        area=[4, 9, 9, 9, 1, 9, 7, 7],
        against=[False, False, False, False, False, False, True, False],
        degrees=[0, 10, 90, 180, 170, 250],
    )
    # One group of one corpus, one of copies of a file, and one with a smaller picture of the test.
    assert groups.rows_M.tolist() == [1, 0, 5, 2, 3, 6, 4]
    assert groups.group_M.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert groups.keeper_M.tolist() == [1, 1, 1, 2, 2, 6, 6]
    assert groups.kind_M == (None, "near", "exact-pixels", None, "exact-bytes", None, "near")
    assert groups.leaks_M.tolist() == [False] * 5 + [True] * 2
    expected = np.array([1, np.cos(np.radians(10)), 1, 1, 1, 1, np.cos(np.radians(10))])
    np.testing.assert_allclose(groups.cosine_M, expected, atol=1e-6)
    assert (len(groups), groups.kept_M.sum()) == (3, 3)


def test_where_all_differ_there_are_no_groups() -> None:
    groups = grouped([0, 1], [0, 1], [1, 1], [False, True], [0, 90])
    assert len(groups) == 0
    assert groups.kind_M == ()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_unit_levels_have_unit_length(rng: np.random.Generator, scale: float) -> None:
    x_ND = scale * rng.random((5, 7))
    x_ND[0] = 0
    x_ND[1, :3] = 0
    lengths_N = np.linalg.norm(unit_levels(x_ND, [3, 4]), axis=1)
    np.testing.assert_allclose(lengths_N, [0, 1, 1, 1, 1], atol=1e-6)
