"""RIA, the recurrent image annotator: the picture sets the LSTM's hidden state."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from engine.beam import Propagation
from engine.numerics import propagation
from engine.optimisation import Optimisation
from engine.propagation import Fitted, PropagationAnnotator, PropagationRecipe

if TYPE_CHECKING:
    from torch import nn


class RiaRecipe(PropagationRecipe):
    """Settings of Jin and Nakayama 2016, Annotation Order Matters: Recurrent Image Annotator.

    The paper is known here by what Ma et al. and Niu et al. say of it: "the CNN output features are
    used to set the hidden state of the LSTM", h_0 = W I + b; then START, and tag after tag is fed
    back until END, which decides how many there are. A softmax over h_t learns the next tag, the
    rarest first.

    Attributes:
        embedding: width of the tags' embeddings.
        hidden: of the LSTM's state.
        (the others): see `engine.propagation.PropagationRecipe`.
    """

    kind: Literal["ria"] = "ria"
    embedding: PositiveInt = 64
    hidden: PositiveInt = 128
    optimisation: Optimisation = Field(
        default=Optimisation(learning_rate=0.01, weight_decay=1.0, epochs=15, batch=32)
    )

    def _network(self, features: int, prior_V: NDArray[np.float32]) -> "nn.Module":
        from engine.training.propagation import Ria

        return Ria(features, len(prior_V), self.embedding, self.hidden, self.dropout)

    def _annotator(self, fitted: Fitted) -> "Ria":
        return Ria(fitted)


class Ria(PropagationAnnotator):
    """Tags in the order of the decoded sequence."""

    kind = "ria"

    @classmethod
    def _network_of(cls, fitted: Fitted) -> Propagation:
        return propagation.Ria(fitted.weights)
