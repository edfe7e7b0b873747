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


def logistic_loss(logits_BV: torch.Tensor, labels_BV: torch.Tensor) -> torch.Tensor:
    """Sigmoid cross entropy (Niu et al. 2017, Eq. 4) of each picture: its tags' sum, float [B]."""
    losses_BV = torch.nn.functional.binary_cross_entropy_with_logits(
        logits_BV, labels_BV, reduction="none"
    )
    return losses_BV.sum(dim=1)


def softmax_loss(logits_BV: torch.Tensor, labels_BV: torch.Tensor) -> torch.Tensor:
    """The multi-label softmax of Gong et al. 2014, section 3.2, of each picture: float [B].

    The mean over a picture's tags of -log p, where p is the softmax over all the tags; 0 for a
    picture without a tag.
    """
    carried_B = labels_BV.sum(dim=1).clamp(min=1)
    return -(labels_BV * torch.log_softmax(logits_BV, dim=1)).sum(dim=1) / carried_B


def warp_loss(
    logits_BV: torch.Tensor, labels_BV: torch.Tensor, uniforms_B2V: torch.Tensor
) -> torch.Tensor:
    """The weighted approximate ranking loss (WARP) of each picture: float [B].

    Weston et al. 2010 (WSABIE), as in Gong et al. 2014, section 3.2: for each tag j of a picture
    negatives are drawn, with replacement, until one violates the margin, f_k > f_j - 1. After s
    draws the rank of j is taken to be r = ⌊(V - 1) / s⌋, and the loss is L(r) · (1 - f_j + f_k)
    with L(r) = 1 + 1/2 + … + 1/r. After more than V - 1 draws without a violation it is 0.

    With v of n negatives violating, s follows the geometric distribution with success v/n, and k is
    any of the v alike: so both are drawn at once instead of one negative after the other.

    Args:
        logits_BV: f, float [B, V].
        labels_BV: 0 or 1.
        uniforms_B2V: in [0, 1): for each tag what decides s, then for each what decides k.
    """
    tags = logits_BV.shape[1]
    picture_P, tag_P = torch.nonzero(labels_BV, as_tuple=True)
    negative_PV = labels_BV[picture_P] == 0
    hinge_PV = 1 - logits_BV[picture_P, tag_P][:, None] + logits_BV[picture_P]
    violates_PV = negative_PV & (hinge_PV.detach() > 0)
    violators_P = violates_PV.sum(dim=1)
    share_P = violators_P.double() / negative_PV.sum(dim=1).clamp(min=1)
    # log(1 - share) is -inf where every negative violates: the first draw is one.
    misses_P = torch.log1p(-uniforms_B2V[picture_P, tag_P].double()) / torch.log1p(-share_P)
    trials_P = 1 + torch.floor(misses_P)
    found_P = (violators_P > 0) & (trials_P <= tags - 1)
    rank_P = torch.where(found_P, torch.div(tags - 1, trials_P, rounding_mode="floor"), 0.0).long()
    sums_V = torch.cumsum(1 / torch.arange(1, tags, device=logits_BV.device).double(), dim=0)
    weight_P = torch.cat([sums_V.new_zeros(1), sums_V])[rank_P].to(logits_BV.dtype)
    which_P = torch.floor(uniforms_B2V[picture_P, tags + tag_P].double() * violators_P)
    which_P = torch.minimum(which_P, (violators_P - 1).clamp(min=0).double())
    passed_PV = torch.cumsum(violates_PV, dim=1) == which_P[:, None] + 1
    chosen_P = (passed_PV & violates_PV).to(torch.uint8).argmax(dim=1)
    hinge_P = hinge_PV.gather(1, chosen_P[:, None])[:, 0]
    losses_P = torch.where(found_P, weight_P * hinge_P, 0.0)
    return logits_BV.new_zeros(len(logits_BV)).index_add(0, picture_P, losses_P)


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
