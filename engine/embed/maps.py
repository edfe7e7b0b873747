"""Feature maps of a backbone's stages, averaged down to small grids, as one vector a picture.

Niu et al. 2017, Eq. 1, M_l = S_l(M_(l-1)): what the stages of a frozen backbone give is computed
once, with the embedding. Each map is averaged down to a square grid; the grids halve from scale to
scale as the maps do, so that the fusion of Eq. 2 works on them as it would on the maps.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.embed.zoo import Backbone, backbone
from engine.errors import BackboneError

if TYPE_CHECKING:
    from torch import nn

MOST = np.finfo(np.float16).max
"""What is larger than float16 holds becomes this."""


@dataclass(frozen=True)
class Grids:
    """How the maps of a picture lie in one vector: [S, S, C] by scale, the largest S first.

    Attributes:
        channels: C of each scale.
        side: S of the last scale; that of each before it is twice the next one's.
    """

    channels: tuple[int, ...]
    side: int

    @property
    def sides(self) -> tuple[int, ...]:
        """S of each scale."""
        last = len(self.channels) - 1
        return tuple(self.side * 2 ** (last - scale) for scale in range(len(self.channels)))

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of each scale; they add up to the length of the vector."""
        return tuple(s * s * c for s, c in zip(self.sides, self.channels, strict=True))

    def split(self, maps_BM: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The maps [B, S, S, C] by scale, of vectors [B, M]; no copy."""
        parts = np.split(maps_BM, np.cumsum(self.widths)[:-1], axis=1)
        shapes = zip(parts, self.sides, self.channels, strict=True)
        return [part.reshape(-1, side, side, channels) for part, side, channels in shapes]


@dataclass(frozen=True)
class MapsBackbone(Backbone):
    """A backbone whose 'embedding' is the vector of its maps; its levels are the scales.

    Attributes:
        side: of the last scale's grid.
    """

    side: int = 1

    @property
    def grids(self) -> Grids:
        return Grids(self.scales, self.side)

    def weights_sha256(self) -> str:
        return backbone(self.name).weights_sha256()

    def network(self) -> "nn.Module":
        from engine.embed.staged import StageMaps

        return StageMaps(super().network(), self.grids).eval()


def maps_backbone(name: str, side: int) -> MapsBackbone:
    """The maps of a backbone.

    Args:
        side: of the last scale's grid; the paper's maps of 224 pixels have 7 there.

    Raises:
        BackboneError: there is no backbone of that name, or it does not expose its stages.
    """
    spec = backbone(name)
    if not spec.scales:
        raise BackboneError(
            f"backbone '{name}' does not expose the maps of its stages; name a single one, such as "
            "'efficientnet-lite2' or 'resnet101'"
        )
    own = {one.name: getattr(spec, one.name) for one in fields(spec)}
    levels = Grids(spec.scales, side).widths
    return MapsBackbone(**{**own, "levels": levels}, side=side)


def stored(maps_BM: NDArray[np.float32]) -> NDArray[np.float16]:
    """Vectors of maps as they are kept: float16 [B, M]."""
    kept: NDArray[np.float16] = np.clip(maps_BM, -MOST, MOST).astype(np.float16)
    return kept
