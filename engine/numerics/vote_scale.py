"""The temperature of neighbours' votes, by the likelihood of the tags that pictures carry."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize_scalar

from engine.numerics.semantic import SemanticNeighbours

COOLEST, HOTTEST = 0.005, 2.0
"""Between these the temperature is sought; correlation distances lie between 0 and 2."""

QUERIES = 500
"""Pictures whose tags are predicted from their neighbours: one number needs no more."""

CARRIERS = 20_000
"""Pictures that vote, at most; more of them change the temperature little."""


def fitted_temperature(
    vectors_NL: NDArray[np.float32],
    labels_NV: sparse.csr_matrix,
    neighbours: int,
    pooled: bool,
    seed: int = 0,
) -> float:
    """The scale in exp(-D / temperature) (Murthy et al. 2015, Eq. 5) that explains the tags best.

    Each of some pictures is left out in turn; P(w) is its share of the votes from the others, and
    the mean of log P(w) over the tags that it carries is maximised. A tag that no neighbour carries
    counts as one millionth, at any temperature.

    Args:
        vectors_NL: of unit length; inner products are similarities.
        neighbours, pooled: see `engine.numerics.semantic`.
        seed: of which pictures are taken.

    Returns:
        The temperature; `HOTTEST` where nothing tells temperatures apart.
    """
    rng = np.random.default_rng(seed)
    rows_N = np.sort(rng.permutation(len(vectors_NL))[:CARRIERS])
    queries_Q = np.sort(rng.permutation(len(rows_N))[:QUERIES])
    voters_NL, voters_NV = vectors_NL[rows_N], labels_NV[rows_N]
    similarities_QN = voters_NL[queries_Q] @ voters_NL.T
    similarities_QN[np.arange(len(queries_Q)), queries_Q] = -np.inf
    semantic = SemanticNeighbours(voters_NV, neighbours)
    candidates = semantic.among_all(similarities_QN)
    carried_QV = voters_NV[queries_Q].toarray() > 0

    def surprise(log_temperature: float) -> float:
        votes_QV = semantic.votes(candidates, float(np.exp(log_temperature)), pooled)
        totals_Q1 = votes_QV.sum(axis=1, keepdims=True, dtype=np.float64)
        shares_QV = np.divide(
            votes_QV, totals_Q1, out=np.zeros(votes_QV.shape), where=totals_Q1 > 0
        )
        return -float(np.log(shares_QV[carried_QV] + 1e-6).mean())

    if surprise(np.log(COOLEST)) == surprise(np.log(HOTTEST)):
        return HOTTEST
    found = minimize_scalar(surprise, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))
