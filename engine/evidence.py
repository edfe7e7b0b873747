"""The training pictures that an annotator's tags come from, as the column that names them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy import sparse

from engine import schema
from engine.numerics.semantic import Candidates


def evidence_column(
    candidates: Candidates, ids: Sequence[str], labels_NV: sparse.csr_matrix, most: int
) -> pa.Array:
    """Of each query its nearest candidates with their tags, nearest first: `schema.EVIDENCE_LIST`.

    Args:
        candidates: of B queries, from which at most `most` are named.
    """
    rows_BE, similarities_BE = candidates.nearest(most)
    return pa.array(
        [
            [
                {
                    "image_id": ids[row],
                    "distance": min(max(1 - similarity, 0.0), 2.0),
                    "tags": labels_NV.indices[labels_NV.indptr[row] : labels_NV.indptr[row + 1]],
                }
                for row, similarity in zip(rows_E, similarities_E, strict=True)
                if np.isfinite(similarity)
            ]
            for rows_E, similarities_E in zip(rows_BE, similarities_BE, strict=True)
        ],
        schema.EVIDENCE_LIST,
    )
