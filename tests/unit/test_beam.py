"""Beam search against greedy decoding and against all the sequences there are."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax

from engine.beam import State, beam_search
from engine.sequence import NOTHING, decode_greedily


@dataclass(frozen=True)
class Walk:
    """Each step's scores hang on the picture and on all the tags before, by a running state."""

    start_OX: NDArray[np.float32]
    jump_OO: NDArray[np.float32]
    mix_OO: NDArray[np.float32]

    @classmethod
    def drawn(cls, seed: int, tags: int, spread: float = 1.5) -> "Walk":
        rng = np.random.default_rng(seed)
        shapes = ((tags + 1, 3), (tags + 1, tags + 1), (tags + 1, tags + 1))
        return cls(*(rng.normal(0, spread, shape).astype(np.float32) for shape in shapes))

    @property
    def tags(self) -> int:
        return len(self.jump_OO) - 1

    def start(self, image_BX: NDArray[np.float32]) -> State:
        return (image_BX @ self.start_OX.T,)

    def step(self, state: State, last_R: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        next_RO = np.tanh(state[0] @ self.mix_OO + self.jump_OO[last_R])
        logits_RO: NDArray[np.float32] = log_softmax(2 * next_RO + state[0], axis=1)
        return logits_RO, (next_RO,)

    def log_probability(
        self, image_X: NDArray[np.float32], sequence: tuple[int, ...], ends: bool
    ) -> float:
        """Of the tags in turn, then END if it `ends`; one picture by itself."""
        state, last, total = self.start(image_X[None]), self.tags, 0.0
        for tag in (*sequence, self.tags) if ends else sequence:
            log_RO, state = self.step(state, np.array([last]))
            total += float(log_RO[0, tag])
            last = tag
        return total


def pictures(seed: int, batch: int) -> NDArray[np.float32]:
    return np.random.default_rng((seed, 1)).standard_normal((batch, 3)).astype(np.float32)


@pytest.mark.parametrize(("tags", "limit"), [(9, 5), (4, 9), (2, 2), (1, 3)])
def test_a_beam_of_one_is_greedy_decoding(tags: int, limit: int) -> None:
    walk, image_BX = Walk.drawn(tags, tags), pictures(0, 40)
    state = walk.start(image_BX)

    def step(before_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        nonlocal state
        first_B = np.full(len(image_BX), tags)
        last_B = before_BT[:, -1] if before_BT.shape[1] else first_B
        log_BO, state = walk.step(state, np.where(last_B == NOTHING, tags, last_B))
        if not before_BT.shape[1]:
            # A picture has a tag at least.
            log_BO = np.where(np.arange(tags + 1) == tags, np.float32(-1e9), log_BO)
        return log_BO

    expected = decode_greedily(step, len(image_BX), tags, limit, has_end=True)
    found, quantity_B = beam_search(walk, image_BX, tags, limit)
    np.testing.assert_array_equal(found.tags_BT, expected.tags_BT)
    np.testing.assert_array_equal(found.taken_BT, expected.taken_BT)
    np.testing.assert_array_equal(found.largest_BV, expected.largest_BV)
    np.testing.assert_array_equal(quantity_B, expected.lengths_B)
    assert tags < 4 or len(set(quantity_B.tolist())) > 1


@pytest.mark.parametrize(("tags", "limit", "least"), [(4, 3, 1), (3, 3, 2), (3, 9, 1), (2, 1, 1)])
def test_a_wide_beam_finds_the_likeliest_of_all_sequences(
    tags: int, limit: int, least: int
) -> None:
    walk, image_BX = Walk.drawn(7, tags), pictures(1, 12)
    found, _ = beam_search(walk, image_BX, tags, limit, beam=200, least=least)
    longest = min(limit, tags)
    for image_X, found_T in zip(image_BX, found.tags_BT, strict=True):
        best, best_value = (), -np.inf
        for length in range(least, longest + 1):
            for sequence in itertools.permutations(range(tags), length):
                value = walk.log_probability(image_X, sequence, ends=length < longest)
                if value > best_value:
                    best, best_value = sequence, value
        assert tuple(found_T[found_T != NOTHING]) == best


def test_a_wider_beam_is_no_worse_and_at_times_better() -> None:
    walk, image_BX = Walk.drawn(3, 8), pictures(2, 60)
    totals = []
    for beam in (1, 2, 6):
        found, quantity_B = beam_search(walk, image_BX, 8, 4, beam)
        totals.append(
            [
                walk.log_probability(x, tuple(t[t != NOTHING]), ends=bool(length < 4))
                for x, t, length in zip(image_BX, found.tags_BT, quantity_B, strict=True)
            ]
        )
    assert np.mean(totals[1]) > np.mean(totals[0])
    assert np.mean(totals[2]) >= np.mean(totals[1])


def test_a_beam_recovers_what_greed_misses() -> None:
    """Worked by hand: a is likeliest at first (0.6), but after b (0.4) comes c for sure."""

    class Trap:
        def start(self, image_BX: NDArray[np.float32]) -> State:
            return (np.zeros((len(image_BX), 1), dtype=np.float32),)

        def step(
            self, state: State, last_R: NDArray[np.int64]
        ) -> tuple[NDArray[np.float32], State]:
            # By the tag before, of a, b, c, START; columns a, b, c, END.
            table = np.array(
                [
                    [0.01, 0.33, 0.33, 0.33],
                    [0.01, 0.01, 0.97, 0.01],
                    [0.01, 0.01, 0.01, 0.97],
                    [0.60, 0.40, 1e-9, 1e-9],
                ]
            )
            return np.log(table[last_R]).astype(np.float32), state

    image_BX = np.zeros((2, 1), dtype=np.float32)
    greedy, _ = beam_search(Trap(), image_BX, 3, 3, beam=1)
    wide, quantity_B = beam_search(Trap(), image_BX, 3, 3, beam=2)
    assert greedy.tags_BT[0, 0] == 0
    assert wide.tags_BT.tolist() == [[1, 2, NOTHING]] * 2
    np.testing.assert_allclose(wide.taken_BT[0], [0.4, 0.97, 0], rtol=1e-5)
    np.testing.assert_allclose(wide.largest_BV[0], [0.6, 0.4, 0.97], rtol=1e-5)
    assert quantity_B.tolist() == [2, 2]


@given(
    seed=st.integers(0, 10_000),
    tags=st.integers(1, 7),
    limit=st.integers(1, 9),
    beam=st.integers(1, 5),
    least=st.integers(1, 4),
)
def test_no_tag_is_taken_twice(seed: int, tags: int, limit: int, beam: int, least: int) -> None:
    walk = Walk.drawn(seed, tags)
    found, quantity_B = beam_search(walk, pictures(seed, 5), tags, limit, beam, least)
    most = min(tags, limit)
    for found_T, taken_T, quantity in zip(found.tags_BT, found.taken_BT, quantity_B, strict=True):
        taken = found_T[found_T != NOTHING]
        assert len(set(taken.tolist())) == len(taken)
        assert min(least, most) <= len(taken) <= most
        assert (found_T[len(taken) :] == NOTHING).all()
        assert (taken_T[: len(taken)] > 0).all()
        assert not taken_T[len(taken) :].any()
        assert 1 <= quantity <= len(taken)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_picture_is_decoded_as_it_would_be_alone(beam: int) -> None:
    walk, image_BX = Walk.drawn(5, 8), pictures(3, 20)
    together, quantity_B = beam_search(walk, image_BX, 8, 5, beam, least=2)
    for row in range(20):
        alone, quantity = beam_search(walk, image_BX[row : row + 1], 8, 5, beam, least=2)
        np.testing.assert_array_equal(alone.tags_BT[0], together.tags_BT[row])
        np.testing.assert_allclose(alone.largest_BV[0], together.largest_BV[row], atol=1e-5)
        assert quantity[0] == quantity_B[row]
    nobody, none = beam_search(walk, image_BX[:0], 8, 5, beam)
    assert nobody.tags_BT.shape == (0, 5)
    assert none.shape == (0,)


def test_more_tags_than_the_network_wants_are_given_where_they_must_be() -> None:
    walk, image_BX = Walk.drawn(2, 8), pictures(4, 60)
    free, wanted_B = beam_search(walk, image_BX, 8, 6)
    forced, told_B = beam_search(walk, image_BX, 8, 6, least=6)
    assert (forced.lengths_B == 6).all()
    assert (free.lengths_B < 6).any()
    np.testing.assert_array_equal(told_B, wanted_B)
    for free_T, forced_T, length in zip(free.tags_BT, forced.tags_BT, wanted_B, strict=True):
        np.testing.assert_array_equal(forced_T[:length], free_T[:length])
