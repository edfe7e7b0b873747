"""Calibrated scores: Platt's map for all tags, and one for each tag that is shrunk towards it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, logit

Scope = Literal["all", "tags"]
"""One map for all tags together, or one for each tag."""

_LEAST, _MOST = np.float32(1e-12), np.float32(1 - 1e-6)
"""Where scores are clipped; small ones keep their order far down, as nearest neighbours need."""

_LEAST_SLOPE = 1e-3
"""Of a map; scores that say nothing, or the wrong thing, keep their order and lose their weight."""

_ROUNDS = 15
"""Of Newton's method and of the priors' variances, in turns."""

_VARIANCES = (0.5, 0.05)
"""Of the priors of shift and tilt at first."""

_LEAST_VARIANCE = 1e-6

TAUGHT = 5
"""Pictures with a tag that scores must have been learned from for a map of its own."""

_BLOCK = 8_000_000
"""(Picture, tag) pairs that are looked at together: bounds the memory."""


@dataclass(frozen=True)
class Calibration:
    """Platt's monotone map of a score: sigmoid(slope · logit(s) + intercept), slope > 0.

    Attributes:
        slope, intercept: for all tags. Such a map changes no ranking: a calibrated score of 0.7 is
            right in about seven of ten cases over the tags together, not for each tag by itself.
        slopes, intercepts: of each tag in place of these, V of each; None: the same for all.
    """

    slope: float = 1.0
    intercept: float = 0.0
    slopes: tuple[float, ...] | None = None
    intercepts: tuple[float, ...] | None = None

    @classmethod
    def learn(
        cls,
        scores_NV: NDArray[np.float32],
        labels_NV: sparse.csr_matrix,
        scope: Scope = "all",
        taught_V: NDArray[np.floating] | None = None,
    ) -> "Calibration":
        """Fit to scores in [0, 1] and binary labels, by maximum likelihood for all tags.

        With the scope 'tags' each tag then gets a map of its own. Its log-odds are
        z + c + d(z - m), z those of the map for all tags, m where the tag's scores are least
        certain; shift c and tilt d are drawn from normal distributions around 0, whose variances
        are learned from all the tags together (empirical Bayes: Laplace's approximation in an EM).
        So a tag that is rare, or like the others, keeps the map for all tags, and a frequent one
        that is not like them leaves it. How far, the corpus decides.

        Args:
            taught_V: pictures with each tag among those that the scores were learned from. A tag
                with fewer than `TAUGHT` keeps the map for all: its scores rise as a whole when the
                annotator is learned again with the held-out ones, and a map of its own, which had
                to make up for their lack, would then call for it everywhere. None: enough of all.
        """
        # Here, not above: the import takes a second that a fitted bundle need not pay.
        from sklearn.linear_model import LogisticRegression

        truth = labels_NV.toarray().ravel() > 0
        if truth.all() or not truth.any():
            return cls()
        model = LogisticRegression(C=1e6)
        model.fit(log_odds(scores_NV).reshape(-1, 1), truth)
        slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
        if slope < _LEAST_SLOPE:
            slope, intercept = _LEAST_SLOPE, float(logit(truth.mean()))
        if scope == "all":
            return cls(slope, intercept)
        tags = scores_NV.shape[1]
        slopes_V, intercepts_V = np.full(tags, slope), np.full(tags, intercept)
        own_W = np.arange(tags) if taught_V is None else np.flatnonzero(taught_V >= TAUGHT)
        if len(own_W):
            found = tag_maps(scores_NV[:, own_W], labels_NV[:, own_W], slope, intercept)
            slopes_V[own_W] = np.maximum(slope * found.factor_V, _LEAST_SLOPE)
            intercepts_V[own_W] = intercept * found.factor_V + found.shift_V
        return cls(slope, intercept, tuple(slopes_V.tolist()), tuple(intercepts_V.tolist()))

    def __call__(self, scores_BV: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrate float32 scores: of any shape by one map, [B, V] by those of the tags."""
        slope, intercept = self._map
        odds = log_odds(scores_BV) * slope + intercept
        return expit(odds).astype(np.float32, copy=False)

    @cached_property
    def _map(
        self,
    ) -> tuple[np.float32 | NDArray[np.float32], np.float32 | NDArray[np.float32]]:
        if self.slopes is None or self.intercepts is None:
            return np.float32(self.slope), np.float32(self.intercept)
        return np.array(self.slopes, np.float32), np.array(self.intercepts, np.float32)

    def to_json(self) -> dict[str, object]:
        """What `from_json` reads."""
        content: dict[str, object] = {"slope": self.slope, "intercept": self.intercept}
        if self.slopes is not None:
            content |= {"slopes": self.slopes, "intercepts": self.intercepts}
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Calibration":
        """The map that `to_json` gave.

        Raises:
            KeyError, TypeError: it is none.
        """
        slopes, intercepts = content.get("slopes"), content.get("intercepts")
        return cls(
            content["slope"],
            content["intercept"],
            None if slopes is None else tuple(slopes),
            None if intercepts is None else tuple(intercepts),
        )


def log_odds(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """logit of scores in [0, 1], which are clipped away from both ends; float32."""
    clipped = np.clip(scores.astype(np.float32), _LEAST, _MOST)
    return logit(clipped).astype(np.float32, copy=False)


@dataclass(frozen=True)
class TagMaps:
    """Each tag's log-odds are factor_V · z + shift_V, z those of the map for all tags.

    Attributes:
        variances: of the priors of shift and tilt, [2].
    """

    factor_V: NDArray[np.float64]
    shift_V: NDArray[np.float64]
    variances: NDArray[np.float64]


def tag_maps(
    scores_NV: NDArray[np.float32],
    labels_NV: sparse.csr_matrix,
    slope: float,
    intercept: float,
    variances: tuple[float, float] | None = None,
) -> TagMaps:
    """Find each tag's shift and tilt, see `Calibration.learn`.

    Args:
        slope, intercept: of the map for all tags.
        variances: of the priors; None: learned.
    """
    pictures, tags = scores_NV.shape
    width = max(1, _BLOCK // max(pictures, 1))
    blocks = [slice(start, min(start + width, tags)) for start in range(0, tags, width)]
    columns = labels_NV.tocsc()
    theta_V2, spread_V2, middle_V = np.zeros((tags, 2)), np.zeros((tags, 2)), np.zeros(tags)
    variance_2 = np.array(_VARIANCES if variances is None else variances)
    for round_number in range(_ROUNDS):
        for block in blocks:
            z_NW = log_odds(scores_NV[:, block]).astype(np.float64) * slope + intercept
            if round_number == 0:
                p_NW = expit(z_NW)
                doubt_NW = p_NW * (1 - p_NW)
                middle_V[block] = (doubt_NW * z_NW).sum(0) / np.maximum(doubt_NW.sum(0), 1e-12)
            z_NW -= middle_V[block]
            theta_V2[block], spread_V2[block] = _newton_step(
                z_NW, columns[:, block], middle_V[block], theta_V2[block], variance_2
            )
        if variances is None:
            variance_2 = np.maximum((theta_V2**2 + spread_V2).mean(0), _LEAST_VARIANCE)
    shift_V, tilt_V = theta_V2.T
    return TagMaps(1 + tilt_V, shift_V - tilt_V * middle_V, variance_2)


def _newton_step(
    centred_NW: NDArray[np.float64],
    labels_NW: sparse.csc_matrix,
    middle_W: NDArray[np.float64],
    theta_W2: NDArray[np.float64],
    variance_2: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One step of each tag's penalised logistic regression, and the posterior's variances [W, 2].

    Steps are at most 1 long, so that none overshoots where labels are separable.
    """
    p_NW = expit(middle_W + centred_NW * (1 + theta_W2[:, 1]) + theta_W2[:, 0])
    residual_NW = labels_NW.toarray() - p_NW
    doubt_NW = p_NW * (1 - p_NW)
    gradient_W2 = np.stack([residual_NW.sum(0), (residual_NW * centred_NW).sum(0)], axis=1)
    gradient_W2 -= theta_W2 / variance_2
    moment_NW = doubt_NW * centred_NW
    a_W, b_W = doubt_NW.sum(0) + 1 / variance_2[0], moment_NW.sum(0)
    c_W = (moment_NW * centred_NW).sum(0) + 1 / variance_2[1]
    determinant_W = a_W * c_W - b_W**2
    step_W2 = np.stack(
        [
            (c_W * gradient_W2[:, 0] - b_W * gradient_W2[:, 1]) / determinant_W,
            (a_W * gradient_W2[:, 1] - b_W * gradient_W2[:, 0]) / determinant_W,
        ],
        axis=1,
    )
    step_W2 = np.clip(step_W2, -1, 1)
    return theta_W2 + step_W2, np.stack([c_W, a_W], axis=1) / determinant_W[:, None]
