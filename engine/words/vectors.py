"""What every source of word vectors gives for a vocabulary, and what stands in for the unknown."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError


@dataclass(frozen=True)
class TagVectors:
    """The vectors of a vocabulary of V tags, E numbers each.

    Attributes:
        vectors_VE: float32, one row a tag in the order given, every value finite.
        known_V: bool; False where no word of the tag is known, and the row is a stand-in.
        unknown_words: the words, whole tags or parts of them, that the source lacks; sorted.
    """

    vectors_VE: NDArray[np.float32]
    known_V: NDArray[np.bool_]
    unknown_words: tuple[str, ...]


class WordVectorSource(Protocol):
    """Where the vectors of tags come from."""

    def embed(self, tags: Sequence[str]) -> TagVectors:
        """Embed the tags, one row each in their order.

        Raises:
            ConfigError: the source cannot be read, or knows none of the tags.
        """
        ...


def with_stand_ins(
    source: str,
    tags: Sequence[str],
    vectors_VE: NDArray[np.float32],
    known_V: NDArray[np.bool_],
    unknown_words: Collection[str],
) -> TagVectors:
    """Give each unknown tag the mean vector of the known ones; `source` is named in errors.

    The text view of CCA is the mean of the vectors of a picture's tags, centred over the
    corpus. The mean of the known tags lies near that centre, so an unknown tag speaks neither
    for nor against any meaning. Zero would not be neutral: word vectors share a large common
    component, and pictures with unknown tags would gather far from the centre, as if they were
    alike.

    Raises:
        ConfigError: there are tags, and not one of them is known.
    """
    if len(tags) and not known_V.any():
        shown = ", ".join(repr(tag) for tag in tags[:5])
        raise ConfigError(
            f"{source}: none of the {len(tags)} tags is known ({shown}{', …' * (len(tags) > 5)}); "
            "choose word vectors in the language of the tags, or 'binary', which needs none"
        )
    if not known_V.all():
        mean_E = vectors_VE[known_V].mean(axis=0, dtype=np.float64)
        vectors_VE = np.where(known_V[:, None], vectors_VE, mean_E).astype(np.float32)
    return TagVectors(vectors_VE, known_V, tuple(sorted(set(unknown_words))))
