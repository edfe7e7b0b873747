"""`tagloom fit`, `evaluate` and `table`: what learns from tagged pictures, and what measures it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs.console import Console
from jobs.options import (
    Connections,
    IndexMemory,
    IndexSearch,
    Quiet,
    TopKText,
    VocabularyFile,
    Workers,
    run_settings,
)


def fit(
    corpus: Annotated[str, typer.Option(help="Tagged pictures: a folder, Parquet or tars.")],
    out: Annotated[str, typer.Option(help="Where the bundle goes: a folder or a URL.")],
    config: Annotated[Path | None, typer.Option(help="A TOML file; without: the defaults.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as seed=1; repeatable.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace a bundle that is there, or one that is not finished.")
    ] = False,
    vocabulary: VocabularyFile = None,
    max_index_memory: Annotated[
        str | None, typer.Option(help="Memory that an index never exceeds, such as 512MB.")
    ] = None,
    max_shard_memory: Annotated[
        str | None, typer.Option(help="Divide the index into shards of so much memory at most.")
    ] = None,
    scratch: Annotated[
        str | None, typer.Option(help="A folder that all nodes see; without: beside --out.")
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Where what is made so far is kept, to go on from: a folder or URL; "
            "without: in --scratch, or OUT.unfinished."
        ),
    ] = None,
    workers: Workers = None,
    connections: Connections = 64,
    quiet: Quiet = False,
) -> None:
    """Learn a bundle from a tagged corpus."""
    from engine.config import limit_index_memory, limit_shard_memory, load_config, with_rules
    from jobs.fit import fit as run_fit

    chosen = load_config(config, set_ or ())
    if vocabulary is not None:
        chosen = with_rules(chosen, vocabulary)
    if max_index_memory is not None:
        chosen = limit_index_memory(chosen, max_index_memory)
    if max_shard_memory is not None:
        chosen = limit_shard_memory(chosen, max_shard_memory)
    settings = run_settings(workers, connections)
    run_fit(corpus, out, chosen, Console(quiet), overwrite, settings, scratch, checkpoints)


def evaluate(
    bundle: Annotated[str, typer.Option(help="A bundle's folder or URL, or 'imagenet'.")],
    corpus: Annotated[str, typer.Option(help="Tagged pictures that the bundle has not seen.")],
    out: Annotated[str, typer.Option(help="A new folder or URL for metrics.json, words.json.")],
    words: Annotated[
        str | None, typer.Option(help="Give and count these words alone, one a line.")
    ] = None,
    top_k: TopKText = "5",
    report: Annotated[
        bool, typer.Option("--report", help="Write report.html too: one page to look at.")
    ] = False,
    workers: Workers = None,
    connections: Connections = 64,
    index: IndexSearch = "auto",
    max_index_memory: IndexMemory = None,
    quiet: Quiet = False,
) -> None:
    """Measure a bundle: precision, recall, F1 and N+ by word and picture, order, calibration."""
    from engine.cut import parse_top_k
    from jobs.evaluate import evaluate as run_evaluate
    from jobs.evaluate import show
    from jobs.store import absolute

    console = Console(quiet)
    settings = run_settings(workers, connections, index, max_index_memory)
    chosen = parse_top_k(top_k)
    result = run_evaluate(bundle, corpus, out, chosen, console, words, settings, report)
    show(result, console)
    if report:
        console.say(f"report: {absolute(out)}/report.html")
    typer.echo(json.dumps(result.to_json()))


def table(
    config: Annotated[str, typer.Argument(help="A table's TOML file, or 'murthy2015'.")],
    corpus: Annotated[
        list[str], typer.Option(help="NAME=PATH of tagged pictures; repeat it for several corpora.")
    ],
    out: Annotated[str, typer.Option(help="A new folder or URL, or one to go on with.")],
    test: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH of a corpus's test part; without: a share is held out."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as seeds=[0,1,2].")
    ] = None,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Rebuild a paper's table: fit and measure its rows, and write table.md, .json and .png."""
    from engine.table.config import load_table
    from jobs.table import build_table, show, table_path
    from jobs.table_corpora import parse_places

    console = Console(quiet)
    report = build_table(
        load_table(table_path(config), set_ or ()),
        parse_places(corpus, "--corpus"),
        parse_places(test or (), "--test"),
        out,
        console,
        run_settings(workers),
    )
    show(report, console)
    console.say(f"the table is at {out}")
    if report.failed:
        console.error(f"{report.failed} runs have no figures; see the end of {out}/table.md")
        raise typer.Exit(1)
