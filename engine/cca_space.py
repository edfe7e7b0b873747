"""The space that CCA makes of pictures and tags: learned from a corpus, and how both get into it.

What the annotators that compare pictures by correlation have in common (Murthy et al. 2015,
sections 3.2 to 3.4).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt, model_validator
from scipy import sparse

from engine.corpus import Corpus
from engine.group import Group
from engine.numerics.cca import CCA, solve_cca
from engine.numerics.kernels import Chi2Map
from engine.numerics.levels import normalised_levels
from engine.numerics.moments import Moments
from engine.recipe import Recipe
from engine.vocab import Vocabulary
from engine.words import word_vector_source

F = TypeVar("F", np.float32, np.float64)

SHOWN = 10
"""Unknown words that a note names."""


class SpaceRecipe(Recipe):
    """Settings of the space; a method that works in it adds its own.

    Attributes:
        tag_vectors: the text view, see `engine.words`.
        regulariser: of both covariances, relative to their mean eigenvalue; of a view that a
            kernel maps, to its variance over the width that it had before, so that the number of
            landmarks does not change its strength.
        dimensions: canonical directions kept, at most; None keeps all, 'auto' those that stand
            out of the noise (see `engine.numerics.cca.noise_level`).
        kernel: of the pictures. 'chi2' is kernel CCA: the χ² kernel sees the embedding's first
            level as it is (a classifier's input, behind its ReLU); the further levels, whose
            features have signs, stay linear beside it, as in 'linear'.
        text_kernel: of the tags. 'chi2' takes tag vectors without signs: 'binary'.
        landmarks: pictures that 'chi2' compares with. A corpus of no more is done exactly, a
            larger one by Nyström's approximation.
    """

    tag_vectors: str = "minilm"
    regulariser: NonNegativeFloat = 0.1
    dimensions: PositiveInt | Literal["auto"] | None = None
    kernel: Literal["linear", "chi2"] = "linear"
    text_kernel: Literal["linear", "chi2"] = "linear"
    landmarks: PositiveInt = 1000

    @model_validator(mode="after")
    def _chi2_of_tags_without_signs(self) -> "SpaceRecipe":
        if self.text_kernel == "chi2" and self.tag_vectors != "binary":
            raise ValueError(
                f"text_kernel 'chi2' needs vectors without negative values, and those of "
                f"'{self.tag_vectors}' have signs; set tag_vectors='binary' or "
                "text_kernel='linear'"
            )
        return self

    def learn_space(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Space":
        """Learn the projections of both views from all the group's pictures.

        Raises:
            ConfigError: the tag vectors cannot be had.
            CorpusError: the pictures or their tags do not differ, a feature is not finite, or
                'chi2' is asked for and one is negative.
        """
        words = word_vector_source(self.tag_vectors).embed(vocabulary.tags)
        text_VE = words.vectors_VE
        first = corpus.levels[0]
        image_map = text_map = None
        if self.kernel == "chi2":
            landmarks = _landmarks(
                corpus, self.landmarks, group, lambda rows: corpus.embeddings_ND[rows, :first]
            )
            image_map = Chi2Map.of(landmarks)
        if self.text_kernel == "chi2":
            landmarks = _landmarks(
                corpus,
                self.landmarks,
                group,
                lambda rows: mean_vectors(corpus.labels_NV[rows], text_VE),
            )
            text_map = Chi2Map.of(landmarks)
        views = Views(corpus.levels, text_VE, image_map, text_map)
        moments = corpus.add_up(views).over(group)
        # Of what a kernel maps, the widths that the linear views have.
        widths = (corpus.embeddings_ND.shape[1], text_VE.shape[1])
        cca = solve_cca(moments, self.regulariser, self.dimensions, "drop", widths)
        return Space(views, cca, self._notes(words.unknown_words, cca))

    def _notes(self, unknown_words: tuple[str, ...], cca: CCA) -> tuple[str, ...]:
        """What the user should know of the fit."""
        notes = []
        if unknown_words:
            shown = ", ".join(unknown_words[:SHOWN])
            more = ", …" if len(unknown_words) > SHOWN else ""
            notes.append(
                f"{len(unknown_words)} words of tags have no vector in "
                f"'{self.tag_vectors}' ({shown}{more}); tags made of them alone share one neutral "
                "vector"
            )
        if self.dimensions == "auto":
            notes.append(
                f"{len(cca.correlations_L)} canonical directions correlate by more than "
                f"{cca.noise:.2f}, the most that unrelated views would, and are kept"
                if cca.correlations_L[0] > cca.noise
                else f"no canonical direction correlates by more than {cca.noise:.2f}, the most "
                "that unrelated views would; the strongest one is kept"
            )
        if cca.constant_x:
            notes.append(
                f"{len(cca.constant_x)} of the {len(cca.mean_x_D):,} features never vary in this "
                "corpus, and are left out of CCA"
            )
        return tuple(notes)


@dataclass(frozen=True)
class Views:
    """How a block of a corpus becomes the two views that CCA relates; calling it measures them."""

    levels: tuple[int, ...]
    text_VE: NDArray[np.float32]
    image_map: Chi2Map | None = None
    text_map: Chi2Map | None = None

    def __call__(self, x_BD: NDArray[np.float32], labels_BV: sparse.csr_matrix) -> Moments:
        """Moments of a block."""
        return Moments.of(self.images(x_BD), self.tags(labels_BV))

    def images(self, x_BD: NDArray[np.float32]) -> NDArray[np.floating]:
        """The visual view."""
        return image_features(x_BD, self.levels, self.image_map)

    def tags(self, labels_BV: sparse.csr_matrix) -> NDArray[np.floating]:
        """The text view."""
        return tag_features(labels_BV, self.text_VE, self.text_map)


@dataclass(frozen=True)
class Space:
    """A fitted space: both projections, and what the user should know of the fit."""

    views: Views
    cca: CCA
    notes: tuple[str, ...]

    @property
    def images(self) -> "ImageProjection":
        """The visual side, all that annotating needs."""
        return ImageProjection(
            self.views.levels,
            self.cca.mean_x_D.astype(np.float32),
            self.cca.weights_x_DL.astype(np.float32),
            self.views.image_map,
        )

    @property
    def tags(self) -> "TagProjection":
        """The text side."""
        views, cca = self.views, self.cca
        return TagProjection(views.text_VE, cca.mean_y_E, cca.weights_y_EL, views.text_map)


@dataclass(frozen=True)
class ImageProjection:
    """T = (x - mean) Wx of an embedding (Murthy et al. 2015, section 3.4.1).

    Attributes:
        mean_D, weights_DL: float32, of the mapped features where there is a map.
    """

    levels: tuple[int, ...]
    mean_D: NDArray[np.float32]
    weights_DL: NDArray[np.float32]
    image_map: Chi2Map | None = None

    def __call__(self, x_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """T, normalised for correlation: float32 [B, L]."""
        centred_BD = image_features(x_BD, self.levels, self.image_map) - self.mean_D
        return correlation_normalised(np.matmul(centred_BD, self.weights_DL))

    @property
    def width(self) -> int:
        """L."""
        return int(self.weights_DL.shape[1])

    def in_float64(self, x_BD: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same in float64 [B, L], which other pictures in the batch change by 1e-15 at most."""
        features_BD = image_features(x_BD, self.levels, self.image_map).astype(np.float64)
        projected_BL = (features_BD - self.mean_D) @ self.weights_DL.astype(np.float64)
        return correlation_normalised(projected_BL)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a safetensors file needs of it; the levels are not among it."""
        mapped = {} if self.image_map is None else self.image_map.arrays("kernel")
        return {"mean": self.mean_D, "weights": self.weights_DL, **mapped}

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[np.generic]], levels: tuple[int, ...]
    ) -> "ImageProjection":
        """The projection that `arrays` gave, to the bit."""
        return cls(
            levels,
            np.asarray(arrays["mean"], dtype=np.float32),
            np.asarray(arrays["weights"], dtype=np.float32),
            Chi2Map.from_arrays(arrays, "kernel"),
        )


@dataclass(frozen=True)
class TagProjection:
    """V = (y - mean) Wy of a picture's tags (Murthy et al. 2015, Eq. 4).

    Attributes:
        text_VE: float32, each tag's vector.
        mean_E, weights_EL: float64, of the mapped means where there is a map.
    """

    text_VE: NDArray[np.float32]
    mean_E: NDArray[np.float64]
    weights_EL: NDArray[np.float64]
    text_map: Chi2Map | None = None

    def __call__(self, labels_BV: sparse.csr_matrix) -> NDArray[np.float32]:
        """V, normalised for correlation: float32 [B, L]."""
        features_BE = tag_features(labels_BV, self.text_VE, self.text_map)
        projected_BL = (features_BE - self.mean_E) @ self.weights_EL
        return correlation_normalised(projected_BL.astype(np.float32))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a safetensors file needs of it."""
        mapped = {} if self.text_map is None else self.text_map.arrays("text_kernel")
        return {
            "text_vectors": self.text_VE,
            "text_mean": self.mean_E,
            "text_weights": self.weights_EL,
            **mapped,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> "TagProjection":
        """The projection that `arrays` gave, to the bit."""
        return cls(
            np.asarray(arrays["text_vectors"], dtype=np.float32),
            np.asarray(arrays["text_mean"], dtype=np.float64),
            np.asarray(arrays["text_weights"], dtype=np.float64),
            Chi2Map.from_arrays(arrays, "text_kernel"),
        )


def tag_features(
    labels_BV: sparse.csr_matrix, text_VE: NDArray[np.float32], text_map: Chi2Map | None
) -> NDArray[np.floating]:
    """Tags as CCA sees them: the mean of their vectors, mapped if there is a map."""
    means_BE = mean_vectors(labels_BV, text_VE)
    return means_BE if text_map is None else text_map(means_BE)


def image_features(
    x_BD: NDArray[np.float32], levels: tuple[int, ...], image_map: Chi2Map | None
) -> NDArray[np.floating]:
    """The embedding as CCA sees it: normalised levels, the first one mapped if there is a map.

    A mapped picture has length 1 (k(x, x) = 1), as each normalised level has, so that none of
    them outweighs the others.
    """
    if image_map is None:
        return normalised_levels(x_BD, levels)
    first = levels[0]
    mapped_BR = image_map(np.ascontiguousarray(x_BD[:, :first]))
    if len(levels) == 1:
        return mapped_BR
    return np.concatenate([mapped_BR, normalised_levels(x_BD[:, first:], levels[1:])], axis=1)


def correlation_normalised(x_NL: NDArray[F]) -> NDArray[F]:
    """Centre each row and scale it to unit length: inner products are then correlations."""
    centred_NL = x_NL - x_NL.mean(axis=1, keepdims=True)
    lengths_N1 = np.maximum(np.linalg.norm(centred_NL, axis=1, keepdims=True), 1e-12)
    normalised: NDArray[F] = np.divide(centred_NL, lengths_N1, dtype=x_NL.dtype)
    return normalised


def mean_vectors(labels_BV: sparse.csr_matrix, text_VE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean word vector of each picture's tags (Murthy et al. 2015, section 3.2)."""
    counts_B1 = np.maximum(np.asarray(labels_BV.sum(axis=1)), 1)
    means: NDArray[np.float32] = np.divide(labels_BV @ text_VE, counts_B1, dtype=np.float32)
    return means


def _landmarks(
    corpus: Corpus,
    count: int,
    group: Group,
    view: Callable[[NDArray[np.int64]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """The `count` pictures of the whole group whose ids have the smallest hashes, in that order.

    The choice is as good as a random one, and owes nothing to the order of the corpus or to how
    the group shares it.

    Args:
        view: gives the values [M, D] of this rank's rows [M].
    """
    hashes = [hashlib.sha256(f"landmark:{one}".encode()).hexdigest() for one in corpus.ids]
    hashes_N = np.array(hashes, dtype="S64")
    rows_M = np.argsort(hashes_N, kind="stable")[:count]
    hashes_M = np.concatenate(group.gather(hashes_N[rows_M]))
    values_MD = np.concatenate(group.gather(view(rows_M)))
    order_M = np.argsort(hashes_M, kind="stable")[:count]
    return np.ascontiguousarray(values_MD[order_M], dtype=np.float32)
