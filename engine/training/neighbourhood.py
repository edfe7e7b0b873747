"""The network of TagNeighbour as a torch module; the annotator has its NumPy form."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class Neighbourhood(nn.Module):
    """A hidden layer for the picture, one for its neighbours, and the tags from both.

    Johnson et al. 2015, section 3: v_x = relu(W_x x + b_x), v_z = the maximum of
    relu(W_z z_i + b_z) over a neighbourhood, and the logits are W_y [v_x, v_z] + b_y. The mean of
    the logits over all neighbourhoods of one size among the candidates needs the mean v_z alone,
    which is a weighted sum of the candidates' sorted values.

    Args:
        width, hidden: D and H.
        dropout: of both hidden vectors.
        weights_C: of the sorted values, ascending.
        prior_V: float32 [V], the log-odds of each tag that the network begins with.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        dropout: float,
        weights_C: NDArray[np.float32],
        prior_V: NDArray[np.float32],
    ) -> None:
        super().__init__()
        self.own, self.other = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.out = nn.Linear(2 * hidden, len(prior_V))
        self.weights = nn.Buffer(torch.from_numpy(weights_C.copy()))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.out.bias.copy_(torch.from_numpy(prior_V))

    def forward(
        self, x_BD: torch.Tensor, near_BCD: torch.Tensor, there_BC: torch.Tensor
    ) -> torch.Tensor:
        """Log-odds [B, V]; candidates that are not `there` count as 0."""
        own_BH = torch.relu(self.own(x_BD))
        near_BCH = torch.relu(self.other(near_BCD)) * there_BC[:, :, None]
        sorted_BCH = torch.sort(near_BCH, dim=1).values
        pooled_BH = torch.einsum("bch,c->bh", sorted_BCH, self.weights)
        logits_BV: torch.Tensor = self.out(self.dropout(torch.cat([own_BH, pooled_BH], dim=1)))
        return logits_BV

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Weights [in, out] and bias [out] of `own`, `other` and `out`."""
        found: dict[str, NDArray[np.float32]] = {}
        for name in ("own", "other", "out"):
            layer: nn.Linear = getattr(self, name)
            found[f"{name}_weights"] = np.ascontiguousarray(layer.weight.detach().numpy().T)
            found[f"{name}_bias"] = layer.bias.detach().numpy().copy()
        return found
