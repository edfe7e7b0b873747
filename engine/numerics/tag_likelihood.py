"""TagProp's likelihood of training tags given their neighbours' tags, and its gradient.

Guillaumin, Mensink, Verbeek and Schmid 2009 ("TagProp: Discriminative metric learning in nearest
neighbor models for image auto-annotation"), Eq. 1 to 5. Of the I · V pairs of picture and tag only
those are held for which some neighbour carries the tag; the others differ by word alone.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, log_expit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TagOffers:
    """The tags that K neighbours offer to each of I training pictures: P pairs (picture, tag).

    Attributes:
        offers: sparse [I · K, P], 1 where a neighbour of the pair's picture carries its tag.
        word_P: the pair's tag.
        carried_P: whether its picture carries it.
        unoffered_with_V, unoffered_without_V: pictures that carry (do not carry) the tag, and
            none of whose neighbours does.
        weight_with, weight_without: c of a pair that is (not) carried: 1 / the number of such
            pairs, so that either kind weighs the same in all (section 3.1); 0 if there are none.
    """

    offers: sparse.csr_matrix
    word_P: NDArray[np.int64]
    carried_P: NDArray[np.bool_]
    unoffered_with_V: Array
    unoffered_without_V: Array
    weight_with: float
    weight_without: float

    @classmethod
    def of(cls, rows_IK: NDArray[np.int64], labels_NV: sparse.csr_matrix) -> "TagOffers":
        """The offers to all the N = I training pictures by their neighbours, each at least one."""
        (pictures, neighbours), tags = rows_IK.shape, labels_NV.shape[1]
        flat = rows_IK.ravel()
        starts = labels_NV.indptr[flat].astype(np.int64)
        sizes = labels_NV.indptr[flat + 1] - starts
        offer_O = np.repeat(np.arange(len(flat)), sizes)
        within_O = np.arange(len(offer_O)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        tag_O = labels_NV.indices[np.repeat(starts, sizes) + within_O].astype(np.int64)
        pairs_P, pair_O = np.unique(offer_O // neighbours * tags + tag_O, return_inverse=True)
        carrying = labels_NV.tocoo()
        carried = carrying.row.astype(np.int64) * tags + carrying.col
        word_P = pairs_P % tags
        carried_P = np.isin(pairs_P, carried)
        with_V = np.asarray(labels_NV.sum(axis=0), dtype=np.float64).ravel()
        offered_V = np.bincount(word_P, minlength=tags)
        offered_with_V = np.bincount(word_P[carried_P], minlength=tags)
        total = pictures * tags
        return cls(
            sparse.csr_matrix(
                (np.ones(len(pair_O)), (offer_O, pair_O)), shape=(len(flat), len(pairs_P))
            ),
            word_P,
            carried_P,
            with_V - offered_with_V,
            (pictures - with_V) - (offered_V - offered_with_V),
            1 / len(carried) if len(carried) else 0.0,
            1 / (total - len(carried)) if total > len(carried) else 0.0,
        )

    @property
    def weight_P(self) -> Array:
        """c of each pair."""
        return np.where(self.carried_P, self.weight_with, self.weight_without)

    def predictions(self, weights_IK: Array) -> Array:
        """x of each pair, Σ_j π_ij [j carries the tag] (Eq. 1 without its ε): float64 [P]."""
        predicted_P: Array = self.offers.T @ weights_IK.ravel()
        # Weights add up to 1 but for rounding.
        return np.minimum(predicted_P, 1.0)

    def pull(self, slope_P: Array, neighbours: int) -> Array:
        """Derivatives [I, K] by the neighbours' weights, of what has `slope_P` by the x."""
        pulled: Array = self.offers @ slope_P
        return pulled.reshape(-1, neighbours)


class Likelihood(Protocol):
    """A log-likelihood of the training tags as a function of the x of each pair."""

    def value_and_slope(self, predicted_P: Array) -> tuple[float, Array]:
        """The log-likelihood, and its derivative [P] by each x."""
        ...


@dataclass(frozen=True)
class PlainLikelihood:
    """Σ c ln p with p = ε + (1 - 2ε) x of a carried pair, and its complement (Eq. 1 to 3)."""

    offers: TagOffers
    epsilon: float

    def value_and_slope(self, predicted_P: Array) -> tuple[float, Array]:
        offers, spread = self.offers, 1 - 2 * self.epsilon
        given_P = self.epsilon + spread * predicted_P
        right_P = np.where(offers.carried_P, given_P, 1 - given_P)
        value = float(offers.weight_P @ np.log(right_P))
        value += offers.weight_with * float(offers.unoffered_with_V.sum()) * np.log(self.epsilon)
        value += (
            offers.weight_without
            * float(offers.unoffered_without_V.sum())
            * np.log1p(-self.epsilon)
        )
        sign_P = np.where(offers.carried_P, spread, -spread)
        slope_P: Array = offers.weight_P * sign_P / right_P
        return float(value), slope_P


@dataclass(frozen=True)
class SigmoidLikelihood:
    """Σ c ln sigmoid(± (slope · x + offset)), both of each word (section 3.3)."""

    offers: TagOffers
    slopes_V: Array
    offsets_V: Array

    def value_and_slope(self, predicted_P: Array) -> tuple[float, Array]:
        offers = self.offers
        value_V, residual_P = word_likelihoods(
            offers, predicted_P, self.slopes_V, self.offsets_V, len(self.slopes_V)
        )
        return float(value_V.sum()), residual_P * self.slopes_V[offers.word_P]


def word_likelihoods(
    offers: TagOffers, predicted_P: Array, slopes_V: Array, offsets_V: Array, words: int
) -> tuple[Array, Array]:
    """The log-likelihood of each word [V], and its derivative by each pair's logit [P]."""
    logit_P = slopes_V[offers.word_P] * predicted_P + offsets_V[offers.word_P]
    sign_P = np.where(offers.carried_P, 1.0, -1.0)
    value_V: Array = np.bincount(
        offers.word_P, offers.weight_P * log_expit(sign_P * logit_P), minlength=words
    ).astype(np.float64)
    value_V += offers.weight_with * offers.unoffered_with_V * log_expit(offsets_V)
    value_V += offers.weight_without * offers.unoffered_without_V * log_expit(-offsets_V)
    return value_V, offers.weight_P * (offers.carried_P - expit(logit_P))
