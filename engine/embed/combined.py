"""Several networks as one: side by side on the same square, and averaged over its mirror image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from engine.embed.networks import filled_network

if TYPE_CHECKING:
    from engine.embed.zoo import Backbone


def combined_network(members: Sequence["Backbone"], flip: bool) -> nn.Module:
    """The networks of `members` with their weights, as one that takes what the first takes.

    Raises:
        BackboneError: the weights of one cannot be had.
    """
    first = members[0]
    networks = []
    for member in members:
        network = filled_network(member.name)
        if (member.mean, member.std) != (first.mean, first.std):
            network = Renormalised(network, first, member)
        networks.append(network)
    whole = networks[0] if len(networks) == 1 else SideBySide(networks)
    return (Mirrored(whole) if flip else whole).eval()


class SideBySide(nn.Module):
    """The embeddings of several networks, one after the other."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        return torch.cat([network(pixels_BCHW) for network in self.networks], dim=1)


class Mirrored(nn.Module):
    """The mean of the embeddings of a picture and of its mirror image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        both: torch.Tensor = self.network(pixels_BCHW) + self.network(pixels_BCHW.flip(3))
        return both / 2


class Renormalised(nn.Module):
    """A network behind the normalisation of another's pixels, which it undoes."""

    def __init__(self, network: nn.Module, found: "Backbone", own: "Backbone") -> None:
        super().__init__()
        self.network = network
        shape = (1, 3, 1, 1)
        mean, std = torch.tensor(found.mean), torch.tensor(found.std)
        own_mean, own_std = torch.tensor(own.mean), torch.tensor(own.std)
        self.scale = nn.Buffer((std / own_std).reshape(shape))
        self.shift = nn.Buffer(((mean - own_mean) / own_std).reshape(shape))

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        embeddings_BD: torch.Tensor = self.network(pixels_BCHW * self.scale + self.shift)
        return embeddings_BD
