"""One row of a table on one split of a corpus: fitted, asked, and measured by every metric."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.config import FitConfig, VocabularyConfig
from engine.corpus import Corpus, split_rows
from engine.cut import Cut
from engine.fitting import VALIDATION_AT_MOST, score_corpus
from engine.fusion import Fusion
from engine.group import Group
from engine.measuring import answers_among, places_among
from engine.numerics.metric_registry import figures_of
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
    given_NR, counts_N = given_among(places_among(words, vocabulary), said, places_NW, trial.k)
    answers = answers_among(words, vocabulary, said.scores_NV, given_NR, counts_N, places_NW)
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


def given_among(
    known_K: NDArray[np.int64], said: Said, places_NW: NDArray[np.float32], k: TagCount
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tags that each picture gets: places on the V axis [N, R], and how many count [N].

    Args:
        known_K: places of the tags that may be given.
        places_NW: above 0 where a counted word is true.
        k: how many; under 'true' a picture without a true word gets none.
    """
    scores_NK = said.scores_NV[:, known_K]
    if k == "true":
        counts_N = np.minimum((places_NW > 0).sum(1), len(known_K))
        order_NR, _ = said.cut.rank(scores_NK, max(1, int(counts_N.max(initial=0))))
    else:
        order_NR, counts_N = said.cut.rank(scores_NK, k, said.informed_N)
        counts_N = np.minimum(counts_N, len(known_K))
    return known_K[order_NR], counts_N
