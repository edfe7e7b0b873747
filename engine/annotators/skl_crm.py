"""SKL-CRM: the continuous relevance model with a sparse, learned choice of kernels for features."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from engine import schema
from engine.corpus import Corpus, split_rows
from engine.gathering import binary_matrix, gathered
from engine.group import Group
from engine.numerics.density import KERNELS, Density, KernelName
from engine.numerics.kernel_selection import Candidate, Choice, annotation_f1, select_kernels
from engine.numerics.relevance import multinomial_words, posterior
from engine.recipe import Annotator, Recipe, Verdict
from engine.vocab import Vocabulary

TAGS_A_PICTURE = 5
"""k of the F1 that the kernels are chosen by."""


class SklCrmRecipe(Recipe):
    """Settings of Moran and Lavrenko 2014 ("Sparse Kernel Learning for Image Annotation").

    The paper chooses among kernels for fifteen hand-crafted features, greedily and by F1 on
    held-out pictures; here the features are the levels of the embedding. Settled here: a kernel's
    bandwidth is part of the choice, a level is used once, and what was held out is trained on
    afterwards.

    Attributes:
        kernels: see `engine.numerics.density.Density`.
        bandwidths: tried for each kernel, in units of its mean divergence.
        most: kernels chosen at the most, one a level.
        depth: levels to choose from, the last layer and the deepest stages of the network.
        mu: μ, the words of the corpus's background that smooth those of a picture.
        held_out: share of the training pictures on which F1 is measured.
        pictures: used for the choice at the most; memory grows with their square.
        seed: of what is held out.
    """

    kind: Literal["skl-crm"] = "skl-crm"
    kernels: Annotated[tuple[KernelName, ...], Field(min_length=1)] = KERNELS
    bandwidths: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.02, 0.04, 0.08, 0.16)
    most: PositiveInt = 4
    depth: PositiveInt = 4
    mu: PositiveFloat = 1.0
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.15
    pictures: Annotated[int, Field(ge=2)] = 5000
    seed: int = 0

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "SklCrm":
        whole = gathered(corpus, group)
        choices = self._choose(whole)
        return SklCrm(
            self,
            corpus.levels,
            choices,
            tuple(
                np.ascontiguousarray(_level(whole.embeddings_ND, corpus.levels, choice.level))
                for choice in choices
            ),
            whole.labels_NV,
            vocabulary.digest,
        )

    def _choose(self, corpus: Corpus) -> tuple[Choice, ...]:
        some = corpus
        if len(corpus) > self.pictures:
            _, rows = split_rows(corpus.ids, self.pictures / len(corpus), self.seed)
            some = corpus.subset(rows)
        training_rows, held_out_rows = split_rows(some.ids, self.held_out, self.seed + 1)
        training, held_out = some.subset(training_rows), some.subset(held_out_rows)
        levels = corpus.levels
        stages = range(max(1, len(levels) - self.depth + 1), len(levels))
        candidates = [
            Candidate(
                level,
                kernel,
                Density(kernel, _level(training.embeddings_ND, levels, level)).divergences(
                    _level(held_out.embeddings_ND, levels, level)
                ),
            )
            for level in (0, *stages)
            for kernel in self.kernels
        ]
        truth_BV = held_out.labels_NV.toarray() > 0

        def f1(log_density_BN: NDArray[np.float32]) -> float:
            return annotation_f1(
                log_density_BN, training.labels_NV, truth_BV, self.mu, TAGS_A_PICTURE
            )

        choices, _ = select_kernels(candidates, self.bandwidths, f1, self.most)
        return choices


def _level(
    embeddings_ND: NDArray[np.float32], levels: tuple[int, ...], level: int
) -> NDArray[np.float32]:
    start = sum(levels[:level])
    return np.asarray(embeddings_ND[:, start : start + levels[level]], dtype=np.float32)


class SklCrm(Annotator):
    """P(w | x) = Σ_J P(J | x) P(w | J), with P(x | J) the product of the chosen kernels."""

    kind = "skl-crm"

    def __init__(
        self,
        recipe: SklCrmRecipe,
        levels: tuple[int, ...],
        choices: tuple[Choice, ...],
        training: tuple[NDArray[np.float32], ...],
        labels_NV: sparse.csr_matrix,
        vocabulary_digest: str,
    ) -> None:
        """Args:
        training: the level of each choice, of all N training pictures: arrays [N, D_m].
        """
        self.recipe = recipe
        self.levels = levels
        self.choices = choices
        self.labels_NV = labels_NV
        self.vocabulary_digest = vocabulary_digest
        self.notes = ("skl-crm chose " + ", ".join(map(_named, choices)),)
        self._densities = tuple(
            Density(choice.kernel, vectors)
            for choice, vectors in zip(choices, training, strict=True)
        )

    def score(self, batch: pa.Table) -> Verdict:
        embeddings_BD = schema.float_tensor(batch, schema.EMBEDDING)
        shape = (len(embeddings_BD), self.labels_NV.shape[0])
        log_density_BN = np.zeros(shape, dtype=np.float32)
        for choice, density in zip(self.choices, self._densities, strict=True):
            vectors = _level(embeddings_BD, self.levels, choice.level)
            log_density_BN -= density.divergences(vectors) / np.float32(
                choice.bandwidth * choice.scale
            )
        return Verdict(multinomial_words(posterior(log_density_BN), self.labels_NV, self.recipe.mu))

    def save(self, folder: Path) -> None:
        content = {
            "vocabulary": self.vocabulary_digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "levels": self.levels,
            "choices": [asdict(choice) for choice in self.choices],
            "tags": self.labels_NV.shape[1],
        }
        (folder / "skl-crm.json").write_text(json.dumps(content), encoding="utf-8")
        arrays: dict[str, NDArray[np.generic]] = {
            "label_indices": self.labels_NV.indices.astype(np.int32),
            "label_indptr": self.labels_NV.indptr.astype(np.int64),
        }
        for place, density in enumerate(self._densities):
            arrays[f"training/{place}"] = density.training_ND
        save_file(arrays, folder / "skl-crm.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "SklCrm":
        content = json.loads((folder / "skl-crm.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "skl-crm.safetensors")
        choices = tuple(Choice(**choice) for choice in content["choices"])
        return cls(
            SklCrmRecipe.model_validate(content["recipe"]),
            tuple(content["levels"]),
            choices,
            tuple(arrays[f"training/{place}"] for place in range(len(choices))),
            binary_matrix(arrays["label_indices"], arrays["label_indptr"], int(content["tags"])),
            content["vocabulary"],
        )


def _named(choice: Choice) -> str:
    return f"{choice.kernel} on level {choice.level} (bandwidth {choice.bandwidth})"
