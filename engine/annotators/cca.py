"""CCA annotation: walk the nearest training pictures and gather their tags."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.corpus import Corpus
from engine.evidence import evidence_column
from engine.gathering import binary_matrix
from engine.group import Group
from engine.index import EXACT_UP_TO, FaissIndex, IndexEntry
from engine.indexing import Indexed
from engine.numerics.walk import STEPS, Walk
from engine.placement import Placement, SearchRecipe
from engine.recipe import Annotator, Verdict
from engine.vocab import Vocabulary

NEAREST = 100
"""Pictures that an index must recall: a walk seldom goes further for its first tags."""

EVIDENCE = 16
"""Pictures of a walk that are named as the query's neighbours."""


class CcaRecipe(SearchRecipe):
    """Settings of the CCA and KCCA rows of Murthy et al. 2015, section 3.4.1.

    Attributes:
        shortlist: above `EXACT_UP_TO` pictures, or where the index is not flat, only so many
            nearest ones from the FAISS index are walked; tags that none of them carries come last.
    """

    kind: Literal["cca"] = "cca"
    shortlist: PositiveInt = 2000

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Cca":
        space = self.learn_space(corpus, vocabulary, group)
        placement = Placement.of(space, self.match, self.text_share)
        ids = group.gather(np.array(corpus.ids, dtype=np.str_))
        indices = np.concatenate(group.gather(corpus.labels_NV.indices))
        lengths = np.concatenate(group.gather(np.diff(corpus.labels_NV.indptr)))
        return Cca(
            self,
            placement,
            self.build_index(corpus, placement, NEAREST, group),
            binary_matrix(indices, np.concatenate([[0], np.cumsum(lengths)]), len(vocabulary)),
            tuple(str(image_id) for part in ids for image_id in part),
            vocabulary.digest,
            space.notes,
        )


class Cca(Annotator):
    """Scores 1 / (1 + place) of each tag in the order in which the walk gathers them.

    The k best tags are thus what the walk has gathered when it has k.
    """

    kind = "cca"
    gives_evidence = True

    def __init__(
        self,
        recipe: CcaRecipe,
        placement: Placement,
        index: FaissIndex,
        labels_NV: sparse.csr_matrix,
        ids: tuple[str, ...],
        vocabulary_digest: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.recipe = recipe
        self.placement = placement
        self.index = index
        self.labels_NV = labels_NV
        self.ids = ids
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes
        self._ids = pa.array(ids, pa.string())
        self._walk = Walk(labels_NV)
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
    ) -> "Cca":
        """See `engine.recipe.Extensible`. What CCA has learned stays as it is."""
        vectors_ML = self.placement(embeddings_MD, labels_MV)
        return self._of(self._indexed.added(ids, vectors_ML, labels_MV, entry))

    def without(self, rows_M: NDArray[np.int64], entry: IndexEntry) -> "Cca":
        """See `engine.recipe.Extensible`. A tag that nobody carries any more comes last."""
        return self._of(self._indexed.without(rows_M, entry))

    @property
    def _indexed(self) -> Indexed:
        return Indexed(self.index, self.labels_NV, self.ids)

    def _of(self, indexed: Indexed) -> "Cca":
        return Cca(
            self.recipe,
            self.placement,
            indexed.index,
            indexed.labels_NV,
            indexed.ids,
            self.vocabulary_digest,
        )

    def score(self, batch: pa.Table) -> Verdict:
        # In float64: which of two neighbours is nearer must not depend on the batch's size.
        queries_BL = self.placement.query_in_float64(schema.float_tensor(batch, schema.EMBEDDING))
        if self._vectors_NL is not None:
            similarities_BN = queries_BL @ self._vectors_NL.T.astype(np.float64)
            places_BV, keys_BN = self._walk.among_all(similarities_BN)
            nearest = min(EVIDENCE, len(self.ids))
            rows_BE = np.argpartition(-keys_BN, nearest - 1, axis=1)[:, :nearest]
            order_BE = np.argsort(-np.take_along_axis(keys_BN, rows_BE, axis=1), axis=1)
            rows_BE = np.take_along_axis(rows_BE, order_BE, axis=1)
            similarities_BE = np.take_along_axis(similarities_BN, rows_BE, axis=1)
        else:
            similarities_BM, rows_BM = self.index.search(
                queries_BL.astype(np.float32), self.recipe.shortlist
            )
            places_BV = self._walk.among(rows_BM)
            rows_BE = rows_BM[:, :EVIDENCE]
            similarities_BE = similarities_BM[:, :EVIDENCE].astype(np.float64)
        scores_BV = np.float32(1) / (1 + places_BV.astype(np.float32))
        # Pictures that count as equally near must show the same distance, or they look unsorted.
        shown_BE = np.where(rows_BE >= 0, np.rint(similarities_BE * STEPS) / STEPS, -np.inf)
        return Verdict(scores_BV, evidence_column(rows_BE, shown_BE, self._ids, self.labels_NV))

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": self.placement.images.levels,
            "ids": self.ids,
            "tags": self.labels_NV.shape[1],
        }
        (folder / "cca.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        arrays = {
            **self.placement.arrays(),
            "label_indices": self.labels_NV.indices.astype(np.int32),
            "label_indptr": self.labels_NV.indptr.astype(np.int64),
        }
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "cca.safetensors",
        )
        self.index.save(folder / "index.faiss")

    @classmethod
    def load(cls, folder: Path) -> "Cca":
        content = json.loads((folder / "cca.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "cca.safetensors")
        recipe = CcaRecipe.model_validate(content["recipe"])
        levels = tuple(content["levels"])
        return cls(
            recipe,
            Placement.from_arrays(arrays, levels, recipe.match, recipe.text_share),
            FaissIndex.load(folder / "index.faiss"),
            binary_matrix(arrays["label_indices"], arrays["label_indptr"], int(content["tags"])),
            tuple(content["ids"]),
            content["vocabulary"],
        )
