"""`tagloom corpus`: draws a sample corpus, or splits a corpus."""

from typing import Annotated

import typer

from jobs.console import Console
from jobs.options import Quiet

app = typer.Typer(help="Draws a sample corpus, or splits a corpus.", no_args_is_help=True)


@app.command("sample")
def sample(
    out: Annotated[str, typer.Option(help="A new folder or URL.")],
    images: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 3000,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pictures.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Draw a corpus of scenes with their tags: deterministic, and free of rights."""
    from jobs.corpus import draw_corpus

    draw_corpus(out, images, seed, Console(quiet))


@app.command("split")
def split(
    corpus: Annotated[str, typer.Option(help="The corpus to split.")],
    out: Annotated[str, typer.Option(help="A new folder or URL; gets train/ and test/.")],
    test: Annotated[float, typer.Option(help="Share of the tagged pictures to hold out.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed holds out other pictures.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Divide a corpus into one to fit and one to evaluate, both as Parquet."""
    from jobs.corpus import split_corpus

    split_corpus(corpus, out, test, seed, Console(quiet))
