"""How many tags a picture gets: a fixed number, or as many as pass a learned threshold."""

import json
from dataclasses import asdict, dataclass
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
    """The threshold that 'auto' uses, chosen on the validation part.

    Attributes:
        threshold: tags of at least this fused score are given, and always the best one.
        most: never more tags than this under 'auto'.
        informed: the threshold for pictures of which an annotator speaks that may abstain; None:
            the same one.
    """

    threshold: float = 0.5
    most: int = 20
    informed: float | None = None

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
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tags of each picture, best first: vocabulary places [B, K] and how many count [B].

        Equal scores keep the vocabulary's order, so that the more frequent tag comes first.
        """
        width = min(self.most if top_k == "auto" else top_k, scores_BV.shape[1])
        places_BK = _best(scores_BV, width)
        if top_k != "auto":
            return places_BK, np.full(len(scores_BV), width, dtype=np.int64)
        ranked_BK = np.take_along_axis(scores_BV, places_BK, axis=1)
        least_B = np.full(len(scores_BV), self.threshold, dtype=np.float32)
        if informed_B is not None and self.informed is not None:
            least_B[informed_B] = self.informed
        return places_BK, np.maximum((ranked_BK >= least_B[:, None]).sum(1), 1).astype(np.int64)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Cut":
        """Read what `save` wrote."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except TypeError as error:
            raise BundleError(f"{path}: not a cut of this format ({error})") from error


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
