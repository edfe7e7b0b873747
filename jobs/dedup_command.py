"""`tagloom dedup` on the command line."""

from typing import Annotated

import typer

from jobs.console import Console
from jobs.options import Quiet, Workers


def dedup(
    input_: Annotated[str, typer.Option("--input", help="Pictures: a folder, Parquet or tars.")],
    out: Annotated[str, typer.Option(help="A new folder or URL, or one to go on with.")],
    against: Annotated[
        str | None,
        typer.Option(help="A second corpus, such as the test part: groups with both are leaks."),
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Embed as this bundle does: its folder, or 'imagenet'.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="In place of a bundle: a backbone's name.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Near: cosine of the embeddings at least this.")
    ] = 0.8,
    hash_distance: Annotated[
        int, typer.Option(min=0, max=64, help="And at most so many bits of the pHash differ.")
    ] = 10,
    max_index_memory: Annotated[
        str | None, typer.Option(help="Memory that the index never exceeds, such as 512MB.")
    ] = None,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Find exact and near duplicates in a corpus, and those that train and test share."""
    from engine.duplicates import NearRule
    from engine.index import parse_memory
    from jobs.dedup import BACKBONE
    from jobs.dedup import dedup as run_dedup
    from jobs.duplicate_groups import show
    from jobs.runner import RunSettings

    if bundle is not None and backbone is not None:
        raise typer.BadParameter("give at most one of --bundle and --backbone")
    console = Console(quiet)
    findings = run_dedup(
        input_,
        against,
        out,
        NearRule(threshold, hash_distance),
        console,
        bundle,
        backbone or BACKBONE,
        None if max_index_memory is None else parse_memory(max_index_memory),
        RunSettings(workers=workers),
    )
    show(findings, out, console)
    typer.echo(findings.model_dump_json())
