"""What annotators have in common that transfer tags from training pictures in an index."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine.corpus import Corpus
from engine.gathering import binary_matrix
from engine.group import Group
from engine.index import (
    EXACT_UP_TO,
    FaissIndex,
    IndexEntry,
    ShardedIndex,
    Shards,
    load_index,
    load_map,
    save_index,
)
from engine.indexing import Indexed
from engine.placement import Placement, SearchRecipe
from engine.recipe import Annotator
from engine.vocab import Vocabulary

EVIDENCE = 16
"""Training pictures that are named as a picture's neighbours, at most."""

R = TypeVar("R", bound=SearchRecipe)


class Transfer(Annotator, Generic[R]):
    """Training pictures in an index, their tags and ids; a method says how tags are transferred.

    Pictures can be added and removed without fitting (`engine.recipe.Extensible`): what CCA has
    learned stays as it is, and a tag that nobody carries any more is not transferred.

    Attributes:
        labels_NV: float32, the tags of the picture in each row of the index.
        ids_N: their ids, as Arrow's strings.
        looks_at_all: whether a query is held against all the vectors; else the index is searched.
    """

    recipe_type: ClassVar[type[SearchRecipe]]
    gives_evidence = True

    def __init__(
        self,
        recipe: R,
        placement: Placement,
        index: FaissIndex | ShardedIndex,
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
        self.ids_N = pa.array(ids, pa.string())
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes
        self.looks_at_all = index.kind == "flat" and len(ids) <= EXACT_UP_TO

    @classmethod
    def from_corpus(
        cls,
        recipe: R,
        placement: Placement,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        nearest: int,
        notes: tuple[str, ...],
    ) -> Self:
        """Index the training pictures of all ranks.

        Args:
            nearest: of which most must be found, see `SearchRecipe.build_index`.
        """
        ids = group.gather(np.array(corpus.ids, dtype=np.str_))
        indices = np.concatenate(group.gather(corpus.labels_NV.indices))
        lengths = np.concatenate(group.gather(np.diff(corpus.labels_NV.indptr)))
        return cls(
            recipe,
            placement,
            recipe.build_index(corpus, placement, nearest, group),
            binary_matrix(indices, np.concatenate([[0], np.cumsum(lengths)]), len(vocabulary)),
            tuple(str(image_id) for part in ids for image_id in part),
            vocabulary.digest,
            notes,
        )

    @property
    def index_entry(self) -> IndexEntry | None:
        return self.index.entry

    def added(
        self,
        ids: Sequence[str],
        embeddings_MD: NDArray[np.float32],
        labels_MV: sparse.csr_matrix,
        entry: IndexEntry,
    ) -> Self:
        """See `engine.recipe.Extensible`."""
        vectors_ML = self.placement(embeddings_MD, labels_MV)
        return self._of(self._indexed.added(ids, vectors_ML, labels_MV, entry))

    def without(self, rows_M: NDArray[np.int64], entry: IndexEntry) -> Self:
        """See `engine.recipe.Extensible`."""
        return self._of(self._indexed.without(rows_M, entry))

    @property
    def _indexed(self) -> Indexed:
        index = self.index.whole() if isinstance(self.index, ShardedIndex) else self.index
        return Indexed(index, self.labels_NV, self.ids)

    def _of(self, indexed: Indexed) -> Self:
        return type(self)(
            self.recipe,
            self.placement,
            indexed.index,
            indexed.labels_NV,
            indexed.ids,
            self.vocabulary_digest,
        )

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": self.placement.images.levels,
            "ids": self.ids,
            "tags": self.labels_NV.shape[1],
        }
        text = json.dumps(content, ensure_ascii=False)
        (folder / "transfer.json").write_text(text, encoding="utf-8")
        arrays = {
            **self.placement.arrays(),
            "label_indices": self.labels_NV.indices.astype(np.int32),
            "label_indptr": self.labels_NV.indptr.astype(np.int64),
        }
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, folder / "transfer.safetensors")
        save_index(self.index, folder, self.recipe.shard_memory)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls._load(folder, load_index(folder))

    @classmethod
    def load_over(cls, folder: Path, shards: Shards) -> Self:
        """See `engine.recipe.Shardable`."""
        shard_map = load_map(folder)
        assert shard_map is not None, f"{folder} has no shards"
        return cls._load(folder, ShardedIndex(shard_map, shards))

    @classmethod
    def _load(cls, folder: Path, index: FaissIndex | ShardedIndex) -> Self:
        content = json.loads((folder / "transfer.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "transfer.safetensors")
        recipe = cast(R, cls.recipe_type.model_validate(content["recipe"]))
        levels = tuple(content["levels"])
        return cls(
            recipe,
            Placement.from_arrays(arrays, levels, recipe.match, recipe.text_share),
            index,
            binary_matrix(arrays["label_indices"], arrays["label_indptr"], int(content["tags"])),
            tuple(content["ids"]),
            content["vocabulary"],
        )
