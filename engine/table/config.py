"""The configuration of a table: its rows, its corpora, its columns, and the paper's own figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from engine.config import FitConfig
from engine.errors import ConfigError
from engine.numerics.metric_registry import CURVES, METRICS
from engine.overrides import override_setting
from engine.toml_files import read_toml, refusal, toml_value

CORPUS_NAME = r"^[a-z0-9][a-z0-9-]*$"
CorpusName = Annotated[str, Field(pattern=CORPUS_NAME)]
DEFAULTS = "defaults"

TagCount = PositiveInt | Literal["auto", "half", "true"]
"""Tags a picture: a number; as many as the fitted method itself says; those with a score of
at least a half, which may be none (Zhang and Zhou 2007: what is likelier than not); or as many as
are true, with which no method of counting does better (the upper bound of Niu et al. 2017, Table
I)."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CorpusConfig(_Section):
    """How a corpus is measured on.

    Attributes:
        title: as a heading; without: the corpus's name.
        words: a file of the words that are given and counted, one a line; relative to the corpus.
            None: the tags of its training part.
        min_count: tags of fewer pictures of the training part are neither learned nor, unless a
            file names the words, counted; a row that asks for more has its way.
        held_out: share of the tagged pictures that is tested on, by a hash of their ids and the
            seed; it does not count where a test part is given by itself.
    """

    title: str = ""
    words: Path | None = None
    min_count: PositiveInt = 1
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def limited(self, fit: FitConfig) -> FitConfig:
        """How a row is fitted on this corpus."""
        least = max(self.min_count, fit.vocabulary.min_count)
        vocabulary = fit.vocabulary.model_copy(update={"min_count": least})
        return fit.model_copy(update={"vocabulary": vocabulary})


class RowConfig(_Section):
    """One method: what the paper says of it, and how it is fitted here.

    Attributes:
        name: of the method, and `visual` and `text` the paper's features.
        published: the paper's figures: corpus -> metric -> value.
        fit: one annotator with `lift` = 0 is measured as it is; several are blended as in a
            bundle. None: the paper's figures stand alone.
        k: tags a picture; None: the table's.
    """

    name: Annotated[str, Field(min_length=1)]
    visual: str = ""
    text: str = ""
    published: dict[CorpusName, dict[str, float]] = {}
    fit: FitConfig | None = None
    k: TagCount | None = None

    @field_validator("published")
    @classmethod
    def _known_metrics(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for figures in value.values():
            _check_metrics(figures)
        return value


class TableConfig(_Section):
    """Everything that decides what a table says.

    Attributes:
        note: what a reader should know before comparing, under the title.
        k: tags a picture, where a row does not say otherwise.
        seeds: one run each; the median is shown, with the range.
        metrics: the columns, from `engine.numerics.metric_registry`.
        chart: the metric of the figure.
        curves: figures that are shown at each k of 1 to 10, whatever the `k` of a row: as a table
            and as a figure of their own, `ndcg` and `precision` (Yan et al. 2016, Fig. 3).
        corpora: what is known of the corpora that the paper or the user names.
        rows: in the order of the table.
    """

    title: Annotated[str, Field(min_length=1)]
    note: str = ""
    k: TagCount = 5
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("precision", "recall", "f1")
    chart: str = "f1"
    curves: tuple[str, ...] = ()
    corpora: dict[CorpusName, CorpusConfig] = {}
    rows: Annotated[tuple[RowConfig, ...], Field(min_length=1)]

    @field_validator("metrics")
    @classmethod
    def _known_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _check_metrics(value)
        return value

    @field_validator("curves")
    @classmethod
    def _known_curves(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in CURVES:
                raise ValueError(f"no curve '{name}'; choose among {', '.join(CURVES)}")
        return value

    def count_of(self, row: RowConfig) -> TagCount:
        """How many tags a picture gets by a row."""
        return self.k if row.k is None else row.k

    @model_validator(mode="after")
    def _consistent(self) -> "TableConfig":
        if self.chart not in self.metrics:
            raise ValueError(
                f"chart is '{self.chart}', which is no column; choose one of "
                f"{', '.join(self.metrics)}"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is named twice; each is one run")
        told = [(row.name, row.visual, row.text) for row in self.rows]
        for row in told:
            if told.count(row) > 1:
                raise ValueError(
                    f"rows: two are called {' '.join(filter(None, row))!r}; give each a name, "
                    "'visual' and 'text' of its own"
                )
        return self


def _check_metrics(names: Sequence[str] | Mapping[str, float]) -> None:
    for name in names:
        if name not in METRICS:
            raise ValueError(f"no metric '{name}'; choose among {', '.join(METRICS)}")


def load_table(path: Path, overrides: Sequence[str] = ()) -> TableConfig:
    """Read a table's TOML file and apply overrides such as `seeds=[0,1,2]`.

    The section `defaults` is that of a fit; every row's `fit` says only where it differs.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not as it must be, such as an
            annotator of a kind that this build does not know; the message names the key.
    """
    content = read_toml(path)
    for override in overrides:
        override_setting(content, override, toml_value)
    defaults = content.pop(DEFAULTS, {})
    rows = content.get("rows")
    if not isinstance(defaults, dict) or not isinstance(rows, list):
        raise ConfigError(
            f"{path}: not a table; write one [[rows]] a method, and a section [{DEFAULTS}] of "
            "what all their fits have in common"
        )
    content["rows"] = [
        {**row, "fit": _merged(defaults, row["fit"])}
        if isinstance(row, dict) and isinstance(row.get("fit"), dict)
        else row
        for row in rows
    ]
    try:
        return TableConfig.model_validate(content)
    except ValidationError as error:
        raise refusal(path, error) from error


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Nested settings, those `above` first; annotators are named anew, not added."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(value, dict) and isinstance(under, dict) and key != "annotators":
            value = _merged(under, value)
        merged[key] = value
    return merged
