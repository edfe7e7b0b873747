"""TagProp: tags of weighted neighbours, whose weights are learned by maximum likelihood."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from engine import schema
from engine.corpus import Corpus
from engine.errors import CorpusError
from engine.exemplars import Depths, Exemplars, evidence_column
from engine.group import Group
from engine.numerics.distances import Distance
from engine.numerics.tag_likelihood import (
    Likelihood,
    PlainLikelihood,
    SigmoidLikelihood,
    TagOffers,
)
from engine.numerics.tagprop_fit import fit_rank_weights, fit_scales, fit_words, shared_curve
from engine.numerics.weighted_knn import nearest, nearest_by_any, softmax_weights, vote
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary


class TagPropRecipe(Recipe):
    """Settings of Guillaumin, Mensink, Verbeek and Schmid 2009.

    Attributes:
        weights: 'distance': neighbours weigh exp(-d), d a combination of the levels' distances
            (the paper's SD and ML); 'rank': by their place alone, K weights that add up to 1, with
            the mean of the levels' distances to rank by (RK).
        metric_learning: a scale for each level (ML), or one for their mean (SD).
        sigmoid: a curve for each word above that (the paper's sigma), which lifts rare words.
        neighbours: K.
        distance: of each level, see `engine.numerics.distances`.
        levels: how many levels of the embedding are compared; 1 is the network's last layer alone.
        epsilon: the chance that a tag is not the neighbour's.
        shrinkage: pulls a word's curve to that of all words, as so many carriers would; near 0 is
            the paper's fit.
        rounds: times that curves and weights are fitted in turn (the paper finds three enough).
        iterations: of each fit of the weights.
    """

    kind: Literal["tagprop"] = "tagprop"
    weights: Literal["distance", "rank"] = "distance"
    metric_learning: bool = True
    sigmoid: bool = True
    neighbours: PositiveInt = 200
    distance: Distance = "cosine"
    levels: Depths = "all"
    epsilon: float = Field(default=1e-5, gt=0, lt=0.5)
    shrinkage: PositiveFloat = 0.1
    rounds: PositiveInt = 3
    iterations: PositiveInt = 50

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "TagProp":
        exemplars = Exemplars.of_levels(corpus, self.levels, self.distance, group)
        if len(exemplars) < 2:
            raise CorpusError(
                "TagProp learns from each picture's neighbours, and the corpus has one picture; "
                "add tagged pictures"
            )
        found = [self.neighbourhood(far_MRN) for _, far_MRN in exemplars.leave_one_out()]
        rows_IK = np.concatenate([rows for rows, _ in found])
        distances_MIK = np.concatenate([far for _, far in found], axis=1).astype(np.float64)
        # A small corpus has itself among the N nearest, at an infinite distance.
        rows_IK = rows_IK[:, : len(exemplars) - 1]
        distances_MIK = distances_MIK[:, :, : len(exemplars) - 1]
        offers = TagOffers.of(rows_IK, exemplars.labels_NV)
        plain = PlainLikelihood(offers, self.epsilon)
        learned = self._weights(plain, offers, distances_MIK, None)
        trace = [plain.value_and_slope(self._predictions(offers, distances_MIK, learned))[0]]
        curves = None
        if self.sigmoid:
            centre = shared_curve(offers, self._predictions(offers, distances_MIK, learned))
            for _ in range(self.rounds):
                predicted_P = self._predictions(offers, distances_MIK, learned)
                slopes_V, offsets_V, worth = fit_words(
                    offers, predicted_P, centre, curves, self.shrinkage
                )
                curves = (slopes_V, offsets_V)
                trace.append(worth)
                learned = self._weights(
                    SigmoidLikelihood(offers, slopes_V, offsets_V), offers, distances_MIK, learned
                )
        return TagProp(self, exemplars, learned, curves, vocabulary.digest, tuple(trace))

    def neighbourhood(
        self, distances_MBN: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The K neighbours of each query: rows [B, K], distances [M, B, K]; M = 1 without ML."""
        if self.weights == "rank" or not self.metric_learning:
            rows_BK, distances_BK = nearest(distances_MBN.mean(axis=0), self.neighbours)
            return rows_BK, distances_BK[None]
        rows_BK = nearest_by_any(distances_MBN, self.neighbours)
        return rows_BK, np.take_along_axis(distances_MBN, rows_BK[None], axis=2)

    def weigh(
        self, distances_MBK: NDArray[np.floating], learned: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """π [B, K] from what was learned: scales of the distances, or weights of the ranks."""
        if self.weights == "distance":
            return softmax_weights(distances_MBK, learned)
        return np.broadcast_to(learned, distances_MBK.shape[1:])

    def _predictions(
        self,
        offers: TagOffers,
        distances_MIK: NDArray[np.float64],
        learned: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        return offers.predictions(self.weigh(distances_MIK, learned))

    def _weights(
        self,
        likelihood: Likelihood,
        offers: TagOffers,
        distances_MIK: NDArray[np.float64],
        start: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        if self.weights == "distance":
            return fit_scales(likelihood, offers, distances_MIK, start, self.iterations)
        _, pictures, kept = distances_MIK.shape
        start = np.full(kept, 1 / kept) if start is None else start
        return fit_rank_weights(likelihood, offers, pictures, start, self.iterations)


class TagProp(Annotator):
    """The score is p(tag): Σ_j π_j [j carries it], or the tag's curve of it where there are curves.

    Attributes:
        learned: scales [M] of the distances, or weights [K] of the ranks.
        curves: slope [V] and offset [V] of each tag's sigmoid (the paper's alpha and beta).
        trace: the log-likelihood after each step of the fit, which never falls: the plain one,
            then the worth that `fit_words` maximises; empty once loaded.
    """

    kind = "tagprop"
    gives_evidence = True

    def __init__(
        self,
        recipe: TagPropRecipe,
        exemplars: Exemplars,
        learned: NDArray[np.float64],
        curves: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
        vocabulary_digest: str,
        trace: tuple[float, ...] = (),
    ) -> None:
        self.recipe = recipe
        self.exemplars = exemplars
        self.learned = learned
        self.curves = curves
        self.vocabulary_digest = vocabulary_digest
        self.trace = trace

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        labels_NV = self.exemplars.labels_NV
        parts: list[NDArray[np.float32]] = [np.zeros((0, labels_NV.shape[1]), dtype=np.float32)]
        evidence: list[list[dict[str, object]]] = []
        for distances_MBN in self.exemplars.to(embeddings_BD):
            rows_BK, far_MBK = self.recipe.neighbourhood(distances_MBN)
            if self.recipe.weights == "rank":
                # Fitted on a small corpus there is a rank less: a picture is not its own neighbour.
                rows_BK, far_MBK = (
                    rows_BK[:, : len(self.learned)],
                    far_MBK[:, :, : len(self.learned)],
                )
            weights_BK = self.recipe.weigh(far_MBK, self.learned)
            predicted_BV = np.minimum(vote(weights_BK, rows_BK, labels_NV), 1.0)
            if self.curves is not None:
                predicted_BV = expit(self.curves[0] * predicted_BV + self.curves[1])
            parts.append(predicted_BV.astype(np.float32))
            evidence += self._evidence(rows_BK, far_MBK)
        return Verdict(np.concatenate(parts), evidence_column(evidence))

    def _evidence(
        self, rows_BK: NDArray[np.int64], far_MBK: NDArray[np.float32]
    ) -> list[list[dict[str, object]]]:
        """By the learned distance, as a mean of the levels' own."""
        scales_M = np.ones(len(far_MBK))
        if self.recipe.weights == "distance" and self.learned.sum() > 0:
            scales_M = self.learned
        mean_BK = np.einsum("m,mbk->bk", scales_M / scales_M.sum(), far_MBK)
        order_BK = np.argsort(mean_BK, axis=1, kind="stable")
        return self.exemplars.evidence(
            np.take_along_axis(rows_BK, order_BK, axis=1),
            np.take_along_axis(mean_BK, order_BK, axis=1),
        )

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        (folder / "tagprop.json").write_text(json.dumps(content), encoding="utf-8")
        arrays = {"learned": self.learned}
        if self.curves is not None:
            arrays |= {"slopes": self.curves[0], "offsets": self.curves[1]}
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "tagprop.safetensors",
        )
        self.exemplars.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "TagProp":
        content = json.loads((folder / "tagprop.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "tagprop.safetensors")
        return cls(
            TagPropRecipe.model_validate(content["recipe"]),
            Exemplars.load(folder),
            arrays["learned"],
            (arrays["slopes"], arrays["offsets"]) if "slopes" in arrays else None,
            content["vocabulary"],
        )
