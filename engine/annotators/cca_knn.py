"""CCA-KNN: tags of the semantic neighbours in the space that CCA makes of pictures and tags."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BeforeValidator, NonNegativeFloat, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.index import (
    EXACT_UP_TO,
    FaissIndex,
    IndexEntry,
    IndexWish,
    Kind,
    entry_after_change,
    memory_size,
)
from engine.indexing import ProjectedCorpus, index_corpus
from engine.numerics.cca import solve_cca
from engine.numerics.levels import normalised_levels
from engine.numerics.moments import stream_moments
from engine.numerics.semantic import Candidates, SemanticNeighbours
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary
from engine.words import word_vector_source

LOOKED_FOR = 10
"""Times K, the nearest that an index must recall: a tag on a tenth of them finds its K carriers."""

EVIDENCE = 16
"""Nearest candidates of a picture that are named as its neighbours."""


class CcaKnnRecipe(Recipe):
    """Settings of Murthy et al. 2015, section 3.3, and where this differs from the paper.

    Attributes:
        tag_vectors: the text view, see `engine.words`.
        regulariser: of both covariances, relative to their mean eigenvalue.
        dimensions: canonical directions kept; None keeps all.
        neighbours: K, the nearest carriers of each tag that are looked at.
        voters: 'own': a tag gets the votes of its own K nearest carriers; 'union': of all the
            candidates that carry it, which is the paper's way and needs a temperature that
            suits the corpus, or frequent tags outvote all others.
        temperature: distances are divided by it before the exponential of Eq. 5 (the paper: 1).
        match: 'image' compares T with the projected training images U, 'text' with their
            projected tags V, which is the paper's way.
        shortlist: above `EXACT_UP_TO` pictures, or where the index is not flat, semantic
            neighbours are sought among so many nearest ones from the FAISS index.
        index: which kind of index; 'auto' chooses by number of pictures, width and memory, see
            `engine.index.choose_plan`.
        max_index_memory: bytes, or a size such as '512MB', that the index never exceeds, neither
            when it is searched nor while it is built; None: no limit.
    """

    kind: Literal["cca-knn"] = "cca-knn"
    tag_vectors: str = "minilm"
    regulariser: NonNegativeFloat = 0.1
    dimensions: PositiveInt | None = None
    neighbours: PositiveInt = 10
    voters: Literal["own", "union"] = "own"
    temperature: PositiveFloat = 0.05
    match: Literal["image", "text"] = "image"
    shortlist: PositiveInt = 1000
    index: Literal["auto"] | Kind = "auto"
    max_index_memory: Annotated[PositiveInt | None, BeforeValidator(memory_size)] = None

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "CcaKnn":
        words = word_vector_source(self.tag_vectors).embed(vocabulary.tags)
        text_VE = words.vectors_VE
        moments = stream_moments(
            (normalised_levels(x_BD, corpus.levels), _mean_vectors(labels_BV, text_VE))
            for x_BD, labels_BV in corpus.blocks()
        ).over(group)
        cca = solve_cca(moments, self.regulariser, self.dimensions)
        weights_DL = cca.weights_x_DL.astype(np.float32)
        mean_D = cca.mean_x_D.astype(np.float32)
        text_side = None
        if self.match == "text":
            text_side = _TextSide(text_VE, cca.mean_y_E, cca.weights_y_EL)
        project = text_side or _ImageSide(corpus.levels, mean_D, weights_DL)
        index = index_corpus(
            ProjectedCorpus(corpus, project, weights_DL.shape[1]),
            IndexWish(self.index, self.max_index_memory, nearest=LOOKED_FOR * self.neighbours),
            group,
        )
        notes: tuple[str, ...] = ()
        if words.unknown_words:
            shown = ", ".join(words.unknown_words[:10])
            notes = (
                f"{len(words.unknown_words)} words of tags have no vector in "
                f"'{self.tag_vectors}' ({shown}{', …' if len(words.unknown_words) > 10 else ''}); "
                "tags made of them alone share one neutral vector",
            )
        ids = group.gather(np.array(corpus.ids, dtype=np.str_))
        indices = group.gather(corpus.labels_NV.indices)
        lengths = group.gather(np.diff(corpus.labels_NV.indptr))
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        labels_NV = _binary_matrix(np.concatenate(indices), indptr, len(vocabulary))
        return CcaKnn(
            self,
            corpus.levels,
            mean_D,
            weights_DL,
            index,
            labels_NV,
            tuple(str(image_id) for part in ids for image_id in part),
            vocabulary.digest,
            notes,
            text_side,
        )


def correlation_normalised(x_NL: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre each row and scale it to unit length: inner products are then correlations."""
    centred_NL = x_NL - x_NL.mean(axis=1, keepdims=True)
    lengths_N1 = np.maximum(np.linalg.norm(centred_NL, axis=1, keepdims=True), 1e-12)
    normalised: NDArray[np.float32] = np.divide(centred_NL, lengths_N1, dtype=np.float32)
    return normalised


