"""From what modalities say to one score: calibrated each, weighed online, calibrated again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.calibration import Calibration
from engine.group import Group
from engine.numerics.online_weights import Pace, Waypoint, learn_weights


@dataclass(frozen=True)
class Blend:
    """A convex combination of calibrated modalities (Sun et al., Eq. 2), calibrated.

    Attributes:
        weights: by modality, on the simplex.
        calibrations: of each modality.
        final: of their combination, a map for each tag.
        course: the weights on their way, in the order of `weights`.
    """

    weights: Mapping[str, float]
    calibrations: Mapping[str, Calibration]
    final: Calibration
    course: tuple[Waypoint, ...]

    @classmethod
    def learn(
        cls,
        held_out: Mapping[str, NDArray[np.float32]],
        labels_MV: sparse.csr_matrix,
        ids: Sequence[str],
        seed: int,
        margin: float,
        rate: float,
        group: Group,
    ) -> "Blend":
        """Learn from pictures that no network has seen, those of all the ranks.

        Args:
            held_out: what each modality says of this rank's M pictures, float32 [M, V].
            ids: of these pictures.
        """
        every = np.concatenate(group.gather(np.array(ids, dtype=np.str_))).astype(np.str_)
        # In one order, however the pictures are shared out.
        order = np.argsort(every)
        truth_NV = np.concatenate(group.gather(labels_MV.toarray()))[order]
        labels_NV = sparse.csr_matrix(truth_NV.astype(np.float32))
        calibrations, calibrated = {}, []
        for name, said_MV in held_out.items():
            said_NV = np.concatenate(group.gather(said_MV))[order].astype(np.float32)
            calibrations[name] = Calibration.learn(said_NV, labels_NV)
            calibrated.append(calibrations[name](said_NV))
        scores_ANV = np.stack(calibrated)
        learned = learn_weights(scores_ANV, labels_NV, seed, Pace(margin, rate))
        weights = dict(zip(held_out, learned.weights_A.tolist(), strict=True))
        blended_NV = np.tensordot(learned.weights_A, scores_ANV, axes=1).astype(np.float32)
        return cls(
            weights, calibrations, Calibration.learn(blended_NV, labels_NV, "tags"), learned.course
        )

    def __call__(self, said: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Blend what every modality says of a batch, float32 [B, V]."""
        parts = [
            np.float32(self.weights[name]) * self.calibrations[name](said_BV)
            for name, said_BV in said.items()
        ]
        return self.final(np.asarray(sum(parts), dtype=np.float32))

    def content(self) -> dict[str, object]:
        """All of it, as JSON has it."""
        return {
            "weights": dict(self.weights),
            "calibrations": {n: one.to_json() for n, one in self.calibrations.items()},
            "final": self.final.to_json(),
            "course": [
                {"triples": point.triples, "weights": point.weights_A.tolist()}
                for point in self.course
            ],
        }

    @classmethod
    def of(cls, content: Mapping[str, object]) -> "Blend":
        """What `content` gave."""
        weights, course = content["weights"], content["course"]
        calibrations, final = content["calibrations"], content["final"]
        assert isinstance(weights, dict)
        assert isinstance(calibrations, dict)
        assert isinstance(final, dict)
        assert isinstance(course, list)
        return cls(
            weights,
            {name: Calibration.from_json(one) for name, one in calibrations.items()},
            Calibration.from_json(final),
            tuple(Waypoint(one["triples"], np.array(one["weights"])) for one in course),
        )
