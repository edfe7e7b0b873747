"""Bags of social words: which words count, and which of them users gave a picture."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.vocab import normalise_tags

Words = tuple[str, ...]


def corpus_words(corpus: Corpus) -> list[Words]:
    """The normalised, distinct social words of each picture; none where none are known."""
    given = corpus.social_tags or ((),) * len(corpus)
    return [normalise_tags(words) for words in given]


def batch_words(batch: pa.Table) -> list[Words]:
    """The same of a batch that has the column `schema.SOCIAL_TAGS`, in which nulls are allowed."""
    given: Iterable[Sequence[str | None] | None] = batch.column(schema.SOCIAL_TAGS).to_pylist()
    return [normalise_tags(filter(None, one or ())) for one in given]


def frequent_words(lists: Sequence[Words], most: int, min_count: int, group: Group) -> Words:
    """The words of the group's pictures, the most frequent first, ties in alphabetical order.

    Args:
        lists: of this rank's pictures; distinct words each.
        most: at most so many (Niu et al. 2017 take 1,000).
        min_count: if so many pictures have them.
    """
    mine = Counter(word for words in lists for word in words)
    all_words = group.gather(np.array(list(mine), dtype=np.str_))
    all_counts = group.gather(np.array(list(mine.values()), dtype=np.int64))
    counted: Counter[str] = Counter()
    for words, counts in zip(all_words, all_counts, strict=True):
        counted.update(dict(zip(words.tolist(), counts.tolist(), strict=True)))
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word for word, count in ranked if count >= min_count)[:most]


class Bag:
    """Which of some words are among a picture's social tags."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self._places = {word: place for place, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, lists: Sequence[Sequence[str]]) -> sparse.csr_matrix:
        """Binary float32 matrix [N, W] of lists of normalised, distinct words."""
        places = [
            sorted(self._places[word] for word in words if word in self._places) for words in lists
        ]
        indptr = np.cumsum([0, *map(len, places)])
        columns = np.array([place for row in places for place in row], dtype=np.int64)
        ones = np.ones(len(columns), dtype=np.float32)
        return sparse.csr_matrix((ones, columns, indptr), shape=(len(lists), len(self)))


def known_rows(words_BW: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Which pictures have a word of the bag: boolean [B]."""
    known_B: NDArray[np.bool_] = np.diff(words_BW.indptr) > 0
    return known_B
