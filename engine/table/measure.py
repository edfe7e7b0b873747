"""One row of a table on one split of a corpus: fitted, asked, and measured by every metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import FitConfig, VocabularyConfig
from engine.corpus import Corpus, split_rows
from engine.fitting import ranked_tags
from engine.group import Group
from engine.members import fit_members, score_corpus
from engine.numerics.metric_registry import METRICS, Answers
from engine.table.pictures import Pictures
from engine.vocab import Vocabulary


@dataclass(frozen=True)
class Trial:
    """Where a row is fitted and where it is tested.

    Attributes:
        test: pictures of their own; None: the share `held_out` of the training pictures.
        words: given and counted; None: the tags of the pictures that were trained on.
        k: tags a picture.
    """

    training: Pictures
    test: Pictures | None
    held_out: float
    seed: int
    words: tuple[str, ...] | None
    k: int

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of `training` that are trained on, and rows that are tested on."""
        if self.test is None:
            return split_rows(self.training.ids, self.held_out, self.seed)
        return np.arange(len(self.training)), np.arange(len(self.test))


def measure(config: FitConfig, trial: Trial, group: Group) -> dict[str, float]:
    """Fit a row and measure it: every metric of the registry by name.

    The protocol is that of `jobs.evaluate`: the k best among the counted words for each picture,
    and figures over all of these words, those that were never trained on among them.

    Raises:
        CorpusError: too few pictures or tags.
    """
    training_rows, test_rows = trial.rows()
    test = trial.training if trial.test is None else trial.test
    training, vocabulary = trial.training.corpus(training_rows, config.vocabulary)
    # With every tag of its own, so that no picture drops out for a tag that was not trained on.
    asked, _ = test.corpus(test_rows, VocabularyConfig())
    scores_NV = fitted_scores(
        config.model_copy(update={"seed": trial.seed}), training, vocabulary, asked, group
    )
    words = trial.words or vocabulary.tags
    truth_NW = test.truth(test_rows, words)
    answers = answers_among(words, vocabulary, scores_NV, truth_NW, trial.k)
    return {name: float(metric.measure(answers)) for name, metric in METRICS.items()}


def fitted_scores(
    config: FitConfig, training: Corpus, vocabulary: Vocabulary, asked: Corpus, group: Group
) -> NDArray[np.float32]:
    """Scores [N, V] of the pictures `asked` by what the configuration says, fitted on `training`.

    One annotator without a lift is asked as it is, fitted on all the training pictures. Otherwise
    blend and lift are learned as in `engine.fitting.fit_bundle`. A picture of which nothing is
    known gets zeros.
    """
    if len(config.annotators) == 1 and config.lift == 0:
        (recipe,) = config.annotators.values()
        return np.nan_to_num(score_corpus(recipe.fit(training, vocabulary, group), asked), nan=0)
    return fit_members(config, training, vocabulary, group).opinion(asked).scores_BV


def answers_among(
    words: Sequence[str],
    vocabulary: Vocabulary,
    scores_NV: NDArray[np.float32],
    truth_NW: NDArray[np.bool_],
    k: int,
) -> Answers:
    """The k best tags of each picture among `words`, in the order of these.

    Equal scores go to the tag that is more frequent in training, as in a bundle.
    """
    place = {word: column for column, word in enumerate(words)}
    known_K = np.array(
        sorted(vocabulary.index[word] for word in words if word in vocabulary.index), dtype=np.int64
    )
    columns_K = np.array([place[vocabulary.tags[tag]] for tag in known_K], dtype=np.int64)
    scores_NW = np.zeros((len(scores_NV), len(words)), dtype=np.float32)
    given_NW = np.zeros(scores_NW.shape, dtype=np.bool_)
    if len(known_K):
        scores_NW[:, columns_K] = scores_NV[:, known_K]
        given_NW[:, columns_K] = ranked_tags(scores_NV[:, known_K], k)
    return Answers(scores_NW, given_NW, truth_NW)
