"""`tagloom table`: a paper's table, every row fitted and measured, beside the paper's figures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from engine.config import FitConfig
from engine.errors import ConfigError, TagloomError
from engine.numerics.metric_registry import METRICS
from engine.storage.files import shown
from engine.table.config import RowConfig, TableConfig
from engine.table.report import (
    Cell,
    CorpusNote,
    Spread,
    TableReport,
    corpus_title,
    label,
    line_of,
    markdown,
)
from jobs.chart import check_drawing, draw_chart, draw_curves
from jobs.console import Console
from jobs.identity import engine_state
from jobs.lease import LEASE, held
from jobs.runner import RunSettings
from jobs.scratch import shared_folder
from jobs.session import ray_session
from jobs.store import Store
from jobs.table_corpora import (
    Part,
    Source,
    check_there,
    counted_words,
    embedded_folder,
    list_source,
)
from jobs.trials import Outcome, Task, run_tasks

JOB = "table-job.json"
RESULTS = "results"


def table_path(name: str) -> Path:
    """The file of a table: a path, or a packaged one such as `murthy2015` or its file name.

    Raises:
        ConfigError: there is neither.
    """
    given = Path(name)
    if given.is_file():
        return given
    shipped = resources.files("jobs") / "configs"
    packaged = Path(str(shipped)) / f"{given.name.removesuffix('.toml')}.toml"
    if packaged.is_file():
        return packaged
    raise ConfigError(
        f"{name}: there is no such file, and no table of that name comes with the program; name "
        "a TOML file, or 'murthy2015'"
    )


def build_table(
    config: TableConfig,
    corpora: Mapping[str, str],
    tests: Mapping[str, str],
    out: str | Path,
    console: Console,
    settings: RunSettings | None = None,
) -> TableReport:
    """Fit and measure every row on every corpus, going on with what `out` holds already.

    A run's result lies in `out` under a hash of all that decides it: the row, the state of the
    corpus, the split and the engine itself. One that fails is told in the table and tried again
    next time.

    Args:
        corpora: name -> path or URL of its tagged pictures.
        tests: name -> the pictures to test on, for a corpus that has a test part.
        out: a path or URL.

    Raises:
        TagloomError: a corpus, its words or the target is not as it must be.
    """
    check_drawing()
    if not corpora:
        known = ", ".join(config.corpora) or "any name"
        raise ConfigError(f"no corpus to measure on; give --corpus NAME=PATH ({known})")
    if set(tests) - set(corpora):
        raise ConfigError(
            f"--test names {', '.join(sorted(set(tests) - set(corpora)))}, which no --corpus does"
        )
    for url in (*corpora.values(), *tests.values()):
        check_there(url)
    store = Store(str(out))
    _check_target(store)
    words = {name: counted_words(config, name, path) for name, path in corpora.items()}
    settings = settings or RunSettings()
    with held(store, console), ray_session():
        with _tidy(store):
            store.write(JOB, json.dumps({"title": config.title}).encode())
            sources = [
                list_source(name, config, words[name], corpora, tests, store, console)
                for name in corpora
            ]
        with shared_folder(store) as work:
            tasks, refused = _tasks(config, sources, store, work, console, settings)
            results = Store(f"{store.url}/{RESULTS}")
            outcomes = {**refused, **run_tasks(tasks, results, console, settings)}
    report = _report(config, sources, outcomes)
    store.write("table.json", report.model_dump_json(indent=1).encode())
    store.write("table.md", markdown(report).encode())
    store.write("table.png", draw_chart(report))
    if report.curves:
        store.write("curves.png", draw_curves(report))
    return report


@contextmanager
def _tidy(store: Store) -> Iterator[None]:
    """Leave nothing behind of a table whose corpora cannot be listed."""
    existed = store.is_file(JOB)
    try:
        yield
    except TagloomError:
        if not existed:
            for name in set(store.names()) - {LEASE}:
                store.remove(name)
        raise


def _check_target(store: Store) -> None:
    names = set(store.names())
    if names - {LEASE} and JOB not in names:
        raise ConfigError(
            f"{shown(store.url)}: is not empty and holds no table; name a new folder, or that of "
            "an earlier run"
        )


def _tasks(
    config: TableConfig,
    sources: Sequence[Source],
    store: Store,
    work: Store,
    console: Console,
    settings: RunSettings,
) -> tuple[list[Task], dict[tuple[int, str, int], Outcome]]:
    """What is to be run, and what cannot be, since its pictures cannot be embedded."""
    tasks: list[Task] = []
    refused: dict[tuple[int, str, int], Outcome] = {}
    state = engine_state()

    def embedded(source: Source, part: Part, fit: FitConfig) -> str:
        return embedded_folder(source, part, fit, store, work, console, settings)

    for source in sources:
        for place, row in enumerate(config.rows):
            if row.fit is None:
                continue
            # With a test part of its own there is nothing that a seed could split.
            seeds = config.seeds if source.test is None else config.seeds[:1]
            try:
                training, test = (
                    None if part is None else embedded(source, part, row.fit)
                    for part in (source.training, source.test)
                )
            except TagloomError as error:
                console.error(f"{label(row)} on {source.name}: {error}")
                for seed in seeds:
                    refused[place, source.name, seed] = Outcome.failed(error)
                continue
            assert training is not None
            for seed in seeds:
                tasks.append(
                    Task(
                        row=place,
                        name=label(row),
                        corpus=source.name,
                        seed=seed,
                        fit=source.config.limited(row.fit),
                        training=training,
                        test=test,
                        held_out=source.config.held_out,
                        words=source.words,
                        k=config.count_of(row),
                        state=state,
                    )
                )
    return tasks, refused


def _report(
    config: TableConfig,
    sources: Sequence[Source],
    outcomes: Mapping[tuple[int, str, int], Outcome],
) -> TableReport:
    notes = {}
    for source in sources:
        found = [one for (_, name, _), one in outcomes.items() if name == source.name]
        some = next((one for one in found if one.figures), Outcome())
        split = (
            f"a share of {source.config.held_out:g}, seed{'s' * (len(config.seeds) > 1)} "
            + ", ".join(map(str, config.seeds))
            if source.test is None
            else "its own test part"
        )
        notes[source.name] = CorpusNote(
            title=corpus_title(config, source.name),
            pictures=some.pictures,
            tested=some.tested,
            words=None if source.words is None else len(source.words),
            min_count=source.config.min_count,
            split=split,
        )
    lines = [
        line_of(
            row,
            config.count_of(row),
            {s.name: _cell(place, row, s.name, outcomes) for s in sources},
        )
        for place, row in enumerate(config.rows)
    ]
    return TableReport(
        title=config.title,
        note=config.note,
        k=config.k,
        metrics=config.metrics,
        chart=config.chart,
        curves=config.curves,
        state=engine_state(),
        corpora=notes,
        rows=tuple(lines),
        elsewhere={name: corpus_title(config, name) for line in lines for name in line.elsewhere},
    )


def _cell(
    place: int,
    row: RowConfig,
    corpus: str,
    outcomes: Mapping[tuple[int, str, int], Outcome],
) -> Cell:
    runs = {s: one for (p, name, s), one in outcomes.items() if (p, name) == (place, corpus)}
    good = {seed: one for seed, one in runs.items() if one.failure is None}
    measured = {}
    if good:
        # A figure is told of a row that has it in every run.
        names = set.intersection(*(set(one.figures) for one in good.values()))
        measured = {
            name: Spread.of(one.figures[name] for one in good.values())
            for name in METRICS
            if name in names
        }
    return Cell(
        published=row.published.get(corpus, {}),
        measured=measured,
        seeds=tuple(sorted(good)),
        seconds=Spread.of(one.seconds for one in good.values()).median if good else None,
        notes={seed: one.notes for seed, one in sorted(good.items()) if one.notes},
        failures={seed: one.failure for seed, one in sorted(runs.items()) if one.failure},
    )


def show(report: TableReport, console: Console) -> None:
    """Print the rows that were measured, one table a corpus."""
    labels = [METRICS[name].label for name in report.metrics]
    heads = ["method", *(f"paper {text}" for text in labels), *labels]
    for name, note in report.corpora.items():
        rows = []
        for row in report.rows:
            cell = row.cells[name]
            told = [
                f"{cell.published[metric]:g}" if metric in cell.published else ""
                for metric in report.metrics
            ]
            ours = [
                f"{cell.measured[metric].median:.{METRICS[metric].digits}f}"
                if metric in cell.measured
                else ("failed" if cell.failures and not cell.measured else "")
                for metric in report.metrics
            ]
            if any([*told, *ours]):
                rows.append([label(row), *told, *ours])
        filled = [place for place in range(len(heads)) if any(row[place] for row in rows)]
        console.table(
            note.title,
            [heads[place] for place in filled],
            [[row[place] for place in filled] for row in rows],
        )
