"""The column of a frozen backbone's feature maps, and the stage that makes it from pixels."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine import schema
from engine.embed import FLOAT32, Compute, load_embedder, resolve_compute
from engine.embed.maps import MapsBackbone, maps_backbone, stored
from engine.stage import Stage, Worker

MAPS = "maps"
"""The part of the column's name before the first '/'."""


def maps_column(name: str, side: int) -> str:
    """The column of a backbone's maps; its name says all that they depend on but the pixels.

    Args:
        side: of the last scale's grid, see `engine.embed.maps.Grids`.
    """
    return f"{MAPS}/{name}/{side}"


def maps_stage(column: str, compute: Compute = "auto") -> Stage:
    """Pixels to the column of that name: float16 [M] a picture.

    Computed in float32 wherever pictures are annotated: what is learned is learned once.

    Raises:
        BackboneError: the backbone is unknown, or does not expose its stages.
    """
    _, name, side = column.split("/")
    spec = maps_backbone(name, int(side))
    resolved = resolve_compute(compute)
    field = pa.field(column, schema.tensor_type(np.float16, (spec.width,)))
    make = _MakeMaps(spec, column, FLOAT32.get(resolved, resolved))
    return Stage(column, make, reads=(schema.PIXELS,), writes=(field,))


@dataclass(frozen=True)
class _MakeMaps:
    spec: MapsBackbone
    column: str
    compute: Compute

    def __call__(self) -> Worker:
        embedder = load_embedder(self.spec, self.compute)

        def run(batch: pa.Table) -> pa.Table:
            pixels_BHWC = schema.tensor_values(batch, schema.PIXELS).astype(np.uint8, copy=False)
            return pa.table({self.column: schema.tensor_column(stored(embedder(pixels_BHWC)))})

        return run
