"""Tags from the backbone's own classes: P(tag | picture) = sum over classes of P(tag | class).

With P(tag | class) learned from a corpus it is an annotator like any other; with the 1,000
ImageNet classes' own names it needs no corpus at all.
"""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from engine import schema
from engine.corpus import Corpus
from engine.group import Group
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary


class ClassPosteriorRecipe(Recipe):
    """Attributes:
    backbone: whose classifier; it must be the one that embeds the pictures.
    smoothing: pictures' worth of the overall tag frequency that every class starts from.
    """

    kind: Literal["class-posterior"] = "class-posterior"
    backbone: str = "efficientnet-lite2"
    smoothing: float = 1.0

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "ClassPosterior":
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        from engine.embed import class_head

        weights_DC, bias_C = class_head(self.backbone)
        mass_CV = np.zeros((len(bias_C), len(vocabulary)))
        mass_C = np.zeros(len(bias_C))
        counts_V = np.zeros(len(vocabulary))
        for embeddings_BD, labels_BV in corpus.blocks():
            last_BD = embeddings_BD[:, : len(weights_DC)]
            posterior_BC = softmax(last_BD @ weights_DC + bias_C, axis=1)
            mass_CV += (labels_BV.T @ posterior_BC).T
            mass_C += posterior_BC.sum(0)
            counts_V += np.asarray(labels_BV.sum(axis=0)).ravel()
        pictures = group.sum(np.array([float(len(corpus))]))[0]
        prior_V = group.sum(counts_V) / pictures
        mass_CV = group.sum(mass_CV) + self.smoothing * prior_V
        mass_C = group.sum(mass_C) + self.smoothing
        tags_CV = (mass_CV / mass_C[:, None]).astype(np.float32)
        tags = len(vocabulary)
        return ClassPosterior(
            weights_DC,
            bias_C,
            tags_CV,
            np.zeros(tags, dtype=np.float32),
            np.ones(tags, dtype=np.float32),
            vocabulary.digest,
        )


class ClassPosterior(Annotator):
    """A mixture of the classes' tag distributions, weighted by the classifier's posterior.

    score = scale · max(0, mixture - chance): `chance` is what a tag gets on a picture that the
    classifier knows nothing of, `scale` how much of the rest counts; 0 and 1 where P(tag | class)
    was learned.
    """

    kind = "class-posterior"

    def __init__(
        self,
        weights_DC: NDArray[np.float32],
        bias_C: NDArray[np.float32],
        tags_CV: NDArray[np.float32],
        chance_V: NDArray[np.float32],
        scale_V: NDArray[np.float32],
        vocabulary_digest: str,
    ) -> None:
        self.weights_DC = weights_DC
        self.bias_C = bias_C
        self.tags_CV = tags_CV
        self.chance_V = chance_V
        self.scale_V = scale_V
        self.vocabulary_digest = vocabulary_digest

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        last_BD = embeddings_BD[:, : len(self.weights_DC)]
        logits_BC = last_BD @ self.weights_DC + self.bias_C
        posterior_BC = softmax(logits_BC, axis=1) if len(logits_BC) else logits_BC
        mixture_BV = posterior_BC @ self.tags_CV
        return Verdict(np.clip((mixture_BV - self.chance_V) * self.scale_V, 0, 1))

    def save(self, folder: Path) -> None:
        arrays = {
            "weights": self.weights_DC,
            "bias": self.bias_C,
            "tags": self.tags_CV,
            "chance": self.chance_V,
            "scale": self.scale_V,
        }
        save_file(arrays, folder / "class_posterior.safetensors")
        content = {"vocabulary": self.vocabulary_digest}
        (folder / "class_posterior.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ClassPosterior":
        content = json.loads((folder / "class_posterior.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "class_posterior.safetensors")
        return cls(
            arrays["weights"],
            arrays["bias"],
            arrays["tags"],
            arrays["chance"],
            arrays["scale"],
            content["vocabulary"],
        )
