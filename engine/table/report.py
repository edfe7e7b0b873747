"""What a table says once it is measured: as JSON, and as Markdown beside the paper's own rows."""

import statistics
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from engine.numerics.metric_registry import CURVES, DEPTH, METRICS
from engine.table.config import RowConfig, TableConfig, TagCount


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Part):
    """A figure over the runs of a row, one run a seed."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value."""
        found = sorted(round(value, 4) for value in values)
        return cls(median=statistics.median(found), least=found[0], most=found[-1])


class Cell(_Part):
    """A row on a corpus.

    Attributes:
        published: the paper's figures by metric.
        measured: ours by metric, all that apply; empty where nothing was measured.
        seeds: of the runs that `measured` is of.
        seconds: of fitting and testing, the median run; they depend on the machine.
        notes: seed -> what the annotators noted of their fit.
        failures: seed -> why the run has no figures.
    """

    published: dict[str, float] = {}
    measured: dict[str, Spread] = {}
    seeds: tuple[int, ...] = ()
    seconds: float | None = None
    notes: dict[int, tuple[str, ...]] = {}
    failures: dict[int, str] = {}


class Line(_Part):
    """A row: the paper's words for it, its tags a picture, and what it is of on each corpus.

    Attributes:
        elsewhere: the paper's figures by metric on corpora that were not measured.
    """

    name: str
    visual: str
    text: str
    features: str
    k: TagCount
    cells: dict[str, Cell]
    elsewhere: dict[str, dict[str, float]] = {}


class CorpusNote(_Part):
    """A corpus as the table measured on it."""

    title: str
    pictures: int
    tested: int
    words: int | None
    min_count: int = 1
    split: str


class TableReport(_Part):
    """The whole table; `table.json` is this.

    Attributes:
        elsewhere: titles of the corpora that the paper alone has figures of.
    """

    title: str
    note: str
    k: TagCount
    metrics: tuple[str, ...]
    chart: str
    curves: tuple[str, ...] = ()
    state: str
    corpora: dict[str, CorpusNote]
    rows: tuple[Line, ...]
    elsewhere: dict[str, str] = {}

    @property
    def failed(self) -> int:
        """Runs that have no figures."""
        return sum(len(cell.failures) for row in self.rows for cell in row.cells.values())


def features_of(row: RowConfig) -> str:
    """What a row's annotators look at here; '' for one that is the paper's alone."""
    return "" if row.fit is None else row.fit.embed.backbone


def label(row: Line | RowConfig) -> str:
    """A method with the paper's features behind it."""
    features = ", ".join(filter(None, (row.visual, row.text)))
    return f"{row.name} ({features})" if features else row.name


def markdown(report: TableReport) -> str:
    """One table a corpus: the paper's columns, then ours (median, range of the chart's metric).

    Then one a curve, with a column for each k. Last the paper's figures on corpora of its own.
    """
    lines = [f"# {report.title}", ""]
    if report.note:
        lines += [report.note, ""]
    for name, note in report.corpora.items():
        tags = "the tags trained on"
        if note.min_count > 1:
            tags += f", each of which {note.min_count:,} pictures or more carry"
        words = tags if note.words is None else f"{note.words:,} words"
        lines += [
            f"## {note.title}",
            "",
            f"{note.pictures:,} pictures, {note.tested:,} of them tested on ({note.split}); "
            f"{_count_told(report)}, means over {words}.",
            "",
        ]
        labels = [METRICS[metric].label for metric in report.metrics]
        told = [f"paper {text}" for text in labels] if _has_published(report, name) else []
        heads = ["method (the paper's features)", *told]
        heads += ["features here", *(["k"] if _k_differs(report) else []), *labels]
        heads += [f"{METRICS[report.chart].label}, range", "seconds"]
        rule = ["---" if head in (heads[0], "features here") else "---:" for head in heads]
        lines += [_line(heads), _line(rule)]
        lines += [_line(_cells(report, row, name)) for row in report.rows]
        lines.append("")
        for curve in report.curves:
            lines += [*_curve(report, name, curve), ""]
        lines += _notes(report, name)
        lines += _failures(report, name)
    for name, title in report.elsewhere.items():
        lines += [*_published(report, name, title), ""]
    return "\n".join(lines).rstrip() + "\n"


