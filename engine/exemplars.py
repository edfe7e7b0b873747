"""The training pictures that a neighbour method keeps: compared with, saved, shown as evidence."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.corpus import BLOCK, Corpus
from engine.group import Group
from engine.numerics.distances import (
    Distance,
    comparable_levels,
    level_distances,
    weigh_dimensions,
)

HELD = 1 << 25
"""Distances that are held at a time: 128 MiB of float32."""

SCALED_BY = 4096
"""Pictures among which the largest training distance is looked for; all, in a smaller corpus."""

EVIDENCE = 16
"""Neighbours of a picture that are named, at most."""

Depths = PositiveInt | Literal["all"]
"""How many levels of an embedding are compared: 1 is the network's last layer alone."""


def first_levels(levels: tuple[int, ...], depths: Depths) -> tuple[int, ...]:
    """The widths of the levels that are compared; no more than there are."""
    return levels if depths == "all" else levels[:depths]


@dataclass(frozen=True)
class Exemplars:
    """N training pictures with their tags, and M base distances to them, one a level.

    A base distance is divided by its largest between two training pictures (Makadia et al. 2008),
    so the M are comparable, and lie in [0, 1] but for a query that is further away than that.
    Every query is compared with every exemplar: time and memory grow with N · D.

    Attributes:
        features: M arrays float32 [N, D_m], as `engine.numerics.distances` compares them.
        scales_M: the largest distance of each level; 1 where all the pictures are alike.
        weights: of each level's dimensions, M arrays [D_m]; None: all 1.
    """

    ids: tuple[str, ...]
    labels_NV: sparse.csr_matrix
    levels: tuple[int, ...]
    distance: Distance
    features: tuple[NDArray[np.float32], ...]
    scales_M: NDArray[np.float64]
    weights: tuple[NDArray[np.float64], ...] | None = None

    @classmethod
    def gather(
        cls,
        corpus: Corpus,
        vectors_ND: NDArray[np.float32],
        levels: tuple[int, ...],
        distance: Distance,
        group: Group,
    ) -> "Exemplars":
        """All the group's training pictures; every rank gets the same ones.

        Args:
            vectors_ND: what this rank's pictures are compared by: the embeddings or a projection.
            levels: widths of its levels that are to be compared: all of them, or the first ones.
        """
        # In blocks: the vectors may be a file that is larger than memory is free for.
        blocks = [
            comparable_levels(vectors_ND[start : start + BLOCK, : sum(levels)], levels, distance)
            for start in range(0, len(vectors_ND), BLOCK)
        ]
        own = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        del blocks
        features = tuple(
            np.concatenate([part.astype(np.float32, copy=False) for part in group.gather(level)])
            for level in own
        )
        ids = [str(one) for part in group.gather(np.array(corpus.ids, np.str_)) for one in part]
        indices = np.concatenate(group.gather(corpus.labels_NV.indices))
        lengths = np.concatenate(group.gather(np.diff(corpus.labels_NV.indptr)))
        labels_NV = _binary_matrix(
            indices, np.concatenate([[0], np.cumsum(lengths)]), corpus.labels_NV.shape[1]
        )
        plain = cls(tuple(ids), labels_NV, levels, distance, features, np.ones(len(levels)))
        return plain._scaled()

    @classmethod
    def of_levels(
        cls, corpus: Corpus, depths: Depths, distance: Distance, group: Group
    ) -> "Exemplars":
        """`gather` by the first levels of the embeddings."""
        levels = first_levels(corpus.levels, depths)
        return cls.gather(corpus, corpus.embeddings_ND, levels, distance, group)

    def _scaled(self) -> "Exemplars":
        count = len(self)
        rows_S = np.unique(np.linspace(0, count - 1, min(count, SCALED_BY)).astype(np.int64))
        sampled = tuple(part[rows_S] for part in self.features)
        largest_M = np.zeros(len(self.levels))
        step = self._step(len(rows_S))
        for start in range(0, len(rows_S), step):
            some = tuple(part[start : start + step] for part in sampled)
            found_MBS = level_distances(some, sampled, self.distance)
            largest_M = np.maximum(largest_M, found_MBS.max(axis=(1, 2)))
        return replace(self, scales_M=np.where(largest_M > 0, largest_M, 1.0))

    def __len__(self) -> int:
        return len(self.ids)

    def _step(self, stored: int) -> int:
        return max(1, min(256, HELD // max(stored * len(self.levels), 1)))

    def weighted(self, weights: tuple[NDArray[np.float64], ...]) -> "Exemplars":
        """The same pictures, each dimension's term of the distance multiplied by its weight.

        The scales stay those of the unweighted distances.
        """
        features = weigh_dimensions(self.features, weights, self.distance)
        return replace(self, features=features, weights=weights)

    def to(self, vectors_BD: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Scaled base distances of queries to all exemplars, some queries at a time.

        Levels behind those that are compared are left out of account. Yields float32 [M, b, N];
        the b add up to B, and nothing comes of an empty batch.
        """
        vectors_BD = vectors_BD[:, : sum(self.levels)]
        queries = comparable_levels(vectors_BD, self.levels, self.distance)
        if self.weights is not None:
            queries = weigh_dimensions(queries, self.weights, self.distance)
        step = self._step(len(self))
        for start in range(0, len(vectors_BD), step):
            some = tuple(part[start : start + step] for part in queries)
            yield self._distances(some)

    def among(self, rows_R: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scaled base distances [M, R, N] of exemplars to all of them: infinite to themselves."""
        distances_MRN = self._distances(tuple(part[rows_R] for part in self.features))
        distances_MRN[:, np.arange(len(rows_R)), rows_R] = np.inf
        return distances_MRN

    def leave_one_out(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """All the exemplars, some at a time: rows [R], and what `among` says of them."""
        step = self._step(len(self))
        for start in range(0, len(self), step):
            rows_R = np.arange(start, min(start + step, len(self)))
            yield rows_R, self.among(rows_R)

    def _distances(self, queries: tuple[NDArray[np.float32], ...]) -> NDArray[np.float32]:
        found_MBN = level_distances(queries, self.features, self.distance)
        found_MBN /= self.scales_M[:, None, None].astype(np.float32)
        return found_MBN

    def evidence(
        self, rows_BK: NDArray[np.int64], distances_BK: NDArray[np.floating]
    ) -> list[list[dict[str, object]]]:
        """`schema.EVIDENCE_LIST` values of neighbours, nearest first.

        Args:
            distances_BK: ascending; infinite where there is no neighbour; cut off at 2.
        """
        labels = self.labels_NV
        return [
            [
                {
                    "image_id": self.ids[row],
                    "distance": min(float(distance), 2.0),
                    "tags": labels.indices[labels.indptr[row] : labels.indptr[row + 1]],
                }
                for row, distance in zip(rows_K[:EVIDENCE], distances_K[:EVIDENCE], strict=True)
                if np.isfinite(distance)
            ]
            for rows_K, distances_K in zip(rows_BK, distances_BK, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write `exemplars.json` and `exemplars.safetensors`."""
        content = {
            "ids": self.ids,
            "levels": self.levels,
            "distance": self.distance,
            "tags": self.labels_NV.shape[1],
        }
        (folder / "exemplars.json").write_text(
            json.dumps(content, ensure_ascii=False), encoding="utf-8"
        )
        arrays: dict[str, NDArray[np.generic]] = {
            "label_indices": self.labels_NV.indices.astype(np.int32),
            "label_indptr": self.labels_NV.indptr.astype(np.int64),
            "scales": self.scales_M,
        }
        for level, part in enumerate(self.features):
            arrays[f"features/{level}"] = part
        for level, weight in enumerate(self.weights or ()):
            arrays[f"weights/{level}"] = weight
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "exemplars.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> "Exemplars":
        """Read what `save` wrote."""
        content = json.loads((folder / "exemplars.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "exemplars.safetensors")
        levels = tuple(content["levels"])
        weights = tuple(arrays.get(f"weights/{level}") for level in range(len(levels)))
        return cls(
            tuple(content["ids"]),
            _binary_matrix(arrays["label_indices"], arrays["label_indptr"], int(content["tags"])),
            levels,
            content["distance"],
            tuple(arrays[f"features/{level}"] for level in range(len(levels))),
            arrays["scales"],
            cast(tuple[NDArray[np.float64], ...], weights) if weights[0] is not None else None,
        )


def evidence_column(rows: list[list[dict[str, object]]]) -> pa.Array:
    """Pack the values of `Exemplars.evidence` into a column."""
    return pa.array(rows, schema.EVIDENCE_LIST)


def _binary_matrix(
    indices: NDArray[np.integer], indptr: NDArray[np.integer], tags: int
) -> sparse.csr_matrix:
    ones = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(len(indptr) - 1, tags))
