"""How a network is trained: optimiser, learning rates, schedule, stopping. Knows no torch."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
)

Schedule = Literal["constant", "cosine", "plateau", "staircase"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def _finite(limit: float | None) -> float | None:
    return limit if limit is not None and math.isfinite(limit) else None


class Optimisation(BaseModel):
    """Settings of the mini-batch loop `engine.training.train`.

    Attributes:
        optimiser: 'sgd' is with Nesterov's momentum of 0.9; 'adamw' decays weights apart from the
            gradient (Loshchilov and Hutter 2019).
        learning_rate: of the parameters whose group has the factor 1.
        weight_decay: of parameters with two axes or more; biases and scales are not decayed.
        betas: of Adam's two means.
        epochs: at most.
        batch: pictures of the whole group in one forward pass.
        accumulate: batches whose gradients make one step.
        schedule: of the learning rate. 'cosine' goes to 0 at the last step; 'plateau' multiplies
            by `decay` after `patience` epochs without a better figure; 'staircase' multiplies by
            `decay` every `decay_every` epochs.
        warmup: share of all steps over which the learning rate rises from 0.
        clip: largest norm of the gradient of all the parameters; None, inf in a file: any.
        stop_after: epochs without a better figure after which training stops; None: never.
            What is kept is then the best epoch's.
        average: decay of the moving average of the weights, which is what is kept; less in the
            first steps. None: no average.
        precision: of the forward pass. 'auto' is float32 on a CPU, bfloat16 on a GPU that has it,
            else float16 with scaled losses.
        seed: decides the order of the pictures and every draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: Literal["sgd", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    betas: tuple[
        Annotated[float, Field(ge=0, lt=1)],
        Annotated[float, Field(ge=0, lt=1)],
    ] = (0.9, 0.999)
    epochs: PositiveInt = 10
    batch: PositiveInt = 64
    accumulate: PositiveInt = 1
    schedule: Schedule = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    decay_every: PositiveInt = 10
    patience: PositiveInt = 3
    clip: Annotated[PositiveFloat | None, AfterValidator(_finite)] = None
    stop_after: PositiveInt | None = None
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Precision = "auto"
    seed: int = Field(default=0, ge=0)

    def steps_an_epoch(self, pictures: int) -> int:
        """Optimiser steps that an epoch over so many pictures takes."""
        return math.ceil(pictures / (self.batch * self.accumulate))

    def factor(self, step: int, pictures: int, figures: Sequence[float]) -> float:
        """What the learning rates are multiplied by at a step.

        Args:
            step: of the optimiser, from 0.
            pictures: of the whole group.
            figures: of the epochs done, lower is better.
        """
        an_epoch = self.steps_an_epoch(pictures)
        total = self.epochs * an_epoch
        rising = self.warmup * total
        factor = min(1.0, (step + 1) / rising) if rising >= 1 else 1.0
        if self.schedule == "cosine":
            done = max(0.0, step - rising) / max(1.0, total - rising)
            return factor * 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "staircase":
            return factor * float(self.decay ** (step // an_epoch // self.decay_every))
        if self.schedule == "plateau":
            return factor * float(self.decay ** self._plateaus(figures))
        return factor

    def _plateaus(self, figures: Sequence[float]) -> int:
        """How often `patience` epochs in a row were no better than the best before them."""
        best, waited, plateaus = math.inf, 0, 0
        for figure in figures:
            if figure < best:
                best, waited = figure, 0
                continue
            waited += 1
            if waited == self.patience:
                plateaus, waited = plateaus + 1, 0
        return plateaus

    def is_over(self, figures: Sequence[float]) -> bool:
        """Whether to stop after these epochs; `figures` as in `factor`."""
        if len(figures) >= self.epochs:
            return True
        if self.stop_after is None or not figures:
            return False
        return len(figures) - 1 - figures.index(min(figures)) >= self.stop_after
