"""CCA-KNN: tags of the semantic neighbours in the space that CCA makes of pictures and tags."""

from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import PositiveFloat, PositiveInt

from engine import schema
from engine.corpus import Corpus
from engine.evidence import evidence_column
from engine.gathering import gathered
from engine.group import Group
from engine.indexing import ProjectedCorpus
from engine.numerics.semantic import SemanticNeighbours
from engine.numerics.vote_scale import CARRIERS, fitted_temperature
from engine.placement import Placement, SearchRecipe
from engine.recipe import Verdict
from engine.transfer import EVIDENCE, Transfer
from engine.vocab import Vocabulary

LOOKED_FOR = 10
"""Times K, the nearest that an index must recall: a tag on a tenth of them finds its K carriers."""


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
        recipe = self.with_temperature(corpus, placement, group)
        nearest = LOOKED_FOR * self.neighbours
        return CcaKnn.from_corpus(
            recipe, placement, corpus, vocabulary, group, nearest, space.notes
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


class CcaKnn(Transfer[CcaKnnRecipe]):
    """Murthy et al. 2015, Eq. 4 and 5, on the K nearest carriers of each tag."""

    kind = "cca-knn"
    recipe_type = CcaKnnRecipe

    @cached_property
    def _semantic(self) -> SemanticNeighbours:
        return SemanticNeighbours(self.labels_NV, self.recipe.neighbours)

    def score(self, batch: pa.Table) -> Verdict:
        queries_BL = self.placement.query(schema.float_tensor(batch, schema.EMBEDDING))
        if self.looks_at_all:
            candidates = self._semantic.among_all(self.index.similarities(queries_BL))
        else:
            candidates = self._semantic.among(*self.index.search(queries_BL, self.recipe.shortlist))
        assert self.recipe.temperature != "fitted"
        votes_BV = self._semantic.votes(
            candidates, self.recipe.temperature, pooled=self.recipe.voters == "union"
        )
        # Votes are read as odds: a monotone way into [0, 1] that calibration can undo.
        evidence = evidence_column(*candidates.nearest(EVIDENCE), self.ids_N, self.labels_NV)
        return Verdict(votes_BV / (1 + votes_BV), evidence)
