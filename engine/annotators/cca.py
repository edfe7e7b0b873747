"""CCA annotation: walk the nearest training pictures and gather their tags."""

from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import PositiveInt

from engine import schema
from engine.corpus import Corpus
from engine.evidence import evidence_column
from engine.group import Group
from engine.numerics.walk import STEPS, Walk
from engine.placement import Placement, SearchRecipe
from engine.recipe import Verdict
from engine.transfer import EVIDENCE, Transfer
from engine.vocab import Vocabulary

NEAREST = 100
"""Pictures that an index must recall: a walk seldom goes further for its first tags."""


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
        return Cca.from_corpus(self, placement, corpus, vocabulary, group, NEAREST, space.notes)


class Cca(Transfer[CcaRecipe]):
    """Scores 1 / (1 + place) of each tag in the order in which the walk gathers them.

    The k best tags are thus what the walk has gathered when it has k.
    """

    kind = "cca"
    recipe_type = CcaRecipe

    @cached_property
    def _walk(self) -> Walk:
        return Walk(self.labels_NV)

    def score(self, batch: pa.Table) -> Verdict:
        # In float64: which of two neighbours is nearer must not depend on the batch's size.
        queries_BL = self.placement.query_in_float64(schema.float_tensor(batch, schema.EMBEDDING))
        if self.looks_at_all:
            similarities_BN = self.index.similarities(queries_BL)
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
        return Verdict(scores_BV, evidence_column(rows_BE, shown_BE, self.ids_N, self.labels_NV))
