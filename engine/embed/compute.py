"""What multiplies the matrices of a backbone: which ways there are, and which of them is taken."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.embed import graphs
from engine.embed.graphs import Run
from engine.embed.zoo import Backbone
from engine.errors import ConfigError

Compute = Literal[
    "auto",
    "torch",
    "torch-half",
    "onnxruntime",
    "openvino",
    "openvino-bf16",
    "openvino-int8",
]
"""Float32 where nothing else is said; 'half' is bfloat16, or float16 on a GPU without it."""

FLOAT32: dict[Compute, Compute] = {
    "torch-half": "torch",
    "openvino-bf16": "openvino",
    "openvino-int8": "openvino",
}
"""What a reduced precision falls back to."""

_PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime", "torch": "torch"}


@dataclass(frozen=True)
class Machine:
    """What this machine can compute with."""

    gpus: int
    openvino: bool
    openvino_bf16: bool
    onnxruntime: bool


def this_machine(gpus: int | None = None) -> Machine:
    """Look what is here.

    Args:
        gpus: how many GPUs there are; None asks torch.
    """
    has_openvino = _has("openvino")
    return Machine(
        gpus=_count_gpus() if gpus is None else gpus,
        openvino=has_openvino,
        openvino_bf16=has_openvino and graphs.cpu_has_bf16(),
        onnxruntime=_has("onnxruntime"),
    )


def candidates(compute: Compute, machine: Machine) -> tuple[Compute, ...]:
    """The ways that `compute` allows here, fastest first; the last is float32.

    Raises:
        ConfigError: what is asked for is not installed.
    """
    if compute != "auto":
        _check_installed(compute)
        exact = FLOAT32.get(compute)
        return (compute,) if exact is None else (compute, exact)
    if machine.gpus:
        return ("torch-half", "torch")
    if machine.openvino:
        return ("openvino-bf16", "openvino") if machine.openvino_bf16 else ("openvino",)
    return ("onnxruntime",) if machine.onnxruntime else ("torch",)


def resolve_compute(compute: Compute, gpus: int | None = None) -> Compute:
    """Name what computes here, in float32 unless another precision is asked for by name.

    Raises:
        ConfigError: what is asked for is not installed.
    """
    if compute != "auto":
        _check_installed(compute)
        return compute
    return candidates(compute, this_machine(gpus))[-1]


class Embedder:
    """A loaded backbone: call it with pixels, get embeddings."""

    def __init__(self, backbone: Backbone, run: Run):
        self.backbone = backbone
        self._run = run

    def __call__(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 RGB pixels [B, S, S, 3] of the backbone's size; float32 [B, D]."""
        if len(pixels_BHWC) == 0:
            return np.zeros((0, self.backbone.width), dtype=np.float32)
        return self._run(pixels_BHWC)


def load_embedder(
    backbone: Backbone, compute: Compute = "auto", graph: Path | None = None, threads: int = 1
) -> Embedder:
    """Load a backbone for computing in this process.

    Args:
        graph: the folder of an exported graph of this backbone for this compute, which needs
            neither torch nor the weights; None: it is exported anew.
        threads: CPU threads of this embedder; several workers with several threads each on the
            same cores are slower than one thread each.

    Raises:
        BackboneError: the weights cannot be had.
        ConfigError: the compute cannot be had.
    """
    resolved = resolve_compute(compute)
    if resolved in ("torch", "torch-half"):
        from engine.embed.eager import load_network

        return Embedder(backbone, load_network(backbone, resolved == "torch-half", threads))
    if resolved == "openvino-int8" and graph is None:
        raise ConfigError(
            "openvino-int8 is calibrated on pictures when a bundle is fitted and is in the bundle "
            "then; fit with --set embed.compute=openvino-int8"
        )
    if graph is not None:
        return Embedder(backbone, graphs.load(graph, resolved, threads))
    from engine.embed.export import export_graph

    with TemporaryDirectory() as folder:
        export_graph(backbone, resolved, Path(folder))
        return Embedder(backbone, graphs.load(Path(folder), resolved, threads))


def ensure_graph(
    backbone: Backbone,
    compute: Compute,
    folder: Path,
    calibration_BHWC: NDArray[np.uint8] | None = None,
) -> Path | None:
    """The backbone's exported graph below `folder`, made now unless it is there; None for torch.

    Args:
        folder: of graphs, each in a folder that is named by a digest of what it is made from.
        calibration_BHWC: see `engine.embed.export.export_graph`.

    Raises:
        BackboneError: the weights cannot be had.
        ConfigError: what exports it is not installed, or int8 has no pictures.
    """
    if compute in ("torch", "torch-half"):
        return None
    size = backbone.geometry.size
    graph = folder / graphs.graph_name(backbone.weights_sha256(), size, compute)
    if not graph.exists():
        # Here, not above: what exports is torch's, and needed for learning alone.
        from engine.embed.export import export_graph

        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".draft-") as draft:
            whole = Path(draft) / graph.name
            whole.mkdir()
            export_graph(backbone, compute, whole, calibration_BHWC)
            whole.rename(graph)
    return graph


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _check_installed(compute: Compute) -> None:
    package = _PACKAGES[compute.split("-")[0]]
    if not _has(package):
        raise ConfigError(
            f"embed.compute is '{compute}', but {package} is not installed; run: "
            f"pip install {package}, or set embed.compute to 'auto'"
        )


def _count_gpus() -> int:
    # Here, not above: torch takes seconds that a worker with an exported graph need not pay.
    import torch

    return torch.cuda.device_count()
