"""The describer: pictures in, their features in [0, 1] out, with what it learned of a corpus."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from engine.errors import BundleError, ConfigError, CorpusError
from engine.features import FEATURES, feature_slices
from engine.features.codebook import (
    WORDS,
    Codebook,
    inverse_frequency,
    learn_words,
    nearest_word,
    weighted,
    word_counts,
)
from engine.features.colour import hsv_histogram, lab_moments
from engine.features.edges import edge_directions
from engine.features.gist import gist
from engine.features.lbp import lbp_histogram
from engine.features.picture import grey_of, square
from engine.features.sift import (
    DESCRIPTOR,
    KINDS,
    channels,
    dense_points,
    descriptors,
    harris_points,
)
from engine.features.wavelets import wavelet_texture

FORMAT = 1

PICTURES = 500
"""Pictures that codebooks and scalings are learned from: a few times what k-means needs."""

LEARNED_FROM = 40 * WORDS
"""Descriptors that a codebook is learned from; FAISS asks for 39 a word."""

Plain = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]

PLAIN: Mapping[str, Plain] = {
    "hsv-histogram": lambda colour, grey: hsv_histogram(colour),
    "lab-moments": lambda colour, grey: lab_moments(colour),
    "edge-directions": lambda colour, grey: edge_directions(grey),
    "wavelet-texture": lambda colour, grey: wavelet_texture(grey),
    "lbp": lambda colour, grey: lbp_histogram(grey),
    "gist": lambda colour, grey: gist(colour),
}
"""The features that need no codebook."""

Local = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Descriptors [P, D] and their points (x, y) [P, 2]."""


@dataclass(frozen=True)
class Scaling:
    """Brings a feature to [0, 1] by what was seen of it: (x - low) / span, cut at both ends.

    Attributes:
        low, span: float32 [D], or [1] where all dimensions share one; a span of 0 gives 0 up to
            `low`, and 1 above.
    """

    low: NDArray[np.float32]
    span: NDArray[np.float32]

    def __call__(self, x_D: NDArray[np.float32]) -> NDArray[np.float32]:
        least = np.finfo(np.float32).tiny
        with np.errstate(over="ignore"):
            scaled = (x_D - self.low) / np.maximum(self.span, least)
        return np.asarray(np.clip(scaled, 0, 1), dtype=np.float32)


