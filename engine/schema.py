"""The columns of a batch: their names, their Arrow types, and tensors in and out of them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

IMAGE_ID = "image_id"
URI = "uri"
BYTES = "bytes"
PIXELS = "pixels"
THUMBNAIL = "thumbnail"
ERROR = "error"
REASON = "reason"
EMBEDDING = "embedding"
FEATURES = "features"
TAGS = "tags"
NEIGHBOURS = "neighbours"
BUNDLE_ID = "bundle_id"
SOCIAL_TAGS = "social_tags"
ASK = "ask"
SHARES = "shares"
QUANTITY = "quantity"
FUSED = "score/"
"""The blend's score of every tag: the name that no annotator's own column has."""

SCORED_TAGS = pa.list_(pa.struct([("tag", pa.string()), ("score", pa.float32())]))
"""Tags of a picture with their scores in [0, 1], best first."""

NEIGHBOUR_LIST = pa.list_(pa.struct([("image_id", pa.string()), ("distance", pa.float32())]))
"""Training pictures whose tags were transferred, nearest first; correlation distance in [0, 2]."""

EVIDENCE_LIST = pa.list_(
    pa.struct(
        [("image_id", pa.string()), ("distance", pa.float32()), ("tags", pa.list_(pa.int32()))]
    )
)
"""What an annotator hands to the cut: neighbours with the vocabulary indices they speak for."""

ASKS = pa.struct(
    [("top_k", pa.int32()), ("threshold", pa.float32()), ("among", pa.list_(pa.int32()))]
)
"""What is wanted of one picture: how many tags (null: auto), of at least which score (null: any),
among which places of the vocabulary (null: all)."""

SHARE_LISTS = pa.list_(pa.list_(pa.float32()))
"""For each tag given, the annotators' shares in its score, in the bundle's order; they sum to 1."""

OPTIONAL = {SOCIAL_TAGS: pa.list_(pa.string())}
"""What a caller may give with a picture, with its type: a stage that reads it finds nulls where
it was not given."""

RESERVED = (
    ERROR,
    REASON,
    TAGS,
    NEIGHBOURS,
    BUNDLE_ID,
    PIXELS,
    EMBEDDING,
    FEATURES,
    THUMBNAIL,
    QUANTITY,
)
"""Names that the engine writes; a caller's column of such a name comes out as `input_<name>`."""


def score_column(annotator: str) -> str:
    """Name of the column with an annotator's scores, float32 [V] a row."""
    return f"score/{annotator}"


def evidence_column(annotator: str) -> str:
    """Name of the column with an annotator's neighbours, `EVIDENCE_LIST` a row."""
    return f"evidence/{annotator}"


def feature_column(name: str) -> str:
    """Name of the column with one hand-crafted feature alone, float16 [D] a row."""
    return f"{FEATURES}/{name}"


def tensor_type(dtype: type[np.generic], shape: Sequence[int]) -> pa.DataType:
    """Arrow type of one tensor a row, of the given NumPy scalar type and shape."""
    return pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(dtype)), list(shape))


def tensor_column(values: NDArray[np.generic]) -> pa.Array:
    """Pack `values` [B, ...] into an Arrow column of B tensors, without a copy where possible.

    B = 0 is allowed: the type keeps the shape of a row.
    """
    contiguous = np.ascontiguousarray(values)
    width = int(np.prod(contiguous.shape[1:], dtype=np.int64))
    storage = pa.FixedSizeListArray.from_arrays(pa.array(contiguous.reshape(-1)), width)
    return pa.ExtensionArray.from_storage(
        tensor_type(contiguous.dtype.type, contiguous.shape[1:]), storage
    )


def tensor_values(table: pa.Table, name: str) -> NDArray[np.generic]:
    """Unpack a tensor column without nulls into an array [B, ...] of its own dtype."""
    column = table.column(name).combine_chunks()
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    values: NDArray[np.generic] = array.to_numpy_ndarray()
    return values


def float_tensor(table: pa.Table, name: str) -> NDArray[np.float32]:
    """A float32 tensor column as an array [B, ...]."""
    return tensor_values(table, name).astype(np.float32, copy=False)
