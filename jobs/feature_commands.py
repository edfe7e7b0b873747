"""`tagloom features`: shows the hand-crafted features of a picture, or extracts a corpus's."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.console import Console
from jobs.options import Quiet, Workers

app = typer.Typer(
    help="The twelve hand-crafted features: of a picture to look at, of a corpus as Parquet.",
    no_args_is_help=True,
)


@app.command("show")
def show(
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    out: Annotated[
        Path | None, typer.Option(help="The PNG file; without: PICTURE's name with -features.png.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="A bundle with features: its visual words are shown.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draw a picture's features as one figure."""
    from jobs.features import show_features

    drawn = show_features(picture, out or Path(f"{picture.stem}-features.png"), bundle)
    Console(quiet).say(f"features: {drawn.absolute()}")


@app.command("extract")
def extract(
    corpus: Annotated[str, typer.Option(help="Pictures: a folder, Parquet or tars.")],
    out: Annotated[str, typer.Option(help="A new folder or URL, or one to go on with.")],
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Describe every picture of a corpus, a column a feature; the describer lies beside them."""
    from jobs.features import extract_features
    from jobs.runner import RunSettings

    console = Console(quiet)
    found = extract_features(corpus, out, console, RunSettings(workers=workers))
    console.say(f"{found.described:,} of {found.rows:,} pictures described {found.errors or ''}")
    typer.echo(found.model_dump_json())
