"""From several annotators' scores to one: calibrate each, blend on the simplex, calibrate again."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.calibration import Calibration, Scope
from engine.errors import BundleError
from engine.numerics.online_weights import choose_pace, learn_weights
from engine.numerics.word_balance import WordBalance, balance_words

BALANCED_TAGS = 5
"""Tags a picture that words are balanced for: k of the protocol of Murthy et al. 2015."""

_LIFT_FLOOR = 0.03
"""Least root mean square of a tag that a lift counts with, relative to that of all tags."""


Course = tuple[tuple[int, Mapping[str, float]], ...]


@dataclass(frozen=True)
class Fusion:
    """A convex combination of calibrated annotator scores, lifted and calibrated again.

    Attributes:
        lift_V: what the blended score of each tag is divided by: its root mean square over
            held-out pictures to a small power. Rare tags win a place among the first few that
            likelihood alone would deny them; None lifts nothing.
        optional: the annotators that may abstain.
        final_informed: in place of `final` for a picture of which one of `optional` speaks: what
            is known of more tells more.
        balance: in place of a lift, what giving a tag is expected to add to a mean over words.
        course: how the weights moved while they were learned: (triples so far, weights).
    """

    weights: Mapping[str, float]
    calibrations: Mapping[str, Calibration]
    final: Calibration
    lift_V: NDArray[np.float32] | None = None
    optional: tuple[str, ...] = ()
    final_informed: Calibration | None = None
    course: Course = ()
    balance: WordBalance | None = None

    def __call__(self, scores: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Blend scores [B, V], one array an annotator, into float32 [B, V] in [0, 1].

        An annotator that is not given drops out and the weights of the others are renormalised;
        so does one that abstains, for the pictures from which it does.
        """
        return self.total(self.parts(scores))

    def parts(self, scores: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """What each annotator with a weight adds to the blend, float32 [B, V]."""
        speaks = {name: speaking(scores_BV) for name, scores_BV in scores.items()}
        total_B = sum(self.weights[name] * speaks_B for name, speaks_B in speaks.items())
        parts = {}
        for name, scores_BV in scores.items():
            if self.weights[name] <= 0:
                continue
            share_B = self.weights[name] / np.where(speaks[name], total_B, np.inf)
            part_BV = share_B[:, None].astype(np.float32) * self.calibrations[name](scores_BV)
            part_BV[~speaks[name]] = 0
            parts[name] = part_BV
        return parts

    def total(self, parts: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The lifted or balanced, and calibrated, sum of what `parts` gave."""
        blended_BV = np.asarray(sum(parts.values()), dtype=np.float32)
        if self.lift_V is not None:
            lifted_BV = blended_BV / self.lift_V
            # Read as odds, for a lifted score may exceed 1.
            blended_BV = lifted_BV / (1 + lifted_BV)
        if self.balance is not None:
            blended_BV = self.balance(blended_BV)
        scores_BV = self.final(blended_BV)
        informed_B = self.informed(parts)
        if self.final_informed is not None and informed_B.any():
            scores_BV[informed_B] = self.final_informed(blended_BV[informed_B])
        return scores_BV

    def informed(self, parts: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
        """For which pictures one of `optional` speaks in what `parts` gave: boolean [B]."""
        informed_B = np.zeros(len(next(iter(parts.values()))), dtype=np.bool_)
        for name in self.optional:
            if name in parts:
                informed_B |= parts[name].any(axis=1)
        return informed_B

    @classmethod
    def learn(
        cls,
        scores: Mapping[str, NDArray[np.float32]],
        labels_NV: sparse.csr_matrix,
        seed: int,
        lift: float = 0.0,
        optional: Collection[str] = (),
        scope: Scope = "all",
        balance: int = 0,
        frequency_V: NDArray[np.float64] | None = None,
        taught_V: NDArray[np.floating] | None = None,
    ) -> "Fusion":
        """Fit on held-out scores [N, V], one array an annotator.

        Args:
            lift: the power of the root mean square; 0 lifts nothing.
            optional: annotators that may abstain, though not all of them. What is learned of the
                others is what would be learned without these, so a picture from which they
                abstain is scored as if they were not there.
            scope: of each annotator's calibration; that of the blend is one map for all tags, so
                that it changes no ranking.
            balance: pictures that words are balanced for, see `engine.numerics.word_balance`; 0:
                they are not.
            frequency_V: share of pictures that carry each tag; None: of the held-out ones.
            taught_V: pictures with each tag that the annotators learned from; None: enough.
        """
        calibrations, calibrated = {}, {}
        for name, scores_NV in scores.items():
            rows_M = np.flatnonzero(speaking(scores_NV))
            calibrations[name] = Calibration.learn(
                scores_NV[rows_M], labels_NV[rows_M], scope, taught_V
            )
            calibrated[name] = calibrations[name](scores_NV)
        always = {name: s for name, s in scores.items() if name not in optional}
        weights, course = _learned({name: calibrated[name] for name in always}, labels_NV, seed)
        if len(always) < len(scores):
            weights, course = _joined(weights, calibrated, labels_NV, seed)
        draft = cls(
            weights,
            calibrations,
            Calibration(),
            optional=tuple(name for name in scores if name in optional),
            course=course,
        )
        if lift > 0:
            mean_square_V = np.square(draft(always)).mean(axis=0)
            # A tag that no held-out picture calls for is not lifted without bounds.
            least = _LIFT_FLOOR**2 * mean_square_V.mean()
            lift_V = ((mean_square_V + least) ** (lift / 2)).astype(np.float32)
            draft = replace(draft, lift_V=lift_V)
        if balance > 0:
            if frequency_V is None:
                frequency_V = np.asarray(labels_NV.mean(axis=0), dtype=np.float64).ravel()
            found = balance_words(draft(always), frequency_V, BALANCED_TAGS, balance)
            draft = replace(draft, balance=found)
        fusion = replace(draft, final=Calibration.learn(draft(always), labels_NV))
        rows_M = np.flatnonzero(draft.informed(draft.parts(scores)))
        if len(rows_M):
            draft_MV = draft({name: s[rows_M] for name, s in scores.items()})
            final = Calibration.learn(draft_MV, labels_NV[rows_M])
            fusion = replace(fusion, final_informed=final)
        return fusion

    def save(self, path: Path) -> None:
        """Write as JSON."""
        lift = None if self.lift_V is None else [float(value) for value in self.lift_V]
        content = {
            "weights": dict(self.weights),
            "calibrations": {name: one.to_json() for name, one in self.calibrations.items()},
            "final": self.final.to_json(),
            "lift": lift,
            "optional": self.optional,
            "final_informed": self.final_informed and self.final_informed.to_json(),
            "balance": None
            if self.balance is None
            else {"gain": self.balance.gain_V.tolist(), "toll": self.balance.toll_V.tolist()},
            "course": [{"triples": triples, "weights": dict(w)} for triples, w in self.course],
        }
        path.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Fusion":
        """Read what `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        try:
            lift, informed = content["lift"], content["final_informed"]
            balance = content["balance"]
            maps = content["calibrations"].items()
            return cls(
                content["weights"],
                {name: Calibration.from_json(value) for name, value in maps},
                Calibration.from_json(content["final"]),
                lift if lift is None else np.array(lift, dtype=np.float32),
                tuple(content["optional"]),
                None if informed is None else Calibration.from_json(informed),
                tuple((one["triples"], one["weights"]) for one in content["course"]),
                balance
                and WordBalance(
                    np.array(balance["gain"], dtype=np.float32),
                    np.array(balance["toll"], dtype=np.float32),
                ),
            )
        except (KeyError, TypeError) as error:
            raise BundleError(f"{path}: not a fusion of this format ({error})") from error


def speaking(scores_BV: NDArray[np.float32]) -> NDArray[np.bool_]:
    """For which pictures an annotator gives scores, and does not abstain: boolean [B]."""
    speaks_B: NDArray[np.bool_] = ~np.isnan(scores_BV[:, 0])
    return speaks_B


def _learned(
    calibrated: Mapping[str, NDArray[np.float32]],
    labels_NV: sparse.csr_matrix,
    seed: int,
    start_A: NDArray[np.float64] | None = None,
) -> tuple[dict[str, float], Course]:
    stacked_ANV = np.stack(list(calibrated.values()))
    pace = choose_pace(stacked_ANV, labels_NV, seed, start_A)
    found = learn_weights(stacked_ANV, labels_NV, seed, pace, start_A)
    course = tuple(
        (point.triples, dict(zip(calibrated, point.weights_A.tolist(), strict=True)))
        for point in found.course
    )
    return dict(zip(calibrated, found.weights_A.tolist(), strict=True)), course


_OTHERS = ""
"""Stands for the blend of the annotators that never abstain: no annotator has an empty name."""


def _joined(
    weights: Mapping[str, float],
    calibrated: Mapping[str, NDArray[np.float32]],
    labels_NV: sparse.csr_matrix,
    seed: int,
) -> tuple[dict[str, float], Course]:
    """Weights of all, those in `weights` in the same proportion to each other as there."""
    blend_NV = np.asarray(sum(np.float32(w) * calibrated[n] for n, w in weights.items()))
    optional = {name: s for name, s in calibrated.items() if name not in weights}
    share = 1 / len(calibrated)
    start_A = np.array([len(weights) * share] + [share] * len(optional))
    joined, course = _learned({_OTHERS: blend_NV, **optional}, labels_NV, seed, start_A)

    def apart(together: Mapping[str, float]) -> dict[str, float]:
        rest = together[_OTHERS]
        return {
            name: together[name] if name in together else rest * weights[name]
            for name in calibrated
        }

    return apart(joined), tuple((triples, apart(one)) for triples, one in course)
