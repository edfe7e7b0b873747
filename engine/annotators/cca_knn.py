"""CCA-KNN: tags of the semantic neighbours in the space that CCA makes of pictures and tags."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.cca_space import ImageProjection, Places, SearchRecipe, TagProjection
from engine.corpus import Corpus
from engine.group import Group
from engine.index import EXACT_UP_TO, FaissIndex, IndexEntry
from engine.indexing import Indexed
from engine.numerics.kernels import Chi2Map
from engine.numerics.semantic import Candidates, SemanticNeighbours
from engine.recipe import Annotator, Verdict
from engine.vocab import Vocabulary

LOOKED_FOR = 10
"""Times K, the nearest that an index must recall: a tag on a tenth of them finds its K carriers."""

EVIDENCE = 16
"""Nearest candidates of a picture that are named as its neighbours."""


class CcaKnnRecipe(SearchRecipe):
    """Settings of Murthy et al. 2015, section 3.3, and where this differs from the paper.

    Attributes:
        neighbours: K, the nearest carriers of each tag that are looked at.
        voters: 'own': a tag gets the votes of its own K nearest carriers; 'union': of all the
            candidates that carry it, which is the paper's way and needs a temperature that
            suits the corpus, or frequent tags outvote all others.
        temperature: distances are divided by it before the exponential of Eq. 5 (the paper: 1).
        shortlist: above `EXACT_UP_TO` pictures, or where the index is not flat, semantic
            neighbours are sought among so many nearest ones from the FAISS index.
    """

    kind: Literal["cca-knn"] = "cca-knn"
    neighbours: PositiveInt = 10
    voters: Literal["own", "union"] = "own"
    temperature: PositiveFloat = 0.05
    shortlist: PositiveInt = 1000

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "CcaKnn":
        space = self.learn_space(corpus, vocabulary, group)
        images = space.images
        ids = group.gather(np.array(corpus.ids, dtype=np.str_))
        indices = group.gather(corpus.labels_NV.indices)
        lengths = group.gather(np.diff(corpus.labels_NV.indptr))
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        labels_NV = _binary_matrix(np.concatenate(indices), indptr, len(vocabulary))
        return CcaKnn(
            self,
            corpus.levels,
            images.mean_D,
            images.weights_DL,
            self.build_index(corpus, space, LOOKED_FOR * self.neighbours, group),
            labels_NV,
            tuple(str(image_id) for part in ids for image_id in part),
            vocabulary.digest,
            space.notes,
            images.image_map,
            space.places(self.match).tags,
        )


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
        image_map: Chi2Map | None = None,
        tag_projection: TagProjection | None = None,
    ) -> None:
        """Take over what was fitted; `tag_projection` where `match` is 'text'."""
        self.recipe = recipe
        self.project = ImageProjection(levels, mean_D, weights_DL, image_map)
        self._places = Places(self.project, tag_projection)
        self.index = index
        self.labels_NV = labels_NV
        self.ids = ids
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes
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
        vectors_ML = self._places(embeddings_MD, labels_MV)
        return self._of(self._indexed.added(ids, vectors_ML, labels_MV, entry))

    def without(self, rows_M: NDArray[np.int64], entry: IndexEntry) -> "CcaKnn":
        """See `engine.recipe.Extensible`. A tag that nobody carries any more gets no votes."""
        return self._of(self._indexed.without(rows_M, entry))

    @property
    def _indexed(self) -> Indexed:
        return Indexed(self.index, self.labels_NV, self.ids)

    def _of(self, indexed: Indexed) -> "CcaKnn":
        return CcaKnn(
            self.recipe,
            self.project.levels,
            self.project.mean_D,
            self.project.weights_DL,
            indexed.index,
            indexed.labels_NV,
            indexed.ids,
            self.vocabulary_digest,
            image_map=self.project.image_map,
            tag_projection=self._places.tags,
        )

    def score(self, batch: pa.Table) -> Verdict:
        queries_BL = self.project(schema.float_tensor(batch, schema.EMBEDDING))
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
            "levels": self.project.levels,
            "ids": self.ids,
            "tags": self.labels_NV.shape[1],
        }
        (folder / "cca_knn.json").write_text(
            json.dumps(content, ensure_ascii=False), encoding="utf-8"
        )
        arrays = {
            **self._places.arrays(),
            "label_indices": self.labels_NV.indices.astype(np.int32),
            "label_indptr": self.labels_NV.indptr.astype(np.int64),
        }
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "cca_knn.safetensors",
        )
        self.index.save(folder / "index.faiss")

    @classmethod
    def load(cls, folder: Path) -> "CcaKnn":
        content = json.loads((folder / "cca_knn.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "cca_knn.safetensors")
        places = Places.from_arrays(arrays, tuple(content["levels"]))
        images = places.images
        return cls(
            CcaKnnRecipe.model_validate(content["recipe"]),
            images.levels,
            images.mean_D,
            images.weights_DL,
            FaissIndex.load(folder / "index.faiss"),
            _binary_matrix(arrays["label_indices"], arrays["label_indptr"], int(content["tags"])),
            tuple(content["ids"]),
            content["vocabulary"],
            image_map=images.image_map,
            tag_projection=places.tags,
        )


def _binary_matrix(
    indices: NDArray[np.int32], indptr: NDArray[np.int64], tags: int
) -> sparse.csr_matrix:
    ones = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(len(indptr) - 1, tags))
