"""CCA-KNN: tags of the semantic neighbours in the space that CCA makes of pictures and tags."""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.index import EXACT_UP_TO, FaissIndex
from engine.numerics.cca import solve_cca
from engine.numerics.levels import normalised_levels
from engine.numerics.moments import stream_moments
from engine.numerics.semantic import Candidates, SemanticNeighbours
from engine.numerics.vote_scale import fitted_temperature
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary
from engine.words import word_vector_source

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
        temperature: distances are divided by it before the exponential of Eq. 5 (the paper: 1);
            'fitted': by what explains the tags of the training pictures best.
        match: 'image' compares T with the projected training images U, 'text' with their
            projected tags V, which is the paper's way; 'both' with both.
        text_share: what V counts in 'both': the similarity is (1 - share) · that of U + share ·
            that of V.
        shortlist: above `EXACT_UP_TO` pictures, semantic neighbours are sought among so many
            nearest ones from the FAISS index.
    """

    kind: Literal["cca-knn"] = "cca-knn"
    tag_vectors: str = "minilm"
    regulariser: NonNegativeFloat = 0.1
    dimensions: PositiveInt | None = None
    neighbours: PositiveInt = 10
    voters: Literal["own", "union"] = "own"
    temperature: PositiveFloat | Literal["fitted"] = 0.05
    match: Literal["image", "text", "both"] = "image"
    text_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    shortlist: PositiveInt = Field(default=2000)

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
        parts = []
        for x_BD, labels_BV in corpus.blocks():
            sides = []
            if self.match != "text":
                sides.append((normalised_levels(x_BD, corpus.levels) - mean_D) @ weights_DL)
            if self.match != "image":
                text_BE = _mean_vectors(labels_BV, text_VE)
                sides.append((text_BE - cca.mean_y_E) @ cca.weights_y_EL)
            parts.append(
                self.beside([correlation_normalised(one.astype(np.float32)) for one in sides])
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
        vectors = group.gather(np.concatenate(parts))
        indices = group.gather(corpus.labels_NV.indices)
        lengths = group.gather(np.diff(corpus.labels_NV.indptr))
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        labels_NV = _binary_matrix(np.concatenate(indices), indptr, len(vocabulary))
        vectors_NL = np.concatenate(vectors).astype(np.float32)
        recipe = self
        if self.temperature == "fitted":
            pooled = self.voters == "union"
            temperature = fitted_temperature(vectors_NL, labels_NV, self.neighbours, pooled)
            recipe = self.model_copy(update={"temperature": temperature})
        return CcaKnn(
            recipe,
            corpus.levels,
            mean_D,
            weights_DL,
            FaissIndex.build(vectors_NL),
            labels_NV,
            tuple(str(image_id) for part in ids for image_id in part),
            vocabulary.digest,
            notes,
        )

    def beside(self, sides: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """One vector from those of the sides that are matched: inner products blend."""
        if len(sides) == 1:
            return sides[0]
        shares = np.sqrt(np.array([1 - self.text_share, self.text_share], dtype=np.float32))
        return np.hstack([share * side for share, side in zip(shares, sides, strict=True)])


def correlation_normalised(x_NL: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre each row and scale it to unit length: inner products are then correlations."""
    centred_NL = x_NL - x_NL.mean(axis=1, keepdims=True)
    lengths_N1 = np.maximum(np.linalg.norm(centred_NL, axis=1, keepdims=True), 1e-12)
    normalised: NDArray[np.float32] = np.divide(centred_NL, lengths_N1, dtype=np.float32)
    return normalised


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
    ) -> None:
        assert recipe.temperature != "fitted"
        self.recipe = recipe
        self._temperature = recipe.temperature
        self.levels = levels
        self.mean_D = mean_D
        self.weights_DL = weights_DL
        self.index = index
        self.labels_NV = labels_NV
        self.ids = ids
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes
        self._semantic = SemanticNeighbours(labels_NV, recipe.neighbours)
        self._vectors_NL = index.vectors() if len(ids) <= EXACT_UP_TO else None

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        centred_BD = normalised_levels(embeddings_BD, self.levels) - self.mean_D
        query_BL = correlation_normalised(np.matmul(centred_BD, self.weights_DL))
        # In 'both' the same T is held against U and against V.
        both = self.recipe.match == "both"
        queries_BL = self.recipe.beside([query_BL, query_BL] if both else [query_BL])
        if self._vectors_NL is not None:
            candidates = self._semantic.among_all(queries_BL @ self._vectors_NL.T)
        else:
            candidates = self._semantic.among(*self.index.search(queries_BL, self.recipe.shortlist))
        votes_BV = self._semantic.votes(
            candidates, self._temperature, pooled=self.recipe.voters == "union"
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
        )


def _binary_matrix(
    indices: NDArray[np.int32], indptr: NDArray[np.int64], tags: int
) -> sparse.csr_matrix:
    ones = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(len(indptr) - 1, tags))
