"""What turns annotators' scores into tags: the blend, how many tags, and in which order."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PositiveInt
from scipy import sparse

from engine.calibration import Scope
from engine.cut import Cut, TopK, tag_thresholds
from engine.errors import BundleError, ConfigError
from engine.fusion import Fusion, speaking
from engine.quantity import QuantitySettings, rounded
from engine.settings import Settings

OWN = "(own)"
"""Who says how many tags a picture gets where no annotator does: no annotator has such a name."""

_FILE = "ensemble.json"


class CountConfig(Settings):
    """How many tags 'auto' gives.

    Attributes:
        method: 'threshold': as many as pass one threshold, the best for the mean F1 a picture;
            'tag-thresholds': those that pass a threshold of their own, the best for a tag's F1;
            'lqp': as many as label quantity prediction says.
        support: validation pictures that must carry a tag before it gets a threshold of its own.
        source: the annotator that predicts the number for 'lqp', in a file `from`; None: a network
            of the bundle's own, learned by the settings `lqp`.
    """

    model_config = ConfigDict(populate_by_name=True)

    method: Literal["threshold", "tag-thresholds", "lqp"] = "threshold"
    support: PositiveInt = 8
    source: Annotated[str | None, Field(alias="from")] = None
    lqp: QuantitySettings = QuantitySettings()


@dataclass(frozen=True)
class EnsembleSettings:
    """What is decided before anything is learned; see `engine.config.FitConfig`."""

    seed: int = 0
    lift: float = 0.0
    scope: Scope = "all"
    count: CountConfig = field(default_factory=CountConfig)
    order: str | None = None
    balance: int = 0

    @property
    def counter(self) -> str | None:
        """Who says how many tags a picture gets, see `Ensemble`."""
        return (self.count.source or OWN) if self.count.method == "lqp" else None


@dataclass(frozen=True)
class Opinion:
    """What the annotators say together of B pictures.

    Attributes:
        scores_BV: float32 in [0, 1].
        informed_B: of which one speaks that may abstain.
        quantity_B: float32, how many tags each has; None: nobody says.
        order_BV: scores whose order is that of the tags; a row of NaN, or None: by `scores_BV`.
    """

    scores_BV: NDArray[np.float32]
    informed_B: NDArray[np.bool_]
    quantity_B: NDArray[np.float32] | None = None
    order_BV: NDArray[np.float32] | None = None

    def changed(self, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> "Opinion":
        """With other scores [B, V] made of what they are."""
        order_BV = self.order_BV
        return replace(
            self,
            scores_BV=change(self.scores_BV),
            order_BV=None if order_BV is None else change(order_BV),
        )

    def take(self, rows: NDArray[np.int64] | list[int]) -> "Opinion":
        """Of some of the pictures."""
        quantity_B, order_BV = self.quantity_B, self.order_BV
        return Opinion(
            self.scores_BV[rows],
            self.informed_B[rows],
            None if quantity_B is None else quantity_B[rows],
            None if order_BV is None else order_BV[rows],
        )


@dataclass(frozen=True)
class Ensemble:
    """The blend of a bundle's annotators, the cut, and who says how many tags and their order.

    Attributes:
        counter: the annotator that says how many tags 'auto' gives; `OWN`: the bundle's own
            network for it; None: the cut's thresholds.
        orderer: the annotator by whose scores the tags given are ordered; None: the blend's.
    """

    fusion: Fusion
    cut: Cut
    counter: str | None = None
    orderer: str | None = None

    @classmethod
    def learn(
        cls,
        scores: Mapping[str, NDArray[np.float32]],
        labels_NV: sparse.csr_matrix,
        settings: EnsembleSettings,
        optional: Collection[str] = (),
        frequency_V: NDArray[np.float64] | None = None,
        taught_V: NDArray[np.floating] | None = None,
    ) -> "Ensemble":
        """Learn from held-out pictures that no annotator has seen.

        Args:
            scores: [N, V] of each annotator.
            optional: the annotators that may abstain, though not all of them. What is learned for
                pictures of which they say nothing is what would be learned without them.
            frequency_V: share of pictures that carry each tag; None: of the held-out ones.
            taught_V: pictures with each tag that the annotators learned from, see
                `Calibration.learn`; None: enough.
        """
        fusion = Fusion.learn(
            scores,
            labels_NV,
            settings.seed,
            settings.lift,
            optional,
            settings.scope,
            settings.balance,
            frequency_V,
            taught_V,
        )
        uninformed_NV = fusion({name: s for name, s in scores.items() if name not in optional})
        cut = Cut.learn(uninformed_NV, labels_NV)
        if settings.count.method == "tag-thresholds":
            by_tag = tag_thresholds(uninformed_NV, labels_NV, cut.threshold, settings.count.support)
            cut = replace(cut, by_tag=by_tag)
        rows_M = np.flatnonzero(fusion.informed(fusion.parts(scores)))
        if len(rows_M):
            fused_MV = fusion({name: s[rows_M] for name, s in scores.items()})
            cut = replace(cut, informed=Cut.learn(fused_MV, labels_NV[rows_M]).threshold)
        return cls(fusion, cut, settings.counter, settings.order)

    def opinion(
        self,
        scores: Mapping[str, NDArray[np.float32]],
        quantity_B: NDArray[np.float32] | None = None,
        parts: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> Opinion:
        """What the annotators' scores [B, V] come to.

        Args:
            quantity_B: what `counter` says.
            parts: what `fusion.parts` gives of these scores, if it was asked already.
        """
        parts = self.fusion.parts(scores) if parts is None else parts
        return Opinion(
            self.fusion.total(parts),
            self.fusion.informed(parts),
            quantity_B,
            None if self.orderer is None else scores.get(self.orderer),
        )

    def rank(
        self, opinion: Opinion, top_k: TopK, among_W: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each picture's tags in their order: vocabulary places [B, K] and how many count [B].

        Args:
            among_W: places of the tags that may be given, ascending; None: all. The number that
                is predicted of a picture is that of all its tags, so those are given among its so
                many best that may be, and at least one.
        """
        scores_BV = opinion.scores_BV
        counts_B = None
        if self.counter is not None and opinion.quantity_B is not None and top_k == "auto":
            counts_B = counted(opinion.quantity_B, self.cut.most)
            if among_W is not None:
                counts_B = _counted_among(scores_BV, counts_B, among_W)
        if among_W is None:
            places_BK, counts_B = self.cut.rank(scores_BV, top_k, opinion.informed_B, counts_B)
        else:
            cut = self.cut.among(among_W)
            places_BK, counts_B = cut.rank(
                scores_BV[:, among_W], top_k, opinion.informed_B, counts_B
            )
            places_BK = among_W[places_BK]
        if opinion.order_BV is not None:
            places_BK = _reordered(places_BK, counts_B, opinion.order_BV)
        return places_BK, counts_B

    def with_threshold(self, threshold: float) -> "Ensemble":
        """One that gives tags of at least this score alone, be they none."""
        return replace(self, cut=Cut(threshold, self.cut.most, is_floor=True), counter=None)

    def save(self, folder: Path) -> None:
        """Write into an existing folder, as JSON."""
        self.fusion.save(folder / "fusion.json")
        self.cut.save(folder / "cut.json")
        content = {"counter": self.counter, "orderer": self.orderer}
        (folder / _FILE).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Ensemble":
        """Read what `save` wrote.

        Raises:
            BundleError: it is not of this format.
        """
        path = folder / _FILE
        content = json.loads(path.read_text(encoding="utf-8"))
        try:
            counter, orderer = content["counter"], content["orderer"]
        except (KeyError, TypeError) as error:
            raise BundleError(f"{path}: not an ensemble of this format ({error})") from error
        return cls(
            Fusion.load(folder / "fusion.json"), Cut.load(folder / "cut.json"), counter, orderer
        )


