"""The torch side of the maps: what the stages of a network give, from the embedding's weights."""

from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from engine.embed.eager import Preprocessed
from engine.embed.maps import Grids, MapsBackbone
from engine.embed.networks import SOURCES
from engine.errors import BackboneError

BATCH = 32
"""Pictures in one pass of a network that is done with training."""


def stage_maps(network: nn.Module, pixels_BCHW: torch.Tensor) -> list[torch.Tensor]:
    """The last map [B, C, H, W] of each size, the largest first (Niu et al. 2017, section III.A).

    Of a ResNet: conv1, and the last of conv2_x to conv5_x. Of any network that timm builds: the
    stages that it gives as features, the last one after the layer that follows it, if one does. Of
    a plain sequence of layers, as VGG's: the last rectified layer before each pooling or stride.

    Raises:
        BackboneError: the stages of such a network are not known.
    """
    trunk = getattr(network, "trunk", network)
    intermediates = getattr(trunk, "forward_intermediates", None)
    if callable(intermediates):
        final, stages = intermediates(pixels_BCHW)
        return [*_last_of_each_size(stages)[:-1], final]
    if isinstance(trunk, torchvision.models.ResNet):
        found = [trunk.relu(trunk.bn1(trunk.conv1(pixels_BCHW)))]
        hidden = trunk.maxpool(found[0])
        for stage in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            hidden = stage(hidden)
            found.append(hidden)
        return found
    layers = (
        trunk.features
        if isinstance(trunk, torchvision.models.VGG)
        else getattr(network, "layers", None)
    )
    if not isinstance(layers, nn.Sequential):
        raise BackboneError(f"the stages of a {type(trunk).__name__} are not known")
    found, hidden = [], pixels_BCHW
    for layer in layers:
        hidden = layer(hidden)
        if isinstance(layer, nn.ReLU):
            found.append(hidden)
    return _last_of_each_size(found)


def _last_of_each_size(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    return list({one.shape[2:]: one for one in maps}.values())


class StageMaps(nn.Module):
    """Normalised pixels [B, 3, H, W] to the vectors of maps [B, M] that `Grids` describes."""

    def __init__(self, network: nn.Module, grids: Grids) -> None:
        super().__init__()
        self.network = network
        self.grids = grids

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        parts = []
        maps = stage_maps(self.network, pixels_BCHW)
        for one, side in zip(maps, self.grids.sides, strict=True):
            grid_BCSS = nn.functional.adaptive_avg_pool2d(one, side)
            parts.append(grid_BCSS.permute(0, 2, 3, 1).flatten(1))
        return torch.cat(parts, dim=1)


def maps_of(network: Preprocessed, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a network says of uint8 pixels [B, S, S, 3]: float32 [B, M]."""
    device = network.mean.device
    stages = network.network
    assert isinstance(stages, StageMaps)
    found = [np.zeros((0, sum(stages.grids.widths)), dtype=np.float32)]
    with torch.inference_mode():
        for start in range(0, len(pixels_BHWC), BATCH):
            # Copied: a column's memory is read-only, which torch does not take.
            batch = torch.from_numpy(np.array(pixels_BHWC[start : start + BATCH], order="C"))
            found.append(network(batch.to(device)).float().cpu().numpy())
    return np.concatenate(found)


def save_network(network: Preprocessed, path: Path) -> None:
    """Write all the weights as safetensors."""
    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, path)


def load_network(spec: MapsBackbone, path: Path) -> Preprocessed:
    """Read what `save_network` wrote; the backbone's own weights are not needed."""
    with torch.random.fork_rng(devices=[]):
        network = Preprocessed(spec, StageMaps(SOURCES[spec.name].build(), spec.grids))
    network.load_state_dict(load_file(path))
    return network.eval()
