"""Word vectors from word2vec and GloVe files, of which only the words asked for are kept."""

import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import fsspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.words.vectors import TagVectors, with_stand_ins

_CHUNK_BYTES = 1 << 20
_SAMPLE_BYTES = 1 << 16
_MAX_HEADER_BYTES = 100
_MAX_WORD_BYTES = 10_000
_MAX_WIDTH = 10_000
_SEPARATORS = re.compile(r"[\s_-]+")
_JOINERS = ("_", "-", " ")


@dataclass(frozen=True)
class _Found:
    """The width E of a file's vectors and those of its words that were wanted, float32 [E]."""

    width: int
    vectors: dict[bytes, NDArray[np.float32]]


@dataclass(frozen=True)
class Word2VecFile:
    """A word2vec file, binary or text (which fastText's `.vec` is too), told by its content.

    Both begin with a line of two numbers: how many words, how many dimensions. Binary: a word,
    a space, its float32 little-endian numbers, a line feed or none. Text: a line a word.
    """

    path: str

    def embed(self, tags: Sequence[str]) -> TagVectors:
        """Embed the tags: [V, E] float32 as the file has them, not normalised.

        Raises:
            ConfigError: the file is missing or malformed, or knows none of the tags.
        """
        return _embed(self.path, tags, _read_word2vec)


@dataclass(frozen=True)
class GloveFile:
    """A GloVe text file: a line a word, then its numbers; no header. Words may hold spaces."""

    path: str

    def embed(self, tags: Sequence[str]) -> TagVectors:
        """Embed the tags: [V, E] float32 as the file has them, not normalised.

        Raises:
            ConfigError: the file is missing or malformed, or knows none of the tags.
        """
        return _embed(self.path, tags, _read_glove)


def _embed(
    path: str,
    tags: Sequence[str],
    read: Callable[[str, BinaryIO, Collection[bytes]], _Found],
) -> TagVectors:
    words_V = [_words(tag) for tag in tags]
    units = [unit for words in words_V for unit in (words, *([word] for word in words))]
    with _opened(path) as stream:
        found = read(path, stream, {form for unit in units for form in _forms(unit)})

    def look_up(unit: Sequence[str]) -> NDArray[np.float32] | None:
        return next((found.vectors[form] for form in _forms(unit) if form in found.vectors), None)

    vectors_VE = np.zeros((len(tags), found.width), dtype=np.float32)
    known_V = np.zeros(len(tags), dtype=np.bool_)
    unknown_words: set[str] = set()
    for row, words in enumerate(words_V):
        whole = look_up(words)
        of_words = [look_up([word]) for word in words] if whole is None else [whole]
        known = [vector for vector in of_words if vector is not None]
        if whole is None:
            pairs = zip(words, of_words, strict=True)
            unknown_words |= {word for word, vector in pairs if vector is None}
        if known:
            vectors_VE[row] = np.mean(known, axis=0)
            known_V[row] = True
    return with_stand_ins(path, tags, vectors_VE, known_V, unknown_words)


def _words(tag: str) -> list[str]:
    return [word for word in _SEPARATORS.split(tag) if word] or [tag]


def _forms(words: Sequence[str]) -> list[bytes]:
    """Write one entry in every way a file may: as it is first, then lower case, then Capitals."""
    cased = (words, [word.lower() for word in words], [word.capitalize() for word in words])
    forms = (joiner.join(case).encode() for case in cased for joiner in _JOINERS)
    return list(dict.fromkeys(forms))


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        file = fsspec.open(path, "rb", compression="infer")
    except (ValueError, ImportError) as error:
        raise ConfigError(f"word vectors {path!r} cannot be opened: {error}") from error
    try:
        with file as stream:
            yield stream
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"word vectors {path!r} cannot be read ({type(error).__name__}: {error}); "
            "check the path, or fetch the file again"
        ) from error


def _malformed(path: str, place: str, found: str) -> NoReturn:
    raise ConfigError(f"word vectors {path!r}, {place}: {found}")


def _not_a_word_and_numbers(path: str, number: int, width: int, line: bytes) -> NoReturn:
    fields = len(line.split(b" "))
    _malformed(
        path,
        f"line {number}",
        f"expected a word and {width} numbers, found {fields} fields ({line[:40]!r}…); "
        "mend or drop the line, or fetch the file again",
    )