@dataclass(frozen=True)
class _ImageSide:
    """A picture's place in the common space by what it looks like."""

    levels: tuple[int, ...]
    mean_D: NDArray[np.float32]
    weights_DL: NDArray[np.float32]

    def __call__(
        self, embeddings_BD: NDArray[np.float32], labels_BV: sparse.csr_matrix | None = None
    ) -> NDArray[np.float32]:
        centred_BD = normalised_levels(embeddings_BD, self.levels) - self.mean_D
        return correlation_normalised(np.matmul(centred_BD, self.weights_DL))


@dataclass(frozen=True)
class _TextSide:
    """A picture's place in the common space by its tags."""

    text_VE: NDArray[np.float32]
    mean_E: NDArray[np.float64]
    weights_EL: NDArray[np.float64]

    def __call__(
        self, embeddings_BD: NDArray[np.float32], labels_BV: sparse.csr_matrix
    ) -> NDArray[np.float32]:
        projected_BL = (_mean_vectors(labels_BV, self.text_VE) - self.mean_E) @ self.weights_EL
        return correlation_normalised(projected_BL.astype(np.float32))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """As `of` takes them back."""
        return {
            "text_vectors": self.text_VE,
            "text_mean": self.mean_E,
            "text_weights": self.weights_EL,
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "_TextSide":
        return cls(
            arrays["text_vectors"].astype(np.float32, copy=False),
            arrays["text_mean"].astype(np.float64, copy=False),
            arrays["text_weights"].astype(np.float64, copy=False),
        )


def _mean_vectors(
    labels_BV: sparse.csr_matrix, text_VE: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean word vector of each picture's tags (Murthy et al. 2015, section 3.2)."""
    counts_B1 = np.maximum(np.asarray(labels_BV.sum(axis=1)), 1)
    means: NDArray[np.float32] = np.divide(labels_BV @ text_VE, counts_B1, dtype=np.float32)
    return means


class CcaKnn(Annotator):
    """Murthy et al. 2015, Eq. 4 and 5, on the K nearest carriers of each tag."""

    kind = "cca-knn"
    gives_evidence = True

    def __init__(
        self,
        recipe: CcaKnnRecipe,
        levels: tuple[int, ...],
        mean_D: NDArray[np.float32],
        weights_DL: NDArray[np.float32],
        index: FaissIndex,
        labels_NV: sparse.csr_matrix,
        ids: tuple[str, ...],
        vocabulary_digest: str,
        notes: tuple[str, ...] = (),
        text_side: _TextSide | None = None,
    ) -> None:
        """Take over what was fitted; `text_side` places pictures where `match` is 'text'."""
        self.recipe = recipe
        self.levels = levels
        self.mean_D = mean_D
        self.weights_DL = weights_DL
        self.index = index
        self.labels_NV = labels_NV
        self.ids = ids
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes
        self.text_side = text_side
        self._project = _ImageSide(levels, mean_D, weights_DL)
        self._semantic = SemanticNeighbours(labels_NV, recipe.neighbours)
        looks_at_all = index.kind == "flat" and len(ids) <= EXACT_UP_TO
        self._vectors_NL = index.vectors() if looks_at_all else None
        self._ids = pa.array(ids, pa.string())

    @property
    def index_entry(self) -> IndexEntry | None:
        return self.index.entry

    def added(
        self,
        ids: Sequence[str],
        embeddings_MD: NDArray[np.float32],
        labels_MV: sparse.csr_matrix,
        entry: IndexEntry,
    ) -> "CcaKnn":
        """See `engine.recipe.Extensible`. What CCA has learned stays as it is."""
        self.index.check_room(len(ids), entry.max_bytes)
        vectors_ML = (self.text_side or self._project)(embeddings_MD, labels_MV)
        labels_NV = sparse.vstack([self.labels_NV, labels_MV], format="csr")
        return self._with(self.index.added(vectors_ML), labels_NV, (*self.ids, *ids), entry)

    def without(self, rows_M: NDArray[np.int64], entry: IndexEntry) -> "CcaKnn":
        """See `engine.recipe.Extensible`. A tag that nobody carries any more gets no votes."""
        kept = np.setdiff1d(np.arange(len(self.ids)), rows_M)
        ids = tuple(self.ids[row] for row in kept)
        return self._with(self.index.without(rows_M), self.labels_NV[kept], ids, entry)

    def _with(
        self,
        index: FaissIndex,
        labels_NV: sparse.csr_matrix,
        ids: tuple[str, ...],
        entry: IndexEntry,
    ) -> "CcaKnn":
        index.entry = entry_after_change(index, entry)
        return CcaKnn(
            self.recipe,
            self.levels,
            self.mean_D,
            self.weights_DL,
            index,
            _binary_matrix(labels_NV.indices, labels_NV.indptr, labels_NV.shape[1]),
            ids,
            self.vocabulary_digest,
            text_side=self.text_side,
        )

    def score(self, batch: pa.Table) -> Verdict:
        queries_BL = self._project(schema.float_tensor(batch, schema.EMBEDDING))
        if self._vectors_NL is not None:
            candidates = self._semantic.among_all(queries_BL @ self._vectors_NL.T)
        else:
            candidates = self._semantic.among(*self.index.search(queries_BL, self.recipe.shortlist))
        votes_BV = self._semantic.votes(
            candidates, self.recipe.temperature, pooled=self.recipe.voters == "union"
        )
        # Votes are read as odds: a monotone way into [0, 1] that calibration can undo.
        return Verdict(votes_BV / (1 + votes_BV), self._evidence(candidates))

    def _evidence(self, candidates: Candidates) -> pa.Array:
        rows_BE, similarities_BE = candidates.nearest(EVIDENCE)
        named_BE = np.isfinite(similarities_BE)
        rows_R = rows_BE[named_BE]
        labels_RV = self.labels_NV[rows_R]
        tags = pa.ListArray.from_arrays(
            pa.array(labels_RV.indptr, pa.int32()), pa.array(labels_RV.indices, pa.int32())
        )
        distances_R = np.clip(1 - similarities_BE[named_BE], 0, 2).astype(np.float32)
        item = schema.EVIDENCE_LIST.value_type
        columns = [self._ids.take(pa.array(rows_R)), pa.array(distances_R), tags]
        neighbours = pa.StructArray.from_arrays(columns, fields=list(item))
        begins = np.concatenate([[0], np.cumsum(named_BE.sum(axis=1))])
        return pa.ListArray.from_arrays(
            pa.array(begins, pa.int32()), neighbours, type=schema.EVIDENCE_LIST
        )

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": self.levels,
            "ids": self.ids,
            "tags": self.labels_NV.shape[1],
        }
        (folder / "cca_knn.json").write_text(
            json.dumps(content, ensure_ascii=False), encoding="utf-8"
        )
        arrays = {
            "mean": self.mean_D,
            "weights": self.weights_DL,
            "label_indices": self.labels_NV.indices.astype(np.int32),
            "label_indptr": self.labels_NV.indptr.astype(np.int64),
        }
        if self.text_side is not None:
            arrays |= self.text_side.arrays()
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "cca_knn.safetensors",
        )
        self.index.save(folder / "index.faiss")

    @classmethod
    def load(cls, folder: Path) -> "CcaKnn":
        content = json.loads((folder / "cca_knn.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "cca_knn.safetensors")
        recipe = CcaKnnRecipe.model_validate(content["recipe"])
        return cls(
            recipe,
            tuple(content["levels"]),
            arrays["mean"],
            arrays["weights"],
            FaissIndex.load(folder / "index.faiss"),
            _binary_matrix(arrays["label_indices"], arrays["label_indptr"], int(content["tags"])),
            tuple(content["ids"]),
            content["vocabulary"],
            text_side=_TextSide.of(arrays) if recipe.match == "text" else None,
        )


def _binary_matrix(
    indices: NDArray[np.int32], indptr: NDArray[np.int64], tags: int
) -> sparse.csr_matrix:
    ones = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(len(indptr) - 1, tags))
