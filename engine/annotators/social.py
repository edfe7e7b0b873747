"""Social tags: what users called a picture, noisy as it is, as evidence of its true tags."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse
from scipy.special import expit, logit

from engine import schema
from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.group import Group
from engine.recipe import Annotator, Recipe, Verdict
from engine.social_words import Bag, batch_words, corpus_words, frequent_words, known_rows
from engine.vocab import Vocabulary

BLOCK = 1024
"""Pictures whose logits are held at a time."""


class SocialRecipe(Recipe):
    """Settings of the logistic regression on a picture's bag of social words.

    logit P(tag | words) = bias[tag] + sum of weight[word, tag] + own, if the tag is a word too.

    `own` is one weight for all the tags: how far users are to be believed when they give a tag of
    the vocabulary is learned from all of them together, and so holds for the rarest as well. The
    model is the mode of the posterior under independent Gaussian priors, for the biases around
    the tags' log-odds in training, for the others around 0.

    Attributes:
        words: the most frequent social words get weights; Niu et al. 2017 take 1,000.
        min_count: if so many training pictures have them.
        spread: standard deviation of the priors, in log-odds.
        iterations: of L-BFGS.
    """

    kind: Literal["social"] = "social"
    words: PositiveInt = 1000
    min_count: PositiveInt = 2
    spread: PositiveFloat = 1.0
    iterations: PositiveInt = 50

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "Social":
        """Learn from the pictures with social tags that are known.

        Raises:
            ConfigError: there is none.
        """
        lists = corpus_words(corpus)
        words = frequent_words(lists, self.words, self.min_count, group)
        bags = Bags(words, vocabulary.tags)
        words_NW, own_NV = bags.encode(lists)
        rows_M = np.flatnonzero(is_known(words_NW, own_NV))
        pictures = float(group.sum(np.array([float(len(rows_M))]))[0])
        if pictures == 0:
            raise ConfigError(
                "an annotator of kind 'social' learns from `social_tags`, but no picture of the "
                f"corpus to learn from has any that {self.min_count} pictures have or that are "
                "tags of the vocabulary; add them to the corpus, or leave that annotator out"
            )
        known = words_NW[rows_M], own_NV[rows_M], corpus.labels_NV[rows_M]
        weights_WV, bias_V, own = self._posterior_mode(*known, pictures, group)
        return Social(bags, weights_WV, bias_V, own, vocabulary.digest)

    def _posterior_mode(
        self,
        words_MW: sparse.csr_matrix,
        own_MV: sparse.csr_matrix,
        labels_MV: sparse.csr_matrix,
        pictures: float,
        group: Group,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """The weights [W, V], the biases [V] and `own`, from this rank's M of all the pictures."""
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch
        from torch import nn

        from engine.training import minimise

        carriers_V = group.sum(np.asarray(labels_MV.sum(axis=0), dtype=np.float64).ravel())
        bias_V = logit((carriers_V + 0.5) / (pictures + 1)).astype(np.float32)
        weights_WV = nn.Parameter(torch.zeros(words_MW.shape[1], labels_MV.shape[1]))
        shift_V = nn.Parameter(torch.zeros(labels_MV.shape[1]))
        own = nn.Parameter(torch.zeros(()))
        parameters = [weights_WV, shift_V, own]
        base_V = torch.from_numpy(bias_V)

        def block_loss(number: int) -> torch.Tensor:
            block = slice(number * BLOCK, (number + 1) * BLOCK)
            entries = words_MW[block].tocoo()
            words_BW = torch.sparse_coo_tensor(
                torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64)),
                torch.from_numpy(entries.data),
                entries.shape,
                is_coalesced=True,
                check_invariants=True,
            )
            own_BV = torch.from_numpy(own_MV[block].toarray())
            return nn.functional.binary_cross_entropy_with_logits(
                torch.sparse.mm(words_BW, weights_WV) + own * own_BV + shift_V + base_V,
                torch.from_numpy(labels_MV[block].toarray()),
                reduction="sum",
            )

        def penalty() -> torch.Tensor:
            squares = torch.stack([one.square().sum() for one in parameters]).sum()
            return squares / (2 * self.spread**2 * pictures)

        blocks = range(-(-words_MW.shape[0] // BLOCK))
        minimise(parameters, block_loss, blocks, pictures, penalty, self.iterations, group)
        return (
            weights_WV.detach().numpy(),
            bias_V + shift_V.detach().numpy(),
            float(own.detach()),
        )


class Bags:
    """Which words and which tags of the vocabulary are among a picture's social tags."""

    def __init__(self, words: tuple[str, ...], tags: tuple[str, ...]) -> None:
        self.words = words
        self.tags = tags
        self._words = Bag(words)
        self._tags = Bag(tags)

    def encode(self, lists: Sequence[Sequence[str]]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Binary float32 matrices [N, W] and [N, V] of lists of normalised, distinct words."""
        return self._words.encode(lists), self._tags.encode(lists)


def is_known(words_BW: sparse.csr_matrix, own_BV: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Which pictures have a social tag that says something: boolean [B]."""
    return known_rows(words_BW) | known_rows(own_BV)


class Social(Annotator):
    """Logistic regression on social words; abstains where none of them is known."""

    kind = "social"
    reads = (schema.SOCIAL_TAGS,)
    may_abstain = True

    def __init__(
        self,
        bags: Bags,
        weights_WV: NDArray[np.float32],
        bias_V: NDArray[np.float32],
        own: float,
        vocabulary_digest: str,
    ) -> None:
        self.bags = bags
        self.weights_WV = weights_WV
        self.bias_V = bias_V
        self.own = own
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        words_BW, own_BV = self.bags.encode(batch_words(batch))
        logits_BV = words_BW @ self.weights_WV + np.float32(self.own) * own_BV.toarray()
        scores_BV = expit(logits_BV + self.bias_V)
        scores_BV[~is_known(words_BW, own_BV)] = np.nan
        return Verdict(scores_BV)

    def save(self, folder: Path) -> None:
        save_file({"weights": self.weights_WV, "bias": self.bias_V}, folder / "social.safetensors")
        content = {
            "vocabulary": self.vocabulary_digest,
            "words": self.bags.words,
            "tags": self.bags.tags,
            "own": self.own,
        }
        (folder / "social.json").write_text(
            json.dumps(content, ensure_ascii=False), encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> "Social":
        content = json.loads((folder / "social.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "social.safetensors")
        return cls(
            Bags(tuple(content["words"]), tuple(content["tags"])),
            arrays["weights"],
            arrays["bias"],
            content["own"],
            content["vocabulary"],
        )
