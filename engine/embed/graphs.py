"""Exported graphs of a backbone: run from their files, by OpenVINO or ONNX Runtime, without torch.

A graph is a folder of parts, one fed by the one before: `part-0.xml` and so on for OpenVINO,
`part-0.onnx` for ONNX Runtime. The first takes pixels, the last gives the embedding.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From uint8 pixels [B, S, S, 3] to float32 embeddings [B, D]."""

DESCRIPTION = "graph.json"
"""In a graph's folder: the shape of a picture, and the precision of each part as OpenVINO's hint
names it."""

EXPORT_VERSION = 1
"""Goes up when the same weights are exported otherwise."""

MICRO_BATCH = {"openvino": 2, "openvino-bf16": 4, "openvino-int8": 4, "onnxruntime": 4}
"""Pictures at a time: few enough that what lies between two layers stays in a core's own cache
(of EfficientNet-Lite0 at 224 pixels, 2 take 5.5 ms each in float32, and 32 take 7.2)."""


def graph_name(weights_sha256: str, size: int, compute: str) -> str:
    """The folder of a graph: a digest of what it is made from."""
    made_from = f"{weights_sha256} {size} {compute} {EXPORT_VERSION}"
    return hashlib.sha256(made_from.encode()).hexdigest()[:16]


def load_openvino() -> ModuleType:
    """OpenVINO without its telemetry, which forks a process for each event and sends it away."""
    # With None in its place its import fails, and OpenVINO goes without it.
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    import openvino

    return cast(ModuleType, openvino)


def cpu_has_bf16() -> bool:
    """Whether OpenVINO can compute in bfloat16 here and gain by it."""
    capabilities = load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


def load(folder: Path, compute: str, threads: int) -> Run:
    """Load a graph's parts into this process."""
    parts = (_onnx if compute == "onnxruntime" else _openvino)(folder, threads)
    most = MICRO_BATCH[compute]

    def run(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = [
            parts(np.ascontiguousarray(pixels_BHWC[start : start + most]))
            for start in range(0, len(pixels_BHWC), most)
        ]
        return np.concatenate(found)

    first = np.zeros((most, *_picture_shape(folder)), dtype=np.uint8)
    for pictures in range(1, most + 1):
        # The first pictures of each number are slow, and would be somebody's.
        run(first[:pictures])
    return run


def write_description(folder: Path, shape: tuple[int, ...], precisions: list[str]) -> None:
    """Write what `load` has to know besides the parts."""
    text = json.dumps({"picture": shape, "precisions": precisions})
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def _picture_shape(folder: Path) -> tuple[int, ...]:
    return tuple(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["picture"])


def _openvino(folder: Path, threads: int) -> Run:
    core = load_openvino().Core()
    precisions = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["precisions"]
    requests = []
    for place, precision in enumerate(precisions):
        settings = {
            # Without this hint a CPU with bfloat16 silently computes in it.
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        model = core.read_model(folder / f"part-{place}.xml")
        requests.append(core.compile_model(model, "CPU", settings).create_infer_request())

    def run(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        values: list[NDArray[np.generic]] = [pixels_BHWC]
        for request in requests:
            results = request.infer(values)
            values = [results[place] for place in range(len(results))]
        # Copied: the request's own buffer is written again by the next batch.
        return np.array(values[0], dtype=np.float32)

    return run


def _onnx(folder: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        folder / "part-0.onnx", options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def run(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        (found,) = session.run(None, {name: pixels_BHWC})
        embeddings_BD: NDArray[np.float32] = found
        return embeddings_BD

    return run
