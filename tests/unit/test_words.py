"""Word vectors of tags: each format read back, odd tags looked up, broken files refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.words import TagVectors, word_vector_source

Words = dict[str, list[float]]

WORDS: Words = {
    "dog": [1.0, 0.0, 0.5],
    "hot": [0.0, 2.0, 0.0],
    "hot_dog": [9.0, 9.0, 9.0],
    "Paris": [0.0, 0.0, -4.0],
    "New_York": [3.0, 1.0, 0.0],
    "t-shirt": [0.25, 0.0, 0.0],
    "Apple": [5.0, 0.0, 0.0],
    "apple": [0.0, 5.0, 0.0],
}


def binary_bytes(words: Words, width: int = 3, line_feed: bytes = b"\n") -> bytes:
    records = [
        word.encode() + b" " + np.array(vector, dtype="<f4").tobytes() + line_feed
        for word, vector in words.items()
    ]
    return f"{len(words)} {width}\n".encode() + b"".join(records)


def glove_bytes(words: Words) -> bytes:
    lines = [" ".join([word, *map(repr, vector)]) for word, vector in words.items()]
    return "".join(line + "\n" for line in lines).encode()


def text_bytes(words: Words, width: int = 3) -> bytes:
    return f"{len(words)} {width}\n".encode() + glove_bytes(words)


WRITERS = {
    "binary": ("word2vec", binary_bytes),
    "text": ("word2vec", text_bytes),
    "glove": ("glove", glove_bytes),
}


def rows(*vectors: list[float]) -> NDArray[np.float32]:
    return np.array(vectors, dtype=np.float32)


def embed(folder: Path, kind: str, content: bytes, *tags: str) -> TagVectors:
    path = folder / "words.dat"
    path.write_bytes(content)
    return word_vector_source(f"{kind}:{path}").embed(tags)


@pytest.fixture(params=WRITERS)
def source_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file of WORDS in each format, by its source's name."""
    kind, write = WRITERS[request.param]
    path = tmp_path / "words.dat"
    path.write_bytes(write(WORDS))
    return f"{kind}:{path}"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("dog", "dog"),
        ("DOG", "dog"),
        ("paris", "Paris"),
        ("PARIS", "Paris"),
        ("Apple", "Apple"),
        ("apple", "apple"),
        ("APPLE", "apple"),
        ("hot dog", "hot_dog"),
        ("Hot-Dog", "hot_dog"),
        ("new york", "New_York"),
        ("t-shirt", "t-shirt"),
        ("T shirt", "t-shirt"),
    ],
)
def test_one_entry_is_found_in_any_spelling(source_name: str, tag: str, expected: str) -> None:
    found = word_vector_source(source_name).embed([tag])
    np.testing.assert_array_equal(found.vectors_VE, rows(WORDS[expected]))
    assert found.known_V.tolist() == [True]
    assert found.unknown_words == ()


def test_a_tag_without_an_entry_is_the_mean_of_its_words(source_name: str) -> None:
    found = word_vector_source(source_name).embed(["hot paris", "big dog"])
    np.testing.assert_array_equal(found.vectors_VE, rows([0.0, 1.0, -2.0], WORDS["dog"]))
    assert found.known_V.all()
    assert found.unknown_words == ("big",)


def test_an_unknown_tag_is_told_and_stands_at_the_mean(source_name: str) -> None:
    tags = ["zebra crossing", "dog", "aardvark", "hot", "dog", "-"]
    found = word_vector_source(source_name).embed(tags)
    assert found.vectors_VE.dtype == np.float32
    assert found.known_V.tolist() == [False, True, False, True, True, False]
    assert found.unknown_words == ("-", "aardvark", "crossing", "zebra")
    mean = np.mean([WORDS["dog"], WORDS["hot"], WORDS["dog"]], axis=0)
    np.testing.assert_allclose(found.vectors_VE[[0, 2, 5]], [mean] * 3, rtol=1e-6)


def test_no_known_tag_at_all_is_refused(source_name: str) -> None:
    with pytest.raises(ConfigError, match=r"none of the 2 tags is known .*'chien', 'chat'"):
        word_vector_source(source_name).embed(["chien", "chat"])


def test_no_tags_give_no_rows(source_name: str) -> None:
    assert word_vector_source(source_name).embed([]).vectors_VE.shape == (0, 3)


