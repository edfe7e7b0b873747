"""Stacked: ridge regression and CCA neighbours, weighed for each tag by what held-out folds show.

Scores of pictures that a fold's fit has not seen teach a small network, shared by all tags, the
probability of a tag (Wolpert 1992, Stacked generalization). The tags are then ranked by what giving
them is expected to add to the mean over words of precision and recall (`numerics.word_balance`).
"""

import hashlib
import json
from dataclasses import dataclass
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
from engine.errors import CorpusError
from engine.evidence import evidence_column
from engine.group import Group
from engine.index import FaissIndex
from engine.numerics.levels import normalised_levels
from engine.numerics.principal import principal_axes
from engine.numerics.word_balance import WordBalance, balance_words
from engine.recipe import Annotator, Recipe, Verdict
from engine.stacking.folds import Folds, NetworkSettings, row_blocks
from engine.stacking.network import TagNetwork
from engine.stacking.scorers import Projection, Projections, ScorerSettings, TagScorers
from engine.vocab import Vocabulary
from engine.words import word_vector_source

EVIDENCE = 16
"""Nearest candidates of a picture that are named as its neighbours."""

TAGS_A_PICTURE = 5
"""k of the protocol of Murthy et al. 2015, for which words are balanced."""

WIDEST_VIEW = 4096
"""Text views wider than this are left out: CCA takes the square of it in memory."""

FEWEST = 4
"""Pictures a fold; with fewer there are fewer folds, and below two folds nothing is learned."""


