"""SINN: tags and social tags as two layers of labels that tell each other what they see."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse
from scipy.special import expit, logit

from engine import schema
from engine.corpus import Corpus
from engine.gathering import tag_shares
from engine.group import Group
from engine.numerics.label_inference import correlations, infer, observed
from engine.numerics.levels import normalised_levels
from engine.optimisation import Optimisation
from engine.recipe import Annotator, GradientRecipe, Verdict
from engine.social_words import Bag, batch_words, corpus_words, frequent_words, known_rows
from engine.vocab import Vocabulary
from engine.whitened import Whitened

if TYPE_CHECKING:
    import torch

    from engine.training import Batch, Checkpoints


class SinnRecipe(GradientRecipe):
    """Settings of Hu et al. 2016, Learning Structured Inference Neural Networks, on a frozen CNN.

    The paper has three layers of labels on NUS-WIDE: groups of pictures, concepts and noisy tags.
    A corpus here has two of them: the tags of the vocabulary, and beneath them the social words.
    Every label has an activation from the picture; that of a social word is observed instead where
    the picture has social tags (the paper's reverse sigmoid neuron). A pass down and a pass up
    carry activations between the layers and within each, through matrices that are 0 but for pairs
    of labels that are correlated, those that help apart from those that hinder. The paper draws
    the pairs from WordNet and such; here they are those whose correlation over the training
    pictures is significant.

    A picture without known social tags is inferred from what it shows of the words; some pictures
    of each epoch are learned from as if they had none. Without social tags in the corpus at all
    there is one layer, whose tags still help and hinder each other.

    Time and memory grow with the square of the number of labels.

    Attributes:
        words: the most frequent social words count.
        min_count: if so many training pictures have them.
        significance: a pair is correlated if φ · √N is beyond this many standard deviations.
        unobserved: share of the pictures of an epoch whose social tags are hidden.
        shrinkage: of the whitening of the embedding, in units of its mean variance.
        dropout: of the features, in training.
        optimisation: of the loop.
    """

    kind: Literal["sinn"] = "sinn"
    words: PositiveInt = 1000
    min_count: PositiveInt = 2
    significance: NonNegativeFloat = 3.0
    unobserved: Annotated[float, Field(ge=0, le=1)] = 0.3
    shrinkage: PositiveFloat = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    optimisation: Optimisation = Field(
        default=Optimisation(
            learning_rate=1e-3, weight_decay=0.05, epochs=12, batch=64, warmup=0.1, average=0.99
        )
    )

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> "Sinn":
        """Learn the activations and the matrices together, by the sum of the layers' Eq. 4.

        Raises:
            TrainingError: the loss is no number.
        """
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch

        from engine.numerics.losses import logistic_loss
        from engine.training import train
        from engine.training.label_inference import LabelInference

        lists = corpus_words(corpus)
        bag = Bag(frequent_words(lists, self.words, self.min_count, group))
        words_NW = bag.encode(lists)
        known_N = known_rows(words_NW)
        white = Whitened.learn(corpus, self.shrinkage, group, scale=None)
        within, between, shares_W = self._relations(corpus, words_NW, known_N, group)
        shares = [tag_shares(corpus, group), shares_W][: len(within)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.optimisation.seed)
            network = LabelInference(
                white.features_ND.shape[1],
                self.dropout,
                within,
                between,
                [logit(one).astype(np.float32) for one in shares],
            )
        features = torch.from_numpy(white.features_ND)

        def loss(network: "torch.nn.Module", batch: "Batch") -> "torch.Tensor":
            rows_B, place = batch.rows_B, batch.device
            shown_B = known_N[rows_B] & (batch.draws_B >= self.unobserved)
            found = network(
                features[rows_B].to(place),
                torch.from_numpy(shown_B[:, None]).to(place),
                torch.from_numpy(observed(words_NW[rows_B])).to(place),
            )
            truth = [corpus.labels_NV[rows_B], words_NW[rows_B]]
            losses = [
                logistic_loss(logits.float(), torch.from_numpy(one.toarray()).to(place))
                for logits, one in zip(found, truth, strict=False)
            ]
            total = losses[0].sum()
            if len(losses) > 1:
                # Of a picture without social tags it is not known which words would suit it.
                total = total + losses[1][torch.from_numpy(known_N[rows_B]).to(place)].sum()
            return total

        train(network, loss, corpus.ids, self.optimisation, group, checkpoints=checkpoints)
        weights = network.arrays()
        for layer in range(len(within)):
            plain = white.folded(weights[f"seen{layer}.weights"], weights[f"seen{layer}.bias"])
            weights[f"seen{layer}.weights"], weights[f"seen{layer}.bias"] = plain
        return Sinn(corpus.levels, bag, weights, vocabulary.digest)

    def _relations(
        self,
        corpus: Corpus,
        words_NW: sparse.csr_matrix,
        known_N: NDArray[np.bool_],
        group: Group,
    ) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], NDArray[np.float64]]:
        """Correlations within and between the layers, those that are significant; words' shares."""
        rows_M = np.flatnonzero(known_N)
        labels_NV = corpus.labels_NV
        within = [self._significant(labels_NV, labels_NV, group)]
        if not words_NW.shape[1]:
            return within, [], np.zeros(0)
        words_MW, labels_MV = words_NW[rows_M], labels_NV[rows_M]
        within.append(self._significant(words_MW, words_MW, group))
        carriers_W = group.sum(np.asarray(words_MW.sum(axis=0), dtype=np.float64).ravel())
        pictures = float(group.sum(np.array([float(len(rows_M))]))[0])
        between = [self._significant(labels_MV, words_MW, group)]
        return within, between, (carriers_W + 0.5) / (pictures + 1)

    def _significant(
        self, left_NU: sparse.csr_matrix, right_NV: sparse.csr_matrix, group: Group
    ) -> NDArray[np.float64]:
        """φ [U, V] where it is far enough from 0 for the number of pictures, 0 elsewhere."""
        together_UV = group.sum(np.asarray((left_NU.T @ right_NV).todense(), dtype=np.float64))
        left_U = group.sum(np.asarray(left_NU.sum(axis=0), dtype=np.float64).ravel())
        right_V = group.sum(np.asarray(right_NV.sum(axis=0), dtype=np.float64).ravel())
        pictures = float(group.sum(np.array([float(left_NU.shape[0])]))[0])
        found_UV = correlations(together_UV, left_U, right_V, pictures)
        return np.where(np.abs(found_UV) * np.sqrt(pictures) > self.significance, found_UV, 0)


class Sinn(Annotator):
    """sigmoid of the tags' activations after the pass down and up."""

    kind = "sinn"

    def __init__(
        self,
        levels: tuple[int, ...],
        bag: Bag,
        weights: dict[str, NDArray[np.float32]],
        vocabulary_digest: str,
    ) -> None:
        self.levels = levels
        self.bag = bag
        self.weights = weights
        self.vocabulary_digest = vocabulary_digest
        if len(bag):
            self.reads = (schema.EMBEDDING, schema.SOCIAL_TAGS)

    def score(self, batch: pa.Table) -> Verdict:
        x_BD = normalised_levels(schema.float_tensor(batch, schema.EMBEDDING), self.levels)
        activations = [
            x_BD @ self.weights[f"seen{layer}.weights"] + self.weights[f"seen{layer}.bias"]
            for layer in range(2 if len(self.bag) else 1)
        ]
        if len(self.bag):
            words_BW = self.bag.encode(batch_words(batch))
            known_B1 = known_rows(words_BW)[:, None]
            activations[1] = np.where(known_B1, observed(words_BW), activations[1])
        scores_BV: NDArray[np.float32] = expit(infer(activations, self.weights)[0])
        return Verdict(scores_BV)

    def save(self, folder: Path) -> None:
        save_file(self.weights, folder / "sinn.safetensors")
        content = {
            "vocabulary": self.vocabulary_digest,
            "levels": self.levels,
            "words": self.bag.words,
        }
        text = json.dumps(content, ensure_ascii=False)
        (folder / "sinn.json").write_text(text, encoding="utf-8")

    @classmethod
    def reads_of(cls, folder: Path) -> tuple[str, ...]:
        content = json.loads((folder / "sinn.json").read_text(encoding="utf-8"))
        return (schema.EMBEDDING, schema.SOCIAL_TAGS) if content["words"] else cls.reads

    @classmethod
    def load(cls, folder: Path) -> "Sinn":
        content = json.loads((folder / "sinn.json").read_text(encoding="utf-8"))
        return cls(
            tuple(content["levels"]),
            Bag(tuple(content["words"])),
            load_file(folder / "sinn.safetensors"),
            content["vocabulary"],
        )