@pytest.mark.parametrize("form", WRITERS)
def test_gzip_reads_as_the_plain_file(form: str, tmp_path: Path) -> None:
    kind, write = WRITERS[form]
    path = tmp_path / "words.gz"
    path.write_bytes(gzip.compress(write(WORDS)))
    found = word_vector_source(f"{kind}:{path}").embed(["dog", "Paris"])
    np.testing.assert_array_equal(found.vectors_VE, rows(WORDS["dog"], WORDS["Paris"]))


def test_binary_may_come_without_line_feeds(tmp_path: Path) -> None:
    found = embed(tmp_path, "word2vec", binary_bytes(WORDS, line_feed=b""), "apple", "hot")
    np.testing.assert_array_equal(found.vectors_VE, rows(WORDS["apple"], WORDS["hot"]))


def test_binary_is_read_across_chunks(tmp_path: Path) -> None:
    width, count = 300, 2_500
    vectors = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    words: Words = {f"w{row}": vectors[row].tolist() for row in range(count)}
    chosen = [0, 873, 874, 1_747, count - 1]
    found = embed(tmp_path, "word2vec", binary_bytes(words, width), *(f"w{row}" for row in chosen))
    np.testing.assert_array_equal(found.vectors_VE, vectors[chosen])


def test_glove_words_may_hold_spaces(tmp_path: Path) -> None:
    content = glove_bytes({"dog": [1.0, 2.0], ". . .": [3.0, 4.0], "ice cream": [5.0, 6.0]})
    found = embed(tmp_path, "glove", content, "ice cream", "dog")
    np.testing.assert_array_equal(found.vectors_VE, rows([5.0, 6.0], [1.0, 2.0]))


def test_the_first_of_two_equal_words_counts(tmp_path: Path) -> None:
    found = embed(tmp_path, "glove", b"dog 1 2\ndog 3 4\n", "dog")
    np.testing.assert_array_equal(found.vectors_VE, rows([1.0, 2.0]))


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("word2vec", b"", "line 1: .*number of words and of dimensions, found b''"),
        ("word2vec", glove_bytes(WORDS), "line 1: .*use 'glove:"),
        ("word2vec", b"1 0\ndog\n", "line 1: 0 dimensions"),
        ("word2vec", b"1 99999999999\ndog 1\n", "line 1: 99999999999 dimensions"),
        ("word2vec", b"2 2\ndog 1 2\nhot 1\n", "line 3: expected a word and 2 numbers, found 2"),
        ("word2vec", b"2 2\ndog 1 2\nhot 1 2 3\n", "line 3: expected a word and 2 numbers"),
        ("word2vec", b"1 2\ndog 1 x\n", "line 2: b'x' is not a number"),
        ("word2vec", b"1 2\ndog 1 nan\n", "line 2: a number that is not finite"),
        ("word2vec", b"3 2\ndog 1 2\nhot 1 2\n", "3 words announced, 2 found"),
        ("word2vec", binary_bytes(WORDS)[:-9], "byte 139: the file ends 11 bytes into word 8 of 8"),
        ("word2vec", binary_bytes(WORDS, width=4), "byte .*the file ends"),
        ("word2vec", binary_bytes({"dog": [1.0] * 5}, width=3), "right number of dimensions"),
        ("word2vec", b"1 1\n" + b"\0" * 20_000, "byte 4: no word begins here"),
        ("word2vec", binary_bytes({"dog": [np.inf, 0, 0]}), "byte 8: .*not finite"),
        ("glove", b"", "line 1: the file is empty"),
        ("glove", b"\n", "line 1: expected a word"),
        ("glove", b"dog\n", "line 1: expected a word"),
        ("glove", b"dog 1 x\n", "line 1: b'x' is not a number"),
        ("glove", b"hot 1 2\ndog 1\n", "line 2: expected a word and 2 numbers"),
        ("glove", b"hot 1 2\ndog 1 2 3\n", "line 2: expected a word and 2 numbers, found 4"),
        ("glove", text_bytes(WORDS), "line 1: .*use 'word2vec:"),
        ("glove", binary_bytes(WORDS), "line 1: .*use 'word2vec:"),
    ],
)
def test_a_malformed_file_is_named_with_the_place(
    kind: str, content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        embed(tmp_path, kind, content, "dog")
    assert "words.dat" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.txt", None),
        ("cut.gz", gzip.compress(text_bytes(WORDS))[:-12]),
        ("plain.gz", text_bytes(WORDS)),
        ("plain.zip", text_bytes(WORDS)),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}' cannot be read"):
        word_vector_source(f"word2vec:{tmp_path / name}").embed(["dog"])


def test_a_protocol_that_is_unknown_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'nope://a.txt' cannot be opened"):
        word_vector_source("glove:nope://a.txt").embed(["dog"])


