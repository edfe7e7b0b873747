"""One row of a table on one split of a corpus: fitted, asked, and measured by every metric."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.calibration import Calibration
from engine.config import FitConfig, VocabularyConfig
from engine.corpus import Corpus, split_rows
from engine.cut import Cut
from engine.ensemble import Ensemble, Opinion
from engine.fusion import Fusion
from engine.group import Group
from engine.measuring import answers_among, places_among
from engine.members import fit_members, statements
from engine.numerics.metric_registry import figures_of
from engine.table.config import TagCount
from engine.table.pictures import Pictures
from engine.vocab import Vocabulary

Say = Callable[[str], None]

HALF = Cut(0.5, most=1 << 20, is_floor=True)
"""What is likelier than not, and nothing if nothing is."""


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


def measure(
    config: FitConfig, trial: Trial, group: Group, say: Say = lambda note: None
) -> dict[str, float]:
    """Fit a row and measure it: every metric that applies, by name.

    The protocol is that of `jobs.evaluate`: the best among the counted words for each picture, and
    figures over all of these words, those that were never trained on among them.

    Args:
        say: told what the annotators note of their fit.

    Raises:
        CorpusError: too few pictures or tags.
    """
    training_rows, test_rows = trial.rows()
    test = trial.training if trial.test is None else trial.test
    training, vocabulary = trial.training.corpus(training_rows, config.vocabulary)
    # With every tag of its own, so that no picture drops out for a tag that was not trained on.
    asked, _ = test.corpus(test_rows, VocabularyConfig())
    seeded = config.model_copy(update={"seed": trial.seed})
    said = said_of(asked, seeded, training, vocabulary, group, trial.k == "auto")
    for note in said.notes:
        say(note)
    words = trial.words or vocabulary.tags
    places_NW = test.places(test_rows, words, config.vocabulary)
    given_NR, counts_N = given_among(places_among(words, vocabulary), said, places_NW, trial.k)
    opinion = said.opinion
    answers = answers_among(
        words, vocabulary, opinion.scores_BV, given_NR, counts_N, places_NW, opinion.quantity_B
    )
    return figures_of(answers)


@dataclass(frozen=True)
class Said:
    """What a fitted row says of N pictures, and what ranks and counts the tags by that.

    Attributes:
        notes: of the annotators on their fit.
    """

    ensemble: Ensemble
    opinion: Opinion
    notes: tuple[str, ...] = ()


def said_of(
    asked: Corpus,
    config: FitConfig,
    training: Corpus,
    vocabulary: Vocabulary,
    group: Group,
    counts: bool = False,
) -> Said:
    """Ask what the configuration says, fitted on `training`, about the pictures `asked`.

    One annotator without a lift is asked as it is, fitted on all the training pictures; where
    `counts` says that a number of tags is wanted, only if it tells that number itself. Otherwise
    the annotators are fitted and blended as in `engine.fitting.fit_bundle`.
    """
    counter = config.ensemble_settings.counter
    lone = len(config.annotators) == 1 and config.lift == 0 and config.balance == 0
    if not lone or (counts and counter not in config.annotators):
        members = fit_members(config, training, vocabulary, group)
        notes = tuple(note for one in members.annotators.values() for note in one.notes)
        return Said(members.ensemble, members.opinion(asked), notes)
    ((name, recipe),) = config.annotators.items()
    annotator = recipe.fit(training, vocabulary, group)
    said = statements({name: annotator}, asked)
    fusion = Fusion({name: 1.0}, {name: Calibration()}, Calibration())
    opinion = Opinion(
        # Of a picture from which it abstains nothing is known.
        np.nan_to_num(said.scores[name], nan=0),
        np.zeros(len(asked), dtype=np.bool_),
        said.quantities.get(name),
    )
    return Said(Ensemble(fusion, Cut(), counter), opinion, annotator.notes)


def given_among(
    known_K: NDArray[np.int64], said: Said, places_NW: NDArray[np.float32], k: TagCount
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tags that each picture gets: places on the V axis [N, R], and how many count [N].

    Args:
        known_K: places of the tags that may be given.
        places_NW: above 0 where a counted word is true.
        k: how many; under 'true' a picture without a true word gets none, and the order is that of
            the scores.
    """
    if not len(known_K):
        return np.zeros((len(places_NW), 0), np.int64), np.zeros(len(places_NW), np.int64)
    if k == "true":
        counts_N = np.minimum((places_NW > 0).sum(1), len(known_K))
        scores_NK = said.opinion.scores_BV[:, known_K]
        order_NR, _ = Cut().rank(scores_NK, max(1, int(counts_N.max(initial=0))))
        return known_K[order_NR], counts_N
    if k == "half":
        order_NR, counts_N = HALF.rank(said.opinion.scores_BV[:, known_K], "auto")
        return known_K[order_NR], counts_N
    return said.ensemble.rank(said.opinion, k, known_K)
