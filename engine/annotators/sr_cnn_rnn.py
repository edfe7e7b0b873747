"""SR-CNN-RNN: between picture and LSTM lies a layer that is taught the tags itself."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from engine.beam import Propagation
from engine.numerics import propagation
from engine.optimisation import Optimisation
from engine.propagation import Fitted, Order, PropagationAnnotator, PropagationRecipe

if TYPE_CHECKING:
    from torch import nn


class SrCnnRnnRecipe(PropagationRecipe):
    """Settings of Liu et al. 2017, Semantic Regularisation for Recurrent Image Annotation.

    The paper is known here by what Niu et al. say of it: "a semantically regularised embedding
    layer as the interface between the CNN and RNN". That layer is the probability of each tag,
    s = sigmoid(W I + b), which learns all the tags of a picture by cross entropy;
    h_0 = A s + a, and from there on it is the LSTM of RIA. Both losses are learned together.

    Attributes:
        embedding: width of the tags' embeddings.
        hidden: of the LSTM's state.
        semantic: weight of the layer's loss, which is summed over the tags.
        (the others): see `engine.propagation.PropagationRecipe`.
    """

    kind: Literal["sr-cnn-rnn"] = "sr-cnn-rnn"
    order: Order = "frequent-first"
    embedding: PositiveInt = 64
    hidden: PositiveInt = 128
    semantic: NonNegativeFloat = 1.0
    optimisation: Optimisation = Field(
        default=Optimisation(learning_rate=0.02, weight_decay=0.3, epochs=15, batch=32)
    )

    @property
    def wants_labels(self) -> bool:
        return True

    def _network(self, features: int, prior_V: NDArray[np.float32]) -> "nn.Module":
        from engine.training.propagation import SrCnnRnn

        return SrCnnRnn(features, prior_V, self.embedding, self.hidden, self.dropout, self.semantic)

    def _annotator(self, fitted: Fitted) -> "SrCnnRnn":
        return SrCnnRnn(fitted)


class SrCnnRnn(PropagationAnnotator):
    """Tags in the order of the decoded sequence."""

    kind = "sr-cnn-rnn"

    @classmethod
    def _network_of(cls, fitted: Fitted) -> Propagation:
        return propagation.SrCnnRnn(fitted.weights)
