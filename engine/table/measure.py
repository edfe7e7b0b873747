"""One row of a table on one split of a corpus: fitted, asked, and measured by every metric."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.config import FitConfig, VocabularyConfig
from engine.corpus import Corpus, split_rows
from engine.cut import Cut
from engine.fitting import VALIDATION_AT_MOST, score_corpus
from engine.fusion import Fusion
from engine.group import Group
from engine.numerics.metric_registry import DEPTH, Answers, figures_of
from engine.recipe import Annotator
from engine.table.config import TagCount
from engine.table.pictures import Pictures
from engine.vocab import Vocabulary


@dataclass(frozen=True)
class Trial:
    """Where a row is fitted and where it is tested.

    Attributes:
        test: pictures of their own; None: the share `held_out` of the training pictures.
        words: given and counted; None: the tags of the pictures that were trained on.
        k: tags a picture; see `TagCount`.
    """

    training: Pictures
    test: Pictures | None
    held_out: float
    seed: int
    words: tuple[str, ...] | None
    k: TagCount

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of `training` that are trained on, and rows that are tested on."""
        if self.test is None:
            return split_rows(self.training.ids, self.held_out, self.seed)
        return np.arange(len(self.training)), np.arange(len(self.test))


def measure(config: FitConfig, trial: Trial, group: Group) -> dict[str, float]:
    """Fit a row and measure it: every metric that applies, by name.

    The protocol is that of `jobs.evaluate`: the best among the counted words for each picture, and
    figures over all of these words, those that were never trained on among them.

    Raises:
        CorpusError: too few pictures or tags.
    """
    training_rows, test_rows = trial.rows()
    test = trial.training if trial.test is None else trial.test
    training, vocabulary = trial.training.corpus(training_rows, config.vocabulary)
    # With every tag of its own, so that no picture drops out for a tag that was not trained on.
    asked, _ = test.corpus(test_rows, VocabularyConfig())
    seeded = config.model_copy(update={"seed": trial.seed})
    said = say_of(asked, seeded, training, vocabulary, group, counts=trial.k == "auto")
    words = trial.words or vocabulary.tags
    places_NW = test.places(test_rows, words)
    answers = answers_among(words, vocabulary, said, places_NW, trial.k)
    return figures_of(answers)


@dataclass(frozen=True)
class Said:
    """What a fitted row says of N pictures.

    Attributes:
        scores_NV: float32 in [0, 1]; zeros for a picture of which nothing is known.
        cut: how many tags they get under 'auto'.
        informed_N: of which pictures an annotator speaks that may abstain.
    """

    scores_NV: NDArray[np.float32]
    cut: Cut = field(default_factory=Cut)
    informed_N: NDArray[np.bool_] | None = None


def say_of(
    asked: Corpus,
    config: FitConfig,
    training: Corpus,
    vocabulary: Vocabulary,
    group: Group,
    counts: bool = False,
) -> Said:
    """Score the pictures `asked` by what the configuration says, fitted on `training`.

    One annotator without a lift is asked as it is, fitted on all the training pictures. Otherwise,
    and where `counts` says that a number of tags is wanted, blend, lift and cut are learned as in
    `engine.fitting.fit_bundle`.
    """
    if len(config.annotators) == 1 and config.lift == 0 and not counts:
        (recipe,) = config.annotators.values()
        scores_NV = score_corpus(recipe.fit(training, vocabulary, group), asked)
        return Said(np.nan_to_num(scores_NV, nan=0))
    share = min(config.validation, VALIDATION_AT_MOST / len(training))
    fit_rows, validation_rows = split_rows(training.ids, share, config.seed)
    part, validation = training.subset(fit_rows), training.subset(validation_rows)
    fitted: dict[str, Annotator] = {
        name: recipe.fit(part, vocabulary, group) for name, recipe in config.annotators.items()
    }
    optional = {name for name, one in fitted.items() if one.may_abstain}
    held_out = {name: score_corpus(one, validation) for name, one in fitted.items()}
    fusion = Fusion.learn(held_out, validation.labels_NV, config.seed, config.lift, optional)
    cut = Cut.learn(fusion(held_out), validation.labels_NV)
    if config.refit:
        fitted = {
            name: recipe.fit(training, vocabulary, group)
            for name, recipe in config.annotators.items()
        }
    parts = fusion.parts({name: score_corpus(one, asked) for name, one in fitted.items()})
    return Said(fusion.total(parts), cut, fusion.informed(parts))


def answers_among(
    words: Sequence[str],
    vocabulary: Vocabulary,
    said: Said,
    places_NW: NDArray[np.float32],
    k: TagCount,
) -> Answers:
    """The best tags of each picture among `words`, in the order of these.

    Equal scores go to the tag that is more frequent in training, as in a bundle.

    Args:
        places_NW: of the true tags; see `Answers`.
        k: how many; under 'true' a picture without one of `words` is given none.
    """
    place = {word: column for column, word in enumerate(words)}
    known_K = np.array(
        sorted(vocabulary.index[word] for word in words if word in vocabulary.index), dtype=np.int64
    )
    columns_K = np.array([place[vocabulary.tags[tag]] for tag in known_K], dtype=np.int64)
    scores_NK = said.scores_NV[:, known_K]
    scores_NW = np.zeros(places_NW.shape, dtype=np.float32)
    scores_NW[:, columns_K] = scores_NK
    truth_NW = places_NW > 0
    counts_N = _counts(said, scores_NK, truth_NW, k)
    order_NR, _ = said.cut.rank(scores_NK, max(DEPTH, int(counts_N.max(initial=0))))
    ranking_NR = columns_K[order_NR]
    given_NW = np.zeros(places_NW.shape, dtype=np.bool_)
    is_given_NR = np.arange(ranking_NR.shape[1]) < counts_N[:, None]
    np.put_along_axis(given_NW, ranking_NR, is_given_NR, axis=1)
    return Answers(scores_NW, given_NW, truth_NW, ranking_NR, places_NW)


def _counts(
    said: Said, scores_NK: NDArray[np.float32], truth_NW: NDArray[np.bool_], k: TagCount
) -> NDArray[np.int64]:
    if k == "true":
        return truth_NW.sum(1)
    if k == "auto":
        return said.cut.rank(scores_NK, "auto", said.informed_N)[1]
    return np.full(len(scores_NK), k)