@pytest.mark.parametrize("name", ["", "word2vec", "glove:", "bert", "minilm:x", "Binary"])
def test_a_name_that_is_unknown_gets_the_choices(name: str) -> None:
    with pytest.raises(ConfigError, match="choose 'minilm', 'binary', 'word2vec:PATH' or 'glove"):
        word_vector_source(name)


@st.composite
def vocabularies(draw: st.DrawFn) -> tuple[list[str], NDArray[np.float32]]:
    letters = st.characters(categories=("Ll", "Lu", "Lo", "Nd"), codec="utf-8")
    # Distinct as they are, yet maybe equal in lower case: the exact spelling must win.
    words = draw(st.lists(st.text(letters, min_size=1), min_size=1, max_size=6, unique=True))
    numbers = st.floats(-(2.0**100), 2.0**100, width=32)
    shape = (len(words), draw(st.integers(1, 5)))
    return words, draw(hnp.arrays(np.float32, shape, elements=numbers))


@pytest.mark.parametrize("form", WRITERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(vocabulary=vocabularies(), line_feed=st.sampled_from([b"\n", b""]))
def test_what_is_written_is_read(
    form: str,
    vocabulary: tuple[list[str], NDArray[np.float32]],
    line_feed: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    names, vectors_VE = vocabulary
    words: Words = dict(zip(names, vectors_VE.tolist(), strict=True))
    width = vectors_VE.shape[1]
    content = {
        "binary": lambda: binary_bytes(words, width, line_feed),
        "text": lambda: text_bytes(words, width),
        "glove": lambda: glove_bytes(words),
    }[form]()
    found = embed(tmp_path_factory.mktemp("words"), WRITERS[form][0], content, *names)
    np.testing.assert_array_equal(found.vectors_VE, vectors_VE)
    assert found.known_V.all()
    assert found.unknown_words == ()


def test_binary_is_one_dimension_a_tag() -> None:
    found = word_vector_source("binary").embed(["dog", "qzxv", "hot dog"])
    np.testing.assert_array_equal(found.vectors_VE, np.eye(3, dtype=np.float32))
    assert found.vectors_VE.dtype == np.float32
    assert found.known_V.all()
    assert found.unknown_words == ()


class TestSentenceEncoder:
    def test_near_meanings_are_near(self) -> None:
        found = word_vector_source("minilm").embed(["dog", "puppy", "car", "truck"])
        dog, puppy, car, truck = found.vectors_VE
        assert dog @ puppy > dog @ car + 0.2
        assert car @ truck > car @ dog + 0.2

    def test_rows_are_unit_length_and_independent_of_the_batch(self) -> None:
        tags = ["dog", "a very long tag of a great many words", *(f"thing {n}" for n in range(64))]
        source = word_vector_source("minilm")
        together = source.embed(tags)
        assert together.vectors_VE.shape == (66, 384)
        assert together.vectors_VE.dtype == np.float32
        assert together.known_V.all()
        np.testing.assert_allclose(np.linalg.norm(together.vectors_VE, axis=1), 1, atol=1e-5)
        alone = np.concatenate([source.embed([tag]).vectors_VE for tag in (tags[0], tags[-1])])
        np.testing.assert_allclose(alone, together.vectors_VE[[0, -1]], atol=1e-5)
        np.testing.assert_array_equal(source.embed(tags).vectors_VE, together.vectors_VE)

    def test_these_are_the_published_vectors(self) -> None:
        # The first numbers that sentence_transformers' own `encode` gives for these weights.
        found = word_vector_source("minilm").embed(["dog", "hot_dog"])
        expected = [[-0.05314706, 0.01419438, 0.00714573], [-0.07113681, -0.0083412, -0.04908534]]
        np.testing.assert_allclose(found.vectors_VE[:, :3], expected, atol=1e-5)

    def test_what_has_no_piece_is_unknown(self) -> None:
        found = word_vector_source("minilm").embed(["dog", "\U0001fae8", "cat \U0001fae8", " "])
        assert found.known_V.tolist() == [True, False, True, False]
        assert found.unknown_words == (" ", "\U0001fae8")
        mean = found.vectors_VE[[0, 2]].mean(axis=0)
        np.testing.assert_allclose(found.vectors_VE[[1, 3]], [mean, mean], atol=1e-6)

    @pytest.mark.filterwarnings("error")
    def test_it_is_quiet_and_draws_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        before = torch.get_rng_state()
        word_vector_source("minilm").embed(["dog"])
        assert capfd.readouterr() == ("", "")
        assert torch.equal(torch.get_rng_state(), before)
