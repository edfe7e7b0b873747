"""The one gradient loop: mini-batches, Adam, gradients summed over the group."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import nn

from engine.group import Group


class TrainingSettings(BaseModel):
    """How long and how fast to learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 30
    batch: PositiveInt = 256
    learning_rate: PositiveFloat = 2e-3
    seed: int = 0


def train(
    module: nn.Module,
    loss_of_rows: Callable[[NDArray[np.int64]], torch.Tensor],
    rows: int,
    settings: TrainingSettings,
    group: Group,
) -> None:
    """Minimise the mean loss over the group's rows, in place, with Adam and a cosine decay.

    Args:
        loss_of_rows: the sum of the losses of some of this rank's rows, differentiable in the
            parameters of `module`.
        rows: how many rows this rank has; a rank with fewer starts over, so that all take the
            same number of steps.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    counts = group.sum(np.eye(group.size)[group.rank] * rows)
    steps_an_epoch = int(np.ceil(counts.max() / settings.batch))
    optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, settings.epochs * steps_an_epoch
    )
    generator = np.random.default_rng([settings.seed, group.rank])
    for _ in range(settings.epochs):
        order = np.resize(generator.permutation(rows), steps_an_epoch * settings.batch)
        for step in range(steps_an_epoch):
            # A short corpus must not see a row twice in one step merely to fill the batch.
            chosen = np.unique(order[step * settings.batch : (step + 1) * settings.batch])
            optimiser.zero_grad()
            loss_of_rows(chosen).backward()  # type: ignore[no-untyped-call]
            seen = float(group.sum(np.array([float(len(chosen))]))[0])
            for parameter in parameters:
                assert parameter.grad is not None
                total = group.sum(parameter.grad.double().cpu().numpy())
                parameter.grad.copy_(torch.from_numpy(total / seen))
            optimiser.step()
            schedule.step()
