"""Visual words: a codebook by k-means, and a picture's words counted in a pyramid of cells."""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.features.picture import SIDE

WORDS = 1000
CELLS = 5
"""The whole picture, and its four quarters (Lazebnik et al. 2006, two levels)."""

WIDTH = CELLS * WORDS

ROUNDS = 15
"""Of k-means."""

NEVER = 1e4
"""Coordinates of a word that no descriptor, of length 1 or so a channel, is near to."""


@dataclass(frozen=True)
class Codebook:
    """Words that descriptors are told by.

    Attributes:
        words_WD: float32 [1000, D].
        idf_W: how much a word says, float32 [1000].
    """

    words_WD: NDArray[np.float32]
    idf_W: NDArray[np.float32]

    def nearest(self, descriptors_PD: NDArray[np.float32]) -> NDArray[np.int64]:
        """Each descriptor's word, int64 [P]."""
        return nearest_word(descriptors_PD, self.words_WD)

    def bag(
        self, descriptors_PD: NDArray[np.float32], points_P2: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The picture's words by TF-IDF, of length 1, float32 [5000]; 0 without points."""
        return weighted(word_counts(self.nearest(descriptors_PD), points_P2), self.idf_W)


def nearest_word(
    descriptors_PD: NDArray[np.float32], words_WD: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The places of the nearest words by Euclidean distance, the first of equals, int64 [P]."""
    half_W = np.einsum("wd,wd->w", words_WD, words_WD) / np.float32(2)
    likeness_PW = descriptors_PD @ words_WD.T
    likeness_PW -= half_W
    return np.asarray(likeness_PW.argmax(axis=1), dtype=np.int64)


def word_counts(words_P: NDArray[np.int64], points_P2: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each word is in the whole picture and in its quarters, int64 [5, 1000].

    The quarters are left above, right above, left below, right below.
    """
    right, below = (points_P2 >= SIDE // 2).astype(np.int64).T
    quarter_P = 2 * below + right
    counts_4W = np.bincount(quarter_P * WORDS + words_P, minlength=4 * WORDS).reshape(4, WORDS)
    return np.concatenate([counts_4W.sum(axis=0, keepdims=True), counts_4W])


def weighted(counts_5W: NDArray[np.integer], idf_W: NDArray[np.float32]) -> NDArray[np.float32]:
    """TF-IDF of the cells side by side, of length 1: float32 [5000].

    TF is a word's share of the points of its cell, so that a quarter counts as much as the whole.
    """
    points_51 = np.maximum(counts_5W.sum(axis=1, keepdims=True), 1)
    weights = (counts_5W / points_51 * idf_W).ravel()
    length = max(float(np.linalg.norm(weights)), 1e-12)
    return np.asarray(weights / length, dtype=np.float32)


def inverse_frequency(pictures_W: NDArray[np.int64], pictures: int) -> NDArray[np.float32]:
    """IDF: ln((1 + pictures) / (1 + pictures with the word)) + 1, float32 [1000]."""
    return (np.log((1 + pictures) / (1 + pictures_W)) + 1).astype(np.float32)


def learn_words(descriptors_ND: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """1,000 words by k-means, float32 [1000, D].

    Of no more than 1,000 different descriptors each is a word, and the rest are never used.
    """
    width = descriptors_ND.shape[1]
    if len(descriptors_ND) <= 2 * WORDS:
        different = np.unique(descriptors_ND, axis=0)
        if len(different) <= WORDS:
            words_WD = np.full((WORDS, width), NEVER, dtype=np.float32)
            words_WD[: len(different)] = different
            return words_WD
    kmeans = faiss.Kmeans(
        width,
        WORDS,
        niter=ROUNDS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(descriptors_ND),
    )
    kmeans.train(np.ascontiguousarray(descriptors_ND, dtype=np.float32))
    return np.asarray(kmeans.centroids, dtype=np.float32)
