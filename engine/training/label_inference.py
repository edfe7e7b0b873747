"""Structured inference between layers of labels as torch; NumPy's is in `engine.numerics`."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_HEARD = 0.5
"""How much of that mean a label hears to begin with."""


class Signed(nn.Module):
    """relu(M+ a) - relu(M- a), where M+ and M- are 0 but between labels that are correlated.

    Args:
        start_UV: float64, the correlations: those above 0 begin M+, those below 0 begin M-, and
            where there is 0 there stays 0. A label begins by hearing a weighted mean of those that
            it is correlated with, so that many of them speak no louder than one.
        keeps: whether a label keeps its own activation: 1 and -1 on the diagonals, to begin with.
    """

    def __init__(self, start_UV: NDArray[np.float64], keeps: bool) -> None:
        super().__init__()
        itself_UV = np.eye(*start_UV.shape) * keeps
        others_UV = np.where(itself_UV == 0, start_UV, 0)
        others_UV = _HEARD * others_UV / np.maximum(np.abs(others_UV).sum(axis=0), 1)
        for name, sign in (("plus", 1), ("minus", -1)):
            one_UV = np.where(sign * others_UV > 0, others_UV, 0) + sign * itself_UV
            values = torch.from_numpy(one_UV).float()
            self.register_buffer(f"{name}_mask", (values != 0).float())
            self.register_parameter(name, nn.Parameter(values))

    def matrix(self, name: str) -> torch.Tensor:
        """M+ ('plus') or M- ('minus'), [U, V]."""
        masked: torch.Tensor = getattr(self, name) * getattr(self, f"{name}_mask")
        return masked

    def forward(self, values_BU: torch.Tensor) -> torch.Tensor:
        """Of activations [B, U], those [B, V] that they call for."""
        plus_BV = torch.relu(values_BU @ self.matrix("plus"))
        return plus_BV - torch.relu(values_BU @ self.matrix("minus"))


class Way(nn.Module):
    """One layer on one way: what it hears from its own labels, and from the layer before it."""

    def __init__(
        self, within_VV: NDArray[np.float64], between_UV: NDArray[np.float64] | None
    ) -> None:
        super().__init__()
        self.within = Signed(within_VV, keeps=True)
        self.between = None if between_UV is None else Signed(between_UV, keeps=False)
        self.bias = nn.Parameter(torch.zeros(len(within_VV)))

    def forward(self, x_BV: torch.Tensor, before_BU: torch.Tensor | None) -> torch.Tensor:
        """Activations [B, V]."""
        found_BV: torch.Tensor = self.within(x_BV) + self.bias
        if self.between is not None and before_BU is not None:
            found_BV = found_BV + self.between(before_BU)
        return found_BV


class LabelInference(nn.Module):
    """What a picture shows of each layer's labels, and the pass down and up between the layers.

    Hu et al. 2016, section 3; `engine.numerics.label_inference.infer` has the equations.
    The correlations begin the matrices, and say which of their entries are learned. What mixes both
    ways is one number a label and way, where the paper has matrices.

    Args:
        width: D of the features.
        dropout: of the features.
        within: of each layer, the correlations of its labels with each other [V_t, V_t].
        between: of each layer but the last, those with the next layer's [V_t, V_{t+1}].
        priors: float32 [V_t] of each layer, the log-odds that it begins with.
    """

    def __init__(
        self,
        width: int,
        dropout: float,
        within: Sequence[NDArray[np.float64]],
        between: Sequence[NDArray[np.float64]],
        priors: Sequence[NDArray[np.float32]],
    ) -> None:
        super().__init__()
        count = len(within)
        self.dropout = nn.Dropout(dropout)
        seen = [nn.Linear(width, len(prior)) for prior in priors]
        for layer, prior in zip(seen, priors, strict=True):
            nn.init.zeros_(layer.weight)
            with torch.no_grad():
                layer.bias.copy_(torch.from_numpy(prior))
        self.seen = nn.ModuleList(seen)
        self.down = nn.ModuleList(
            [Way(within[n], between[n - 1] if n else None) for n in range(count)]
        )
        self.up = nn.ModuleList(
            [Way(within[n], between[n].T if n < count - 1 else None) for n in range(count)]
        )
        halves = [nn.Parameter(torch.full((len(prior),), 0.5)) for prior in priors]
        self.mix_down = nn.ParameterList(halves)
        self.mix_up = nn.ParameterList([nn.Parameter(one.detach().clone()) for one in halves])
        self.mix_bias = nn.ParameterList(
            [nn.Parameter(torch.zeros_like(one.detach())) for one in halves]
        )

    def forward(
        self, features_BD: torch.Tensor, known_B1: torch.Tensor, observed_BW: torch.Tensor
    ) -> list[torch.Tensor]:
        """Log-odds [B, V_t] of each layer.

        Args:
            known_B1: boolean, whether the last layer is observed; one layer alone never is.
            observed_BW: its activations then.
        """
        dropped_BD = self.dropout(features_BD)
        x = [layer(dropped_BD) for layer in self.seen]
        if len(x) > 1:
            x[-1] = torch.where(known_B1, observed_BW, x[-1])
        down: list[torch.Tensor] = []
        for layer, way in enumerate(self.down):
            down.append(way(x[layer], down[-1] if down else None))
        up: list[torch.Tensor] = []
        for layer in range(len(x) - 1, -1, -1):
            up.append(self.up[layer](x[layer], up[-1] if up else None))
        up.reverse()
        return [
            self.mix_down[n] * down[n] + self.mix_up[n] * up[n] + self.mix_bias[n]
            for n in range(len(x))
        ]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """`seen<layer>.weights` [D, V], `seen<layer>.bias`, and what `infer` takes."""
        found: dict[str, torch.Tensor] = {}
        for n, layer in enumerate(self.seen):
            assert isinstance(layer, nn.Linear)
            found |= {f"seen{n}.weights": layer.weight.T, f"seen{n}.bias": layer.bias}
            found |= {f"mix{n}.down": self.mix_down[n], f"mix{n}.up": self.mix_up[n]}
            found[f"mix{n}.bias"] = self.mix_bias[n]
            for name, way in (("down", self.down[n]), ("up", self.up[n])):
                assert isinstance(way, Way)
                found[f"{name}{n}.bias"] = way.bias
                for part in ("within", "between"):
                    signed = getattr(way, part)
                    if signed is not None:
                        for sign in ("plus", "minus"):
                            found[f"{name}{n}.{part}.{sign}"] = signed.matrix(sign)
        return {
            name: np.ascontiguousarray(one.detach().cpu().numpy()) for name, one in found.items()
        }
