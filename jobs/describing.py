"""Learns the describer of a corpus's hand-crafted features, from a sample of its pictures."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.feature_stages import FOLDER
from engine.features.describer import PICTURES, Describer
from engine.geometry import Geometry, fit_to
from engine.image import DecodeLimits, ImageError, decode
from engine.swap import put_in_place
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.runner import in_worker
from jobs.sampling import sample_pictures
from jobs.store import Store


def describer_folder(store: Store) -> Path:
    """Where the describer of a corpus lies among what is made of it."""
    return Path(store.path(FOLDER))


def ensure_describer(
    inventory: Inventory, store: Store, limits: DecodeLimits, geometry: Geometry, console: Console
) -> Path:
    """The folder of the corpus's describer in `store`, learned now unless it is there already.

    Raises:
        CorpusError: none of the pictures that it would be learned from can be decoded.
    """
    folder = describer_folder(store)
    if not folder.exists():
        with console.waiting("learning the features' codebooks"):
            in_worker(learn_describer, inventory, limits, geometry, folder)
    return folder


def learn_describer(
    inventory: Inventory, limits: DecodeLimits, geometry: Geometry, folder: Path
) -> None:
    """Learn a describer from at most `PICTURES` of a corpus, and write it whole or not at all."""
    describer = Describer.learn(_squares(inventory, limits, geometry))
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    describer.save(draft)
    put_in_place(draft, folder)


def _squares(
    inventory: Inventory, limits: DecodeLimits, geometry: Geometry
) -> Iterator[NDArray[np.uint8]]:
    for data in sample_pictures(inventory, PICTURES, limits.max_bytes):
        try:
            yield fit_to(decode(data, limits), geometry)[None]
        except ImageError:
            # It is counted and told where the whole corpus is read.
            continue
