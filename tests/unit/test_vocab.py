"""The vocabulary: which tags are learned, in what order, and what its digest holds fast."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import BundleError, CorpusError
from engine.vocab import Vocabulary, check_digest, normalise_tag, normalise_tags

BOUNDED = settings(max_examples=300, derandomize=True, deadline=None, database=None)


@BOUNDED
@given(st.text(max_size=12))
@example("H\N{COMBINING MACRON BELOW}")
@example("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}")
@example("\N{KELVIN SIGN}")
@example(" Two\N{NO-BREAK SPACE} words\t")
def test_normalising_twice_changes_nothing(tag: str) -> None:
    once = normalise_tag(tag)
    assert normalise_tag(once) == once
    assert once == once.strip()
    assert "  " not in once


@BOUNDED
@given(st.text(max_size=12))
def test_one_spelling_whatever_the_unicode_form(tag: str) -> None:
    assert normalise_tag(unicodedata.normalize("NFD", tag)) == normalise_tag(
        unicodedata.normalize("NFC", tag)
    )


def test_tags_of_a_picture_are_distinct_and_keep_their_order() -> None:
    given = ["Sea", " sky ", "SEA", "", "  ", "Red  Car"]
    assert normalise_tags(given) == ("sea", "sky", "red car")


def test_the_most_frequent_come_first_and_ties_by_the_alphabet() -> None:
    vocabulary = Vocabulary.learn([["b", "a"], ["c", "b"], ["B", "b", "d"], ["a"]])
    assert vocabulary.tags == ("b", "a", "c", "d")
    assert vocabulary.counts == (3, 2, 1, 1)
    assert vocabulary.frequencies_V.tolist() == [3, 2, 1, 1]
    assert vocabulary.index == {"b": 0, "a": 1, "c": 2, "d": 3}
    assert len(vocabulary) == 4


def test_min_count_and_max_tags_leave_out_the_rare() -> None:
    tags = [["a", "b", "c"], ["a", "b"], ["a"]]
    assert Vocabulary.learn(tags, min_count=2).tags == ("a", "b")
    assert Vocabulary.learn(tags, max_tags=2).tags == ("a", "b")


@pytest.mark.parametrize(
    ("tags", "min_count", "message"),
    [
        ([], 1, "no picture of the corpus has a tag"),
        ([["", "  "], []], 1, "no picture of the corpus has a tag"),
        ([["Sea"], ["sea"]], 1, "the corpus has 'sea'"),
        ([["a", "b", "c"], ["a"]], 2, "of which 1 occur 2 times.*vocabulary.min_count"),
    ],
)
def test_too_few_tags_are_refused(tags: list[list[str]], min_count: int, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        Vocabulary.learn(tags, min_count)


def test_the_digest_is_of_the_tags_in_order() -> None:
    one = Vocabulary(("a", "b"), (2, 1))
    assert one.digest == Vocabulary(("a", "b"), (9, 9)).digest
    others = [("b", "a"), ("a",), ("a", "b", "c"), ("ab",), ('a", "b',)]
    assert len({one.digest, *(Vocabulary(tags, (1,) * len(tags)).digest for tags in others)}) == 6


def test_a_tag_twice_is_refused() -> None:
    with pytest.raises(CorpusError, match="twice"):
        Vocabulary(("a", "a"), (1, 1))


def test_encoding_knows_its_tags_in_any_spelling() -> None:
    vocabulary = Vocabulary(("sea", "sky", "dog"), (3, 2, 1))
    encoded = vocabulary.encode([["SKY", "sky", "unheard-of"], [], ["dog", " Sea"]])
    assert encoded.dtype == np.float32
    assert encoded.toarray().tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert vocabulary.encode([]).shape == (0, 3)


def test_places_are_those_in_the_list_without_what_is_not_known() -> None:
    vocabulary = Vocabulary.learn([["b", "a"], ["b"]])
    places_NV = vocabulary.encode_places([["a", "unknown", "B"], ["unknown"], ["b", "a", "b"]])
    assert places_NV.toarray().tolist() == [[2, 1], [0, 0], [1, 2]]


def test_save_and_load_is_the_identity(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("été", "海", "red car"), (3, 2, 1))
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


def test_tags_that_do_not_match_their_digest_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    Vocabulary(("a", "b"), (2, 1)).save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["tags"] = ["b", "a"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def test_a_foreign_digest_is_refused() -> None:
    check_digest("x", "0123", "0123")
    with pytest.raises(BundleError, match="annotator 'x' was fitted on vocabulary 0123"):
        check_digest("annotator 'x'", "0123", "4567")


def test_more_tags_join_at_the_end_as_never_seen() -> None:
    learned = Vocabulary.learn([["sea", "sky"], ["sea"]])
    more = learned.including([" Zebra ", "sky", "ape", "zebra"])
    assert more.tags == ("sea", "sky", "zebra", "ape")
    assert more.counts == (2, 1, 0, 0)
    assert more.digest != learned.digest
    assert learned.including(["sky"]) == learned
    assert more.encode([["ape", "sea"]]).toarray().tolist() == [[1, 0, 0, 1]]
