"""L-BFGS on all the pictures at once: a loss summed over blocks and over the group."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import nn

from engine.group import Group

BlockLoss = Callable[[int], torch.Tensor]
"""The sum of the losses of one of this rank's blocks of pictures, by its number."""


def minimise(
    parameters: Sequence[nn.Parameter],
    block_loss: BlockLoss,
    blocks: Iterable[int],
    pictures: float,
    penalty: Callable[[], torch.Tensor],
    iterations: int,
    group: Group,
) -> None:
    """Minimise mean loss + penalty in the parameters, in place, with L-BFGS and a line search.

    Every step sees all the pictures of all the ranks, so the result depends on neither the order
    of the pictures nor how they are shared out, but for rounding.

    Args:
        pictures: of the whole group.
        iterations: at the most.
    """
    numbers = list(blocks)
    optimiser = torch.optim.LBFGS(
        parameters, lr=1, max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimiser.zero_grad()
        total = 0.0
        for number in numbers:
            loss = block_loss(number) / pictures
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if group.size > 1:
            total = float(group.sum(np.array([total]))[0])
            for parameter in parameters:
                assert parameter.grad is not None
                summed = group.sum(parameter.grad.double().cpu().numpy())
                parameter.grad.copy_(torch.from_numpy(summed))
        extra = penalty()
        extra.backward()  # type: ignore[no-untyped-call]
        return total + float(extra.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
