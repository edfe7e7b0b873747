"""The figure of a table: one metric, the paper's bar beside ours, one panel a corpus."""

import io
from importlib.util import find_spec

from engine.errors import ConfigError
from engine.numerics.metric_registry import METRICS
from engine.table.report import TableReport, label

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
    """The figure as PNG."""
    # Here, not above: only a table needs it.
    from matplotlib.figure import Figure

    corpora = list(report.corpora)
    height = 1.2 + 0.32 * len(report.rows)
    figure = Figure(figsize=(3.0 + 4.2 * len(corpora), height), layout="constrained")
    panels = figure.subplots(1, len(corpora), squeeze=False, sharey=True)[0]
    metric = METRICS[report.chart]
    places = range(len(report.rows))
    for axes, name in zip(panels, corpora, strict=True):
        for place, row in zip(places, report.rows, strict=True):
            cell = row.cells[name]
            paper = cell.published.get(report.chart)
            if paper is not None:
                axes.barh(place - 0.2, paper, 0.36, color=PAPER)
                axes.text(paper, place - 0.2, f" {paper:g}", va="center", size=7, color=INK)
            if cell.measured:
                ours = cell.measured[report.chart]
                axes.barh(place + 0.2, ours.median, 0.36, color=OURS)
                if len(cell.seeds) > 1:
                    spread = [[ours.median - ours.least], [ours.most - ours.median]]
                    axes.errorbar(ours.median, place + 0.2, xerr=spread, color=INK, lw=1, capsize=2)
                text = f"  {ours.median:.{metric.digits}f}"
                axes.text(ours.most, place + 0.2, text, va="center", size=7, color=INK)
        axes.set_title(report.corpora[name].title, size=10)
        axes.set_xlabel(metric.label)
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(list(places), [label(row) for row in report.rows], size=8)
    panels[0].invert_yaxis()
    handles = [
        panels[0].barh([0], [0], color=color, label=text)
        for color, text in ((PAPER, "the paper"), (OURS, "here"))
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(report.title, size=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
