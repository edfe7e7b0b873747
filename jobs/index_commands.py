"""`tagloom index`: adds pictures to a bundle or removes them, without fitting it again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.console import Console
from jobs.options import Quiet, Workers

app = typer.Typer(
    help="Adds pictures to a bundle or removes them, without fitting it again.",
    no_args_is_help=True,
)

BundleName = Annotated[str, typer.Option(help="A bundle's folder or URL.")]
ChangedOut = Annotated[
    str | None, typer.Option(help="Where the changed bundle goes: a folder or a URL.")
]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Put it in the place of the bundle, in one step.")
]


@app.command("add")
def add_pictures(
    bundle: BundleName,
    corpus: Annotated[str, typer.Option(help="Tagged pictures: a folder, Parquet or tars.")],
    out: ChangedOut = None,
    in_place: InPlace = False,
    max_failed: Annotated[
        float, typer.Option(min=0, max=1, help="Fail above this share of broken pictures.")
    ] = 0.5,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Add tagged pictures to those that tags are transferred from."""
    from jobs.extend import add
    from jobs.runner import RunSettings

    settings = RunSettings(workers=workers)
    result = add(bundle, corpus, out, in_place, Console(quiet), max_failed, settings)
    typer.echo(json.dumps(asdict(result)))


@app.command("remove")
def remove_pictures(
    bundle: BundleName,
    ids: Annotated[Path, typer.Option(help="A file with the pictures' ids, one a line.")],
    out: ChangedOut = None,
    in_place: InPlace = False,
    quiet: Quiet = False,
) -> None:
    """Remove pictures from those that tags are transferred from."""
    from jobs.extend import remove

    result = remove(bundle, ids, out, in_place, Console(quiet))
    typer.echo(json.dumps(asdict(result)))
