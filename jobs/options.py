"""Options of the command line that several commands have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from jobs.fanout import IndexWay
    from jobs.runner import RunSettings

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


def run_settings(
    workers: int | None = None,
    connections: int = 64,
    index: "IndexWay" = "auto",
    max_index_memory: str | None = None,
) -> "RunSettings":
    """How a job is run, as these options say.

    Raises:
        ConfigError: `max_index_memory` is no amount of memory.
    """
    from engine.index import parse_memory
    from jobs.runner import RunSettings

    limit = None if max_index_memory is None else parse_memory(max_index_memory)
    return RunSettings(
        workers=workers, connections=connections, index=index, max_index_memory=limit
    )
