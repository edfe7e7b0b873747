"""TagNeighbour: a picture beside those that users gave similar tags, seen by one network."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from safetensors.numpy import load_file, save_file
from scipy import sparse
from scipy.special import expit, logit

from engine import schema
from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.gathering import binary_matrix, tag_shares
from engine.group import Group
from engine.numerics.jaccard import nearest_sets, subset_max_weights
from engine.numerics.levels import normalised_levels
from engine.optimisation import Optimisation
from engine.recipe import Annotator, GradientRecipe, Verdict
from engine.social_words import Bag, batch_words, corpus_words, frequent_words
from engine.vocab import Vocabulary
from engine.whitened import Whitened

if TYPE_CHECKING:
    import torch

    from engine.training import Batch, Checkpoints

_LAYERS = ("own_weights", "own_bias", "out_weights", "out_bias")

HELD = 256
"""Pictures whose neighbours' hidden vectors are held at a time."""


class TagNeighbourRecipe(GradientRecipe):
    """Settings of Johnson, Ballan and Fei-Fei 2015, Love Thy Neighbors, on a frozen network.

    A picture's candidates are the training pictures whose social tags are nearest by Jaccard
    similarity. Its own features and those of each candidate go through a hidden layer each; those
    of some of the candidates are pooled by their maximum, and both vectors side by side give the
    tags. The paper's score is the mean over all the subsets of `neighbours` candidates, of which it
    draws one at each step of training and some in the test; here the mean over all of them is
    taken in both, for it can be had from the sorted values.

    A picture without social tags that are known has no neighbours: the pooled vector is 0 then, and
    its own features alone decide. So that they can, some pictures of each epoch are without.

    Attributes:
        words: the most frequent social words count.
        min_count: if so many training pictures have them.
        candidates: M nearest pictures.
        neighbours: m of them are pooled.
        hidden: units of either hidden layer.
        alone: share of the pictures of an epoch that are seen without their neighbours.
        shrinkage: of the whitening of the embedding, in units of its mean variance.
        dropout: of the hidden layers, in training.
        optimisation: of the loop.
    """

    kind: Literal["tag-neighbour"] = "tag-neighbour"
    words: PositiveInt = 1000
    min_count: PositiveInt = 2
    candidates: PositiveInt = 6
    neighbours: PositiveInt = 3
    hidden: PositiveInt = 256
    alone: Annotated[float, Field(ge=0, le=1)] = 0.2
    shrinkage: PositiveFloat = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    optimisation: Optimisation = Field(
        default=Optimisation(
            learning_rate=1e-3, weight_decay=0.05, epochs=12, batch=64, warmup=0.1, average=0.99
        )
    )

    @model_validator(mode="after")
    def _enough(self) -> "TagNeighbourRecipe":
        if self.neighbours > self.candidates:
            raise ValueError(
                f"neighbours is {self.neighbours} and candidates is {self.candidates}; no more can "
                "be pooled than there are"
            )
        return self

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> "TagNeighbour":
        """Learn the network; every rank holds all the pictures' features while it does.

        Raises:
            ConfigError: no picture has social tags that count.
            TrainingError: the loss is no number.
        """
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch

        from engine.numerics.losses import logistic_loss
        from engine.training import train
        from engine.training.neighbourhood import Neighbourhood

        lists = corpus_words(corpus)
        bag = Bag(frequent_words(lists, self.words, self.min_count, group))
        if not len(bag):
            raise ConfigError(
                "an annotator of kind 'tag-neighbour' finds neighbours by `social_tags`, but no "
                f"picture of the corpus to learn from has any that {self.min_count} pictures "
                "have; add them to the corpus, or leave that annotator out"
            )
        white = Whitened.learn(corpus, self.shrinkage, group, scale=None)
        features_ND, sets_NW, own_M = _everybody(corpus, white, bag.encode(lists), group)
        near_MC = nearest_sets(sets_NW[own_M], sets_NW, self.candidates, own_M)
        weights_C = subset_max_weights(self.candidates, self.neighbours)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.optimisation.seed)
            network = Neighbourhood(
                features_ND.shape[1],
                self.hidden,
                self.dropout,
                weights_C,
                logit(tag_shares(corpus, group)).astype(np.float32),
            )
        features = torch.from_numpy(features_ND)

        def loss(network: "torch.nn.Module", batch: "Batch") -> "torch.Tensor":
            labels_BV = torch.from_numpy(corpus.labels_NV[batch.rows_B].toarray())
            near_BC = near_MC[batch.rows_B]
            near_BC = np.where(batch.draws_B[:, None] < self.alone, -1, near_BC)
            logits_BV = network(
                features[own_M[batch.rows_B]].to(batch.device),
                features[np.maximum(near_BC, 0)].to(batch.device),
                torch.from_numpy(near_BC >= 0).to(batch.device),
            )
            return logistic_loss(logits_BV.float(), labels_BV.to(batch.device)).sum()

        train(network, loss, corpus.ids, self.optimisation, group, checkpoints=checkpoints)
        arrays = network.arrays()
        hidden_NH = np.maximum(features_ND @ arrays["other_weights"] + arrays["other_bias"], 0)
        own = white.folded(arrays["own_weights"], arrays["own_bias"])
        layers = (*own, arrays["out_weights"], arrays["out_bias"])
        return TagNeighbour(
            corpus.levels, bag, sets_NW, hidden_NH, layers, weights_C, vocabulary.digest
        )


