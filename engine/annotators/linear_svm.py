"""Linear SVM: a support vector machine a tag, one against the rest, by scikit-learn."""

import json
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy import sparse
from scipy.special import expit

from engine import schema
from engine.corpus import Corpus
from engine.gathering import gathered
from engine.group import Group
from engine.recipe import Annotator, Recipe, Verdict
from engine.regression import Head
from engine.vocab import Vocabulary
from engine.whitened import Whitened


class LinearSvmRecipe(Recipe):
    """Settings of the linear support vector machines, a peer in Yan et al. 2016, section 5.1.

    ½ (|w|² + b²) + C Σ_i s_i max(0, 1 - y_i (w·x_i + b))² for each tag by itself, by
    `sklearn.svm.LinearSVC`. Each rank learns its share of the tags on all the pictures.

    Attributes:
        shrinkage: of the whitening of the embedding, see `engine.numerics.whitening`.
        penalty: C, the squared length of a whitened picture being 1 on average.
        balance: s_i is the odds against the tag to this power where picture i carries it, else 1.
        iterations: at the most.
    """

    kind: Literal["linear-svm"] = "linear-svm"
    shrinkage: PositiveFloat = 1.0
    penalty: PositiveFloat = 1.0
    balance: NonNegativeFloat = 0.0
    iterations: PositiveInt = 1000

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> "LinearSvm":
        whitened = Whitened.learn(corpus, self.shrinkage, group)
        features = group.gather(whitened.features_ND)
        features_ND = np.concatenate([part.astype(np.float32) for part in features])
        labels_NV = gathered(corpus, group).labels_NV.tocsc()
        mine = np.arange(group.rank, len(vocabulary), group.size)
        learned = [self._machine(features_ND, labels_NV[:, [tag]]) for tag in mine]
        width = features_ND.shape[1] + 2
        rows_MW = np.array(learned, dtype=np.float64).reshape(len(mine), width)
        every_VW = np.empty((len(vocabulary), width))
        for rank, part in enumerate(group.gather(rows_MW)):
            every_VW[rank :: group.size] = part
        unfinished = int(every_VW[:, -1].sum())
        notes = (
            (
                f"linear-svm stopped short of the optimum for {unfinished} tags; raise its "
                "iterations, or lower its penalty",
            )
            if unfinished
            else ()
        )
        machine = whitened.head(every_VW[:, :-2].T, every_VW[:, -2])
        return LinearSvm(machine, vocabulary.digest, notes)

    def _machine(
        self, features_ND: NDArray[np.float32], label_N1: sparse.csc_matrix
    ) -> NDArray[np.float64]:
        """One tag's w, then b, then whether there was more to learn.

        A tag on every picture or on none gets a machine that says so of all.
        """
        # Here, not above: the import takes a second that a fitted bundle need not pay.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        carries_N = label_N1.toarray().ravel() > 0
        row_W = np.zeros(features_ND.shape[1] + 2)
        if carries_N.all() or not carries_N.any():
            row_W[-2] = 1 if carries_N.all() else -1
            return row_W
        odds_against = (~carries_N).sum() / carries_N.sum()
        machine = LinearSVC(
            C=self.penalty,
            class_weight={True: odds_against**self.balance},
            max_iter=self.iterations,
            random_state=0,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            machine.fit(features_ND, carries_N)
        row_W[:-2], row_W[-2] = machine.coef_[0], machine.intercept_[0]
        row_W[-1] = bool(caught)
        return row_W


class LinearSvm(Annotator):
    """sigmoid(w·x + b): the order of the tags is that of their machines' margins."""

    kind = "linear-svm"
    reads = (schema.EMBEDDING,)

    def __init__(self, machine: Head, vocabulary_digest: str, notes: tuple[str, ...] = ()) -> None:
        self.machine = machine
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes

    def score(self, batch: pa.Table) -> Verdict:
        return Verdict(expit(self.machine.predict(batch)))

    def save(self, folder: Path) -> None:
        content = {"vocabulary": self.vocabulary_digest, **self.machine.save(folder)}
        (folder / "linear_svm.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "LinearSvm":
        content = json.loads((folder / "linear_svm.json").read_text(encoding="utf-8"))
        return cls(Head.load(folder, tuple(content["levels"])), content["vocabulary"])
