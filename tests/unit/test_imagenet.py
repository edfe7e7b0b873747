"""The tags of a backbone's own 1,000 classes: names, everyday words above them, and ranking."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.imagenet_info import ImageNetInfo

from engine.errors import ConfigError
from engine.imagenet import (
    CLASSES,
    PACKAGED_WORDS,
    ClassTags,
    class_tags,
    class_words,
    everyday_words,
)
from engine.imagenet_words import packaged
from engine.wordnet import Nouns, find_wordnet, read_nouns

# A few of WordNet's real hypernyms, by which those of the 1,000 classes below are lifted; the
# other classes of the file that is drawn here hang from "entity".
ENTITY = "00001740"
ANIMAL = "00015388"
DOG = "02084071"
DOMESTIC_CAT = "02121808"
CAT = "02121620"
MACHINE = "03699975"
ABOVE = {
    "00015388": (ENTITY,),
    DOG: ("02083346", ANIMAL),
    "02083346": (ANIMAL,),
    "02099029": (DOG,),  # retriever
    CAT: (ANIMAL,),
    DOMESTIC_CAT: (CAT,),
    "07881800": ("00021265", ENTITY),  # beverage, then food
    "00021265": (ENTITY,),
    "07929519": ("07881800",),  # coffee
    MACHINE: (ENTITY,),
    "02099601": ("02099029",),  # golden retriever
    "02099712": ("02099029",),  # Labrador retriever
    "02123045": (DOMESTIC_CAT,),  # tabby
    "02666196": (MACHINE,),  # abacus
    "07920052": ("07929519",),  # espresso
}
TABBY, GOLDEN_RETRIEVER, ESPRESSO, ABACUS = 281, 207, 967, 398
LICENCE = "  1 This software and database is provided\n  2 WordNet 3.0 Copyright 2006\n"


def line(offset: str, above: tuple[str, ...]) -> str:
    """One synset of data.noun, with a pointer that is no hypernym and a gloss that looks odd."""
    pointers = " ".join(f"@ {other} n 0000" for other in above)
    count = f"{len(above) + 1:03d}"
    return f"{offset} 05 n 02 a_word 0 word 1 {count} {pointers} ~ 00002137 n 0000 | a; 1 | b \n"


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = ImageNetInfo()
    classes = {info.index_to_label_name(c).removeprefix("n"): (ENTITY,) for c in range(CLASSES)}
    folder = tmp_path_factory.mktemp("wordnet")
    synsets = {ENTITY: (), **classes, **ABOVE}
    text = "".join(line(offset, above) for offset, above in synsets.items())
    (folder / "data.noun").write_text(LICENCE + text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lifted(wordnet: Path) -> ClassTags:
    return class_tags(wordnet)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ClassTags:
    """The classes with no word above any: their own names alone."""
    no_words = tmp_path_factory.mktemp("plain") / "words.json"
    info = ImageNetInfo()
    words: dict[str, dict[str, float]] = {info.index_to_label_name(c): {} for c in range(CLASSES)}
    no_words.write_text(packaged(words), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.imagenet.PACKAGED_WORDS", no_words)
        return class_tags(None)


@pytest.fixture(scope="module")
def from_package() -> ClassTags:
    return class_tags(None)


def tags_of(index: int, classes: ClassTags) -> set[str]:
    row = classes.membership_CV[[index]].toarray()[0]
    return {tag for tag, carried in zip(classes.tags, row, strict=True) if carried}


def ranked(classes: ClassTags, probabilities: dict[int, float]) -> list[str]:
    """The tags above zero, best first, where the rest of the softmax lies evenly on all classes."""
    probabilities_BC = np.full((1, CLASSES), (1 - sum(probabilities.values())) / CLASSES)
    for index, probability in probabilities.items():
        probabilities_BC[0, index] += probability
    scores_V = classes.scores(probabilities_BC.astype(np.float32))[0]
    order = np.argsort(-scores_V, kind="stable")
    return [classes.tags[v] for v in order if scores_V[v] > 1e-3]


def test_every_class_has_a_clean_name(plain: ClassTags) -> None:
    assert plain.membership_CV.shape == (CLASSES, len(plain.tags))
    assert plain.membership_CV.sum(axis=1).min() >= 1
    assert plain.membership_CV.sum(axis=0).min() >= 1
    assert list(plain.tags) == sorted(set(plain.tags))
    assert all(tag == tag.lower().strip() and "_" not in tag and tag for tag in plain.tags)


@pytest.mark.parametrize(
    ("index", "tags"),
    [
        (TABBY, {"tabby"}),
        (ESPRESSO, {"espresso"}),
        (134, {"crane"}),
        (517, {"construction crane"}),
        (638, {"swimsuit"}),
        (639, {"swimsuit"}),
        (264, {"cardigan corgi"}),
        (474, {"cardigan"}),
        (412, {"trash can"}),
        (978, {"beach", "sea"}),
    ],
)
def test_names_are_those_people_use_and_tell_classes_apart(
    plain: ClassTags, index: int, tags: set[str]
) -> None:
    assert tags_of(index, plain) == tags


def test_classes_share_a_name_only_where_they_are_the_same_thing(plain: ClassTags) -> None:
    per_class = [tags_of(index, plain) for index in range(CLASSES)]
    shared = {tag for tag, classes in Counter(chain(*per_class)).items() if classes > 1}
    things = "chicken", "corn", "laptop", "missile", "nut", "rocket", "sunglasses", "swimsuit"
    assert shared == set(things)


def test_wordnet_lifts_a_class_to_everyday_words_alone(lifted: ClassTags) -> None:
    assert tags_of(TABBY, lifted) == {"tabby", "cat", "animal"}
    assert tags_of(GOLDEN_RETRIEVER, lifted) == {"golden retriever", "retriever", "dog", "animal"}
    assert tags_of(ESPRESSO, lifted) == {"espresso", "coffee", "drink", "food"}
    assert tags_of(ABACUS, lifted) == {"abacus", "machine"}
    assert "entity" not in lifted.tags


def test_the_everyday_word_is_first_then_the_detail_then_the_kind(lifted: ClassTags) -> None:
    assert ranked(lifted, {GOLDEN_RETRIEVER: 0.8})[:2] == ["dog", "golden retriever"]
    assert ranked(lifted, {GOLDEN_RETRIEVER: 0.8})[-1] == "animal"
    assert ranked(lifted, {ABACUS: 0.8}) == ["abacus", "machine"]


def test_the_kind_comes_before_a_detail_that_is_not_sure(lifted: ClassTags) -> None:
    tags = ranked(lifted, {GOLDEN_RETRIEVER: 0.3, GOLDEN_RETRIEVER + 1: 0.1, TABBY: 0.4})
    assert tags.index("cat") < tags.index("animal") < tags.index("retriever")


def test_a_softmax_that_says_nothing_gives_no_tag(lifted: ClassTags) -> None:
    assert ranked(lifted, {}) == []


@settings(max_examples=25, deadline=None)
@given(logits=st.lists(st.floats(-20, 20), min_size=8, max_size=8), seed=st.integers(0, 2**32 - 1))
def test_scores_stay_between_nought_and_one(
    lifted: ClassTags, logits: list[float], seed: int
) -> None:
    picked = np.random.default_rng(seed).choice(CLASSES, 8, replace=False)
    exponents = np.zeros((1, CLASSES))
    exponents[0, picked] = logits
    powers = np.exp(exponents - exponents.max())
    scores_BV = lifted.scores((powers / powers.sum()).astype(np.float32))
    assert scores_BV.shape == (1, len(lifted.tags))
    assert scores_BV.dtype == np.float32
    assert scores_BV.min() >= 0
    assert scores_BV.max() <= 1


def test_weights(lifted: ClassTags, plain: ClassTags) -> None:
    weights = dict(zip(lifted.tags, lifted.weights_V, strict=True))
    assert weights["dog"] == weights["cat"] == weights["abacus"] == 1
    assert 1 > weights["golden retriever"] == weights["retriever"] == weights["espresso"]
    assert weights["golden retriever"] > weights["animal"] == weights["drink"] > 0
    own = dict(zip(plain.tags, plain.weights_V, strict=True))
    assert own["golden retriever"] == 1


def test_the_nearest_everyday_words_come_first() -> None:
    nouns = Nouns({ENTITY: (), **ABOVE})
    words = everyday_words("02099601", nouns)
    assert list(words) == ["retriever", "dog", "animal"]


def test_hypernyms_are_read_nearest_first_and_once(wordnet: Path) -> None:
    nouns = read_nouns(wordnet)
    assert list(nouns.above("02099601")) == ["02099029", DOG, "02083346", ANIMAL, ENTITY]
    assert list(nouns.above(ENTITY)) == []


def test_instances_and_hexadecimal_word_counts_are_read(tmp_path: Path) -> None:
    words = " ".join(f"w{i} 0" for i in range(11))
    text = f"00000009 15 n 0b {words} 001 @i {ENTITY} n 0000 | an instance\n"
    (tmp_path / "data.noun").write_text(LICENCE + line(ENTITY, ()) + text, encoding="utf-8")
    assert list(read_nouns(tmp_path).above("00000009")) == [ENTITY]


def test_another_edition_is_refused(tmp_path: Path) -> None:
    text = LICENCE.replace("3.0", "3.1") + line(ENTITY, ())
    (tmp_path / "data.noun").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"not of WordNet 3\.0"):
        class_tags(tmp_path)


def test_a_file_without_the_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(LICENCE + line(ENTITY, ()), encoding="utf-8")
    with pytest.raises(ConfigError, match="no synset 01440764"):
        class_tags(tmp_path)


def test_a_folder_without_wordnet_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=tmp_path.name):
        class_tags(tmp_path)


def test_wordnet_is_found_in_the_first_folder_that_holds_it(wordnet: Path, tmp_path: Path) -> None:
    assert find_wordnet([tmp_path, wordnet]) == wordnet
    assert find_wordnet([tmp_path]) is None
    assert find_wordnet([]) is None


def test_without_wordnet_nearly_every_class_is_lifted(
    from_package: ClassTags, plain: ClassTags
) -> None:
    lifts = [tags_of(c, from_package) > tags_of(c, plain) for c in range(CLASSES)]
    assert sum(lifts) >= 0.95 * CLASSES
    assert tags_of(TABBY, from_package) == {"tabby", "cat", "animal"}
    assert tags_of(ESPRESSO, from_package) == {"espresso", "coffee", "drink", "food"}
    assert tags_of(985, from_package) == {"daisy", "flower", "plant"}
    assert tags_of(817, from_package) == {"sports car", "car", "vehicle"}
    assert {"palace", "building"} <= tags_of(698, from_package)
    assert {"entity", "artifact", "carnivore", "instrumentality"}.isdisjoint(from_package.tags)


def test_the_licence_of_the_packaged_words_lies_beside_them() -> None:
    notice = PACKAGED_WORDS.with_name("NOTICE-wordnet.txt").read_text(encoding="utf-8")
    assert PACKAGED_WORDS.name in notice
    assert "WordNet 3.0 Copyright 2006 by Princeton University." in notice


@pytest.mark.skipif(find_wordnet() is None, reason="WordNet 3.0 is not installed")
def test_the_packaged_words_are_those_of_the_real_wordnet(from_package: ClassTags) -> None:
    folder = find_wordnet()
    assert folder is not None
    live = class_tags(folder)
    assert live.tags == from_package.tags
    assert np.array_equal(live.weights_V, from_package.weights_V)
    assert np.array_equal(live.membership_CV.toarray(), from_package.membership_CV.toarray())
    written = packaged(class_words(read_nouns(folder)))
    assert PACKAGED_WORDS.read_text(encoding="utf-8") == written, (
        "run python -m engine.imagenet_words"
    )
