"""Ranked LSTM: an LSTM that sees the image at every step, trained on the tags in their order."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from engine.recurrent import Recurrent
from engine.recurrent_recipe import RecurrentRecipe

if TYPE_CHECKING:
    from torch import nn

    from engine.training.recurrent import RecurrentTagger


class RankedLstmRecipe(RecurrentRecipe):
    """The model of Yan et al. 2016 (Eq. 10 to 19), whose settings `RecurrentRecipe` tells.

    Every step sees the image's vector v and the state before it, and not the tag before it. The
    `x_t` in the paper's Eq. 14 is read as v, as in the other gates.
    """

    kind: Literal["ranked-lstm"] = "ranked-lstm"

    def _network(self, image: "nn.Module", prior_V: NDArray[np.float32]) -> "RecurrentTagger":
        from engine.training.recurrent import RankedLstmNetwork

        return RankedLstmNetwork(image, self.width, self.hidden, prior_V, self.dropout)

    def _annotator(self) -> "type[RankedLstm]":
        return RankedLstm


class RankedLstm(Recurrent):
    """At each step the likeliest tag that was not taken yet."""

    kind = "ranked-lstm"

    def _input(self, v_BD: NDArray[np.float32], tags_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        return v_BD
