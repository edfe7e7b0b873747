"""Embedded, tagged pictures on disk: what every row of a table learns from and is tested on."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config import VocabularyConfig
from engine.corpus import BLOCK, Corpus
from engine.tensors import Pixels, Tensors
from engine.vocab import Vocabulary
from engine.vocabulary_rules import VocabularyRules

_EMBEDDINGS = "embeddings.npy"
_PICTURES = "pictures.json"
_COLUMN = "column-{}.npy"
_PIXELS = "pixels.npy"


@dataclass(frozen=True)
class Pictures:
    """N pictures with at least one tag each.

    Attributes:
        embeddings_ND: float32, mapped from disk where they were loaded.
        tags: of each picture, in their given order.
        levels: widths of the levels that an embedding consists of.
        social_tags: what users called each picture; None where nothing of the kind is known.
        columns: as in `Corpus`.
        pixels: for methods that learn from them; None: kept for none.
    """

    ids: tuple[str, ...]
    embeddings_ND: NDArray[np.float32]
    tags: tuple[tuple[str, ...], ...]
    levels: tuple[int, ...]
    social_tags: tuple[tuple[str, ...], ...] | None = None
    columns: Mapping[str, Tensors] = field(default_factory=dict)
    pixels: Pixels | None = None

    @classmethod
    def of(cls, corpus: Corpus, vocabulary: Vocabulary) -> "Pictures":
        """The pictures of a corpus, whose vocabulary leaves no tag out."""
        tags = tuple(tuple(vocabulary.tags[tag] for tag in one) for one in corpus.tag_lists())
        return cls(
            corpus.ids,
            corpus.embeddings_ND,
            tags,
            corpus.levels,
            corpus.social_tags,
            corpus.columns,
            corpus.pixels,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def corpus(
        self, rows_M: NDArray[np.int64], limits: VocabularyConfig
    ) -> tuple[Corpus, Vocabulary]:
        """The pictures at `rows_M` with the vocabulary that they alone teach.

        Pictures none of whose tags `limits` keeps are left out.

        Raises:
            CorpusError: fewer than two tags are left.
        """
        given = [self.tags[row] for row in rows_M]
        vocabulary, tags = limits.learn(given, limits.more_tags)
        labels_MV = vocabulary.encode(tags)
        kept = np.flatnonzero(np.diff(labels_MV.indptr))
        rows = rows_M[kept]
        social = self.social_tags
        corpus = Corpus(
            tuple(self.ids[row] for row in rows),
            np.asarray(self.embeddings_ND[rows]),
            labels_MV[kept],
            self.levels,
            None if social is None else tuple(social[row] for row in rows),
            pixels=None if self.pixels is None else self.pixels.subset(rows),
            places_NV=vocabulary.encode_places(tags)[kept],
            columns={name: column.subset(rows) for name, column in self.columns.items()},
        )
        return corpus, vocabulary

    def places(
        self, rows_M: NDArray[np.int64], words: Sequence[str], rules: VocabularyRules
    ) -> NDArray[np.float32]:
        """Where each of `words` stands among those of them that are tags of a picture.

        From 1, in the given order; 0 for what is no tag: float32 [M, W].

        Args:
            rules: by which the tags are named anew before they are looked at.
        """
        counted = Vocabulary(tuple(words), (0,) * len(words))
        places_MW: NDArray[np.float32] = counted.encode_places(
            [rules.rewritten(self.tags[row]) for row in rows_M]
        ).toarray()
        return places_MW

    def save(self, folder: Path) -> None:
        """Write into an existing folder; the small file last, so that it vouches for the other."""
        np.save(folder / _EMBEDDINGS, self.embeddings_ND)
        for place, column in enumerate(self.columns.values()):
            _save_rows(folder / _COLUMN.format(place), column)
        if self.pixels is not None:
            _save_rows(folder / _PIXELS, self.pixels)
        content = {
            "ids": self.ids,
            "tags": self.tags,
            "levels": self.levels,
            "social_tags": self.social_tags,
            "columns": list(self.columns),
            "pixels_of": None if self.pixels is None else self.pixels.backbone,
        }
        draft = folder / f".{_PICTURES}.{os.getpid()}"
        draft.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        draft.replace(folder / _PICTURES)

    @classmethod
    def is_saved(cls, folder: Path) -> bool:
        """Whether `save` has come to its end there."""
        return (folder / _PICTURES).is_file()

    @classmethod
    def load(cls, folder: Path) -> "Pictures":
        """Read what `save` wrote; the arrays are mapped, not read."""
        content = json.loads((folder / _PICTURES).read_text(encoding="utf-8"))
        social = content["social_tags"]
        rows_N = np.arange(len(content["ids"]))

        def mapped(name: str) -> NDArray[np.generic]:
            values: NDArray[np.generic] = np.load(folder / name, mmap_mode="r")
            return values

        network = content["pixels_of"]
        return cls(
            tuple(content["ids"]),
            np.load(folder / _EMBEDDINGS, mmap_mode="r"),
            tuple(map(tuple, content["tags"])),
            tuple(content["levels"]),
            None if social is None else tuple(map(tuple, social)),
            {
                name: Tensors(mapped(_COLUMN.format(place)), rows_N)
                for place, name in enumerate(content["columns"])
            },
            None if network is None else Pixels(mapped(_PIXELS), rows_N, network),
        )


def _save_rows(path: Path, column: Tensors) -> None:
    """Write the rows of a column as one array, never all of them in memory."""
    first = column.take(np.arange(min(1, len(column))))
    shape = (len(column), *first.shape[1:])
    values = np.lib.format.open_memmap(path, "w+", first.dtype, shape)
    for start in range(0, len(column), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(column)))
        values[rows] = column.take(rows)
    values.flush()
