"""Recipe and annotator: the one contract that every method keeps, held by the contract tests."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
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
    """

    scores_BV: NDArray[np.float32]
    evidence: pa.Array | None = None


class Annotator(ABC):
    """A fitted, immutable method. There is no unfitted annotator, so no 'not fitted' error."""

    kind: ClassVar[str]
    reads: tuple[str, ...] = (schema.EMBEDDING,)
    gives_evidence: ClassVar[bool] = False
    may_abstain: ClassVar[bool] = False
    vocabulary_digest: str
    notes: tuple[str, ...] = ()
    """What the user should know of the fit; empty once loaded."""

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


class Recipe(BaseModel, ABC):
    """A frozen configuration of a method, and the way to fit it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    @property
    def by_gradient(self) -> bool:
        """Whether `fit` is long and in epochs, and better run by the workers of a cluster."""
        return False

    @property
    def wants_pixels(self) -> bool:
        """Whether `fit` needs `corpus.pixels`."""
        return False

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
