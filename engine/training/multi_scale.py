"""The networks of Niu et al. 2017 in torch; `engine.numerics.scale_fusion` is their NumPy form."""

from itertools import pairwise

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from engine.embed.eager import Preprocessed
from engine.embed.maps import Grids, MapsBackbone
from engine.group import Group

MOMENTUM, EPSILON = 0.1, 1e-5
"""Of batch normalisation: share of a batch in the running statistics, and what keeps a variance
from being 0."""


class _Total(torch.autograd.Function):
    """The sum over the ranks; what it is asked for backwards is the sum of what all ask for."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class GroupBatchNorm(nn.Module):
    """Batch normalisation over the batch of all the ranks, on whatever device it is.

    In training the mean and the variance are those of the whole group's batch, and so are the
    gradients through them: how a batch is shared out changes nothing but rounding. Afterwards the
    running statistics serve, so that no picture depends on those beside it.
    """

    def __init__(self, channels: int, group: Group) -> None:
        super().__init__()
        self.is_shared = group.size > 1
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean = nn.Buffer(torch.zeros(channels))
        self.variance = nn.Buffer(torch.ones(channels))

    def forward(self, map_BCSS: torch.Tensor) -> torch.Tensor:
        values = map_BCSS.float()
        mean, variance = self._statistics(values) if self.training else (self.mean, self.variance)
        factor = self.weight * torch.rsqrt(variance + EPSILON)
        return (values - _spread(mean)) * _spread(factor) + _spread(self.bias)

    def _statistics(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = values.new_tensor([values.numel() / len(self.mean)])
        count = self._total(places)
        mean = self._total(values.sum((0, 2, 3))) / count
        variance = self._total((values - _spread(mean)).square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.variance.lerp_(variance * count / (count - 1).clamp(min=1), MOMENTUM)
        return mean, variance

    def _total(self, values: torch.Tensor) -> torch.Tensor:
        if not self.is_shared:
            return values
        total: torch.Tensor = _Total.apply(values)
        return total


def _spread(values_C: torch.Tensor) -> torch.Tensor:
    return values_C[:, None, None]


class Fusion(nn.Module):
    """F of Eq. 3: 3x3 convolution of stride 2, then 1x1, each normalised and rectified."""

    def __init__(self, before: int, channels: int, group: Group) -> None:
        super().__init__()
        self.wide = nn.Conv2d(before, before, 3, stride=2, padding=1, bias=False)
        self.wide_norm = GroupBatchNorm(before, group)
        self.narrow = nn.Conv2d(before, channels, 1, bias=False)
        self.narrow_norm = GroupBatchNorm(channels, group)

    def forward(self, map_BCSS: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.wide_norm(self.wide(map_BCSS)))
        return torch.relu(self.narrow_norm(self.narrow(hidden)))

    def arrays(self, scale: int) -> dict[str, NDArray[np.float32]]:
        """The weights with batch normalisation in them, as `visual_vectors` takes them."""
        found = {}
        for name, layer, norm in (
            ("wide", self.wide, self.wide_norm),
            ("narrow", self.narrow, self.narrow_norm),
        ):
            factor_O = norm.weight.double() * torch.rsqrt(norm.variance.double() + EPSILON)
            kernel = layer.weight.double() * factor_O[:, None, None, None]
            rows = kernel.permute(2, 3, 1, 0).reshape(-1, len(factor_O))
            bias_O = norm.bias.double() - norm.mean.double() * factor_O
            found[f"{name}{scale}"] = rows.detach().float().contiguous().numpy()
            found[f"{name}_bias{scale}"] = bias_O.detach().float().numpy()
        return found


class MultiScale(nn.Module):
    """Maps to the visual vector (Eq. 1 to 3), and that to the logits of the tags.

    Args:
        grids: of the maps.
        scales: mean and standard deviation [C] by scale, of each channel over the training
            pictures.
        is_fused: all the scales speak; otherwise the last one alone.
        prior_V: float32 [V], the log-odds of each tag that the classifier begins with.
    """

    def __init__(
        self,
        grids: Grids,
        scales: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
        is_fused: bool,
        prior_V: NDArray[np.float32],
        group: Group,
    ) -> None:
        super().__init__()
        self.grids = grids
        for scale, (mean_C, deviation_C) in enumerate(scales):
            self.register_buffer(f"mean{scale}", torch.from_numpy(mean_C).float())
            self.register_buffer(f"scale{scale}", torch.from_numpy(1 / deviation_C).float())
        pairs = pairwise(grids.channels) if is_fused else ()
        self.fusions = nn.ModuleList([Fusion(*pair, group) for pair in pairs])
        self.head = Classifier(grids.channels[-1], prior_V)

    def forward(self, maps_BM: torch.Tensor) -> torch.Tensor:
        logits_BV: torch.Tensor = self.head(self.vectors(maps_BM))
        return logits_BV

    def vectors(self, maps_BM: torch.Tensor) -> torch.Tensor:
        """f_v: [B, C] of flat maps [B, M]."""
        last = len(self.grids.channels) - 1
        start = 0 if len(self.fusions) else last
        parts = torch.split(maps_BM, list(self.grids.widths), dim=1)
        fused = self._standard(parts[start], start)
        for scale, fusion in enumerate(self.fusions, 1):
            fused = self._standard(parts[scale], scale) + fusion(fused)
        return fused.mean((2, 3))

    def _standard(self, part: torch.Tensor, scale: int) -> torch.Tensor:
        side, channels = self.grids.sides[scale], self.grids.channels[scale]
        map_BSSC = part.reshape(-1, side, side, channels)
        standard = (map_BSSC - self.get_buffer(f"mean{scale}")) * self.get_buffer(f"scale{scale}")
        return standard.permute(0, 3, 1, 2)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights as `engine.numerics.scale_fusion.visual_vectors` takes them."""
        found = {name: one.numpy() for name, one in self.named_buffers(recurse=False)}
        for scale, fusion in enumerate(self.fusions, 1):
            assert isinstance(fusion, Fusion)
            found |= fusion.arrays(scale)
        return found


