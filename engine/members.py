"""Fits a bundle's annotators and what blends them, and asks them all about a corpus.

The one way of it: `fit_bundle` saves what comes of it, and a table measures it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.config import FitConfig
from engine.corpus import Corpus, split_rows
from engine.cut import TopK
from engine.ensemble import OWN, Ensemble, Opinion
from engine.errors import ConfigError
from engine.group import Group
from engine.quantity import Quantity
from engine.recipe import Annotator, Recipe
from engine.vocab import Vocabulary

VALIDATION_AT_MOST = 5_000
"""Pictures that fusion and calibration learn from: a handful of parameters needs no more."""

_BATCH = 256

Say = Callable[[str], None]
"""Told of each step as it begins."""

RunFit = Callable[[Recipe, Corpus, Vocabulary, Group], Annotator]
"""Has a recipe fitted, here or by the workers of a cluster."""


def fit_here(recipe: Recipe, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> Annotator:
    """Fit in this process."""
    return recipe.fit(corpus, vocabulary, group)


@dataclass(frozen=True)
class Statements:
    """What each annotator by itself says of N pictures.

    Attributes:
        scores: float32 [N, V] of each annotator.
        quantities: float32 [N], how many tags, of those that say so; `OWN`: of `Members.quantity`.
    """

    scores: Mapping[str, NDArray[np.float32]]
    quantities: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Members:
    """Fitted annotators and their ensemble.

    Attributes:
        quantity: what says how many tags a picture gets, where that is no annotator's business.
        validation: the pictures that the ensemble was learned from and no annotator had seen.
        held_out: what the annotators said of these; they are fitted on all pictures after that,
            if the configuration says so.
    """

    annotators: Mapping[str, Annotator]
    ensemble: Ensemble
    quantity: Quantity | None
    validation: Corpus
    held_out: Statements

    def opinion(self, corpus: Corpus) -> Opinion:
        """What they say together of the pictures of a corpus."""
        return joint_opinion(self.ensemble, statements(self.annotators, corpus, self.quantity))

    def rank(
        self, opinion: Opinion, top_k: TopK, among_W: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `Ensemble.rank`: what a bundle would give with this opinion."""
        return self.ensemble.rank(opinion, top_k, among_W)


def fit_members(
    config: FitConfig,
    corpus: Corpus,
    vocabulary: Vocabulary,
    group: Group,
    say: Say = lambda _: None,
    run_fit: RunFit = fit_here,
) -> Members:
    """Fit every annotator, and blend, calibration and cut on a part that none of them has seen.

    Raises:
        CorpusError: too few pictures.
        ConfigError: the annotator that is to say how many tags a picture has says nothing of it.
    """
    share = min(config.validation, VALIDATION_AT_MOST / max(len(corpus), 1))
    training_rows, validation_rows = split_rows(corpus.ids, share, config.seed)
    training, validation = corpus.subset(training_rows), corpus.subset(validation_rows)
    fitted: dict[str, Annotator] = {}
    for name, recipe in config.annotators.items():
        say(f"fitting {name} on {len(training):,} pictures")
        fitted[name] = run_fit(recipe, training, vocabulary, group)
    settings = config.ensemble_settings
    quantity = None
    if settings.counter == OWN:
        say(f"learning how many tags a picture has from {len(training):,} pictures")
        quantity = Quantity.learn(training, settings.count.lqp, group)
    held_out = statements(fitted, validation, quantity)
    if settings.counter is not None and settings.counter not in held_out.quantities:
        raise ConfigError(
            f"count.from is '{settings.counter}', but that annotator does not say how many tags a "
            "picture has; name one that does, or leave count.from out"
        )
    say(f"blending on {len(validation):,} validation pictures")
    optional = {name for name, one in fitted.items() if one.may_abstain}
    frequency_V = vocabulary.frequencies_V / len(corpus)
    taught_V = np.asarray(training.labels_NV.sum(axis=0), dtype=np.float64).ravel()
    ensemble = Ensemble.learn(
        held_out.scores, validation.labels_NV, settings, optional, frequency_V, taught_V
    )
    if config.refit:
        for name, recipe in config.annotators.items():
            say(f"fitting {name} on all {len(corpus):,} pictures")
            fitted[name] = run_fit(recipe, corpus, vocabulary, group)
        if quantity is not None:
            say(f"learning how many tags a picture has from all {len(corpus):,} pictures")
            quantity = Quantity.learn(corpus, settings.count.lqp, group)
    return Members(fitted, ensemble, quantity, validation, held_out)


def statements(
    annotators: Mapping[str, Annotator], corpus: Corpus, quantity: Quantity | None = None
) -> Statements:
    """What each annotator says of the pictures of a corpus, and how many tags `quantity` says."""
    scores, quantities = {}, {}
    for name, one in annotators.items():
        verdicts = [one.score(batch) for batch in _batches(one.reads, corpus)]
        scores[name] = np.concatenate([verdict.scores_BV for verdict in verdicts])
        said = [verdict.quantity_B for verdict in verdicts if verdict.quantity_B is not None]
        if said:
            quantities[name] = np.concatenate(said)
    if quantity is not None:
        found = [quantity(batch) for batch in _batches(quantity.reads, corpus)]
        quantities[OWN] = np.concatenate(found)
    return Statements(scores, quantities)


def joint_opinion(ensemble: Ensemble, said: Statements) -> Opinion:
    """What the annotators say together."""
    counter = ensemble.counter
    return ensemble.opinion(said.scores, None if counter is None else said.quantities[counter])


def score_corpus(annotator: Annotator, corpus: Corpus) -> NDArray[np.float32]:
    """An annotator's scores float32 [N, V] of a corpus's pictures."""
    batches = _batches(annotator.reads, corpus)
    return np.concatenate([annotator.score(batch).scores_BV for batch in batches])


def _batches(reads: tuple[str, ...], corpus: Corpus) -> Iterator[pa.Table]:
    """A corpus's pictures in batches with the columns that are read."""
    start = 0
    social = corpus.social_tags or (None,) * len(corpus)
    for embeddings_BD, _ in corpus.blocks(_BATCH):
        rows = slice(start, start + len(embeddings_BD))
        batch = embedded_batch(corpus.ids[rows], embeddings_BD, social[rows])
        if corpus.pixels is not None and schema.PIXELS in reads:
            squares = corpus.pixels.take(np.arange(rows.start, rows.stop))
            batch = batch.append_column(schema.PIXELS, schema.tensor_column(squares))
        for name in corpus.columns.keys() & set(reads):
            values = corpus.columns[name].take(np.arange(rows.start, rows.stop))
            batch = batch.append_column(name, schema.tensor_column(values))
        yield batch
        start = rows.stop


def embedded_batch(
    ids: Sequence[str],
    embeddings_BD: NDArray[np.float32],
    social: Sequence[Sequence[str] | None] | None,
) -> pa.Table:
    """What the annotators read."""
    kind = schema.OPTIONAL[schema.SOCIAL_TAGS]
    words = pa.nulls(len(ids), kind) if social is None else pa.array(social, kind)
    return pa.table(
        {
            schema.IMAGE_ID: pa.array(ids, pa.string()),
            schema.EMBEDDING: schema.tensor_column(embeddings_BD),
            schema.SOCIAL_TAGS: words,
        }
    )
