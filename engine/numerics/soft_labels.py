"""A picture's tags as a distribution: the softmax over similarities, and its divergence loss."""

import torch


def label_divergence(
    similarities_BV: torch.Tensor, labels_BV: torch.Tensor, temperature: float
) -> torch.Tensor:
    """The loss of Sun et al., Eq. 5 to 7, of each picture.

    p is the softmax of similarity / temperature (the sum in the denominator of Eq. 5 lacks its
    exponential by a slip), q = y / |y|₁, and the loss is
    -Σ_l q_l log p_l - Σ_l (1 - q_l) log(1 - p_l).

    Args:
        similarities_BV: float [B, V], V at least 2.
        labels_BV: 0 or 1, [B, V], at least one 1 a row.

    Returns:
        float [B], at least 0.
    """
    logits_BV = similarities_BV / temperature
    total_B1 = torch.logsumexp(logits_BV, 1, keepdim=True)
    log_p_BV = logits_BV - total_B1
    # 1 - p is the sum of the other exponentials. That has digits left where p is nearly 1, which
    # only the largest can be; for the others p is at most a half.
    best_B1 = logits_BV.argmax(1, keepdim=True)
    is_best_BV = torch.zeros_like(logits_BV, dtype=torch.bool).scatter(1, best_B1, True)
    others_B1 = torch.logsumexp(logits_BV.masked_fill(is_best_BV, -torch.inf), 1, keepdim=True)
    p_BV = torch.exp(log_p_BV).masked_fill(is_best_BV, 0)
    log_rest_BV = torch.where(is_best_BV, others_B1 - total_B1, torch.log1p(-p_BV))
    share_BV = labels_BV / labels_BV.sum(1, keepdim=True)
    return -(share_BV * log_p_BV + (1 - share_BV) * log_rest_BV).sum(1)
