"""Options of the command line that several commands have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors and the result.")]
TopKText = Annotated[str, typer.Option("--top-k", help="Tags a picture: a number, or 'auto'.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes at most; default: one a CPU or GPU.")
]
Connections = Annotated[
    int, typer.Option(min=1, help="Pictures that a node fetches at a time by their addresses.")
]
ComputeName = Annotated[
    str | None, typer.Option("--compute", help="What embeds; default: what the bundle says.")
]
VocabularyFile = Annotated[
    Path | None,
    typer.Option("--vocabulary", help="A TOML file: include, exclude, aliases, groups, implied."),
]
IndexSearch = Annotated[
    Literal["auto", "merged", "fan-out"],
    typer.Option("--index", help="An index in shards: merged in each worker, or held by actors."),
]
IndexMemory = Annotated[
    str | None,
    typer.Option(
        "--max-index-memory", help="Of a worker: beyond it the index is fanned out; such as 8GB."
    ),
]
