"""What multiplies the matrices of a backbone: torch on CPU or GPU, or OpenVINO on CPU."""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.embed.zoo import Backbone
from engine.errors import ConfigError

Compute = Literal["auto", "torch", "openvino"]


class Embedder:
    """A loaded backbone: call it with pixels, get embeddings."""

    def __init__(self, backbone: Backbone, run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]):
        self.backbone = backbone
        self._run = run

    def __call__(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 RGB pixels [B, S, S, 3] of the backbone's size; float32 [B, D]."""
        if len(pixels_BHWC) == 0:
            return np.zeros((0, self.backbone.width), dtype=np.float32)
        return self._run(pixels_BHWC)


def resolve_compute(compute: Compute, gpus: int | None = None) -> str:
    """Name what 'auto' means here: torch with a GPU, else OpenVINO where installed, else torch.

    Args:
        gpus: how many GPUs there are; None asks torch.

    Raises:
        ConfigError: OpenVINO is asked for and is not installed.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if compute == "openvino" and not has_openvino:
        raise ConfigError(
            "embed.compute is 'openvino', which is not installed; run: pip install openvino, or "
            "set embed.compute to 'auto'"
        )
    if compute != "auto":
        return compute
    count = torch.cuda.device_count() if gpus is None else gpus
    return "openvino" if has_openvino and count == 0 else "torch"


def load_embedder(backbone: Backbone, compute: Compute = "auto", threads: int = 1) -> Embedder:
    """Load a backbone's weights for computing in this process.

    Args:
        threads: CPU threads of this embedder; several workers with several threads each on the
            same cores are slower than one thread each.

    Raises:
        BackboneError: the weights cannot be had.
        ConfigError: the compute cannot be had.
    """
    network = _Preprocessed(backbone).eval()
    if resolve_compute(compute) == "openvino":
        return Embedder(backbone, _openvino(network, backbone, threads))
    return Embedder(backbone, _torch(network, threads))


class _Preprocessed(nn.Module):
    """The backbone behind its own normalisation: takes uint8 [B, H, W, 3]."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network = backbone.network()
        self.mean = nn.Buffer(torch.tensor(backbone.mean).reshape(1, 3, 1, 1))
        self.std = nn.Buffer(torch.tensor(backbone.std).reshape(1, 3, 1, 1))

    def forward(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).float()
        embedding: torch.Tensor = self.network((pixels_BCHW - self.mean) / self.std)
        return embedding


def _torch(network: nn.Module, threads: int) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    device = torch.device("cuda" if torch.cuda.device_count() else "cpu")
    torch.set_num_threads(threads)
    network = network.to(device).to(memory_format=torch.channels_last)

    def run(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            # Copied: a column's memory is read-only, which torch does not take.
            batch = torch.from_numpy(np.array(pixels_BHWC, order="C")).to(device)
            embedding: NDArray[np.float32] = network(batch).float().cpu().numpy()
            return embedding

    return run


def _openvino(
    network: nn.Module, backbone: Backbone, threads: int
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    import openvino

    size = backbone.geometry.size
    example = torch.zeros((1, size, size, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # OpenVINO converts by way of torch.jit.trace, which torch means to retire.
        warnings.filterwarnings("ignore", "`torch.jit.trace", FutureWarning)
        model = openvino.convert_model(
            network, example_input=example, input=[([-1, size, size, 3], openvino.Type.u8)]
        )
    # Without this hint a CPU with bfloat16 silently computes in it.
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.compile_model(model, "CPU", settings).create_infer_request()

    def run(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        results = request.infer([np.ascontiguousarray(pixels_BHWC)])
        # Copied: the request's own buffer is written again by the next batch.
        return np.array(results[0], dtype=np.float32)

    return run
