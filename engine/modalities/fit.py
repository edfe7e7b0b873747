"""A part of a multimodal fit: the networks of some views, and what they say of held-out ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.corpus import Corpus, split_rows
from engine.group import Group
from engine.modalities.scoring import Arrays, chances
from engine.modalities.settings import (
    EMBEDDING,
    DenseSettings,
    PixelSettings,
    TrainingSettings,
    modality_name,
)
from engine.modalities.views import CorpusViews, Scale
from engine.numerics.similarity import Similarity

if TYPE_CHECKING:
    from engine.training import Checkpoints

ROWS = 256
"""Pictures that are scored at a time."""


@dataclass(frozen=True)
class Part:
    """What was learned of some views.

    Attributes:
        arrays: the weights of each modality, by its name.
        held_out: p [M, V] float32 of each modality for this rank's pictures that are held out,
            by networks that have not seen them.
        scale: of the embedding; None where it is no view of these.
    """

    arrays: dict[str, Arrays]
    held_out: dict[str, NDArray[np.float32]]
    scale: Scale | None


def fit_part(
    corpus: Corpus,
    names: Sequence[str],
    similarities: Sequence[Similarity],
    dense: DenseSettings,
    pixels: PixelSettings,
    settings: TrainingSettings,
    group: Group,
    checkpoints: "Checkpoints | None" = None,
) -> Part:
    """Learn the networks of the views `names`; they do not depend on which others are learned.

    Raises:
        ConfigError: the corpus has no such view.
        TrainingError: a loss is no number.
    """
    # Here, not above: torch takes seconds that a fitted annotator need not pay.
    from engine.modalities.learning import fine_tune, new_trunks, pretrain

    scale = Scale.learn(corpus, group) if EMBEDDING in names else None
    views = CorpusViews(corpus, names, scale)
    trunks = new_trunks(views, dense, pixels, settings.optimisation.seed)
    # Unlabelled pictures have taught the embedding's own network all that they would teach here.
    raw = [name for name in names if name != EMBEDDING]
    if settings.pretrains and raw:
        pretrain({name: trunks[name] for name in raw}, views.only(raw), settings, group)
    training_rows, held_rows = held_apart(corpus, settings, group)
    tuning = (corpus.labels_NV, settings, group)
    arrays = fine_tune(trunks, similarities, views, training_rows, *tuning)
    held_out: dict[str, list[NDArray[np.float32]]] = {name: [] for name in arrays}
    for start in range(0, max(len(held_rows), 1), ROWS):
        for view, values in views.take(held_rows[start : start + ROWS]).items():
            for similarity in similarities:
                modality = modality_name(view, similarity)
                said = chances(values, view, similarity, arrays[modality], pixels)
                held_out[modality].append(said)
    if settings.refits:
        every = np.arange(len(corpus))
        arrays = fine_tune(trunks, similarities, views, every, *tuning, checkpoints)
    return Part(arrays, {name: np.concatenate(one) for name, one in held_out.items()}, scale)


def held_apart(
    corpus: Corpus, settings: TrainingSettings, group: Group
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """This rank's rows that networks learn from, and those held out: the same whatever the ranks.

    Raises:
        CorpusError: there is one picture in all.
    """
    own = np.array(corpus.ids, dtype=np.str_)
    every = np.concatenate(group.gather(own)).astype(np.str_).tolist()
    _, held = split_rows(every, settings.held_out, settings.optimisation.seed)
    is_held_N = np.isin(own, np.array(every, dtype=np.str_)[held])
    return np.flatnonzero(~is_held_N), np.flatnonzero(is_held_N)