class StackedRecipe(Recipe):
    """Settings of the scores that are stacked, of the network, and of the balance of words.

    Attributes:
        views: text views of the CCA spaces in which neighbours vote, see `engine.words`.
        components: principal components of the embedding that are kept.
        strengths: of the ridge regressions, see `engine.numerics.ridge`.
        regulariser: of CCA's covariances, relative to their mean eigenvalue.
        votes: (K, temperature) of the votes of each tag's K nearest carriers (Murthy et al. 2015,
            Eq. 5, with distances over the temperature).
        shortlist: neighbours are sought among so many where the index is not exact.
        folds: of the corpus, each of which is scored by what was learned from the others.
        held_out: pictures of the folds that the network learns from, at most.
        hidden: units of each of the network's two layers.
        weight_decay, iterations: of the network's fit.
        balance: pictures that the words are balanced for, see `engine.numerics.word_balance`;
            0: scores are the probabilities, which suits every picture best, and not every word.
        seed: of the network, and of which tags that a picture lacks it learns from.
    """

    kind: Literal["stacked"] = "stacked"
    views: Annotated[tuple[str, ...], Field(min_length=1)] = ("minilm", "binary")
    components: PositiveInt = 800
    strengths: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.25, 1.0)
    regulariser: PositiveFloat = 0.2
    votes: Annotated[tuple[tuple[PositiveInt, PositiveFloat], ...], Field(min_length=1)] = (
        (10, 0.05),
        (10, 0.03),
        (10, 0.1),
        (3, 0.1),
        (1, 0.1),
    )
    shortlist: PositiveInt = 2000
    folds: Annotated[int, Field(ge=2)] = 5
    held_out: PositiveInt = 5000
    hidden: PositiveInt = 24
    weight_decay: NonNegativeFloat = 10.0
    iterations: PositiveInt = 120
    pairs: PositiveInt = 150_000
    balance: Annotated[int, Field(ge=0)] = 0
    seed: int = 0

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Stacked":
        text, notes = self._text_views(vocabulary)
        mean_D, axes_DL = self._axes(corpus, group)
        space = _Space(corpus.levels, mean_D, axes_DL)
        x_NL = np.concatenate([space(x_BD) for x_BD, _ in corpus.blocks()])
        pictures = float(group.sum(np.array([float(len(corpus))]))[0])
        folds = min(self.folds, int(pictures) // FEWEST)
        if folds < 2:
            raise CorpusError(
                f"'stacked' learns from {2 * FEWEST} pictures or more, found {pictures:.0f}: add "
                "tagged pictures, or take 'linear' or 'cca-knn'"
            )
        hashes = [hashlib.sha256(f"{self.seed}:{one}".encode()).hexdigest() for one in corpus.ids]
        keys_N = np.array(hashes, dtype="S64")
        # Among all the group's pictures: how they are shared out must not decide the folds.
        places_N = np.searchsorted(np.sort(np.concatenate(group.gather(keys_N))), keys_N)
        dealt = Folds.of(group, x_NL, corpus.labels_NV, places_N, folds, text)
        settings = ScorerSettings(self.strengths, self.regulariser, self.votes, self.shortlist)
        spread_SV, network, held_MV = dealt.learn(settings, self._learning())
        whole = dealt.sums_without(None)
        balance = None
        if self.balance:
            frequency_V = whole.ridge.sum_y_V / whole.ridge.count
            balance = balance_words(held_MV, frequency_V, TAGS_A_PICTURE, self.balance)
        projections = Projections.solve(whole, settings)
        scorers = dealt.scorers_without(None, projections, settings, spread_SV)
        ids = group.gather(np.array(corpus.ids, dtype=np.str_))
        names = tuple(str(image_id) for part in ids for image_id in part)
        return Stacked(self, space, scorers, network, balance, names, vocabulary.digest, notes)

    def _learning(self) -> NetworkSettings:
        return NetworkSettings(
            self.held_out, self.pairs, self.hidden, self.weight_decay, self.iterations, self.seed
        )

    def _text_views(
        self, vocabulary: Vocabulary
    ) -> tuple[list[NDArray[np.float32]], tuple[str, ...]]:
        found, notes = [], []
        for name in self.views:
            words = word_vector_source(name).embed(vocabulary.tags)
            if words.vectors_VE.shape[1] > WIDEST_VIEW and len(self.views) > 1:
                notes.append(
                    f"the view '{name}' of {words.vectors_VE.shape[1]:,} dimensions is left out"
                )
                continue
            found.append(words.vectors_VE)
            if words.unknown_words:
                shown = ", ".join(words.unknown_words[:10])
                notes.append(
                    f"{len(words.unknown_words)} words of tags have no vector in '{name}' "
                    f"({shown}{', …' if len(words.unknown_words) > 10 else ''})"
                )
        return found, tuple(notes)

    def _axes(
        self, corpus: Corpus, group: Group
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean [D] and principal axes [D, L] of the normalised embedding."""
        width = corpus.embeddings_ND.shape[1]
        count, sum_D, square_DD = 0.0, np.zeros(width), np.zeros((width, width))
        for x_BD, _ in corpus.blocks():
            block = normalised_levels(x_BD, corpus.levels)
            count += len(block)
            sum_D += block.sum(0, dtype=np.float64)
            # Within a block float32 is enough to find axes by, and takes half the time.
            square_DD += block.T @ block
        count = float(group.sum(np.array([count]))[0])
        mean_D = group.sum(sum_D) / count
        covariance_DD = group.sum(square_DD) / count - np.outer(mean_D, mean_D)
        axes_DL = principal_axes(covariance_DD, self.components, self.seed)
        return mean_D.astype(np.float32), axes_DL


@dataclass(frozen=True)
class _Space:
    """From embeddings to the principal components of what normalises them."""

    levels: tuple[int, ...]
    mean_D: NDArray[np.float32]
    axes_DL: NDArray[np.float32]

    def __call__(self, embeddings_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        centred_BD = normalised_levels(embeddings_BD, self.levels) - self.mean_D
        found: NDArray[np.float32] = np.matmul(centred_BD, self.axes_DL, dtype=np.float32)
        return found


class Stacked(Annotator):
    """The network's probability of each tag, ranked by what giving the tag is worth."""

    kind = "stacked"
    gives_evidence = True

    def __init__(
        self,
        recipe: StackedRecipe,
        space: _Space,
        scorers: TagScorers,
        network: TagNetwork,
        balance: WordBalance | None,
        ids: tuple[str, ...],
        vocabulary_digest: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.recipe = recipe
        self.space = space
        self.scorers = scorers
        self.network = network
        self.balance = balance
        self.ids = ids
        self._ids = pa.array(ids, pa.string())
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes

    def score(self, batch: pa.Table) -> Verdict:
        x_BL = self.space(schema.float_tensor(batch, schema.EMBEDDING))
        tags = len(self.scorers.log_frequency_V)
        scores = [np.zeros((0, tags), dtype=np.float32)]
        witnesses = []
        for rows in row_blocks(np.arange(len(x_BL)), tags):
            signals_BVF, nearest = self.scorers.signals(x_BL[rows])
            probabilities_BV = self.network(signals_BVF)
            if self.balance is not None:
                probabilities_BV = self.balance(probabilities_BV)
            scores.append(probabilities_BV)
            witnesses.append(
                evidence_column(*nearest.nearest(EVIDENCE), self._ids, self.scorers.labels_NV)
            )
        none = pa.array([], schema.EVIDENCE_LIST)
        evidence = pa.concat_arrays(witnesses) if witnesses else none
        return Verdict(np.concatenate(scores), evidence)

    def save(self, folder: Path) -> None:
        labels_NV = self.scorers.labels_NV
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": self.space.levels,
            "ids": self.ids,
            "tags": labels_NV.shape[1],
            "views": len(self.scorers.indexes),
        }
        text = json.dumps(content, ensure_ascii=False)
        (folder / "stacked.json").write_text(text, encoding="utf-8")
        arrays: dict[str, NDArray[np.generic]] = {
            "mean": self.space.mean_D,
            "axes": self.space.axes_DL,
            "label_indices": labels_NV.indices.astype(np.int32),
            "label_indptr": labels_NV.indptr.astype(np.int64),
            "spread": self.scorers.spread_SV,
        }
        for place, (weights_LV, bias_V) in enumerate(self.scorers.projections.ridges):
            arrays |= {f"ridge{place}/weights": weights_LV, f"ridge{place}/bias": bias_V}
        for place, view in enumerate(self.scorers.projections.views):
            arrays |= {f"view{place}/mean": view.mean_L, f"view{place}/weights": view.weights_LC}
            self.scorers.indexes[place].save(folder / f"index-{place}.faiss")
        arrays |= {f"network/{name}": array for name, array in self.network.arrays().items()}
        if self.balance is not None:
            arrays |= {"balance/gain": self.balance.gain_V, "balance/toll": self.balance.toll_V}
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "stacked.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> "Stacked":
        content = json.loads((folder / "stacked.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "stacked.safetensors")
        recipe = StackedRecipe.model_validate(content["recipe"])
        ridges = tuple(
            (arrays[f"ridge{place}/weights"], arrays[f"ridge{place}/bias"])
            for place in range(len(recipe.strengths))
        )
        views = tuple(
            Projection(arrays[f"view{place}/mean"], arrays[f"view{place}/weights"])
            for place in range(content["views"])
        )
        indptr = arrays["label_indptr"]
        ones = np.ones(len(arrays["label_indices"]), dtype=np.float32)
        scorers = TagScorers(
            ScorerSettings(recipe.strengths, recipe.regulariser, recipe.votes, recipe.shortlist),
            Projections(ridges, views),
            [FaissIndex.load(folder / f"index-{place}.faiss") for place in range(len(views))],
            sparse.csr_matrix(
                (ones, arrays["label_indices"], indptr), (len(indptr) - 1, content["tags"])
            ),
            arrays["spread"],
        )
        own = {n.partition("/")[2]: a for n, a in arrays.items() if n.startswith("network/")}
        balance = None
        if "balance/gain" in arrays:
            balance = WordBalance(arrays["balance/gain"], arrays["balance/toll"])
        return cls(
            recipe,
            _Space(tuple(content["levels"]), arrays["mean"], arrays["axes"]),
            scorers,
            TagNetwork.from_arrays(own),
            balance,
            tuple(content["ids"]),
            content["vocabulary"],
        )