def check_roles(settings: EnsembleSettings, annotators: Collection[str]) -> None:
    """See that whoever counts or orders the tags is there.

    Raises:
        ConfigError: it is not, or `count` contradicts itself.
    """
    count = settings.count
    if count.source is not None and count.method != "lqp":
        raise ConfigError(
            f"count.from is '{count.source}', but count.method is '{count.method}', which asks no "
            "annotator; write method = 'lqp', or leave count.from out"
        )
    for key, name in (("count.from", count.source), ("order", settings.order)):
        if name is not None and name not in annotators:
            raise ConfigError(
                f"{key} is '{name}', but there is no annotator of that name; name one of "
                f"{', '.join(annotators)}"
            )


def counted(quantity_B: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Predicted numbers of tags as int64 [B], from 1 to `most`; 0 for a NaN: nobody knows."""
    counts_B = np.zeros(len(quantity_B), dtype=np.int64)
    known_B = ~np.isnan(quantity_B)
    counts_B[known_B] = rounded(quantity_B[known_B], most)
    return counts_B


def _counted_among(
    scores_BV: NDArray[np.float32], counts_B: NDArray[np.int64], among_W: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many tags of `among_W` are among each picture's `counts_B` best of all; 0 stays 0.

    Of equal scores the first in the vocabulary is the better, as where tags are given: a picture
    with few scores above zero would get every other tag else.
    """
    is_among_V = np.zeros(scores_BV.shape[1], dtype=np.int64)
    is_among_V[among_W] = 1
    so_far_BV = np.cumsum(is_among_V[np.argsort(-scores_BV, axis=1, kind="stable")], axis=1)
    last_B1 = np.clip(counts_B, 1, scores_BV.shape[1])[:, None] - 1
    found_B = np.maximum(np.take_along_axis(so_far_BV, last_B1, axis=1)[:, 0], 1)
    return np.where(counts_B > 0, found_B, 0).astype(np.int64)


def _reordered(
    places_BK: NDArray[np.int64], counts_B: NDArray[np.int64], order_BV: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The same tags of each picture in descending order of another score, ties as they were."""
    keys_BK = -np.take_along_axis(order_BV, places_BK, axis=1)
    # What is not given stays behind what is; who abstains leaves the order as it is.
    keys_BK[np.arange(places_BK.shape[1]) >= counts_B[:, None]] = np.inf
    keys_BK[~speaking(order_BV)] = 0
    moved_BK: NDArray[np.int64] = np.take_along_axis(
        places_BK, np.argsort(keys_BK, axis=1, kind="stable"), axis=1
    )
    return moved_BK
