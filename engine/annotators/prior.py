"""The frequency prior: every picture gets the tags that were most frequent in training."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary


class PriorRecipe(Recipe):
    """Nothing to set."""

    kind: Literal["prior"] = "prior"

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Prior":
        counts_V = np.zeros(len(vocabulary))
        for _, labels_BV in corpus.blocks():
            counts_V += np.asarray(labels_BV.sum(axis=0)).ravel()
        pictures = group.sum(np.array([float(len(corpus))]))[0]
        return Prior((group.sum(counts_V) / pictures).astype(np.float32), vocabulary.digest)


class Prior(Annotator):
    """P(tag), the same for every picture: what any method has to beat."""

    kind = "prior"
    reads = (schema.IMAGE_ID,)

    def __init__(self, frequencies_V: NDArray[np.float32], vocabulary_digest: str) -> None:
        self.frequencies_V = frequencies_V
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        return Verdict(np.tile(self.frequencies_V, (batch.num_rows, 1)))

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "frequencies": [float(value) for value in self.frequencies_V],
        }
        (folder / "prior.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Prior":
        content = json.loads((folder / "prior.json").read_text(encoding="utf-8"))
        return cls(np.array(content["frequencies"], dtype=np.float32), content["vocabulary"])
