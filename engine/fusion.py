"""From several annotators' scores to one: calibrate each, blend on the simplex, calibrate again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from engine.errors import BundleError

_LEAST, _MOST = np.float32(1e-12), np.float32(1 - 1e-6)
"""Where scores are clipped; small ones keep their order far down, as nearest neighbours need."""

_LIFT_FLOOR = 0.03
"""Least root mean square of a tag that a lift counts with, relative to that of all tags."""


@dataclass(frozen=True)
class Calibration:
    """Platt's monotone map of a score: sigmoid(slope · logit(s) + intercept), slope > 0.

    One map for all tags: it changes no ranking, so a calibrated score of 0.7 is right in about
    seven of ten cases over the tags together, not for each tag by itself.
    """

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def learn(cls, scores_NV: NDArray[np.float32], labels_NV: sparse.csr_matrix) -> "Calibration":
        """Fit to scores in [0, 1] and binary labels by maximum likelihood."""
        truth = labels_NV.toarray().ravel() > 0
        if truth.all() or not truth.any():
            return cls()
        model = LogisticRegression(C=1e6)
        model.fit(_log_odds(scores_NV).reshape(-1, 1), truth)
        slope, least = float(model.coef_[0, 0]), 1e-3
        if slope < least:
            # Scores that say nothing, or the wrong thing, keep their order and lose their weight.
            return cls(least, float(logit(truth.mean())))
        return cls(slope, float(model.intercept_[0]))

    def __call__(self, scores_BV: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrate float32 scores of any shape."""
        log_odds = _log_odds(scores_BV) * np.float32(self.slope) + np.float32(self.intercept)
        return expit(log_odds).astype(np.float32, copy=False)


def _log_odds(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = np.clip(scores.astype(np.float32), _LEAST, _MOST)
    return logit(clipped).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Fusion:
    """A convex combination of calibrated annotator scores, lifted and calibrated again.

    Attributes:
        lift_V: what the blended score of each tag is divided by: its root mean square over
            held-out pictures to a small power. Rare tags win a place among the first few that
            likelihood alone would deny them; None lifts nothing.
    """

    weights: Mapping[str, float]
    calibrations: Mapping[str, Calibration]
    final: Calibration
    lift_V: NDArray[np.float32] | None = None

    def __call__(self, scores: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Blend scores [B, V], one array an annotator, into float32 [B, V] in [0, 1].

        An annotator that is not given drops out and the weights of the others are renormalised.
        """
        return self.total(self.parts(scores))

    def parts(self, scores: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """What each annotator with a weight adds to the blend, float32 [B, V]."""
        total = sum(self.weights[name] for name in scores)
        shares = {name: self.weights[name] / total for name in scores if total > 0}
        return {
            name: np.float32(share) * self.calibrations[name](scores[name])
            for name, share in shares.items()
            if share > 0
        }

    def total(self, parts: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The lifted and calibrated sum of what `parts` gave."""
        blended_BV = np.asarray(sum(parts.values()), dtype=np.float32)
        if self.lift_V is None:
            return self.final(blended_BV)
        lifted_BV = blended_BV / self.lift_V
        # Read as odds, for a lifted score may exceed 1.
        return self.final(lifted_BV / (1 + lifted_BV))

    @classmethod
    def learn(
        cls,
        scores: Mapping[str, NDArray[np.float32]],
        labels_NV: sparse.csr_matrix,
        seed: int,
        lift: float = 0.0,
    ) -> "Fusion":
        """Fit on held-out scores [N, V], one array an annotator.

        Args:
            lift: the power of the root mean square; 0 lifts nothing.
        """
        calibrations = {name: Calibration.learn(s, labels_NV) for name, s in scores.items()}
        calibrated = {name: calibrations[name](s) for name, s in scores.items()}
        weights = exponentiated_gradient(calibrated, labels_NV, seed)
        draft = cls(weights, calibrations, Calibration())
        if lift > 0:
            mean_square_V = np.square(draft(scores)).mean(axis=0)
            # A tag that no held-out picture calls for is not lifted without bounds.
            least = _LIFT_FLOOR**2 * mean_square_V.mean()
            lift_V = ((mean_square_V + least) ** (lift / 2)).astype(np.float32)
            draft = replace(draft, lift_V=lift_V)
        return replace(draft, final=Calibration.learn(draft(scores), labels_NV))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        lift = None if self.lift_V is None else [float(value) for value in self.lift_V]
        content = {
            "weights": dict(self.weights),
            "calibrations": {name: asdict(one) for name, one in self.calibrations.items()},
            "final": asdict(self.final),
            "lift": lift,
        }
        path.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Fusion":
        """Read what `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        try:
            lift = content["lift"]
            return cls(
                content["weights"],
                {name: Calibration(**value) for name, value in content["calibrations"].items()},
                Calibration(**content["final"]),
                lift if lift is None else np.array(lift, dtype=np.float32),
            )
        except (KeyError, TypeError) as error:
            raise BundleError(f"{path}: not a fusion of this format ({error})") from error


def exponentiated_gradient(
    scores: Mapping[str, NDArray[np.float32]],
    labels_NV: sparse.csr_matrix,
    seed: int,
    margin: float = 0.1,
    rate: float = 0.05,
) -> dict[str, float]:
    """Learn combination weights on the simplex in one pass (Sun et al., Eq. 8 to 11).

    From each picture comes one triple for each of its tags: the tag itself, and the tag that it
    does not carry and that the present combination ranks highest. With S the vector of the
    annotators' score differences, the hinge max(0, margin - weights·S) has the subgradient -S
    where it is positive (Algorithm 1 omits the margin by a slip), so the update multiplies each
    weight by exp(rate·S) and normalises. The weights start uniform; their mean over the pass is
    returned, which settles what a single triple sways.

    Args:
        scores: calibrated scores [N, V], one array an annotator.
        margin: in calibrated score.
        rate: of the multiplicative step.
    """
    names = list(scores)
    alpha_A = np.full(len(names), 1 / len(names))
    if len(names) == 1 or labels_NV.nnz == 0:
        return dict(zip(names, alpha_A.tolist(), strict=True))
    stacked_ANV = np.stack([scores[name] for name in names])
    total_A = np.zeros(len(names))
    triples = 0
    for row in np.random.default_rng(seed).permutation(labels_NV.shape[0]):
        carried = labels_NV.indices[labels_NV.indptr[row] : labels_NV.indptr[row + 1]]
        if len(carried) in (0, labels_NV.shape[1]):
            continue
        for tag in carried:
            combined_V = alpha_A @ stacked_ANV[:, row]
            combined_V[carried] = -np.inf
            rival = int(np.argmax(combined_V))
            difference_A = stacked_ANV[:, row, tag] - stacked_ANV[:, row, rival]
            if margin - alpha_A @ difference_A > 0:
                alpha_A = alpha_A * np.exp(rate * difference_A)
                alpha_A /= alpha_A.sum()
            total_A += alpha_A
            triples += 1
    mean_A = total_A / max(triples, 1)
    return dict(zip(names, mean_A.tolist(), strict=True))
