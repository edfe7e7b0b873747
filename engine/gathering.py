"""All the group's pictures as one corpus, for methods that compare with every training picture."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.corpus import Corpus
from engine.group import Group


def gathered(corpus: Corpus, group: Group) -> Corpus:
    """The corpora of all ranks, one behind the other, on every rank.

    Social tags and the order of the tags are left out.
    """
    if group.size == 1:
        return corpus
    ids = [str(one) for part in group.gather(np.array(corpus.ids, np.str_)) for one in part]
    embeddings = group.gather(np.asarray(corpus.embeddings_ND))
    indices = np.concatenate(group.gather(corpus.labels_NV.indices)).astype(np.int32)
    lengths = np.concatenate(group.gather(np.diff(corpus.labels_NV.indptr))).astype(np.int64)
    labels_NV = binary_matrix(
        indices, np.concatenate([[0], np.cumsum(lengths)]), corpus.labels_NV.shape[1]
    )
    embeddings_ND = np.concatenate([part.astype(np.float32) for part in embeddings])
    return Corpus(tuple(ids), embeddings_ND, labels_NV, corpus.levels)


def binary_matrix(
    indices: NDArray[np.integer], indptr: NDArray[np.integer], tags: int
) -> sparse.csr_matrix:
    """Ones at the given places of a float32 matrix [N, tags] in compressed rows."""
    ones = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(len(indptr) - 1, tags))


def tag_shares(corpus: Corpus, group: Group) -> NDArray[np.float64]:
    """The share of the group's pictures that carry each tag, [V].

    Within (0, 1), as if half a picture more carried it, and half a one did not.
    """
    carriers_V = group.sum(np.asarray(corpus.labels_NV.sum(axis=0), dtype=np.float64).ravel())
    pictures = float(group.sum(np.array([float(len(corpus))]))[0])
    shares_V: NDArray[np.float64] = (carriers_V + 0.5) / (pictures + 1)
    return shares_V
