"""How the networks of modalities look and are trained, and how a modality is named."""

from typing import Annotated

from pydantic import Field, PositiveInt, field_validator

from engine.numerics.similarity import Similarity
from engine.optimisation import Optimisation
from engine.settings import Settings

EMBEDDING, PIXELS = "embedding", "pixels"
"""Views beside the hand-crafted features: what the backbone says, and the squares themselves."""

Dropout = Annotated[float, Field(ge=0, lt=1)]


class DenseSettings(Settings):
    """The network of a feature vector.

    Attributes:
        widths: of its hidden layers, from the vector on; the last is the representation's.
        dropout: of their units, in fine-tuning.
    """

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (128, 64)
    dropout: Dropout = 0.3


class PixelSettings(Settings):
    """The eight-layer network of Sun et al., section 2; the figures are the paper's.

    Attributes:
        side: pictures are resized to it; a multiple of 32.
        filters: of the five convolutions, 7 by 7 and 5 by 5 with a stride of 2, then 3 by 3.
        widths: of the two densely connected layers.
        dropout: of these.
    """

    side: PositiveInt = 256
    filters: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (
        96,
        256,
        384,
        384,
        256,
    )
    widths: tuple[PositiveInt, PositiveInt] = (4096, 4096)
    dropout: Dropout = 0.6

    @field_validator("side")
    @classmethod
    def _divides(cls, value: int) -> int:
        if value % 32:
            raise ValueError(
                f"side is {value}; two strides and three poolings need a multiple of 32"
            )
        return value


class TrainingSettings(Settings):
    """How a modality's network is trained.

    Attributes:
        pretrains: whether the layers are taught by CD-1 first, those above the embedding aside.
        pretraining: of each of them.
        optimisation: of the fine-tuning.
        held_out: share of the pictures that the weights and calibrations are learned on.
        refits: whether the networks are fine-tuned anew on all the pictures after that.
    """

    pretrains: bool = True
    pretraining: Optimisation = Optimisation(
        learning_rate=5e-3, epochs=5, batch=64, schedule="constant"
    )
    optimisation: Optimisation = Optimisation(
        learning_rate=2e-3, weight_decay=0.01, epochs=15, batch=64
    )
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    refits: bool = True


def modality_name(view: str, similarity: Similarity) -> str:
    """Such as 'gist/rbf'."""
    return f"{view}/{similarity}"
