"""The stage that comparing pictures begins with: bytes to hashes, and to the backbone's square."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pyarrow as pa

from engine import schema
from engine.fingerprint import DIGEST_BYTES, bytes_digest, perceptual_hash, pixels_digest
from engine.geometry import Geometry, fit_to
from engine.image import DecodeLimits, ImageError, decode
from engine.stage import Stage, Worker

BYTES_DIGEST = "fingerprint/bytes"
PIXELS_DIGEST = "fingerprint/pixels"
PERCEPTUAL = "fingerprint/perceptual"
WIDTH = "fingerprint/width"
HEIGHT = "fingerprint/height"
# With a slash, which no column of a caller's is likely to have: img2dataset writes `sha256`,
# `width` and `height`.

FINGERPRINT = {
    BYTES_DIGEST: pa.binary(DIGEST_BYTES),
    PIXELS_DIGEST: pa.binary(DIGEST_BYTES),
    PERCEPTUAL: pa.uint64(),
    WIDTH: pa.int32(),
    HEIGHT: pa.int32(),
}
"""The columns that are written beside the pixels: SHA-256 of the file and of the decoded pixels,
the perceptual hash, and the size upright in pixels."""


def fingerprint_stage(limits: DecodeLimits, geometry: Geometry) -> Stage:
    """Bytes to `FINGERPRINT` and to the backbone's square, from one full decoding.

    It stands in the place of the decode stage, for pixels can be compared only if all of them are
    decoded, as the 'reference' does.
    """
    size = geometry.size
    return Stage(
        "fingerprint",
        _MakeFingerprint(limits, geometry),
        reads=(schema.BYTES,),
        writes=(
            pa.field(schema.PIXELS, schema.tensor_type(np.uint8, (size, size, 3))),
            pa.field(schema.ERROR, pa.string()),
            pa.field(schema.REASON, pa.string()),
            *(pa.field(name, kind) for name, kind in FINGERPRINT.items()),
        ),
    )


@dataclass(frozen=True)
class _MakeFingerprint:
    limits: DecodeLimits
    geometry: Geometry

    def __call__(self) -> Worker:
        return FingerprintWorker(self.limits, self.geometry)


class FingerprintWorker:
    """Decodes and hashes a batch's pictures one by one; what cannot be decoded gets its error.

    Attributes:
        seconds: wall seconds spent decoding, resizing and hashing.
    """

    def __init__(self, limits: DecodeLimits, geometry: Geometry) -> None:
        self._limits = limits
        self._geometry = geometry
        self.seconds = {"decode": 0.0, "resize": 0.0, "hash": 0.0}

    def __call__(self, batch: pa.Table) -> pa.Table:
        size, count = self._geometry.size, batch.num_rows
        pixels_BHWC = np.zeros((count, size, size, 3), dtype=np.uint8)
        errors: list[str | None] = [None] * count
        reasons: list[str | None] = [None] * count
        found: dict[str, list[bytes | int | None]] = {name: [None] * count for name in FINGERPRINT}
        now = perf_counter()
        for row, value in enumerate(batch.column(schema.BYTES)):
            data = value.as_buffer().to_pybytes()
            try:
                full_HW3 = decode(data, self._limits)
            except ImageError as error:
                errors[row], reasons[row] = str(error.code), error.reason
                continue
            now = self._count("decode", now)
            pixels_BHWC[row] = fit_to(full_HW3, self._geometry)
            now = self._count("resize", now)
            found[BYTES_DIGEST][row] = bytes_digest(data)
            found[PIXELS_DIGEST][row] = pixels_digest(full_HW3)
            found[PERCEPTUAL][row] = perceptual_hash(full_HW3)
            found[HEIGHT][row], found[WIDTH][row], _ = full_HW3.shape
            now = self._count("hash", now)
        self._count("decode", now)
        return pa.table(
            {
                schema.PIXELS: schema.tensor_column(pixels_BHWC),
                schema.ERROR: pa.array(errors, pa.string()),
                schema.REASON: pa.array(reasons, pa.string()),
                **{name: pa.array(found[name], kind) for name, kind in FINGERPRINT.items()},
            }
        )

    def _count(self, part: str, since: float) -> float:
        now = perf_counter()
        self.seconds[part] += now - since
        return now