def _everybody(
    corpus: Corpus, white: Whitened, words_MW: sparse.csr_matrix, group: Group
) -> tuple[NDArray[np.float32], sparse.csr_matrix, NDArray[np.int64]]:
    """All the ranks' features [N, D] and sets [N, W], and which rows [M] this rank's pictures are.

    In the order of their ids, so that equal similarities are decided alike however many ranks
    there are.
    """
    ids = [str(one) for part in group.gather(np.array(corpus.ids, np.str_)) for one in part]
    order_N = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    features = group.gather(white.features_ND)
    indices = np.concatenate(group.gather(words_MW.indices)).astype(np.int32)
    lengths = np.concatenate(group.gather(np.diff(words_MW.indptr))).astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    sets_NW = binary_matrix(indices, indptr, words_MW.shape[1])[order_N]
    features_ND = np.concatenate([one.astype(np.float32, copy=False) for one in features])[order_N]
    row_of = {ids[old]: new for new, old in enumerate(order_N)}
    return features_ND, sets_NW, np.array([row_of[one] for one in corpus.ids], dtype=np.int64)


class TagNeighbour(Annotator):
    """sigmoid of what a picture's own hidden vector and its neighbours' pooled one call for.

    Args:
        sets_NW: the social words of the training pictures, binary.
        hidden_NH: float32, their hidden vectors as neighbours.
        layers: weights [D, H] and bias [H] of the picture's own hidden layer on normalised levels,
            weights [2H, V] and bias [V] of the last one.
        weights_C: of the candidates' sorted values, see `subset_max_weights`.
    """

    kind = "tag-neighbour"
    reads = (schema.EMBEDDING, schema.SOCIAL_TAGS)

    def __init__(
        self,
        levels: tuple[int, ...],
        bag: Bag,
        sets_NW: sparse.csr_matrix,
        hidden_NH: NDArray[np.float32],
        layers: tuple[NDArray[np.float32], ...],
        weights_C: NDArray[np.float32],
        vocabulary_digest: str,
    ) -> None:
        self.levels = levels
        self.bag = bag
        self.sets_NW = sets_NW
        self.hidden_NH = hidden_NH
        self.layers = layers
        self.weights_C = weights_C
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        x_BD = normalised_levels(schema.float_tensor(batch, schema.EMBEDDING), self.levels)
        near_BC = nearest_sets(
            self.bag.encode(batch_words(batch)), self.sets_NW, len(self.weights_C)
        )
        own_weights, own_bias, out_weights, out_bias = self.layers
        own_BH = np.maximum(x_BD @ own_weights + own_bias, 0)
        pooled_BH = np.zeros_like(own_BH)
        for start in range(0, len(near_BC), HELD):
            some_BC = near_BC[start : start + HELD]
            near_BCH = self.hidden_NH[np.maximum(some_BC, 0)] * (some_BC >= 0)[:, :, None]
            near_BCH.sort(axis=1)
            pooled_BH[start : start + HELD] = np.einsum("bch,c->bh", near_BCH, self.weights_C)
        both_BH = np.concatenate([own_BH, pooled_BH], axis=1)
        scores_BV: NDArray[np.float32] = expit(both_BH @ out_weights + out_bias)
        return Verdict(scores_BV)

    def save(self, folder: Path) -> None:
        arrays: dict[str, NDArray[np.generic]] = {
            **dict(zip(_LAYERS, self.layers, strict=True)),
            "hidden": self.hidden_NH,
            "candidates": self.weights_C,
            "indices": self.sets_NW.indices.astype(np.int32),
            "indptr": self.sets_NW.indptr.astype(np.int64),
        }
        save_file(arrays, folder / "tag_neighbour.safetensors")
        content = {
            "vocabulary": self.vocabulary_digest,
            "levels": self.levels,
            "words": self.bag.words,
        }
        text = json.dumps(content, ensure_ascii=False)
        (folder / "tag_neighbour.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TagNeighbour":
        content = json.loads((folder / "tag_neighbour.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "tag_neighbour.safetensors")
        bag = Bag(tuple(content["words"]))
        return cls(
            tuple(content["levels"]),
            bag,
            binary_matrix(arrays["indices"], arrays["indptr"], len(bag)),
            arrays["hidden"],
            tuple(arrays[name] for name in _LAYERS),
            arrays["candidates"],
            content["vocabulary"],
        )
