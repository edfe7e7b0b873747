"""The accuracy gate: which fast way from bytes to embeddings is near enough to the reference.

The reference is Pillow's pixels and torch in float32. The ways are tried from the fastest on, and
the first is taken whose embeddings and whose tags agree with the reference's on a sample.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.config import FitConfig
from engine.embed import Compute, backbone, candidates, ensure_graph, load_embedder, this_machine
from engine.geometry import Geometry, Pixels
from engine.manifest import Deviation
from engine.picture_stages import decode_stage
from engine.plan import embedding_geometry

BEST_TAGS = 5
_REFERENCE: Pixels = "reference"

Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From embeddings [B, D] to the tags' scores [B, V]."""


@dataclass(frozen=True)
class Way:
    """What a bundle annotates by: what computes, from which pixels, with which graph.

    Attributes:
        graph: folder in the bundle of the exported graph; None: torch computes.
        tried: what was measured, the way taken last.
    """

    compute: Compute
    pixels: Pixels
    graph: str | None
    tried: tuple[Deviation, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the user of the ways that were not taken."""
        return tuple(
            f"{one.compute} from {one.pixels} pixels is not near enough to float32: of "
            f"{one.pictures} pictures {100 * one.same_tags:.1f}% get the same five tags, and the "
            f"least cosine is {one.cosine:.4f}; falling back"
            for one in self.tried[:-1]
        )


def choose_way(
    draft: Path,
    config: FitConfig,
    sample: Sequence[bytes],
    score: Score,
    graphs: Path | None = None,
) -> Way:
    """Try the ways that the configuration allows; write the graph of the one taken.

    The last of them, float32 from the reference's pixels, is taken whatever is measured. Without
    a picture to measure on, no way is taken that the configuration does not name.

    Args:
        draft: the bundle's folder; the graph is written below it.
        sample: encoded pictures; those that cannot be decoded are passed over.
        graphs: a folder of graphs, in which some that are needed may be already, see
            `engine.embed.ensure_graph`.

    Raises:
        BackboneError: the weights cannot be had.
        ConfigError: what the configuration names is not installed, or is int8 and there are no
            pictures to calibrate on.
    """
    asked, spec = config.embed, backbone(config.embed.network)
    computes = candidates(asked.compute, this_machine())
    geometry = embedding_geometry(config)
    named: Pixels = "scaled" if asked.pixels == "auto" else asked.pixels
    pixels = {
        way: _square(sample, config, geometry, way) for way in dict.fromkeys((named, _REFERENCE))
    }
    if not len(pixels[_REFERENCE]):
        kept = _REFERENCE if asked.pixels == "auto" else asked.pixels
        compute = computes[-1] if asked.compute == "auto" else computes[0]
        graph = ensure_graph(spec, compute, draft / "graph")
        return Way(compute, kept, _name(graph))
    threads = os.cpu_count() or 1
    truth_BD = load_embedder(spec, "torch", threads=threads)(pixels[_REFERENCE])
    best_BK = _best(score(truth_BD))
    tried: list[Deviation] = []
    with tempfile.TemporaryDirectory() as scratch:
        for compute in computes:
            graph = ensure_graph(spec, compute, graphs or Path(scratch), pixels[_REFERENCE])
            embedder = load_embedder(spec, compute, graph, threads)
            for way in _pixel_ways(config, pixels):
                found_BD = embedder(pixels[way])
                deviation = Deviation(
                    compute=compute,
                    pixels=way,
                    pictures=len(truth_BD),
                    cosine=float(_cosines(truth_BD, found_BD).min()),
                    same_tags=float((best_BK == _best(score(found_BD))).all(axis=1).mean()),
                )
                tried.append(deviation)
                is_last = compute == computes[-1] and way == _REFERENCE
                if is_last or _is_near(deviation, config):
                    if graph is not None:
                        shutil.copytree(graph, draft / "graph" / graph.name)
                    return Way(compute, way, _name(graph), tuple(tried))
    raise AssertionError("the last way is always taken")


def _pixel_ways(config: FitConfig, pixels: Mapping[Pixels, NDArray[np.uint8]]) -> list[Pixels]:
    """The kinds of pixels that may be taken, fastest first."""
    if config.embed.pixels == "auto" and np.array_equal(pixels["scaled"], pixels[_REFERENCE]):
        # No picture of the sample is large enough to tell what scaling would cost.
        return [_REFERENCE]
    return list(pixels)


def _is_near(deviation: Deviation, config: FitConfig) -> bool:
    limits = config.embed.accuracy
    return deviation.cosine >= limits.cosine and deviation.same_tags >= limits.same_tags


def _square(
    sample: Sequence[bytes], config: FitConfig, geometry: Geometry, pixels: Pixels
) -> NDArray[np.uint8]:
    """The squares [B, S, S, 3] of the pictures that can be decoded."""
    names = pa.array([str(row) for row in range(len(sample))], pa.string())
    batch = pa.table({schema.IMAGE_ID: names, schema.BYTES: pa.array(sample, pa.binary())})
    decoded = decode_stage(config.decode, geometry, None, pixels).make()(batch)
    healthy = decoded.filter(decoded.column(schema.ERROR).is_null())
    return schema.tensor_values(healthy, schema.PIXELS).astype(np.uint8, copy=False)


def _name(graph: Path | None) -> str | None:
    return None if graph is None else f"graph/{graph.name}"


def _best(scores_BV: NDArray[np.float32]) -> NDArray[np.int64]:
    """The places of each picture's best tags, in the order of the vocabulary, [B, K]."""
    most = min(BEST_TAGS, scores_BV.shape[1])
    return np.sort(np.argsort(-scores_BV, axis=1, kind="stable")[:, :most], axis=1)


def _cosines(left_BD: NDArray[np.float32], right_BD: NDArray[np.float32]) -> NDArray[np.float64]:
    left, right = left_BD.astype(np.float64), right_BD.astype(np.float64)
    norms_B = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines_B: NDArray[np.float64] = np.einsum("bd,bd->b", left, right) / norms_B
    return cosines_B
