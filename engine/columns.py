"""Columns that some annotators read beside the embedding, and the stages that make them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import schema
from engine.annotators import REGISTRY
from engine.bundle import Bundle
from engine.config import FitConfig
from engine.errors import ConfigError
from engine.feature_stages import FOLDER, features_stage
from engine.geometry import Geometry
from engine.stage import Stage


@dataclass(frozen=True)
class ColumnSource:
    """What a stage that makes a column from pixels may need to know.

    Attributes:
        backbone: whose input the pixels are.
        geometry: of the pixels.
        folder: of the bundle, or of what is made of a corpus before there is one; None: neither.
    """

    backbone: str
    geometry: Geometry
    folder: Path | None


def _features(name: str, source: ColumnSource) -> Stage:
    if source.folder is None:
        raise ConfigError(
            f"column '{name}' is made by a describer that is learned from the corpus first; name "
            "the folder it lies in"
        )
    return features_stage(source.folder / FOLDER)


COLUMN_STAGES: dict[str, Callable[[str, ColumnSource], Stage]] = {schema.FEATURES: _features}
"""Who makes a column that annotators read beside the embedding, by the part of its name before the
first '/'; given the whole name."""


def column_stage(name: str, source: ColumnSource) -> Stage:
    """The stage that makes a column from pixels."""
    return COLUMN_STAGES[name.partition("/")[0]](name, source)


def wanted_columns(config: FitConfig) -> tuple[str, ...]:
    """Columns beside the embedding that the recipes learn from, each once."""
    asked = (name for recipe in config.annotators.values() for name in recipe.columns)
    return tuple(dict.fromkeys(asked))


def read_columns(bundle: Bundle) -> tuple[str, ...]:
    """Columns beside the embedding that a bundle's annotators read, each once."""
    read = (
        name
        for annotator, kind in bundle.manifest.annotators.items()
        for name in REGISTRY[kind].annotator.reads_of(bundle.folder / "annotators" / annotator)
    )
    return tuple(name for name in dict.fromkeys(read) if name.partition("/")[0] in COLUMN_STAGES)
