"""Naive RNN: the recurrent network of image captioning, which sees the image at the first step."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from engine.recurrent import Recurrent
from engine.recurrent_recipe import RecurrentRecipe

if TYPE_CHECKING:
    from torch import nn

    from engine.training.recurrent import RecurrentTagger


class NaiveRnnRecipe(RecurrentRecipe):
    """The peer of Yan et al. 2016 (section 5.1, and Fig. 2, bottom); settings: `RecurrentRecipe`.

    The first step sees the image's vector and a start vector, added up; each later one sees a
    vector of the tag that was taken before it, learned with the rest.
    """

    kind: Literal["naive-rnn"] = "naive-rnn"

    def _network(self, image: "nn.Module", prior_V: NDArray[np.float32]) -> "RecurrentTagger":
        from engine.training.recurrent import NaiveRnnNetwork

        return NaiveRnnNetwork(image, self.width, self.hidden, prior_V, self.dropout)

    def _annotator(self) -> "type[NaiveRnn]":
        return NaiveRnn


class NaiveRnn(Recurrent):
    """At each step the likeliest tag that was not taken yet, which the next step then sees."""

    kind = "naive-rnn"

    def _input(self, v_BD: NDArray[np.float32], tags_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        if not tags_BT.shape[1]:
            first_BD: NDArray[np.float32] = v_BD + self.arrays["start"]
            return first_BD
        return self.arrays["words.weight"][tags_BT[:, -1]]
