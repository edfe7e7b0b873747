"""The stages that describe pictures by their hand-crafted features: in one column, or in twelve."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine import schema
from engine.features import FEATURES, feature_slices
from engine.features.describer import Describer
from engine.stage import Stage, Worker

FOLDER = "features"
"""Of the describer: in a bundle, and beside the parts of a corpus that is being described."""


def features_stage(folder: Path) -> Stage:
    """Pixels to the column `features`: all of `FEATURES` side by side, float16 in [0, 1].

    Args:
        folder: where a describer of all the features lies, for every worker.
    """
    kind = schema.tensor_type(np.float16, (sum(FEATURES.values()),))
    writes = (pa.field(schema.FEATURES, kind),)
    return Stage("features", _MakeDescribe(folder, False), (schema.PIXELS,), writes)


def feature_columns_stage(folder: Path) -> Stage:
    """Pixels to a column for each feature, `features/<name>`, float16 in [0, 1]."""
    kinds = {name: schema.tensor_type(np.float16, (width,)) for name, width in FEATURES.items()}
    writes = tuple(pa.field(schema.feature_column(name), kind) for name, kind in kinds.items())
    return Stage("features", _MakeDescribe(folder, True), (schema.PIXELS,), writes)


@dataclass(frozen=True)
class _MakeDescribe:
    folder: Path
    apart: bool

    def __call__(self) -> Worker:
        describer = Describer.load(self.folder)
        slices = feature_slices()

        def run(batch: pa.Table) -> pa.Table:
            pixels_BHWC = schema.tensor_values(batch, schema.PIXELS).astype(np.uint8, copy=False)
            found_BD = describer.matrix(pixels_BHWC)
            if not self.apart:
                return pa.table({schema.FEATURES: schema.tensor_column(found_BD)})
            return pa.table(
                {
                    schema.feature_column(name): schema.tensor_column(found_BD[:, part])
                    for name, part in slices.items()
                }
            )

        return run
