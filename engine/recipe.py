"""Recipe and annotator: the one contract that every method keeps, held by the contract tests."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.index import IndexEntry, Shards
from engine.settings import Settings
from engine.vocab import Vocabulary

if TYPE_CHECKING:
    from engine.training.checkpoints import Checkpoints


@dataclass(frozen=True)
class Verdict:
    """What an annotator says of a batch.

    Attributes:
        scores_BV: float32 [B, V] in [0, 1], higher is likelier. A row of NaN: the annotator lacks
            what it needs for that picture and abstains.
        evidence: `schema.EVIDENCE_LIST` a row, nearest first; None for a method without
            neighbours.
        quantity_B: float32 [B], how many tags the annotator itself thinks that each picture has,
            not rounded; None: it does not say.
    """

    scores_BV: NDArray[np.float32]
    evidence: pa.Array | None = None
    quantity_B: NDArray[np.float32] | None = None


class Annotator(ABC):
    """A fitted, immutable method. There is no unfitted annotator, so no 'not fitted' error."""

    kind: ClassVar[str]
    reads: tuple[str, ...] = (schema.EMBEDDING,)
    gives_evidence: ClassVar[bool] = False
    may_abstain: ClassVar[bool] = False
    vocabulary_digest: str
    notes: tuple[str, ...] = ()
    """What the user should know of the fit; empty once loaded."""

    @property
    def index_entry(self) -> IndexEntry | None:
        """What the manifest says of the index it searches; None without one, and once loaded."""
        return None

    @abstractmethod
    def score(self, batch: pa.Table) -> Verdict:
        """Score a batch of healthy rows that holds the columns `reads`; B = 0 is allowed."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything into an existing, empty folder: JSON, safetensors, FAISS files."""

    @classmethod
    def reads_of(cls, folder: Path) -> tuple[str, ...]:
        """What the annotator that was saved into `folder` reads, without loading it."""
        return cls.reads

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> "Annotator":
        """Read what `save` wrote; the loaded annotator scores to the bit as the saved one."""


@runtime_checkable
class Extensible(Protocol):
    """An annotator that pictures can be added to and removed from without being fitted anew.

    It stays as it is: what comes back is another, whose `index_entry` says what became of the
    index; it scores as if its index had been built with the pictures that are in it now.
    """

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the pictures that it transfers tags from, by row."""
        ...

    def added(
        self,
        ids: Sequence[str],
        embeddings_MD: NDArray[np.float32],
        labels_MV: sparse.csr_matrix,
        entry: IndexEntry,
    ) -> Annotator:
        """The annotator with M more pictures, each with a tag, behind those it has.

        Args:
            entry: what the manifest says of the index as it is.

        Raises:
            ConfigError: the index would outgrow its memory budget.
        """
        ...

    def without(self, rows_M: NDArray[np.int64], entry: IndexEntry) -> Annotator:
        """The annotator without the pictures in some rows; at least one stays."""
        ...


@runtime_checkable
class Shardable(Protocol):
    """An annotator whose index may be in shards that others hold."""

    @classmethod
    def load_over(cls, folder: Path, shards: Shards) -> Annotator:
        """Read what `save` wrote but for the index, and ask `shards` in its place.

        It scores to the bit as what `load` gives.
        """
        ...


class Recipe(Settings, ABC):
    """A frozen configuration of a method, and the way to fit it."""

    kind: str

    @property
    def by_gradient(self) -> bool:
        """Whether `fit` is long and in epochs, and better run by the workers of a cluster."""
        return False

    @property
    def wants_pixels(self) -> bool:
        """Whether `fit` needs `corpus.pixels`."""
        return False

    @property
    def columns(self) -> tuple[str, ...]:
        """What `fit` needs in `corpus.columns`, by the column of a batch."""
        return ()

    @abstractmethod
    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> Annotator:
        """Learn from this rank's share of a corpus.

        The same corpus and settings give the same annotator. Under a group each rank passes its
        own rows and every rank gets the same annotator.
        """

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> Annotator:
        """`fit` that goes on from the last checkpoint, if the method makes any."""
        return self.fit(corpus, vocabulary, group)


class GradientRecipe(Recipe):
    """A recipe that learns in epochs: it says how to go on, and a plain fit begins anew."""

    @property
    def by_gradient(self) -> bool:
        return True

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> Annotator:
        return self.resumable_fit(corpus, vocabulary, group, None)

    @abstractmethod
    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> Annotator:
        """Learn, going on from the last checkpoint if there is one."""
