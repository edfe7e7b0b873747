"""How many tags a picture gets: a fixed number, as many as pass a threshold, or as is said."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from engine import schema
from engine.errors import BundleError, ConfigError

TopK = int | Literal["auto"]


def parse_top_k(text: str) -> TopK:
    """Read `5` or `auto`.

    Raises:
        ConfigError: it is neither a whole number above zero nor 'auto'.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"top-k is {text!r}; give a whole number above zero, or 'auto'")
    return int(text)


@dataclass(frozen=True)
class Cut:
    """The thresholds that 'auto' uses, chosen on the validation part.

    Attributes:
        threshold: tags of at least this fused score are given, and always the best one.
        most: never more tags than this under 'auto'.
        informed: the threshold for pictures of which an annotator speaks that may abstain; None:
            the same one.
        by_tag: a threshold for each of the V tags in place of these; None: the same for all.
        is_floor: nothing below the threshold is given, not even the best tag, and not under a
            fixed number either.
    """

    threshold: float = 0.5
    most: int = 20
    informed: float | None = None
    by_tag: tuple[float, ...] | None = None
    is_floor: bool = False

    @classmethod
    def learn(cls, scores_NV: NDArray[np.float32], labels_NV: sparse.csr_matrix) -> "Cut":
        """Choose the threshold with the best mean F1 a picture over held-out scores."""
        truth_NV = labels_NV.toarray() > 0
        carried_N = truth_NV.sum(1)
        grid = np.unique(np.quantile(scores_NV.max(1), np.linspace(0, 0.98, 50)))
        grid = np.concatenate([np.linspace(0, 1, 101)[1:-1], grid])
        best = cls()
        best_f1 = -1.0
        for threshold in np.unique(grid.astype(np.float32)):
            given_NV = _given(scores_NV, float(threshold))
            right_N = (given_NV & truth_NV).sum(1)
            f1 = float(np.mean(2 * right_N / np.maximum(given_NV.sum(1) + carried_N, 1)))
            if f1 > best_f1:
                best, best_f1 = cls(float(threshold)), f1
        return best

    def rank(
        self,
        scores_BV: NDArray[np.float32],
        top_k: TopK,
        informed_B: NDArray[np.bool_] | None = None,
        counts_B: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tags of each picture, best first: vocabulary places [B, K] and how many count [B].

        Equal scores keep the vocabulary's order, so that the more frequent tag comes first.

        Args:
            counts_B: how many 'auto' gives of each picture, in place of what passes a threshold,
                though at most `most`; 0: nobody knows, and the threshold decides.
        """
        width = min(self.most if top_k == "auto" else top_k, scores_BV.shape[1])
        if top_k == "auto" and counts_B is None and self.by_tag is not None:
            # A tag below its own threshold may score above one that passes: those that pass first.
            passing_BV = scores_BV >= np.array(self.by_tag, dtype=np.float32)
            passing_BV[np.arange(len(scores_BV)), scores_BV.argmax(1)] = True
            places_BK = _best(np.where(passing_BV, scores_BV, np.float32(-1)), width)
            return places_BK, np.minimum(passing_BV.sum(1), width).astype(np.int64)
        places_BK = _best(scores_BV, width)
        if top_k != "auto" and not self.is_floor:
            return places_BK, np.full(len(scores_BV), width, dtype=np.int64)
        ranked_BK = np.take_along_axis(scores_BV, places_BK, axis=1)
        least_B = np.full(len(scores_BV), self.threshold, dtype=np.float32)
        if informed_B is not None and self.informed is not None:
            least_B[informed_B] = self.informed
        passing_B = (ranked_BK >= least_B[:, None]).sum(1)
        if not self.is_floor:
            passing_B = np.maximum(passing_B, 1)
        if counts_B is not None:
            passing_B = np.where(counts_B > 0, np.minimum(counts_B, width), passing_B)
        return places_BK, passing_B.astype(np.int64)

    def among(self, places_W: NDArray[np.int64]) -> "Cut":
        """The cut of scores [B, W] that are those of some tags alone."""
        if self.by_tag is None:
            return self
        return replace(self, by_tag=tuple(self.by_tag[place] for place in places_W))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Cut":
        """Read what `save` wrote."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            by_tag = content.pop("by_tag", None)
            return cls(**content, by_tag=None if by_tag is None else tuple(by_tag))
        except (AttributeError, TypeError) as error:
            raise BundleError(f"{path}: not a cut of this format ({error})") from error


def tag_thresholds(
    scores_NV: NDArray[np.float32], labels_NV: sparse.csr_matrix, threshold: float, support: int
) -> tuple[float, ...]:
    """For each tag the threshold with the best F1 over held-out scores.

    It lies midway between two scores. Tags that fewer than `support` pictures carry, from which
    nothing can be told, keep `threshold`.
    """
    truth_NV = labels_NV.toarray() > 0
    carried_V = truth_NV.sum(0)
    order_NV = np.argsort(-scores_NV, axis=0, kind="stable")
    ranked_NV = np.take_along_axis(scores_NV, order_NV, axis=0).astype(np.float64)
    right_NV = np.cumsum(np.take_along_axis(truth_NV, order_NV, axis=0), axis=0)
    given_N1 = np.arange(1, len(scores_NV) + 1)[:, None]
    f1_NV = 2 * right_NV / (given_N1 + carried_V)
    # Between equal scores there is no threshold.
    f1_NV[:-1][ranked_NV[:-1] == ranked_NV[1:]] = -1
    last_V = f1_NV.argmax(0)
    columns_V = np.arange(scores_NV.shape[1])
    below_V = ranked_NV[np.minimum(last_V + 1, len(scores_NV) - 1), columns_V]
    best_V = (ranked_NV[last_V, columns_V] + below_V) / 2
    return tuple(np.where(carried_V >= support, best_V, threshold).tolist())


def _given(scores_NV: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    given_NV: NDArray[np.bool_] = scores_NV >= threshold
    given_NV[np.arange(len(scores_NV)), scores_NV.argmax(1)] = True
    return given_NV


def _best(scores_BV: NDArray[np.float32], width: int) -> NDArray[np.int64]:
    """Places of the `width` largest a row, stable; a full sort only of those that qualify."""
    count = scores_BV.shape[1]
    if count <= 4 * width:
        return np.argsort(-scores_BV, axis=1, kind="stable")[:, :width]
    bar_B1 = np.partition(scores_BV, count - width, axis=1)[:, count - width, None]
    places_BK = np.empty((len(scores_BV), width), dtype=np.int64)
    for row, (scores_V, bar) in enumerate(zip(scores_BV, bar_B1, strict=True)):
        among = np.flatnonzero(scores_V >= bar)
        places_BK[row] = among[np.argsort(-scores_V[among], kind="stable")[:width]]
    return places_BK


def tag_lists(
    tags: tuple[str, ...],
    scores_BV: NDArray[np.float32],
    places_BK: NDArray[np.int64],
    counts_B: NDArray[np.int64],
) -> pa.Array:
    """The `schema.SCORED_TAGS` column of ranked tags."""
    kept_BK = np.arange(places_BK.shape[1]) < counts_B[:, None]
    flat = places_BK[kept_BK]
    scores = np.take_along_axis(scores_BV, places_BK, axis=1)[kept_BK]
    offsets = np.concatenate([[0], np.cumsum(counts_B)]).astype(np.int32)
    values = pa.StructArray.from_arrays(
        [
            pa.DictionaryArray.from_arrays(
                pa.array(flat.astype(np.int32)), pa.array(tags, pa.string())
            ).dictionary_decode(),
            pa.array(scores, pa.float32()),
        ],
        fields=list(schema.SCORED_TAGS.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=schema.SCORED_TAGS)
