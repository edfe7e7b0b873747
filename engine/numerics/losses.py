"""Losses that networks are trained with, on torch tensors."""

import torch

LEAST_MARGIN = 1e-6
"""A smaller margin is none in the logarithm."""


def asymmetric_loss(
    logits_BV: torch.Tensor,
    labels_BV: torch.Tensor,
    gamma_positive: float,
    gamma_negative: float,
    margin: float,
) -> torch.Tensor:
    """The asymmetric loss of Ridnik et al. 2021, Eq. 4 to 7, of each tag of each picture.

    With p = sigmoid(logit) and p_m = max(p - margin, 0):
    L+ = -(1 - p)^gamma_positive · log p for a tag that the picture carries,
    L- = -p_m^gamma_negative · log(1 - p_m) for one that it does not.
    A negative whose p is under the margin has neither loss nor gradient.

    Args:
        logits_BV: float [B, V].
        labels_BV: 0 or 1, [B, V].

    Returns:
        float [B, V], at least 0.
    """
    chance_BV = torch.sigmoid(logits_BV)
    shifted_BV = (chance_BV - margin).clamp(min=0)
    positive_BV = -torch.nn.functional.logsigmoid(logits_BV)
    # p rounds to 1 for large logits. 1 - p_m is 1 - p + margin, and stays above 0 unless the margin
    # is next to nothing; the logarithm then comes from the logit.
    if margin > LEAST_MARGIN:
        negative_BV = -torch.log((torch.sigmoid(-logits_BV) + margin).clamp(max=1))
    else:
        negative_BV = torch.nn.functional.softplus(logits_BV)
    if gamma_positive > 0:
        # As the exponential of a logarithm: the gradient of a power is infinite where 1 - p is 0.
        log_miss_BV = torch.nn.functional.logsigmoid(-logits_BV)
        positive_BV = positive_BV * torch.exp(gamma_positive * log_miss_BV)
    if gamma_negative > 0:
        if margin > LEAST_MARGIN:
            focus_BV = _power(shifted_BV, gamma_negative)
        else:
            focus_BV = torch.exp(gamma_negative * torch.nn.functional.logsigmoid(logits_BV))
        negative_BV = negative_BV * focus_BV
    return labels_BV * positive_BV + (1 - labels_BV) * negative_BV


def _power(base: torch.Tensor, exponent: float) -> torch.Tensor:
    """base^exponent whose gradient at 0 is 0 for exponents under 1 too, and not infinite."""
    is_zero = base <= 0
    powered = torch.where(is_zero, 1.0, base) ** exponent
    return torch.where(is_zero, 0.0, powered)
