"""From a batch to the vectors its pictures call for: a layer on embeddings, or a whole network."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from engine import schema
from engine.numerics.levels import normalised_levels

if TYPE_CHECKING:
    from engine.embed.tuned import Regressor


class Head:
    """The new layer on the embedding; `weights_DE` hold the whitening too."""

    reads = (schema.EMBEDDING,)

    def __init__(
        self, levels: tuple[int, ...], weights_DE: NDArray[np.float32], bias_E: NDArray[np.float32]
    ) -> None:
        self.levels = levels
        self.weights_DE = weights_DE
        self.bias_E = bias_E

    def predict(self, batch: pa.Table) -> NDArray[np.float32]:
        """The word vectors float32 [B, E] that a batch's pictures call for."""
        x_BD = normalised_levels(schema.float_tensor(batch, schema.EMBEDDING), self.levels)
        found_BE: NDArray[np.float32] = x_BD @ self.weights_DE + self.bias_E
        return found_BE

    def save(self, folder: Path) -> dict[str, object]:
        """Write the weights; what else is to be known comes back."""
        save_file({"weights": self.weights_DE, "bias": self.bias_E}, folder / "head.safetensors")
        return {"levels": self.levels}

    @classmethod
    def load(cls, folder: Path, levels: tuple[int, ...]) -> "Head":
        arrays = load_file(folder / "head.safetensors")
        return cls(levels, arrays["weights"], arrays["bias"])


class Tuned:
    """A network of the annotator's own, from pixels to the word vector."""

    reads = (schema.PIXELS,)

    def __init__(self, backbone: str, network: "Regressor") -> None:
        self.backbone = backbone
        self.network = network

    def predict(self, batch: pa.Table) -> NDArray[np.float32]:
        """The word vectors float32 [B, E] that a batch's pictures call for."""
        from engine.embed.tuned import outputs

        pixels_BHWC = schema.tensor_values(batch, schema.PIXELS).astype(np.uint8, copy=False)
        return outputs(self.network, pixels_BHWC)

    def save(self, folder: Path) -> dict[str, object]:
        """Write the weights; what else is to be known comes back."""
        from engine.embed.tuned import save_regressor

        save_regressor(self.network, folder / "network.safetensors")
        return {"backbone": self.backbone, "outputs": self.network.head.out_features}

    @classmethod
    def load(cls, folder: Path, backbone: str, outputs: int) -> "Tuned":
        from engine.embed.tuned import load_regressor

        return cls(backbone, load_regressor(backbone, outputs, folder / "network.safetensors"))
