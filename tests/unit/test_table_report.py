"""What a table says in the end: on the screen, as Markdown, and as figures."""

import json

import pytest

from engine.table.report import Cell, CorpusNote, Line, Spread, TableReport, markdown
from jobs.chart import draw_chart, draw_curves
from jobs.console import Console
from jobs.table import show
from jobs.trials import Outcome


def test_the_markdown_says_which_tags_count() -> None:
    report = report_of({"One": Cell(measured={"f1": Spread.of([1.0]), "n_plus": Spread.of([1])})})
    all_tags = report.corpora["ours"].model_copy(update={"words": None})
    few_tags = all_tags.model_copy(update={"min_count": 5})
    for note, told in (
        (report.corpora["ours"], "means over 3 words."),
        (all_tags, "means over the tags trained on."),
        (few_tags, "means over the tags trained on, each of which 5 pictures or more carry."),
    ):
        assert told in markdown(report.model_copy(update={"corpora": {"ours": note}}))


def test_no_figure_is_shortened_on_a_narrow_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a column without any figure, such as the paper's of another corpus, is not shown."""
    monkeypatch.setenv("COLUMNS", "20")
    columns = ("precision", "recall", "f1", "picture_precision", "picture_recall", "picture_f1")
    figures = {name: Spread.of([11.1 * (place + 1)]) for place, name in enumerate(columns)}
    cell = Cell(published={"f1": 98.76}, measured=figures)
    report = report_of({"A method": cell, "Else": Cell()})
    show(report.model_copy(update={"metrics": (*columns, "map")}), Console())
    told = capsys.readouterr().err
    for text in ("98.76", "11.1", "22.2", "33.3", "44.4", "55.5", "66.6", "paper"):
        assert text in told
    assert "…" not in told
    assert "MAP" not in told
    assert "Else" not in told


def test_a_failure_is_told_in_one_line() -> None:
    assert Outcome.failed(ValueError("one\n  two"), "ValueError: ").failure == "ValueError: one two"


def report_of(cells: dict[str, Cell]) -> TableReport:
    note = CorpusNote(title="Ours", pictures=100, tested=10, words=3, split="a share of 0.1")
    rows = tuple(
        Line(name=name, visual="HC", text="", features="lite0", k=5, cells={"ours": cell})
        for name, cell in cells.items()
    )
    return TableReport(
        title="Small", note="Mind the gap.", k=5, metrics=("f1", "n_plus"), chart="f1", state="s",
        corpora={"ours": note}, rows=rows,
    )  # fmt: skip


def test_the_markdown_says_what_was_measured() -> None:
    measured = {"f1": Spread.of([40.04, 38.0, 41.0]), "n_plus": Spread.of([9, 7, 8])}
    report = report_of(
        {
            "Both": Cell(
                published={"f1": 39.5, "n_plus": 12},
                measured=measured,
                seeds=(0, 1, 2),
                seconds=3.4,
                notes={1: ("it trusts one thing",)},
            ),
            "Paper|s": Cell(published={"f1": 30}),
            "Broken": Cell(failures={0: "no such file", 1: "no such file"}),
        }
    )
    assert report.failed == 2
    assert markdown(report).splitlines() == [
        "# Small",
        "",
        "Mind the gap.",
        "",
        "## Ours",
        "",
        "100 pictures, 10 of them tested on (a share of 0.1); k = 5, means over 3 words.",
        "",
        "| method (the paper's features) | paper F1 | paper N+ | features here | F1 | N+ "
        "| F1, range | seconds |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
        "| Both (HC) | 39.5 | 12 | lite0 | 40.0 | 8 | 38.0 to 41.0 | 3 |",
        "| Paper\\|s (HC) | 30 |  | lite0 |  |  |  |  |",
        "| Broken (HC) |  |  | lite0 | failed | failed |  |  |",
        "",
        "Noted of the fits:",
        "",
        "- Both (HC), seed 1: it trusts one thing",
        "",
        "Without figures:",
        "",
        "- Broken (HC), seed 0: no such file",
        "- Broken (HC), seed 1: no such file",
    ]
    assert TableReport.model_validate(json.loads(report.model_dump_json())) == report
    assert draw_chart(report).startswith(b"\x89PNG")


def test_the_figure_leaves_out_rows_with_nothing_on_its_corpora() -> None:
    measured = Cell(measured={"f1": Spread.of([40])}, seeds=(0,))
    alone = draw_chart(report_of({"A": measured}))
    assert draw_chart(report_of({"A": measured, "B": Cell()})) == alone
    for cell in (Cell(failures={0: "no"}), Cell(published={"f1": 3.0}), measured):
        assert draw_chart(report_of({"A": measured, "B": cell})) != alone


def test_the_papers_figures_on_other_corpora_come_last() -> None:
    report = report_of({"A": Cell(measured={"f1": Spread.of([40])}, seeds=(0,)), "B": Cell()})
    first = report.rows[0].model_copy(update={"elsewhere": {"theirs": {"h_f1": 74.47, "f1": 60}}})
    update = {"rows": (first, report.rows[1]), "elsewhere": {"theirs": "NUS-WIDE"}}
    text = markdown(report.model_copy(update=update)).splitlines()
    # Without a figure of the paper on this corpus there are no columns for it.
    assert text[8] == (
        "| method (the paper's features) | features here | F1 | N+ | F1, range | seconds |"
    )
    assert text[-5:] == [
        "## The paper's own figures on NUS-WIDE",
        "",
        "| method (the paper's features) | F1 | H-F1 |",
        "| --- | ---: | ---: |",
        "| A (HC) | 60 | 74.47 |",
    ]


def curves_at(start: float) -> dict[str, Spread]:
    return {
        f"{curve}@{k}": Spread.of([start - k, start + k])
        for curve in ("ndcg", "precision")
        for k in range(1, 11)
    }


def test_the_markdown_tells_curves_and_a_rows_own_k() -> None:
    report = report_of(
        {
            "Ranked": Cell(measured={"f1": Spread.of([40]), **curves_at(50)}, seeds=(0, 1)),
            "Paper's": Cell(published={"f1": 30}),
            "Other": Cell(measured={"f1": Spread.of([30]), **curves_at(70)}, seeds=(0,)),
        }
    )
    rows = (
        report.rows[0].model_copy(update={"k": "true"}),
        report.rows[1].model_copy(update={"features": ""}),
        report.rows[2],
    )
    report = report.model_copy(update={"rows": rows, "curves": ("ndcg", "precision")})
    text = markdown(report).splitlines()
    assert text[6].endswith("k tags a picture, as each row says, means over 3 words.")
    assert text[8:] == [
        "| method (the paper's features) | paper F1 | paper N+ | features here | k | F1 | N+ "
        "| F1, range | seconds |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
        "| Ranked (HC) |  |  | lite0 | true | 40.0 |  | 40.0 to 40.0 |  |",
        "| Paper's (HC) | 30 |  |  |  |  |  |  |  |",
        "| Other (HC) |  |  | lite0 | 5 | 30.0 |  |  |  |",
        "",
        "| NDCG@k, k = | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| Ranked (HC) | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |",
        "| Other (HC) | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 |",
        "",
        "| Precision@k, k = | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| Ranked (HC) | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |",
        "| Other (HC) | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 |",
    ]
    figure = draw_curves(report)
    assert figure.startswith(b"\x89PNG")
    # A row more is drawn.
    fewer = report.model_copy(update={"rows": rows[:2]})
    assert draw_curves(fewer) != figure
    assert draw_chart(report).startswith(b"\x89PNG")
