"""JVSP: tag and picture refine each other at each step, and a visual-guided LSTM says the next."""

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from engine.beam import Propagation
from engine.numerics import jvsp
from engine.optimisation import Optimisation
from engine.propagation import Fitted, PropagationAnnotator, PropagationRecipe

if TYPE_CHECKING:
    from torch import nn


class JvspRecipe(PropagationRecipe):
    """Settings of Ma et al., Image Tagging by Joint Deep Visual-Semantic Propagation.

    Attributes:
        width: of image features, tag embeddings and hidden state. The paper has 512.
        transfer: Φ of Eq. 4 and 6, "chosen based on cross-validation": here the sigmoid was, where
            the paper has the softmax. After a softmax, activations are 1 / M on average, and next
            to a hidden state they hardly count in Eq. 9.
        lift_readers: with a softmax, the two matrices that read it begin M times as large as others
            and learn M times as fast, of which the paper says nothing.
        alpha: weight of the diversity loss (Eq. 11). The paper has 0.5; but the sum of Eq. 10 is at
            most 1 after a softmax, and about M / 4 of what sigmoids give.
        beta: activations below it do not count there (Eq. 10).
        optimisation: the paper has Adam with betas 0.8 and 0.999 and a learning rate of 0.001 that
            goes down by steps after a few epochs; small corpora need larger steps.
        (the others): see `engine.propagation.PropagationRecipe`.
    """

    kind: Literal["jvsp"] = "jvsp"
    width: PositiveInt = 128
    transfer: jvsp.Transfer = "sigmoid"
    lift_readers: bool = True
    alpha: NonNegativeFloat = 0.002
    beta: NonNegativeFloat = 0.01
    optimisation: Optimisation = Field(
        default=Optimisation(
            learning_rate=0.02,
            betas=(0.8, 0.999),
            batch=32,
            epochs=10,
            schedule="staircase",
            decay=0.3,
            decay_every=4,
        )
    )

    def _network(self, features: int, prior_V: NDArray[np.float32]) -> "nn.Module":
        from engine.training.jvsp import Jvsp

        network = Jvsp(
            features, len(prior_V), self.width, self.transfer, self.dropout, self.alpha, self.beta
        )
        if self._lifts:
            network.lift_readers()
        return network

    def _rate(self, name: str) -> float:
        # A softmax over M features is 1 / M on average: what reads it has to move M times as far.
        reads_softmax = name in ("visual.weight", "cell.weight_ih")
        return float(self.width) if self._lifts and reads_softmax else 1.0

    @property
    def _lifts(self) -> bool:
        return self.lift_readers and self.transfer == "softmax"

    def _details(self) -> dict[str, str]:
        return {"transfer": self.transfer}

    def _annotator(self, fitted: Fitted) -> "Jvsp":
        return Jvsp(fitted)


class Jvsp(PropagationAnnotator):
    """Tags in the order of propagation."""

    kind = "jvsp"

    @classmethod
    def _network_of(cls, fitted: Fitted) -> Propagation:
        (transfer,) = (one for one in get_args(jvsp.Transfer) if one == fitted.details["transfer"])
        return jvsp.Jvsp(fitted.weights, transfer)
