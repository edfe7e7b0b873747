"""Backbones by name: what they give, and their preprocessing. Networks are built when asked for.

A name may also be several, as in 'efficientnet-lite2+efficientnet-lite0', whose levels then lie
side by side; '~flip' at its end means the mean of the embeddings of a picture and its mirror image.
Such a name says all that an embedding depends on, so a bundle, a graph and a server need no more.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import BackboneError
from engine.geometry import Geometry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Backbone:
    """A network that is cut before its classifier, with the preprocessing of its weights.

    Attributes:
        levels: widths of the levels that the embedding consists of, the classifier's own input
            first, then the pooled stages from shallow to deep, where the backbone gives these.
        geometry: how a picture becomes the square that the network takes.
        mean, std: per RGB channel, in units of 0..255: the input is (x - mean) / std.
        members: names of the backbones side by side, all of which see the square of the first;
            empty for a single one.
        flip: whether the embedding is the mean of the picture's and its mirror image's.
        scales: channels of the feature maps that it has at each size, the largest first, each half
            as high and wide as the one before; empty where it exposes none.
    """

    name: str
    levels: tuple[int, ...]
    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    members: tuple[str, ...] = ()
    flip: bool = False
    scales: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """D of the embedding."""
        return sum(self.levels)

    def weights_sha256(self) -> str:
        """Digest of the weights' file, or of the seeded weights, or of all that are combined.

        Raises:
            BackboneError: the file cannot be had.
        """
        if self.members:
            parts = [BACKBONES[name].weights_sha256() for name in self.members]
            return hashlib.sha256(f"{'+'.join(parts)}{FLIP * self.flip}".encode()).hexdigest()
        # Here, not above: torch takes seconds that a worker with an exported graph need not pay.
        from engine.embed.networks import SOURCES

        path = SOURCES[self.name].find()
        if path is not None:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        digest = hashlib.sha256()
        for tensor in self.network().state_dict().values():
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def network(self) -> "nn.Module":
        """The network with its weights, in evaluation mode, on the CPU.

        Raises:
            BackboneError: the weights cannot be had, or are not this network's.
        """
        from engine.embed.networks import filled_network

        if self.members:
            from engine.embed.combined import combined_network

            return combined_network([BACKBONES[name] for name in self.members], self.flip)
        return filled_network(self.name)


FLIP = "~flip"
"""Ends the name of a backbone whose embeddings are means over a picture and its mirror image."""


def backbone(name: str) -> Backbone:
    """Look a backbone up, or combine several.

    Raises:
        BackboneError: there is none of that name, or one is named twice.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    members = tuple(name.removesuffix(FLIP).split("+"))
    for member in members:
        if member not in BACKBONES:
            raise BackboneError(
                f"there is no backbone '{member}'; choose one of {', '.join(BACKBONES)}"
            )
        if members.count(member) > 1:
            raise BackboneError(f"backbone '{member}' is named twice in '{name}'; name it once")
    first = BACKBONES[members[0]]
    levels = tuple(width for member in members for width in BACKBONES[member].levels)
    return Backbone(
        name, levels, first.geometry, first.mean, first.std, members, name.endswith(FLIP)
    )


def class_head(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The backbone's own ImageNet classifier on its embedding: weights [D, C] and bias [C].

    Raises:
        BackboneError: the backbone has no linear classifier on its embedding.
    """
    from torch import nn

    layers = dict(backbone(name).network().named_modules())
    for candidate in ("trunk.classifier", "trunk.fc", "trunk.classifier.6"):
        layer = layers.get(candidate)
        if isinstance(layer, nn.Linear):
            weights: NDArray[np.float32] = layer.weight.detach().numpy().T
            bias: NDArray[np.float32] = layer.bias.detach().numpy()
            return np.ascontiguousarray(weights), bias
    raise BackboneError(f"backbone '{name}' has no classes of its own; use efficientnet-lite0")


_HALVES = ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def _lite(variant: int, size: int, stages: tuple[int, ...]) -> Backbone:
    geometry = Geometry(mode="crop", size=size, resize_to=int(size / 0.875))
    # The last stage of each size; of the smallest, the layer that the embedding is the mean of.
    scales = (*(stages[place] for place in (0, 1, 2, 4)), 1280)
    name = f"efficientnet-lite{variant}"
    return Backbone(name, (1280, *stages), geometry, *_HALVES, scales=scales)


_SQUASH = Geometry(mode="squash", size=224, resize_to=256)
_CROP = Geometry(mode="crop", size=224, resize_to=256)
_SMALL = Geometry(mode="squash", size=64, resize_to=64)
_VGG = (64, 128, 256, 512, 512)
# Niu et al. 2017, section III.A: conv1, conv2_3, conv3_4, conv4_23 and conv5_3 of ResNet-101.
_BOTTLENECKS = (64, 256, 512, 1024, 2048)

BACKBONES: dict[str, Backbone] = {
    spec.name: spec
    for spec in (
        _lite(0, 224, (16, 24, 40, 80, 112, 192, 320)),
        _lite(1, 240, (16, 24, 40, 80, 112, 192, 320)),
        _lite(2, 260, (16, 24, 48, 88, 120, 208, 352)),
        # Murthy et al. 2015, section 3.1: squashed to 224, fc7 after its ReLU.
        Backbone("vgg16", (4096,), _SQUASH, *_IMAGENET, scales=_VGG),
        Backbone("vgg19", (4096,), _SQUASH, *_IMAGENET, scales=_VGG),
        Backbone("resnet18", (512,), _CROP, *_IMAGENET, scales=(64, 64, 128, 256, 512)),
        Backbone("resnet50", (2048,), _CROP, *_IMAGENET, scales=_BOTTLENECKS),
        Backbone("resnet101", (2048,), _CROP, *_IMAGENET, scales=_BOTTLENECKS),
        Backbone("random", (256,), _SMALL, *_HALVES, scales=(32, 64)),
    )
}