class Classifier(nn.Module):
    """A linear layer of zeros whose bias is the tags' log-odds; Eq. 4 makes of it what it may."""

    def __init__(self, width: int, prior_V: NDArray[np.float32]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, len(prior_V)))
        self.bias = nn.Parameter(torch.from_numpy(prior_V.copy()))

    def forward(self, vectors_BD: torch.Tensor) -> torch.Tensor:
        logits_BV: torch.Tensor = vectors_BD @ self.weight + self.bias
        return logits_BV


class WordLayers(nn.Module):
    """Noisy tags to the textual vector by two rectified layers (section III.B), then logits."""

    def __init__(self, words: int, hidden: int, width: int, prior_V: NDArray[np.float32]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(words, hidden), nn.Linear(hidden, width)
        self.head = Classifier(width, prior_V)

    def forward(self, words_BW: torch.Tensor) -> torch.Tensor:
        hidden_BH = torch.relu(self.first(words_BW))
        logits_BV: torch.Tensor = self.head(torch.relu(self.second(hidden_BH)))
        return logits_BV

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights as `engine.numerics.scale_fusion.textual_vectors` takes them."""
        found = {}
        for place, layer in enumerate((self.first, self.second), 1):
            found[f"words{place}"] = np.ascontiguousarray(layer.weight.detach().numpy().T)
            found[f"words{place}_bias"] = layer.bias.detach().numpy()
        return found


class Tuned(nn.Module):
    """Stage 1 of Algorithm 1: pixels to the logits of the tags, by a backbone's last scale.

    Batch normalisation of the backbone keeps the statistics of the weights it came with: those of a
    small batch are poor, and would make the ranks' shares of a batch matter.
    """

    def __init__(self, spec: MapsBackbone, prior_V: NDArray[np.float32]) -> None:
        super().__init__()
        self.grids = spec.grids
        self.backbone = Preprocessed(spec, spec.network())
        channels = self.grids.channels[-1]
        self.mean = nn.Buffer(torch.zeros(channels))
        self.scale = nn.Buffer(torch.ones(channels))
        self.head = Classifier(channels, prior_V)

    def standardise(self, mean_C: NDArray[np.float64], deviation_C: NDArray[np.float64]) -> None:
        """Tell it the moments of the last scale's channels."""
        self.mean.copy_(torch.from_numpy(mean_C))
        self.scale.copy_(torch.from_numpy(1 / deviation_C))

    def forward(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        maps_BM = self.backbone(pixels_BHWC)
        last_BX = torch.split(maps_BM, list(self.grids.widths), dim=1)[-1]
        vectors_BC = last_BX.reshape(len(last_BX), -1, self.grids.channels[-1]).mean(1)
        logits_BV: torch.Tensor = self.head((vectors_BC - self.mean) * self.scale)
        return logits_BV

    def train(self, mode: bool = True) -> "Tuned":
        super().train(mode)
        self.backbone.eval()
        return self

    def freeze_unused(self, size: int) -> None:
        """Take the parameters that no logit depends on, such as the classifier's, off training."""
        nn.init.ones_(self.head.weight)
        self(torch.zeros(1, size, size, 3, dtype=torch.uint8)).sum().backward()
        nn.init.zeros_(self.head.weight)
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None

    def hand_over(self, network: MultiScale) -> None:
        """Give a network its classifier, which the moments of the tuned maps are worked into."""
        last = len(self.grids.channels) - 1
        mean, scale = network.get_buffer(f"mean{last}"), network.get_buffer(f"scale{last}")
        with torch.no_grad():
            network.head.weight.copy_(self.head.weight * (self.scale / scale)[:, None])
            shift_V = ((mean - self.mean) * self.scale) @ self.head.weight
            network.head.bias.copy_(self.head.bias + shift_V)
