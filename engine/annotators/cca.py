"""CCA annotation: walk the nearest training pictures and gather their tags."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.cca_space import ImageProjection, SpaceRecipe
from engine.corpus import Corpus
from engine.evidence import evidence_column
from engine.gathering import binary_matrix
from engine.group import Group
from engine.index import EXACT_UP_TO, FaissIndex
from engine.numerics.walk import STEPS, Walk
from engine.placement import Placement
from engine.recipe import Annotator, Verdict
from engine.vocab import Vocabulary

EVIDENCE = 16
"""Pictures of a walk that are named as the query's neighbours."""


class CcaRecipe(SpaceRecipe):
    """Settings of the CCA and KCCA rows of Murthy et al. 2015, section 3.4.1.

    Attributes:
        match: 'image' walks the training pictures by their visual projections U, 'text' by their
            projected tags V, which is the paper's way.
        shortlist: above `EXACT_UP_TO` pictures only so many nearest ones from the FAISS index are
            walked; tags that none of them carries come last.
    """

    kind: Literal["cca"] = "cca"
    match: Literal["image", "text"] = "image"
    shortlist: PositiveInt = 2000

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Cca":
        space = self.learn_space(corpus, vocabulary, group)
        ids = group.gather(np.array(corpus.ids, dtype=np.str_))
        vectors = group.gather(Placement.of(space, self.match).corpus(corpus))
        indices = np.concatenate(group.gather(corpus.labels_NV.indices))
        lengths = np.concatenate(group.gather(np.diff(corpus.labels_NV.indptr)))
        return Cca(
            self,
            space.images,
            FaissIndex.build(np.concatenate(vectors).astype(np.float32)),
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
        project: ImageProjection,
        index: FaissIndex,
        labels_NV: sparse.csr_matrix,
        ids: tuple[str, ...],
        vocabulary_digest: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.recipe = recipe
        self.project = project
        self.index = index
        self.labels_NV = labels_NV
        self.ids = ids
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes
        self._ids = pa.array(ids, pa.string())
        self._walk = Walk(labels_NV)
        self._vectors_NL = index.vectors() if len(ids) <= EXACT_UP_TO else None

    def score(self, batch: pa.Table) -> Verdict:
        # In float64: which of two neighbours is nearer must not depend on the batch's size.
        queries_BL = self.project.in_float64(schema.float_tensor(batch, schema.EMBEDDING))
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
            "levels": self.project.levels,
            "ids": self.ids,
            "tags": self.labels_NV.shape[1],
        }
        (folder / "cca.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        arrays = {
            **self.project.arrays(),
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
        return cls(
            CcaRecipe.model_validate(content["recipe"]),
            ImageProjection.from_arrays(arrays, tuple(content["levels"])),
            FaissIndex.load(folder / "index.faiss"),
            binary_matrix(arrays["label_indices"], arrays["label_indptr"], int(content["tags"])),
            tuple(content["ids"]),
            content["vocabulary"],
        )