@dataclass(frozen=True)
class Describer:
    """Fitted and immutable. A picture's features do not depend on the batch it comes in.

    Attributes:
        names: of the features, in the order of `FEATURES`.
        codebooks: by the name of a bag of visual words.
        scalings: by the name of a feature.
    """

    names: tuple[str, ...]
    codebooks: Mapping[str, Codebook]
    scalings: Mapping[str, Scaling]

    @classmethod
    def learn(
        cls,
        squares: Iterable[NDArray[np.uint8]],
        seed: int = 0,
        names: Sequence[str] = tuple(FEATURES),
        pictures: int = PICTURES,
    ) -> "Describer":
        """Learn codebooks and scalings from a stream of pictures, in two passes over a sample.

        Args:
            squares: batches uint8 RGB [B, H, W, 3].
            names: which features; the others cost nothing.
            pictures: kept of the stream, all parts of which are as likely.

        Raises:
            ConfigError: there is no feature of such a name, or none is named.
            CorpusError: the stream is empty, or of something else than pictures.
        """
        names = check_names(names)
        rng = np.random.default_rng(seed)
        sample = _sampled(squares, pictures, rng)
        if not sample:
            raise CorpusError(
                "there is no picture to learn the features' codebooks from; give at least one"
            )
        bags = [name for name in names if name not in PLAIN]
        taken: dict[str, list[NDArray[np.float32]]] = {name: [] for name in bags}
        each = -(-LEARNED_FROM // len(sample))
        if bags:
            for one in sample:
                for name, (found_PD, _) in local_descriptors(one, bags).items():
                    rows = rng.permutation(len(found_PD))[:each]
                    taken[name].append(np.ascontiguousarray(found_PD[rows]))
        words = {name: learn_words(np.concatenate(taken.pop(name)), seed) for name in bags}
        return cls._scaled_on(sample, names, words)

    @classmethod
    def _scaled_on(
        cls,
        sample: Sequence[NDArray[np.uint8]],
        names: tuple[str, ...],
        words: Mapping[str, NDArray[np.float32]],
    ) -> "Describer":
        lows: dict[str, NDArray[np.float32]] = {}
        highs: dict[str, NDArray[np.float32]] = {}
        counts: dict[str, list[NDArray[np.uint16]]] = {name: [] for name in words}
        for one in sample:
            for name, x_D in plain_features(one, names).items():
                lows[name] = np.minimum(lows.get(name, x_D), x_D)
                highs[name] = np.maximum(highs.get(name, x_D), x_D)
            for name, (found_PD, points_P2) in local_descriptors(one, tuple(words)).items():
                found_5W = word_counts(nearest_word(found_PD, words[name]), points_P2)
                counts[name].append(found_5W.astype(np.uint16))
        scalings = {name: Scaling(lows[name], highs[name] - lows[name]) for name in lows}
        codebooks = {}
        for name, words_WD in words.items():
            pictures_W = np.sum([one[0] > 0 for one in counts[name]], axis=0)
            book = Codebook(words_WD, inverse_frequency(pictures_W, len(sample)))
            # One scale for all words: one for each would undo the weights by IDF.
            most = max(float(weighted(one, book.idf_W).max()) for one in counts[name])
            scalings[name] = Scaling(np.zeros(1, np.float32), np.array([most], np.float32))
            codebooks[name] = book
        return cls(names, codebooks, scalings)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each feature lies in a row of `matrix`."""
        return feature_slices(self.names)

    @property
    def width(self) -> int:
        """Numbers a picture."""
        return sum(FEATURES[name] for name in self.names)

    def __call__(
        self, pixels_BHWC: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
    ) -> dict[str, NDArray[np.float32]]:
        """Every feature by its name, float32 [B, D] in [0, 1]; B = 0 is allowed.

        Args:
            pixels_BHWC: uint8 RGB; of different sizes as a sequence of [H, W, 3].

        Raises:
            CorpusError: they are something else.
        """
        matrix_BD = self.matrix(pixels_BHWC, np.float32)
        return {name: matrix_BD[:, part] for name, part in self.slices.items()}

    def matrix(
        self,
        pixels_BHWC: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        dtype: type[np.floating] = np.float16,
    ) -> NDArray[np.floating]:
        """The features side by side, [B, width], in `dtype`."""
        matrix_BD = np.zeros((len(pixels_BHWC), self.width), dtype=dtype)
        for row_D, picture_HWC in zip(matrix_BD, pixels_BHWC, strict=True):
            for name, x_D in self.raw(picture_HWC).items():
                row_D[self.slices[name]] = self.scalings[name](x_D)
        return matrix_BD

    def raw(self, picture_HWC: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """A picture's features before they are scaled, each in its own units."""
        one = square(picture_HWC)
        found = plain_features(one, self.names)
        for name, local in local_descriptors(one, tuple(self.codebooks)).items():
            found[name] = self.codebooks[name].bag(*local)
        return found

    def save(self, folder: Path) -> None:
        """Write `features.json` and `features.safetensors` into an existing folder."""
        arrays: dict[str, NDArray[np.float32]] = {}
        for name, scaling in self.scalings.items():
            arrays |= {f"{name}/low": scaling.low, f"{name}/span": scaling.span}
        for name, book in self.codebooks.items():
            arrays |= {f"{name}/words": book.words_WD, f"{name}/idf": book.idf_W}
        save_file(arrays, folder / "features.safetensors")
        places = {name: [part.start, part.stop] for name, part in self.slices.items()}
        content = {"format": FORMAT, "features": places}
        (folder / "features.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Describer":
        """Read what `save` wrote; it describes to the bit as the saved one.

        Raises:
            BundleError: there is no describer, or it is of another version.
        """
        path = folder / "features.json"
        if not path.is_file():
            raise BundleError(
                f"{folder}: no describer there ({path.name} is missing); fit a bundle with an "
                "annotator that reads features, or make one with 'tagloom features extract'"
            )
        content = json.loads(path.read_text(encoding="utf-8"))
        known = {
            name: [part.start, part.stop] for name, part in feature_slices(_known(content)).items()
        }
        if content.get("format") != FORMAT or content.get("features") != known:
            raise BundleError(
                f"{path}: features of another version (format {content.get('format')!r}, this "
                f"version reads {FORMAT}); fit the bundle again"
            )
        arrays = load_file(folder / "features.safetensors")
        names = tuple(known)
        scalings = {n: Scaling(arrays[f"{n}/low"], arrays[f"{n}/span"]) for n in names}
        bags = [name for name in names if name not in PLAIN]
        codebooks = {n: Codebook(arrays[f"{n}/words"], arrays[f"{n}/idf"]) for n in bags}
        return cls(names, codebooks, scalings)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The named features in the order of `FEATURES`.

    Raises:
        ConfigError: there is no feature of such a name, or none is named.
    """
    unknown = [name for name in names if name not in FEATURES]
    if unknown or not names:
        raise ConfigError(
            f"features are {list(names)}; choose one or more of {', '.join(FEATURES)}"
        )
    return tuple(name for name in FEATURES if name in names)


def plain_features(
    square_SS3: NDArray[np.uint8], names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Those of the named features that need no codebook, in their own units."""
    grey_SS = grey_of(square_SS3)
    return {name: PLAIN[name](square_SS3, grey_SS) for name in names if name in PLAIN}


def local_descriptors(square_SS3: NDArray[np.uint8], bags: Sequence[str]) -> dict[str, Local]:
    """What the named bags count: descriptors [P, D] and points [P, 2] of each."""
    if not bags:
        return {}
    grid_P2 = dense_points()
    corners_P2 = harris_points(grey_of(square_SS3))
    all_PCD = descriptors(channels(square_SS3), np.concatenate([grid_P2, corners_P2]))
    found: dict[str, Local] = {}
    for name in bags:
        kind, _, where = name.rpartition("-")
        on_grid = where == "dense"
        mine_PCD = all_PCD[: len(grid_P2)] if on_grid else all_PCD[len(grid_P2) :]
        first, last = KINDS[kind]
        width = (last - first) * DESCRIPTOR
        mine_PD = mine_PCD[:, first:last].reshape(len(mine_PCD), width)
        found[name] = mine_PD, grid_P2 if on_grid else corners_P2
    return found


def _known(content: Mapping[str, object]) -> tuple[str, ...]:
    given = content.get("features")
    return tuple(name for name in given if name in FEATURES) if isinstance(given, dict) else ()


def _sampled(
    squares: Iterable[NDArray[np.uint8]], pictures: int, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """Squares of at most so many pictures of a stream (Vitter's algorithm R)."""
    kept: list[NDArray[np.uint8]] = []
    seen = 0
    for batch_BHWC in squares:
        for picture_HWC in batch_BHWC:
            seen += 1
            place = len(kept) if len(kept) < pictures else int(rng.integers(seen))
            if place == len(kept):
                kept.append(square(picture_HWC).copy())
            elif place < pictures:
                kept[place] = square(picture_HWC).copy()
    return kept