def _published(report: TableReport, corpus: str, title: str) -> list[str]:
    """A table of the paper's figures on a corpus that was not measured."""
    told = [(row, row.elsewhere[corpus]) for row in report.rows if corpus in row.elsewhere]
    metrics = [name for name in METRICS if any(name in figures for _, figures in told)]
    heads = ["method (the paper's features)", *(METRICS[name].label for name in metrics)]
    lines = [f"## The paper's own figures on {title}", "", _line(heads)]
    lines.append(_line(["---", *["---:"] * len(metrics)]))
    for row, figures in told:
        shown = [f"{figures[name]:g}" if name in figures else "" for name in metrics]
        lines.append(_line([label(row), *shown]))
    return lines


def _k_differs(report: TableReport) -> bool:
    return any(row.k != report.k for row in report.rows)


def _count_told(report: TableReport) -> str:
    if _k_differs(report):
        return "k tags a picture, as each row says"
    return {
        "auto": "as many tags a picture as the method says",
        "half": "the tags of a picture with a score of at least a half",
        "true": "as many tags a picture as are true",
    }.get(str(report.k), f"k = {report.k}")


def _has_published(report: TableReport, corpus: str) -> bool:
    return any(row.cells[corpus].published for row in report.rows)


def _cells(report: TableReport, row: Line, corpus: str) -> list[str]:
    cell = row.cells[corpus]
    # As the paper prints it, some with a digit and some without.
    published = [
        f"{cell.published[metric]:g}" if metric in cell.published else ""
        for metric in (report.metrics if _has_published(report, corpus) else ())
    ]
    told = [row.features, *([_row_k(row)] if _k_differs(report) else [])]
    if not cell.measured:
        status = "failed" if cell.failures else ""
        return [label(row), *published, *told, *([status] * len(report.metrics)), "", ""]
    ours = [_shown(metric, cell) for metric in report.metrics]
    spread = ""
    if len(cell.seeds) > 1 and report.chart in cell.measured:
        chart = cell.measured[report.chart]
        digits = METRICS[report.chart].digits
        spread = f"{chart.least:.{digits}f} to {chart.most:.{digits}f}"
    seconds = "" if cell.seconds is None else f"{cell.seconds:.0f}"
    return [label(row), *published, *told, *ours, spread, seconds]


def _row_k(row: Line) -> str:
    """Nothing for a row that is the paper's alone."""
    return str(row.k) if row.features else ""


def _curve(report: TableReport, corpus: str, curve: str) -> list[str]:
    """A table of the medians at each k, of the rows that were measured."""
    heads = [f"{CURVES[curve]}@k, k =", *map(str, range(1, DEPTH + 1))]
    lines = [_line(heads), _line(["---", *["---:"] * DEPTH])]
    for row in report.rows:
        cell = row.cells[corpus]
        if cell.measured:
            points = [_shown(f"{curve}@{k}", cell) for k in range(1, DEPTH + 1)]
            lines.append(_line([label(row), *points]))
    return lines


def _notes(report: TableReport, corpus: str) -> list[str]:
    told = [
        f"- {label(row)}, seed {seed}: {note}"
        for row in report.rows
        for seed, notes in row.cells[corpus].notes.items()
        for note in notes
    ]
    return ["Noted of the fits:", "", *told, ""] if told else []


def _failures(report: TableReport, corpus: str) -> list[str]:
    told = [
        f"- {label(row)}, seed {seed}: {message}"
        for row in report.rows
        for seed, message in row.cells[corpus].failures.items()
    ]
    return ["Without figures:", "", *told, ""] if told else []


def _shown(metric: str, cell: Cell) -> str:
    """The median; nothing of a metric that does not apply to the row."""
    if metric not in cell.measured:
        return ""
    return f"{cell.measured[metric].median:.{METRICS[metric].digits}f}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def line_of(row: RowConfig, k: TagCount, cells: Mapping[str, Cell]) -> Line:
    """A row of the configuration with what was measured of it."""
    return Line(
        k=k,
        name=row.name,
        visual=row.visual,
        text=row.text,
        features=features_of(row),
        cells=dict(cells),
        elsewhere={name: one for name, one in row.published.items() if name not in cells},
    )


def corpus_title(config: TableConfig, corpus: str) -> str:
    """How a corpus is headed."""
    known = config.corpora.get(corpus)
    return known.title if known and known.title else corpus
