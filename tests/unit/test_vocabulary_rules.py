"""Vocabulary rules: what they do to tags, that twice is once, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from engine.config import FitConfig, load_config, load_rules, with_rules
from engine.errors import ConfigError
from engine.tagging import Tagging
from engine.vocab import Vocabulary
from engine.vocabulary_rules import VocabularyRules

BOUNDED = settings(max_examples=150, derandomize=True, deadline=None, database=None)
NAMES = ("ash", "bay", "cat", "dog", "elk", "fox", "gnu", "hen")


@st.composite
def rules_and_tags(draw: st.DrawFn) -> tuple[VocabularyRules, list[list[str]]]:
    """Rules without circles, for each leads from a name to one behind it, and tags."""
    pairs = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES))
    forward = st.lists(pairs.filter(lambda two: two[0] < two[1]), max_size=4)
    content = {
        "aliases": dict(draw(forward)),
        "implied": {name: [other] for name, other in draw(forward)},
        "exclude": draw(st.lists(st.sampled_from([*NAMES, "c*", "?og"]), max_size=2)),
        "include": draw(st.lists(st.sampled_from([*NAMES, "*"]), max_size=3)),
    }
    try:
        rules = VocabularyRules.model_validate(content)
    except ValueError:
        # An alias can join what implies with what is implied.
        reject()
    tags = st.lists(st.sampled_from(NAMES), max_size=5)
    return rules, draw(st.lists(tags, min_size=1, max_size=4))


@BOUNDED
@given(rules_and_tags())
def test_rewriting_twice_changes_nothing(case: tuple[VocabularyRules, list[list[str]]]) -> None:
    rules, lists = case
    for tags in lists:
        once = rules.rewritten(tags)
        assert rules.rewritten(once) == once
        assert all(rules.allows(tag) for tag in once)
        for tag in once:
            implied = (one for one in rules.implications.get(tag, ()) if rules.allows(one))
            assert set(implied) <= set(once)


@BOUNDED
@given(rules_and_tags(), st.integers(0, 99))
def test_raising_scores_twice_changes_nothing(
    case: tuple[VocabularyRules, list[list[str]]], seed: int
) -> None:
    rules, _ = case
    vocabulary = Vocabulary(NAMES, tuple(range(8, 0, -1)))
    try:
        tagging = Tagging.of(vocabulary, VocabularyRules(), rules)
    except ConfigError:
        # The lists leave nothing, or name what an alias has renamed.
        reject()
    scores_BV = np.random.default_rng(seed).random((5, 8), dtype=np.float32)
    once_BV = tagging.raised(scores_BV)
    np.testing.assert_array_equal(tagging.raised(once_BV), once_BV)
    given_V = sorted(tagging.index.values())
    assert (once_BV[:, given_V] >= scores_BV[:, given_V]).all()
    for tag, place in tagging.index.items():
        for implied in rules.implications.get(tag, ()):
            if implied in tagging.index:
                assert (once_BV[:, tagging.index[implied]] >= once_BV[:, place]).all()
    # A bundle that was fitted with the rules gives the same when they are named again.
    again = Tagging.of(vocabulary, rules, rules)
    assert again.index == tagging.index
    np.testing.assert_array_equal(again.raised(scores_BV), once_BV)


def test_tags_are_renamed_joined_by_what_they_imply_and_picked() -> None:
    rules = VocabularyRules(
        aliases={"Automobile": "car", "auto": "automobile"},
        implied={"dog": "animal", "animal": ["living  thing"], "cat": "animal"},
        exclude=["nsfw*"],
    )
    assert rules.rewritten(["AUTO", "dog", "nsfw x", "car"]) == (
        "car",
        "dog",
        "animal",
        "living thing",
    )
    lists = [["auto", "dog"], ["automobile"], ["cat"], ["sea", "nsfw y"]]
    vocabulary, rewritten = rules.learn(lists)
    assert vocabulary.tags == ("animal", "car", "living thing", "cat", "dog", "sea")
    assert vocabulary.counts == (2, 2, 2, 1, 1, 1)
    assert rewritten[0] == ("car", "dog", "animal", "living thing")
    few, _ = rules.model_copy(update={"min_count": 2}).learn(lists)
    assert few.tags == ("animal", "car", "living thing")


def test_without_rules_nothing_changes() -> None:
    lists = [["Sea ", "sky"], ["sky"]]
    vocabulary, same = VocabularyRules().learn(lists, ["Moon"])
    assert same is lists
    assert vocabulary.tags == ("sky", "sea", "moon")
    tagging = Tagging.of(vocabulary, VocabularyRules(), VocabularyRules())
    assert tagging.tags == vocabulary.tags
    assert tagging.allowed is None
    scores_BV = np.zeros((2, 3), np.float32)
    assert tagging.raised(scores_BV) is scores_BV


VOCABULARY = Vocabulary(
    ("sky", "car", "automobile", "dog", "animal", "catfish"), (9, 8, 5, 4, 2, 1)
)


def test_a_bundle_gives_by_the_rules_without_being_fitted_again() -> None:
    rules = VocabularyRules(
        aliases={"automobile": "car", "sky": "heaven"},
        implied={"dog": "animal"},
        groups={"pets": ["dog", "cat*"], "all": "*"},
        exclude=["catfish"],
    )
    tagging = Tagging.of(VOCABULARY, VocabularyRules(), rules)
    assert tagging.index == {"heaven": 0, "car": 1, "dog": 3, "animal": 4}
    scores_BV = np.array([[0.5, 0.2, 0.6, 0.7, 0.1, 0.9], [0.5, 0.8, 0.6, 0.1, 0.3, 0.9]], "f4")
    raised_BV = tagging.raised(scores_BV)
    np.testing.assert_array_equal(raised_BV[:, 1], np.array([0.6, 0.8], "f4"))
    np.testing.assert_array_equal(raised_BV[:, 4], np.array([0.7, 0.3], "f4"))
    places_BK = np.array([[1, 4], [1, 4]])
    assert tagging.origins(scores_BV, places_BK).tolist() == [[2, 3], [1, 4]]
    assert tagging.places("Automobile") == (1,)
    assert tagging.places("sky") == tagging.places("heaven") == (0,)
    assert tagging.places("pets") == (3,)
    assert tagging.places("all") == (0, 1, 3, 4)
    assert tagging.places("catfish") == ()
    assert tagging.among([1, 2, 5]) == (1,)
    frequent = Tagging.of(VOCABULARY, VocabularyRules(), VocabularyRules(min_count=4, max_tags=2))
    assert frequent.allowed == (0, 1)
    # A tag is as frequent as the most frequent of its aliases and of what implies it.
    assert tagging.counts == (9, 8, 5, 4, 4, 1)
    assert tagging.frequent_first == (0, 1, 3, 4)
    common = Tagging.of(VOCABULARY, rules, VocabularyRules(exclude=["dog"], min_count=4))
    assert list(common.index) == ["heaven", "car", "animal"]
    frequent = VocabularyRules(implied={"car": "animal"}, max_tags=3)
    assert Tagging.of(VOCABULARY, VocabularyRules(), frequent).allowed == (0, 1, 4)
    only = Tagging.of(VOCABULARY, rules, VocabularyRules(include=["pets"]))
    assert list(only.index) == ["dog", "catfish"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"aliases": {"a": "b", "b": "c", "c": "a"}}, "aliases: .*a -> b -> c -> a"),
        ({"aliases": {"a": "A "}}, "aliases: a -> a"),
        ({"implied": {"a": "b", "b": ["c"], "c": "b"}}, "implied: b -> c -> b"),
        ({"implied": {"a": "b"}, "aliases": {"b": "a"}}, "implied: a -> a"),
        ({"exclude": [" "]}, "no name of a tag"),
        ({"alias": {}}, "alias"),
    ],
)
def test_circles_and_nonsense_are_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VocabularyRules.model_validate(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"exclude": ["dgo"]}, "exclude: 'dgo' matches no tag of the corpus"),
        ({"include": ["z*"]}, r"include: 'z\*'"),
        ({"aliases": {"automobil": "car"}}, "aliases: 'automobil'"),
        ({"implied": {"dgo": "animal"}}, "implied: 'dgo'"),
        ({"groups": {"pets": ["dgo"]}}, "groups.pets: 'dgo'"),
        ({"groups": {"dog": ["cat"]}}, "'dog' is the name of a tag"),
    ],
)
def test_unknown_names_are_refused(content: dict[str, object], message: str) -> None:
    rules = VocabularyRules.model_validate(content)
    with pytest.raises(ConfigError, match=message):
        rules.learn([["dog", "cat", "car"], ["cat"]])


def test_a_bundle_refuses_what_it_cannot_give() -> None:
    none = VocabularyRules()
    with pytest.raises(ConfigError, match="implied: 'thing' matches no tag of the bundle"):
        Tagging.of(VOCABULARY, none, VocabularyRules(implied={"dog": "thing"}))
    with pytest.raises(ConfigError, match="leave none"):
        Tagging.of(VOCABULARY, none, VocabularyRules(exclude=["*"]))
    own = VocabularyRules(implied={"dog": "animal"})
    with pytest.raises(ConfigError, match=r"bundle's own rules.*circle"):
        Tagging.of(VOCABULARY, own, VocabularyRules(implied={"animal": "dog"}))


def test_rules_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('min_count = 2\nexclude = "sea"\n[aliases]\nauto = "car"\n', encoding="utf-8")
    rules = load_rules(file)
    assert (rules.min_count, rules.exclude, rules.aliases) == (2, ("sea",), {"auto": "car"})
    config = load_config(None, ["vocabulary.max_tags=7", "vocabulary.min_count=9"])
    config = with_rules(config, file)
    assert (config.vocabulary.max_tags, config.vocabulary.min_count) == (7, 2)
    assert FitConfig.model_validate_json(config.model_dump_json()) == config
    file.write_text("[alias]\nauto = 'car'\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rules\.toml: alias"):
        load_rules(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rules(tmp_path / "none.toml")


def test_equal_rules_hash_alike() -> None:
    one, same = (VocabularyRules(aliases={"automobile": "car"}) for _ in range(2))
    assert hash(one) == hash(same)
    assert {one: 1}[same] == 1
