"""The training pictures that an annotator's tags come from, as the column that names them."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from engine import schema


def evidence_column(
    rows_BE: NDArray[np.int64],
    similarities_BE: NDArray[np.floating],
    ids: pa.Array,
    labels_NV: sparse.csr_matrix,
) -> pa.Array:
    """Of each query its neighbours with their tags, in the order given: `schema.EVIDENCE_LIST`.

    Args:
        rows_BE: training rows; those whose similarity is not finite are left out.
        similarities_BE: correlations; 1 - similarity is the distance that is told.
        ids: of the training pictures, an Arrow array of strings [N].
    """
    named_BE = np.isfinite(similarities_BE)
    rows_R = rows_BE[named_BE]
    labels_RV = labels_NV[rows_R]
    tags = pa.ListArray.from_arrays(
        pa.array(labels_RV.indptr, pa.int32()), pa.array(labels_RV.indices, pa.int32())
    )
    distances_R = np.clip(1 - similarities_BE[named_BE], 0, 2).astype(np.float32)
    fields = list(schema.EVIDENCE_LIST.value_type)
    columns = [ids.take(pa.array(rows_R)), pa.array(distances_R), tags]
    neighbours = pa.StructArray.from_arrays(columns, fields=fields)
    begins = np.concatenate([[0], np.cumsum(named_BE.sum(axis=1))])
    return pa.ListArray.from_arrays(
        pa.array(begins, pa.int32()), neighbours, type=schema.EVIDENCE_LIST
    )
