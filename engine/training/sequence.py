"""What all networks that are taught tags one after another share: their inputs and their loss."""

import torch
from torch.nn import functional


def inputs_of(targets_BT: torch.Tensor, tags: int) -> torch.Tensor:
    """The tag before each target, int64 [B, T]: START, which is `tags`, before the first.

    Behind END the inputs say nothing; any tag stands there.
    """
    start_B1 = torch.full_like(targets_BT[:, :1], tags)
    return torch.cat([start_B1, targets_BT[:, :-1].clamp(min=0)], dim=1)


def likelihood(logits_BTO: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Mean negative log probability [B] of a picture's targets; those below 0 do not count."""
    losses_BT = functional.cross_entropy(
        logits_BTO.float().transpose(1, 2), targets_BT, ignore_index=-1, reduction="none"
    )
    lengths_B = (targets_BT >= 0).sum(1)
    return losses_BT.sum(1) / lengths_B.clamp(min=1)
