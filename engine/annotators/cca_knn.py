"""CCA-KNN: tags of the semantic neighbours in the space that CCA makes of pictures and tags."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.cca_space import ImageProjection, SpaceRecipe
from engine.corpus import Corpus
from engine.group import Group
from engine.index import EXACT_UP_TO, FaissIndex
from engine.numerics.kernels import Chi2Map
from engine.numerics.semantic import Candidates, SemanticNeighbours
from engine.recipe import Annotator, Verdict
from engine.vocab import Vocabulary

EVIDENCE = 16
"""Nearest candidates of a picture that are named as its neighbours."""


class CcaKnnRecipe(SpaceRecipe):
    """Settings of Murthy et al. 2015, section 3.3, and where this differs from the paper.

    Attributes:
        neighbours: K, the nearest carriers of each tag that are looked at.
        voters: 'own': a tag gets the votes of its own K nearest carriers; 'union': of all the
            candidates that carry it, which is the paper's way and needs a temperature that
            suits the corpus, or frequent tags outvote all others.
        temperature: distances are divided by it before the exponential of Eq. 5 (the paper: 1).
        match: 'image' compares T with the projected training images U, 'text' with their
            projected tags V, which is the paper's way.
        shortlist: above `EXACT_UP_TO` pictures, semantic neighbours are sought among so many
            nearest ones from the FAISS index.
    """

    kind: Literal["cca-knn"] = "cca-knn"
    neighbours: PositiveInt = 10
    voters: Literal["own", "union"] = "own"
    temperature: PositiveFloat = 0.05
    match: Literal["image", "text"] = "image"
    shortlist: PositiveInt = Field(default=2000)

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "CcaKnn":
        space = self.learn_space(corpus, vocabulary, group)
        images = space.images
        ids = group.gather(np.array(corpus.ids, dtype=np.str_))
        vectors = group.gather(space.corpus(corpus, self.match))
        indices = group.gather(corpus.labels_NV.indices)
        lengths = group.gather(np.diff(corpus.labels_NV.indptr))
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        labels_NV = _binary_matrix(np.concatenate(indices), indptr, len(vocabulary))
        return CcaKnn(
            self,
            corpus.levels,
            images.mean_D,
            images.weights_DL,
            FaissIndex.build(np.concatenate(vectors).astype(np.float32)),
            labels_NV,
            tuple(str(image_id) for part in ids for image_id in part),
            vocabulary.digest,
            space.notes,
            images.image_map,
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
    ) -> None:
        self.recipe = recipe
        self.project = ImageProjection(levels, mean_D, weights_DL, image_map)
        self.index = index
        self.labels_NV = labels_NV
        self.ids = ids
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes
        self._semantic = SemanticNeighbours(labels_NV, recipe.neighbours)
        self._vectors_NL = index.vectors() if len(ids) <= EXACT_UP_TO else None

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
        labels = self.labels_NV
        return pa.array(
            [
                [
                    {
                        "image_id": self.ids[row],
                        "distance": min(max(1 - similarity, 0.0), 2.0),
                        "tags": labels.indices[labels.indptr[row] : labels.indptr[row + 1]],
                    }
                    for row, similarity in zip(rows_E, similarities_E, strict=True)
                    if np.isfinite(similarity)
                ]
                for rows_E, similarities_E in zip(rows_BE, similarities_BE, strict=True)
            ],
            schema.EVIDENCE_LIST,
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
            **self.project.arrays(),
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
            image_map=Chi2Map.from_arrays(arrays, "kernel"),
        )


def _binary_matrix(
    indices: NDArray[np.int32], indptr: NDArray[np.int64], tags: int
) -> sparse.csr_matrix:
    ones = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(len(indptr) - 1, tags))
