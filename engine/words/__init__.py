"""Word vectors of tags: the text side of CCA, by the name of where they come from."""

from collections.abc import Sequence

import numpy as np

from engine.errors import ConfigError
from engine.words.files import GloveFile, Word2VecFile
from engine.words.vectors import TagVectors, WordVectorSource

__all__ = ["TagVectors", "WordVectorSource", "word_vector_source"]


BINARY_UP_TO = 8192
"""Tags of a vocabulary that binary vectors are made for. E = V, and what is solved from them holds
several E x E matrices of float64: 0.5 GB each here, 3.2 GB each with 20,000 tags."""


class BinaryVectors:
    """One dimension a tag; the mean over a picture's tags is the paper's binary view, scaled.

    Murthy et al. 2015, "BV". E = V, so memory grows with the square of the vocabulary.
    """

    def embed(self, tags: Sequence[str]) -> TagVectors:
        """Give row i the i-th unit vector: [V, V] float32, every tag known.

        Raises:
            ConfigError: there are more than `BINARY_UP_TO` tags.
        """
        count = len(tags)
        if count > BINARY_UP_TO:
            raise ConfigError(
                f"tag_vectors 'binary' has one dimension a tag and takes at most "
                f"{BINARY_UP_TO:,} tags, but the vocabulary has {count:,}; choose vectors whose "
                "width does not grow with it, such as 'minilm', or lower vocabulary.max_tags"
            )
        return TagVectors(np.eye(count, dtype=np.float32), np.ones(count, dtype=np.bool_), ())


def word_vector_source(name: str) -> WordVectorSource:
    """Find a source of word vectors by name; nothing is read before `embed`.

    Args:
        name: `minilm` (the packaged sentence encoder, E = 384), `binary` (one dimension a tag,
            E = V), `word2vec:PATH` (binary or text, told by content) or `glove:PATH` (text).
            PATH is any path or URL of fsspec's, compressed or not.

    Raises:
        ConfigError: there is no source of that name, or its path is missing.
    """
    kind, _, path = name.partition(":")
    if name == "minilm":
        # Here, not above: torch takes seconds that a fitted bundle need not pay.
        from engine.words.sentence import SentenceEncoder

        return SentenceEncoder()
    if name == "binary":
        return BinaryVectors()
    if kind == "word2vec" and path:
        return Word2VecFile(path)
    if kind == "glove" and path:
        return GloveFile(path)
    raise ConfigError(
        f"there are no word vectors called {name!r}; "
        "choose 'minilm', 'binary', 'word2vec:PATH' or 'glove:PATH'"
    )
