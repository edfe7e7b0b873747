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


def ranking_hinge(scores_BV: torch.Tensor, tags_BT: torch.Tensor) -> torch.Tensor:
    """The squared hinge of each picture's pairs of tags that are in a known order, on average.

    A tag is to come before those behind it in the picture's list, and before all that are not in
    it, by a margin of 1: the mean of max(0, 1 - (f_r - f_s))² over all such pairs (r, s). The
    margin is that of Joachims 2002 (Optimizing Search Engines using Clickthrough Data), the mean
    over a picture's pairs that of Elisseeff and Weston 2001 (A Kernel Method for Multi-Labelled
    Classification), the square that of Chapelle and Keerthi 2010 (Efficient Algorithms for Ranking
    with SVMs).

    Args:
        scores_BV: f, float [B, V].
        tags_BT: int64, places on the V axis in their given order, less than 0 behind the end.

    Returns:
        float [B]; 0 for a picture without a pair, whose list holds the only tag there is.
    """
    is_tag_BT = tags_BT >= 0
    place_BT = tags_BT.clamp(min=0)
    first_BT1 = scores_BV.gather(1, place_BT)[:, :, None]
    hinge_BTV = (1 - (first_BT1 - scores_BV[:, None, :])).clamp(min=0).square()
    named_BTV = torch.nn.functional.one_hot(place_BT, scores_BV.shape[1]) * is_tag_BT[:, :, None]
    # A tag pairs with all but itself and those before it.
    is_pair_BTV = (named_BTV.cumsum(dim=1) == 0) & is_tag_BT[:, :, None]
    pairs_B = is_pair_BTV.sum(dim=(1, 2)).clamp(min=1)
    summed_B: torch.Tensor = torch.where(is_pair_BTV, hinge_BTV, 0.0).sum(dim=(1, 2))
    return summed_B / pairs_B
