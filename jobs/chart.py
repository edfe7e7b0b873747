"""The figures of a table: bars of one metric, the paper's beside ours, and curves over k."""

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from engine.numerics.metric_registry import CURVES, DEPTH, METRICS
from engine.table.report import TableReport, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osD^vPX*<>"

PAPER, OURS, INK = "#b9b4a7", "#1f6f8b", "#333333"


def check_drawing() -> None:
    """See that figures can be drawn here.

    Raises:
        ConfigError: Matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "figures are drawn by Matplotlib, which is not installed; install it "
            "with: pip install 'tagloom[table]'"
        )


def draw_chart(report: TableReport) -> bytes:
    """The bars as PNG."""
    # Here, not above: only a table needs it.
    from matplotlib.figure import Figure

    corpora = list(report.corpora)
    # The paper may have more rows, of corpora that are not shown.
    rows = [
        row
        for row in report.rows
        if any(one.published or one.measured or one.failures for one in row.cells.values())
    ]
    height = 1.2 + 0.32 * len(rows)
    figure = Figure(figsize=(3.0 + 4.2 * len(corpora), height), layout="constrained")
    panels = figure.subplots(1, len(corpora), squeeze=False, sharey=True)[0]
    metric = METRICS[report.chart]
    places = range(len(rows))
    beside = any(report.chart in cell.published for row in rows for cell in row.cells.values())
    # Where the paper has no figure of these corpora, nothing stands beside ours.
    shift = 0.2 if beside else 0.0
    for axes, name in zip(panels, corpora, strict=True):
        for place, row in zip(places, rows, strict=True):
            cell = row.cells[name]
            paper = cell.published.get(report.chart)
            if paper is not None:
                axes.barh(place - 0.2, paper, 0.36, color=PAPER)
                axes.text(paper, place - 0.2, f" {paper:g}", va="center", size=7, color=INK)
            if report.chart in cell.measured:
                ours = cell.measured[report.chart]
                axes.barh(place + shift, ours.median, 0.36, color=OURS)
                if len(cell.seeds) > 1:
                    spread = [[ours.median - ours.least], [ours.most - ours.median]]
                    axes.errorbar(
                        ours.median, place + shift, xerr=spread, color=INK, lw=1, capsize=2
                    )
                text = f"  {ours.median:.{metric.digits}f}"
                axes.text(ours.most, place + shift, text, va="center", size=7, color=INK)
        axes.set_title(report.corpora[name].title, size=10)
        axes.set_xlabel(metric.label)
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(list(places), [label(row) for row in rows], size=8)
    panels[0].invert_yaxis()
    if beside:
        handles = [
            panels[0].barh([0], [0], color=color, label=text)
            for color, text in ((PAPER, "the paper"), (OURS, "here"))
        ]
        figure.legend(
            handles=handles, loc="outside lower right", ncols=2, frameon=False, fontsize=8
        )
    figure.suptitle(report.title, size=11)
    return _png(figure)


def draw_curves(report: TableReport) -> bytes:
    """The curves of the rows that were measured, as PNG: a panel a corpus and curve.

    The line is the median over the runs, the band their range.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    corpora = list(report.corpora)
    rows = [row for row in report.rows if any(cell.measured for cell in row.cells.values())]
    size = (1.0 + 4.4 * len(corpora), 0.9 + 3.2 * len(report.curves) + 0.2 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(report.curves), len(corpora), squeeze=False, sharex=True)
    hues = colormaps["tab10"]
    at = range(1, DEPTH + 1)
    for curve, line in zip(report.curves, panels, strict=True):
        for corpus, axes in zip(corpora, line, strict=True):
            for place, row in enumerate(rows):
                measured = row.cells[corpus].measured
                if not measured:
                    continue
                spreads = [measured[f"{curve}@{k}"] for k in at]
                hue, marker = hues(place % 10), MARKERS[place % len(MARKERS)]
                style = "-" if place < 10 else "--"
                medians = [spread.median for spread in spreads]
                axes.plot(at, medians, style, marker=marker, color=hue, lw=1.4, ms=4)
                least, most = [one.least for one in spreads], [one.most for one in spreads]
                axes.fill_between(at, least, most, color=hue, alpha=0.12, lw=0)
            axes.set_title(report.corpora[corpus].title, size=10)
            axes.set_ylabel(f"{CURVES[curve]}@k")
            axes.set_xticks(list(at))
            axes.grid(axis="y", color="#dddddd", lw=0.6)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("k")
    handles = [
        panels[0][0].plot(
            [], [], "-" if place < 10 else "--", marker=MARKERS[place % len(MARKERS)],
            color=hues(place % 10), ms=4, label=label(row),
        )[0]
        for place, row in enumerate(rows)
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower left", frameon=False, fontsize=8)
    figure.suptitle(report.title, size=11)
    return _png(figure)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
