"""A small network that all tags share: from what is known of a tag and a picture to a probability.

Stacked generalisation (Wolpert 1992): it learns from scores of pictures that the scoring methods
have not seen, and so how far each of them is to be believed, for rare tags and for frequent ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from engine.group import Group

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TagNetwork:
    """Two hidden layers of rectified units on standardised signals, and a sigmoid.

    Attributes:
        mean_F, scale_F: signals are (x - mean) · scale before the first layer.
        layers: weights [in, out] and bias [out], first to last.
    """

    mean_F: NDArray[np.float32]
    scale_F: NDArray[np.float32]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def __call__(self, signals_BVF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities float32 [B, V] from signals [B, V, F]."""
        hidden_PF: NDArray[np.floating] = (
            signals_BVF.reshape(-1, len(self.mean_F)) - self.mean_F
        ) * self.scale_F
        for weights, bias in self.layers[:-1]:
            hidden_PF = np.maximum(hidden_PF @ weights + bias, 0)
        weights, bias = self.layers[-1]
        probabilities_P1 = expit(hidden_PF @ weights + bias)
        found: NDArray[np.float32] = probabilities_P1.reshape(signals_BVF.shape[:2])
        return found.astype(np.float32, copy=False)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What `from_arrays` takes."""
        found = {"mean": self.mean_F, "scale": self.scale_F}
        for place, (weights, bias) in enumerate(self.layers):
            found |= {f"weights{place}": weights, f"bias{place}": bias}
        return found

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> "TagNetwork":
        """Put together what `arrays` took apart."""
        count = sum(name.startswith("weights") for name in arrays)
        layers = tuple((arrays[f"weights{n}"], arrays[f"bias{n}"]) for n in range(count))
        return cls(arrays["mean"], arrays["scale"], layers)


def fit_tag_network(
    signals_PF: NDArray[np.float32],
    carried_P: NDArray[np.bool_],
    weight_P: NDArray[np.float32],
    hidden: int,
    weight_decay: float,
    iterations: int,
    seed: int,
    group: Group,
) -> TagNetwork:
    """Maximise the weighted likelihood of P pairs of a picture and a tag.

    Every step sees all the pairs of all the ranks, so how they are shared out does not matter.

    Args:
        signals_PF: of each pair; P = 0 is allowed on some ranks.
        carried_P: whether the picture carries the tag.
        weight_P: of each pair: more than one for a pair that stands for others left out.
        weight_decay: half the L2 penalty on the weights, in units of one pair.
        seed: of the weights at first.
    """
    # Here, not above: torch takes seconds that a fitted annotator need not pay.
    import torch
    from torch import nn

    from engine.training import minimise

    width = signals_PF.shape[1]
    x_PF = signals_PF.astype(np.float64)
    count = float(group.sum(np.array([float(len(x_PF))]))[0])
    mean_F = group.sum(x_PF.sum(0)) / count
    variance_F = group.sum(np.square(x_PF - mean_F).sum(0)) / count
    scale_F = 1 / np.sqrt(np.maximum(variance_F, 1e-8))
    positive, total = group.sum(
        np.array([(weight_P * carried_P).sum(), weight_P.sum()], dtype=np.float64)
    )
    share = (positive + 0.5) / (total + 1)
    generator = torch.Generator().manual_seed(seed)
    sizes = [width, hidden, hidden, 1]
    linears = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    with torch.no_grad():
        for linear in linears:
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
            linear.bias.zero_()
        linears[-1].weight.mul_(0.1)
        linears[-1].bias.fill_(float(np.log(share / (1 - share))))
    layers: list[nn.Module] = []
    for linear in linears:
        layers += [linear, nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    features_PF = torch.from_numpy(((x_PF - mean_F) * scale_F).astype(np.float32))
    truth_P = torch.from_numpy(carried_P.astype(np.float32))
    weights_P = torch.from_numpy(weight_P.astype(np.float32))

    def block_loss(_: int) -> torch.Tensor:
        logits_P: torch.Tensor = network(features_PF)[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(
            logits_P, truth_P, weight=weights_P, reduction="sum"
        )

    def penalty() -> torch.Tensor:
        squares = torch.stack([linear.weight.square().sum() for linear in linears])
        found: torch.Tensor = weight_decay / 2 * squares.sum() / total
        return found

    minimise(
        [parameter for linear in linears for parameter in linear.parameters()],
        block_loss,
        [0],
        total,
        penalty,
        iterations,
        group,
    )
    return TagNetwork(
        mean_F.astype(np.float32),
        scale_F.astype(np.float32),
        tuple(_arrays(linears)),
    )


def _arrays(
    linears: "Sequence[nn.Linear]",
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    return [
        (
            np.ascontiguousarray(linear.weight.detach().numpy().T),
            linear.bias.detach().numpy().copy(),
        )
        for linear in linears
    ]
