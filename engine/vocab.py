"""The vocabulary: ordered tags, how often each was seen in training, and a digest of them."""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.errors import BundleError, CorpusError


def normalise_tag(tag: str) -> str:
    """One spelling of a tag: Unicode NFC, lower case, single spaces, no spaces at the ends."""
    # Composed after lowering: some letters compose with their marks in lower case alone.
    return " ".join(unicodedata.normalize("NFC", tag.lower()).split())


def normalise_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The distinct normalised tags of a picture in their given order; empty ones left out."""
    return tuple(dict.fromkeys(filter(None, map(normalise_tag, tags))))


@dataclass(frozen=True)
class Vocabulary:
    """Ordered, immutable tags (most frequent first) with their training frequencies."""

    tags: tuple[str, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(set(self.tags)) != len(self.tags):
            raise CorpusError("a vocabulary names some tag twice; name each tag once")

    def __len__(self) -> int:
        return len(self.tags)

    @cached_property
    def digest(self) -> str:
        """sha256 of the tags in order: what has a V axis belongs to one digest."""
        return hashlib.sha256(json.dumps(self.tags, ensure_ascii=False).encode()).hexdigest()

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each tag on the V axis."""
        return {tag: place for place, tag in enumerate(self.tags)}

    @cached_property
    def frequencies_V(self) -> NDArray[np.int64]:
        """Training frequency of each tag, int64 [V]."""
        return np.array(self.counts, dtype=np.int64)

    @classmethod
    def learn(
        cls, tag_lists: Iterable[Sequence[str]], min_count: int = 1, max_tags: int | None = None
    ) -> "Vocabulary":
        """Count the tags of a corpus; the most frequent first, ties in alphabetical order.

        Raises:
            CorpusError: fewer than two distinct tags are left.
        """
        counted: Counter[str] = Counter()
        for tags in tag_lists:
            counted.update(normalise_tags(tags))
        if not counted:
            raise CorpusError(
                "no picture of the corpus has a tag; give each picture its `tags` (see the "
                "README, 'Corpora that go in')"
            )
        ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        kept = [(tag, count) for tag, count in ranked if count >= min_count][:max_tags]
        if len(kept) < 2:
            only = f"'{ranked[0][0]}'" if len(ranked) == 1 else f"{len(ranked)} tags"
            raise CorpusError(
                f"the corpus has {only}, of which {len(kept)} occur {min_count} times or more; at "
                "least two are needed to learn from: add tagged pictures, or lower "
                "vocabulary.min_count"
            )
        return cls(tuple(tag for tag, _ in kept), tuple(count for _, count in kept))

    def including(self, tags: Iterable[str]) -> "Vocabulary":
        """This vocabulary with more tags at its end, as seen 0 times; those it has stay in place.

        An annotator that knows tags by their word vectors can name these as well.
        """
        more = [tag for tag in normalise_tags(tags) if tag not in self.index]
        return Vocabulary(self.tags + tuple(more), self.counts + (0,) * len(more))

    def encode(self, tag_lists: Sequence[Sequence[str]]) -> sparse.csr_matrix:
        """Binary float32 matrix [N, V] of the tags; those not in the vocabulary are left out."""
        rows: list[int] = []
        columns: list[int] = []
        for row, tags in enumerate(tag_lists):
            known = {self.index[tag] for tag in normalise_tags(tags) if tag in self.index}
            rows.extend([row] * len(known))
            columns.extend(sorted(known))
        ones = np.ones(len(rows), dtype=np.float32)
        return sparse.csr_matrix((ones, (rows, columns)), shape=(len(tag_lists), len(self)))

    def encode_places(self, tag_lists: Sequence[Sequence[str]]) -> sparse.csr_matrix:
        """float32 [N, V]: the place of each tag in its picture's list, from 1; 0 for the others.

        Tags that are not in the vocabulary do not count: those behind them move up.
        """
        rows: list[int] = []
        columns: list[int] = []
        places: list[int] = []
        for row, tags in enumerate(tag_lists):
            known = [self.index[tag] for tag in normalise_tags(tags) if tag in self.index]
            order = sorted(range(len(known)), key=known.__getitem__)
            rows.extend([row] * len(known))
            columns.extend(known[place] for place in order)
            places.extend(place + 1 for place in order)
        values = np.array(places, dtype=np.float32)
        return sparse.csr_matrix((values, (rows, columns)), shape=(len(tag_lists), len(self)))

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        content = {"digest": self.digest, "tags": self.tags, "counts": self.counts}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote.

        Raises:
            BundleError: the tags do not match the digest beside them.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = cls(tuple(content["tags"]), tuple(content["counts"]))
        if vocabulary.digest != content["digest"]:
            raise BundleError(f"{path}: the tags do not match their digest; fit the bundle again")
        return vocabulary


def check_digest(owner: str, found: str, expected: str) -> None:
    """Refuse a part that was fitted on another vocabulary.

    Raises:
        BundleError: the two digests differ.
    """
    if found != expected:
        raise BundleError(
            f"{owner} was fitted on vocabulary {found[:12]}, but this bundle's is "
            f"{expected[:12]}; fit both on the same corpus and vocabulary"
        )
