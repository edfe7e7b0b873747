"""Relevance models: a picture's words are those of the training pictures that may have made it.

With P(J) the same for every training picture J, P(w | x) = Σ_J P(J | x) P(w | J), where P(J | x) is
proportional to the density P(x | J): Lavrenko, Manmatha and Jeon 2003 ("A Model for Learning the
Semantics of Pictures"), Feng, Manmatha and Lavrenko 2004 ("Multiple Bernoulli Relevance Models").
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax


def posterior(log_density_BN: NDArray[np.float32]) -> NDArray[np.float32]:
    """P(J | x) of N training pictures, float32 [B, N]; a term that is the same for all cancels."""
    weights_BN: NDArray[np.float32] = softmax(log_density_BN, axis=1).astype(np.float32, copy=False)
    return weights_BN


def bernoulli_words(
    posterior_BN: NDArray[np.float32], labels_NV: sparse.csr_matrix, mu: float
) -> NDArray[np.float32]:
    """Σ_J P(J | x) P(w | J), each word a coin of its own (Feng et al. 2004).

    P(w | J) = (μ δ(w, J) + N_w) / (μ + N), with N_w the pictures that carry w among N: the paper's
    estimate of P_V under a beta prior.

    Returns:
        float32 [B, V] in [0, 1].
    """
    pictures, counts_V = labels_NV.shape[0], _counts(labels_NV)
    carried_BV = _expected(posterior_BN, labels_NV)
    words_BV = (mu * carried_BV + counts_V) / (mu + pictures)
    return np.asarray(np.clip(words_BV, 0, 1), dtype=np.float32)


def multinomial_words(
    posterior_BN: NDArray[np.float32], labels_NV: sparse.csr_matrix, mu: float
) -> NDArray[np.float32]:
    """Σ_J P(J | x) P(w | J), words drawn one after the other (Lavrenko et al. 2003).

    P(w | J) = (μ p(w) + δ(w, J)) / (μ + number of J's words), with p(w) the share of w in all the
    words of the corpus. The words of a picture add up to 1.

    Returns:
        float32 [B, V] in [0, 1].
    """
    counts_V = _counts(labels_NV)
    total_N = np.diff(labels_NV.indptr) + mu
    shares_NV = sparse.csr_matrix(sparse.diags(1 / total_N) @ labels_NV, dtype=np.float32)
    background_B1 = (posterior_BN @ (mu / total_N).astype(np.float32))[:, None]
    words_BV = _expected(posterior_BN, shares_NV) + background_B1 * (counts_V / counts_V.sum())
    return np.asarray(np.clip(words_BV, 0, 1), dtype=np.float32)


def _counts(labels_NV: sparse.csr_matrix) -> NDArray[np.float64]:
    counts_V: NDArray[np.float64] = np.asarray(labels_NV.sum(axis=0), dtype=np.float64).ravel()
    return counts_V


def _expected(
    posterior_BN: NDArray[np.float32], values_NV: sparse.csr_matrix
) -> NDArray[np.float32]:
    return np.asarray(posterior_BN @ values_NV, dtype=np.float32)
