"""CNN-RNN: the picture joins what an LSTM says of the tags so far in a projected space."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from engine.beam import Propagation
from engine.numerics import propagation
from engine.optimisation import Optimisation
from engine.propagation import Fitted, Order, PropagationAnnotator, PropagationRecipe

if TYPE_CHECKING:
    from torch import nn


class CnnRnnRecipe(PropagationRecipe):
    """Settings of Wang et al. 2016, CNN-RNN: A Unified Framework for Multi-label Classification.

    The paper is known here by what Ma et al. and Niu et al. say of it ("output fusion to merge CNN
    output features and RNN outputs"). With w the embedding of the tag before, o the LSTM's output
    and I the features of the picture: o_t = LSTM(w_t), x_t = ReLU(U_o o_t + U_I I), and the scores
    are the products of x_t with every tag's embedding, whose softmax learns the next tag.

    Attributes:
        embedding: width of the tags' embeddings and of the projected space; the original has 64.
        hidden: of the LSTM's state. The original has 512.
        (the others): see `engine.propagation.PropagationRecipe`.
    """

    kind: Literal["cnn-rnn"] = "cnn-rnn"
    order: Order = "frequent-first"
    embedding: PositiveInt = 64
    hidden: PositiveInt = 128
    optimisation: Optimisation = Field(
        default=Optimisation(learning_rate=0.02, epochs=15, batch=32)
    )

    def _network(self, features: int, prior_V: NDArray[np.float32]) -> "nn.Module":
        from engine.training.propagation import CnnRnn

        return CnnRnn(features, len(prior_V), self.embedding, self.hidden, self.dropout)

    def _annotator(self, fitted: Fitted) -> "CnnRnn":
        return CnnRnn(fitted)


class CnnRnn(PropagationAnnotator):
    """Tags in the order of the decoded sequence."""

    kind = "cnn-rnn"

    @classmethod
    def _network_of(cls, fitted: Fitted) -> Propagation:
        return propagation.CnnRnn(fitted.weights)
