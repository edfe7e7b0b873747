"""The sample corpus: the same picture always, tags true to what can be seen, noise in the rest."""

from collections import Counter
from difflib import get_close_matches
from itertools import pairwise

import cv2
import numpy as np
import pytest

from engine.sample import TAGS, SamplePicture, draw_picture
from engine.sample.scene import Scene, compose
from engine.sample.tags import MOST_TAGS, centrality, importances, misspelt, noisy, ranked

SEED = 5
POPULATION = 300


@pytest.fixture(scope="module")
def population() -> list[SamplePicture]:
    return [draw_picture(index, SEED) for index in range(POPULATION)]


def _scene(index: int) -> Scene:
    return compose(np.random.default_rng((SEED, index)))


def test_a_picture_depends_on_index_and_seed_alone(population: list[SamplePicture]) -> None:
    for index in (41, 7, 0, 299):
        assert draw_picture(index, SEED) == population[index]
    assert draw_picture(7, SEED + 1).jpeg != population[7].jpeg
    assert len({picture.jpeg for picture in population}) == POPULATION


def test_ids_are_unique_and_in_order(population: list[SamplePicture]) -> None:
    assert [picture.image_id for picture in population[:2]] == ["scene_000000", "scene_000001"]


@pytest.mark.parametrize(("index", "seed"), [(-1, 0), (0, -1)])
def test_negative_index_or_seed_is_refused(index: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        draw_picture(index, seed)


def test_every_picture_is_a_colour_jpeg_of_256_on_the_longer_side(
    population: list[SamplePicture],
) -> None:
    shapes = set()
    for picture in population[::5]:
        pixels = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        assert picture.jpeg.startswith(b"\xff\xd8\xff")
        assert pixels.shape[2] == 3
        assert max(pixels.shape[:2]) == 256
        assert pixels.std() > 5
        shapes.add(pixels.shape[:2])
    assert len(shapes) >= 3


def test_tags_are_one_to_eight_unique_and_of_the_vocabulary(
    population: list[SamplePicture],
) -> None:
    counts = Counter(len(picture.tags) for picture in population)
    assert min(counts) == 1
    assert max(counts) == MOST_TAGS
    assert set(counts) == set(range(1, MOST_TAGS + 1))
    for picture in population:
        assert len(set(picture.tags)) == len(picture.tags)
        assert set(picture.tags) <= set(TAGS)


def test_the_vocabulary_is_large_and_sorted() -> None:
    assert len(TAGS) >= 45
    assert list(TAGS) == sorted(set(TAGS))


def test_tags_follow_visible_area_and_centrality(population: list[SamplePicture]) -> None:
    for index in range(0, 60, 3):
        scene = _scene(index)
        assert ranked(scene.importance) == population[index].tags
        weight = centrality(*scene.ids.shape)
        for tag, importance in scene.importance.items():
            things = scene.settings.get(
                tag, [thing for thing, name in enumerate(scene.thing_tags) if name == tag]
            )
            seen = np.isin(scene.ids, list(things))
            assert seen.any(), (index, tag)
            assert importance <= float(weight[seen].sum()) / seen.size + 1e-6
        values = [scene.importance[tag] for tag in population[index].tags]
        assert all(first >= second for first, second in pairwise(values))


def test_importance_weighs_area_and_centre_and_leaves_the_hidden_out() -> None:
    ids = np.zeros((100, 100), np.uint8)
    ids[40:60, 40:60] = 1
    ids[0:20, 0:20] = 2
    ids[70:100, 0:100] = 3
    ids[62:66, 40:60] = 4
    tags = ["", "dog", "cat", "sea", "boat"]
    found = importances(ids, tags, [0, 400, 400, 3000, 2000], {"beach": [3]})
    assert ranked(found)[0] in ("beach", "sea")
    assert found["dog"] > found["cat"]
    assert found["beach"] == found["sea"]
    assert "boat" not in found


def test_at_most_eight_tags_are_kept_by_importance() -> None:
    many = {tag: 1.0 / (rank + 1) for rank, tag in enumerate(TAGS[:12])}
    assert ranked(many) == TAGS[:MOST_TAGS]


def test_social_tags_miss_err_and_misspell(population: list[SamplePicture]) -> None:
    missing = wrong = wrongly_spelt = empty = habit = 0
    for picture in population:
        social, truth = set(picture.social_tags), set(picture.tags)
        assert len(social) == len(picture.social_tags)
        missing += bool(truth - social)
        wrong += bool(social & (set(TAGS) - truth))
        strange = social - set(TAGS)
        near = {word for word in strange if get_close_matches(word, list(truth), cutoff=0.75)}
        wrongly_spelt += bool(near)
        habit += bool(strange & {"holiday", "nikon", "travel"})
        empty += not social
    assert missing > POPULATION * 0.5
    assert POPULATION * 0.1 < wrong < POPULATION * 0.7
    assert POPULATION * 0.1 < wrongly_spelt < POPULATION * 0.7
    assert habit > POPULATION * 0.1
    assert 0 < empty < POPULATION * 0.2
    agreement = [len(set(p.social_tags) & set(p.tags)) / len(p.tags) for p in population]
    assert 0.4 < float(np.mean(agreement)) < 0.8


def test_a_misspelling_is_another_word_of_about_the_same_length() -> None:
    rng = np.random.default_rng(0)
    for tag in TAGS:
        word = misspelt(tag, rng)
        assert word != tag
        assert abs(len(word) - len(tag)) <= 1


def test_noise_depends_on_its_generator_alone() -> None:
    tags = ("sea", "boat", "sky", "cloud")
    draws = [noisy(tags, np.random.default_rng(3)) for _ in range(2)]
    assert draws[0] == draws[1]
    assert len({noisy(tags, np.random.default_rng(seed)) for seed in range(20)}) > 5


def test_tags_are_long_tailed_and_keep_company(population: list[SamplePicture]) -> None:
    counts = Counter(tag for picture in population for tag in picture.tags)
    assert len(counts) >= 60
    common = [count for _, count in counts.most_common()]
    assert common[0] > 0.5 * POPULATION
    assert common[len(common) // 2] < 0.1 * POPULATION
    sandy = [picture.tags for picture in population if "camel" in picture.tags]
    assert sandy
    assert all("desert" in tags for tags in sandy)
    afloat = [set(picture.tags) for picture in population if "boat" in picture.tags]
    assert sum(bool(tags & {"sea", "lake", "river"}) for tags in afloat) > 0.9 * len(afloat)