def _read_word2vec(path: str, stream: BinaryIO, wanted: Collection[bytes]) -> _Found:
    header = stream.readline(_MAX_HEADER_BYTES)
    match = re.fullmatch(rb"(\d+)[ \t]+(\d+)\s*", header)
    if match is None:
        _malformed(
            path,
            "line 1",
            f"a word2vec file starts with its number of words and of dimensions, found "
            f"{header[:40]!r}; for a file without that line use 'glove:{path}'",
        )
    count, width = int(match[1]), int(match[2])
    if not 1 <= width <= _MAX_WIDTH:
        _malformed(path, "line 1", f"{width} dimensions, expected 1 to {_MAX_WIDTH}")
    sample = stream.read(_SAMPLE_BYTES)
    stream.seek(len(header))
    if not _is_text(sample):
        return _read_binary(path, stream, wanted, count, width)
    found = _Found(width, {})
    lines = 0
    for lines, line in enumerate(_lines(stream), start=1):
        if line.count(b" ") != width:
            _not_a_word_and_numbers(path, lines + 1, width, line)
        word, _, numbers = line.partition(b" ")
        if word in wanted:
            vector_E = _parse(path, f"line {lines + 1}", numbers.split(b" "))
            found.vectors.setdefault(word, vector_E)
    if lines != count:
        _malformed(path, "line 1", f"{count} words announced, {lines} found; the file may be cut")
    return found


def _is_text(sample: bytes) -> bool:
    """Tell text, even malformed text, from float32 bytes; both after the header."""
    controls = bytes(set(range(32)) - set(b"\t\r\n"))
    if sample.translate(None, controls) != sample:
        return False
    fields = sample.partition(b"\n")[0].split()[1:]
    return not sample.strip() or any(_is_number(field) for field in fields)


def _read_binary(
    path: str, stream: BinaryIO, wanted: Collection[bytes], count: int, width: int
) -> _Found:
    found = _Found(width, {})
    start_of_buffer, start, buffer = stream.tell(), 0, b""
    for entry in range(count):
        space = buffer.find(b" ", start)
        while space < 0 or len(buffer) < space + 1 + 4 * width:
            place = f"byte {start_of_buffer + start}"
            if space < 0 and len(buffer) - start > _MAX_WORD_BYTES:
                _malformed(path, place, "no word begins here; are the dimensions right?")
            chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                left = len(buffer) - start
                _malformed(
                    path,
                    place,
                    f"the file ends {left} bytes into word {entry + 1} of {count}; fetch it again",
                )
            buffer = buffer[start:] + chunk
            start_of_buffer, start = start_of_buffer + start, 0
            space = buffer.find(b" ")
        word = buffer[start:space].lstrip(b"\n")
        if word in wanted:
            vector_E = np.frombuffer(buffer, "<f4", width, space + 1).astype(np.float32)
            place = f"byte {start_of_buffer + space + 1}"
            found.vectors.setdefault(word, _finite(path, place, vector_E))
        start = space + 1 + 4 * width
    if (rest := buffer[start:] + stream.read(_CHUNK_BYTES)).strip(b"\n"):
        _malformed(
            path,
            f"byte {start_of_buffer + start}",
            f"more data after the {count} words announced ({rest[:20]!r}); "
            f"is {width} the right number of dimensions?",
        )
    return found


def _read_glove(path: str, stream: BinaryIO, wanted: Collection[bytes]) -> _Found:
    first_words = {form.partition(b" ")[0] for form in wanted}
    found: _Found | None = None
    for number, line in enumerate(_lines(stream), start=1):
        if found is None:
            if re.fullmatch(rb"\d+[ \t]+\d+", line):
                _malformed(path, "line 1", f"a word2vec header; use 'word2vec:{path}'")
            found = _Found(line.count(b" "), {})
        width = found.width
        spaces = line.count(b" ")
        is_ordinary = spaces == width and number > 1
        if is_ordinary and line.partition(b" ")[0] not in first_words:
            continue
        word, *numbers = line.rsplit(b" ", width)
        # A word may hold spaces, but one that ends in a number is a line with too many numbers.
        if not 0 < width <= spaces or (b" " in word and _is_number(word.rpartition(b" ")[2])):
            _not_a_word_and_numbers(path, number, max(width, 1), line)
        vector_E = _parse(path, f"line {number}", numbers)
        if word in wanted:
            found.vectors.setdefault(word, vector_E)
    if found is None:
        _malformed(path, "line 1", "the file is empty")
    return found


def _lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    return (line.rstrip(b" \r\n") for line in stream)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _parse(path: str, place: str, fields: Sequence[bytes]) -> NDArray[np.float32]:
    if odd := [field for field in fields if not _is_number(field)]:
        _malformed(path, place, f"{odd[0][:40]!r} is not a number")
    return _finite(path, place, np.array([float(field) for field in fields], dtype=np.float32))


def _finite(path: str, place: str, vector_E: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(vector_E).all():
        _malformed(path, place, "a number that is not finite")
    return vector_E
