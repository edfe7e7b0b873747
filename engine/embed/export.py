"""From a backbone's torch network to the files of a graph, for OpenVINO or ONNX Runtime."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.embed.eager import Preprocessed
from engine.embed.graphs import load_openvino, write_description
from engine.embed.networks import LiteFeatures
from engine.embed.zoo import Backbone
from engine.errors import ConfigError

if TYPE_CHECKING:
    from openvino import Model


def export_graph(
    backbone: Backbone,
    compute: str,
    folder: Path,
    calibration_BHWC: NDArray[np.uint8] | None = None,
) -> None:
    """Write the backbone's graph for `compute` into an empty folder.

    Args:
        calibration_BHWC: for int8: pictures as the backbone gets them, from whose activations
            the ranges of the integers are taken.

    Raises:
        BackboneError: the weights cannot be had.
        ConfigError: a package that exports is not installed, or int8 has no pictures.
    """
    size = backbone.geometry.size
    whole = Preprocessed(backbone, backbone.network()).eval()
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    shape = (size, size, 3)
    if compute == "onnxruntime":
        _export_onnx(whole, example, folder / "part-0.onnx")
        write_description(folder, shape, ["f32"])
    elif compute == "openvino-int8":
        if calibration_BHWC is None:
            raise ConfigError(
                "embed.compute is 'openvino-int8', which is calibrated on pictures of a corpus, "
                "and there are none here; set embed.compute to 'auto'"
            )
        _export_int8(whole, example, calibration_BHWC, folder / "part-0.xml")
        write_description(folder, shape, ["f32"])
    elif compute == "openvino-bf16" and isinstance(whole.network, LiteFeatures):
        shallow = _Shallow(whole).eval()
        deep = _Deep(whole.network).eval()
        with torch.no_grad():
            between = shallow(example)
        _export_openvino(shallow, (example,), folder / "part-0.xml")
        _export_openvino(deep, between, folder / "part-1.xml")
        write_description(folder, shape, ["f32", "bf16"])
    else:
        _export_openvino(whole, (example,), folder / "part-0.xml")
        write_description(folder, shape, ["bf16" if compute == "openvino-bf16" else "f32"])


class _Shallow(nn.Module):
    def __init__(self, whole: Preprocessed) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        network = self.whole.network
        assert isinstance(network, LiteFeatures)
        return network.shallow(self.whole.normalised(pixels_BHWC))


class _Deep(nn.Module):
    def __init__(self, network: LiteFeatures) -> None:
        super().__init__()
        self.network = network

    def forward(self, hidden: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        return self.network.deep(hidden, pooled)


def _export_openvino(network: nn.Module, example: tuple[torch.Tensor, ...], path: Path) -> None:
    _save(_converted(network, example), path)


def _save(model: "Model", path: Path) -> None:
    # The names have running numbers in them, and the same bundle must come out with the same id.
    model.set_friendly_name("backbone")
    for place, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}-{place}")
    load_openvino().save_model(model, path, compress_to_fp16=False)


def _converted(network: nn.Module, example: tuple[torch.Tensor, ...]) -> "Model":
    openvino = load_openvino()
    inputs = [
        (
            [-1, *one.shape[1:]],
            openvino.Type.u8 if one.dtype == torch.uint8 else openvino.Type.f32,
        )
        for one in example
    ]
    with warnings.catch_warnings():
        # OpenVINO converts by way of torch.jit.trace, which torch means to retire.
        warnings.filterwarnings("ignore", "`torch.jit.trace", FutureWarning)
        model: Model = openvino.convert_model(network, example_input=example, input=inputs)
    return model


def _export_int8(
    network: nn.Module, example: torch.Tensor, calibration_BHWC: NDArray[np.uint8], path: Path
) -> None:
    load_openvino()
    try:
        import nncf
    except ImportError as error:
        raise ConfigError(
            "embed.compute is 'openvino-int8', which nncf calibrates, and that is not installed; "
            "run: pip install nncf, or set embed.compute to 'auto'"
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    pictures = nncf.Dataset([one[None] for one in calibration_BHWC])
    quantised = nncf.quantize(
        _converted(network, (example,)), pictures, subset_size=len(calibration_BHWC)
    )
    _save(quantised, path)


def _export_onnx(network: nn.Module, example: torch.Tensor, path: Path) -> None:
    if find_spec("onnxscript") is None:
        raise ConfigError(
            "embed.compute is 'onnxruntime', whose graph torch exports with onnxscript, which is "
            "not installed; run: pip install onnx onnxscript, or set embed.compute to 'auto'"
        )
    torch.onnx.export(
        network,
        (example,),
        path,
        dynamo=True,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("pictures", min=1)},),
        verbose=False,
    )
