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
from engine.corpus import Corpus
from engine.evidence import evidence_column
from engine.gathering import binary_matrix, gathered
from engine.group import Group
from engine.index import EXACT_UP_TO, FaissIndex, IndexEntry
from engine.indexing import Indexed, ProjectedCorpus
from engine.numerics.semantic import SemanticNeighbours
from engine.numerics.vote_scale import CARRIERS, fitted_temperature
from engine.placement import Placement, SearchRecipe
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
        temperature: distances are divided by it before the exponential of Eq. 5 (the paper: 1);
            'fitted': by what explains the tags of the training pictures best.
        shortlist: above `EXACT_UP_TO` pictures, or where the index is not flat, semantic
            neighbours are sought among so many nearest ones from the FAISS index.
    """

    kind: Literal["cca-knn"] = "cca-knn"
    neighbours: PositiveInt = 10
    voters: Literal["own", "union"] = "own"
    temperature: PositiveFloat | Literal["fitted"] = 0.05
    shortlist: PositiveInt = 1000

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "CcaKnn":
        space = self.learn_space(corpus, vocabulary, group)
        placement = Placement.of(space, self.match, self.text_share)
        ids = group.gather(np.array(corpus.ids, dtype=np.str_))
        indices = group.gather(corpus.labels_NV.indices)
        lengths = group.gather(np.diff(corpus.labels_NV.indptr))
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        labels_NV = binary_matrix(np.concatenate(indices), indptr, len(vocabulary))
        return CcaKnn(
            self.with_temperature(corpus, placement, group),
            placement,
            self.build_index(corpus, placement, LOOKED_FOR * self.neighbours, group),
            labels_NV,
            tuple(str(image_id) for part in ids for image_id in part),
            vocabulary.digest,
            space.notes,
        )

    def with_temperature(
        self, corpus: Corpus, placement: Placement, group: Group
    ) -> "CcaKnnRecipe":
        """The recipe with a number where it says 'fitted': learned from some of the pictures."""
        if self.temperature != "fitted":
            return self
        rows_M = np.sort(np.random.default_rng(0).permutation(len(corpus))[:CARRIERS])
        vectors = group.gather(ProjectedCorpus(corpus, placement, placement.width).take(rows_M))
        chosen = gathered(corpus.subset(rows_M), group)
        found = fitted_temperature(
            np.concatenate(vectors).astype(np.float32),
            chosen.labels_NV,
            self.neighbours,
            pooled=self.voters == "union",
        )
        return self.model_copy(update={"temperature": found})


class CcaKnn(Annotator):
    """Murthy et al. 2015, Eq. 4 and 5, on the K nearest carriers of each tag."""

    kind = "cca-knn"
    gives_evidence = True

    def __init__(
        self,
        recipe: CcaKnnRecipe,
        placement: Placement,
        index: FaissIndex,
        labels_NV: sparse.csr_matrix,
        ids: tuple[str, ...],
        vocabulary_digest: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        assert recipe.temperature != "fitted"
        self.recipe = recipe
        self._temperature = recipe.temperature
        self.placement = placement
        self.index = index
        self.labels_NV = labels_NV
        self.ids = ids
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes
        self._ids = pa.array(ids, pa.string())
        self._semantic = SemanticNeighbours(labels_NV, recipe.neighbours)
        looks_at_all = index.kind == "flat" and len(ids) <= EXACT_UP_TO
        self._vectors_NL = index.vectors() if looks_at_all else None

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
        vectors_ML = self.placement(embeddings_MD, labels_MV)
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
            self.placement,
            indexed.index,
            indexed.labels_NV,
            indexed.ids,
            self.vocabulary_digest,
        )

    def score(self, batch: pa.Table) -> Verdict:
        queries_BL = self.placement.query(schema.float_tensor(batch, schema.EMBEDDING))
        if self._vectors_NL is not None:
            candidates = self._semantic.among_all(queries_BL @ self._vectors_NL.T)
        else:
            candidates = self._semantic.among(*self.index.search(queries_BL, self.recipe.shortlist))
        votes_BV = self._semantic.votes(
            candidates, self._temperature, pooled=self.recipe.voters == "union"
        )
        # Votes are read as odds: a monotone way into [0, 1] that calibration can undo.
        evidence = evidence_column(*candidates.nearest(EVIDENCE), self._ids, self.labels_NV)
        return Verdict(votes_BV / (1 + votes_BV), evidence)

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": self.placement.images.levels,
            "ids": self.ids,
            "tags": self.labels_NV.shape[1],
        }
        (folder / "cca_knn.json").write_text(
            json.dumps(content, ensure_ascii=False), encoding="utf-8"
        )
        arrays = {
            **self.placement.arrays(),
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
            Placement.from_arrays(
                arrays, tuple(content["levels"]), recipe.match, recipe.text_share
            ),
            FaissIndex.load(folder / "index.faiss"),
            binary_matrix(arrays["label_indices"], arrays["label_indptr"], int(content["tags"])),
            tuple(content["ids"]),
            content["vocabulary"],
        )
