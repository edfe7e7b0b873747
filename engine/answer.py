"""The last stage's work: blend, rank and cut, and say which neighbours and annotators spoke."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.cut import TopK, tag_lists
from engine.ensemble import Ensemble, Opinion
from engine.tagging import Tagging

EVIDENCE = 8
"""Neighbours given with a picture, at most."""


@dataclass(frozen=True)
class Ask:
    """What is wanted of one picture.

    Attributes:
        top_k: tags at most, or 'auto': as many as the bundle's cut gives.
        threshold: only tags of at least this score, be they none; None: the bundle's own under
            'auto', none under a number.
        among: only tags at these places of the vocabulary; None: any.
    """

    top_k: TopK
    threshold: float | None = None
    among: tuple[int, ...] | None = None

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Ask":
        """From a value of a `schema.ASKS` column."""
        among = row["among"]
        top_k: TopK = "auto" if row["top_k"] is None else int(row["top_k"])
        return cls(top_k, row["threshold"], None if among is None else tuple(sorted(among)))

    def to_row(self) -> dict[str, object]:
        """A value of a `schema.ASKS` column."""
        top_k = None if self.top_k == "auto" else self.top_k
        return {"top_k": top_k, "threshold": self.threshold, "among": self.among}


@dataclass(frozen=True)
class FuseWorker:
    """Blends, ranks and cuts, and keeps the neighbours that carry a tag which was given.

    With `ask` None each row says in its column `ask` what is wanted, and the annotators' shares
    are told too. The ranking is the same code either way, a row at a time or many. With `dense`
    the blend's score of every tag is written as well.
    """

    names: tuple[str, ...]
    witnesses: tuple[str, ...]
    tagging: Tagging
    ensemble: Ensemble
    ask: Ask | None
    dense: bool = False

    def __call__(self, batch: pa.Table) -> pa.Table:
        scores = {
            name: schema.float_tensor(batch, schema.score_column(name)) for name in self.names
        }
        quantity_B = None
        if self.ensemble.counter is not None:
            quantity_B = batch.column(schema.QUANTITY).to_numpy().astype(np.float32, copy=False)
        parts = self.ensemble.fusion.parts(scores)
        blended = self.ensemble.opinion(scores, quantity_B, parts)
        opinion = blended.changed(self.tagging.raised)
        places_BK, counts_B = self._rank(opinion, self._rows_by_ask(batch))
        columns = {
            schema.TAGS: tag_lists(self.tagging.tags, opinion.scores_BV, places_BK, counts_B),
            schema.NEIGHBOURS: self._neighbours(batch, places_BK, counts_B),
        }
        if self.ask is None:
            origins_BK = self.tagging.origins(blended.scores_BV, places_BK)
            columns[schema.SHARES] = self._shares(parts, origins_BK, counts_B)
        if self.dense:
            columns[schema.FUSED] = schema.tensor_column(opinion.scores_BV)
        return pa.table(columns)

    def _rows_by_ask(self, batch: pa.Table) -> dict[Ask, list[int]]:
        if self.ask is not None:
            return {self.ask: list(range(batch.num_rows))}
        rows = defaultdict(list)
        for row, value in enumerate(batch.column(schema.ASK).to_pylist()):
            rows[Ask.of_row(value)].append(row)
        return rows

    def _rank(
        self, opinion: Opinion, rows_by_ask: dict[Ask, list[int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `Ensemble.rank`, by what is wanted of each row; what is beyond its count is void."""
        ranked = {
            ask: self._rank_alike(opinion.take(rows), ask) for ask, rows in rows_by_ask.items()
        }
        width = max((places_RK.shape[1] for places_RK, _ in ranked.values()), default=0)
        places_BK = np.zeros((len(opinion.scores_BV), width), dtype=np.int64)
        counts_B = np.zeros(len(opinion.scores_BV), dtype=np.int64)
        for ask, rows in rows_by_ask.items():
            places_RK, counts_R = ranked[ask]
            places_BK[rows, : places_RK.shape[1]] = places_RK
            counts_B[rows] = counts_R
        return places_BK, counts_B

    def _rank_alike(
        self, opinion: Opinion, ask: Ask
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        among = self.tagging.among(ask.among)
        among_W = None if among is None else np.array(among, np.int64)
        rows = len(opinion.scores_BV)
        if among_W is not None and not len(among_W):
            return np.zeros((rows, 0), np.int64), np.zeros(rows, np.int64)
        if ask.threshold is None:
            return self.ensemble.rank(opinion, ask.top_k, among_W)
        return self.ensemble.with_threshold(ask.threshold).rank(opinion, ask.top_k, among_W)

    def _neighbours(
        self, batch: pa.Table, places_BK: NDArray[np.int64], counts_B: NDArray[np.int64]
    ) -> pa.Array:
        neighbours: list[list[dict[str, object]]] = [[] for _ in range(batch.num_rows)]
        sources = dict(self.tagging.sources)
        for name in self.witnesses:
            column = batch.column(schema.evidence_column(name)).to_pylist()
            for row, evidence in enumerate(column):
                given = set(places_BK[row, : counts_B[row]].tolist())
                given.update(*(sources.get(place, ()) for place in tuple(given)))
                neighbours[row].extend(
                    {"image_id": item["image_id"], "distance": item["distance"]}
                    for item in evidence
                    if not given.isdisjoint(item["tags"])
                )
        return pa.array([row[:EVIDENCE] for row in neighbours], schema.NEIGHBOUR_LIST)

    def _shares(
        self,
        parts: dict[str, NDArray[np.float32]],
        places_BK: NDArray[np.int64],
        counts_B: NDArray[np.int64],
    ) -> pa.Array:
        nothing_BK = np.zeros(places_BK.shape, dtype=np.float32)
        parts_BKA = np.stack(
            [
                np.take_along_axis(parts[name], places_BK, axis=1) if name in parts else nothing_BK
                for name in self.names
            ],
            axis=2,
        )
        shares_BKA = parts_BKA / np.maximum(parts_BKA.sum(2, keepdims=True), 1e-12)
        rows = [shares_BKA[row, :count].tolist() for row, count in enumerate(counts_B)]
        return pa.array(rows, schema.SHARE_LISTS)
