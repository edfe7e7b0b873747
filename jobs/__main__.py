"""The command line: `tagloom`, the same as `python -m jobs`.

Each command imports its job when it runs: torch and Ray take seconds that `--help` has no use for.
"""

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from engine.errors import TagloomError
from jobs.beginning import beginning
from jobs.console import Console
from jobs.corpus_commands import app as corpus_app
from jobs.dedup_command import dedup
from jobs.feature_commands import app as features_app
from jobs.index_commands import app as index_app
from jobs.learning_commands import evaluate, fit, table
from jobs.options import (
    ComputeName,
    Connections,
    IndexMemory,
    IndexSearch,
    Quiet,
    TopKText,
    VocabularyFile,
    Workers,
    run_settings,
)
from jobs.plan import plan
from jobs.submit_command import SETTINGS as SUBMIT_SETTINGS
from jobs.submit_command import submit

app = typer.Typer(
    help="Learns from tagged pictures and tags pictures, on one machine or a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(corpus_app, name="corpus")
app.add_typer(index_app, name="index")
app.add_typer(features_app, name="features")
app.command()(fit)
app.command()(evaluate)
app.command()(table)
app.command()(dedup)
app.command("submit", context_settings=SUBMIT_SETTINGS)(submit)
app.command()(plan)


@app.command()
def annotate(
    input_: Annotated[str, typer.Option("--input", help="Pictures: a folder, Parquet or tars.")],
    output: Annotated[str, typer.Option(help="A new folder or URL, or one to go on with.")],
    bundle: Annotated[
        str | None, typer.Option(help="A bundle's folder or URL, or 'imagenet'.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="In place of a bundle: the URL of a 'tagloom serve'.")
    ] = None,
    top_k: TopKText = "5",
    max_failed: Annotated[
        float, typer.Option(min=0, max=1, help="Fail above this share of broken pictures.")
    ] = 1.0,
    vocabulary: VocabularyFile = None,
    workers: Workers = None,
    connections: Connections = 64,
    compute: ComputeName = None,
    log: Annotated[
        Path | None, typer.Option(help="Add a line of JSON to this file for each part written.")
    ] = None,
    index: IndexSearch = "auto",
    max_index_memory: IndexMemory = None,
    quiet: Quiet = False,
) -> None:
    """Tag pictures; run it again to go on where a killed run stopped."""
    console = Console(quiet)
    if (bundle is None) == (server is None):
        raise typer.BadParameter("give one of --bundle and --server")
    if server is not None:
        if vocabulary is not None:
            raise typer.BadParameter("a server has vocabulary rules of its own; see 'serve'")
        if log is not None:
            raise typer.BadParameter("--log tells of parts made here; a server has its own log")
        typer.echo(json.dumps(_annotate_remotely(input_, server, output, top_k, console)))
        return
    assert bundle is not None
    from jobs.job_log import driver_note

    settings = partial(run_settings, workers, connections, index, max_index_memory)
    asked = (input_, bundle, output, top_k, console, settings, compute)
    with driver_note(log) as note, beginning(*asked, rules=vocabulary) as job:
        account = job.run(max_failed, note=note)
    console.say(
        f"{account.rows:,} pictures: {account.tagged:,} tagged, {account.failed:,} failed "
        f"{dict(account.errors) or ''}".rstrip()
    )
    typer.echo(account.model_dump_json())


def _annotate_remotely(
    source: str, url: str, output: str, top_k: str, console: Console
) -> dict[str, object]:
    from engine.cut import parse_top_k
    from jobs.remote import annotate_remotely
    from serve.client import Client
    from serve.tagger import ServerTagger

    with Client(url, os.environ.get("TAGLOOM_API_KEY")) as client:
        tagger = ServerTagger(client)
        return annotate_remotely(source, tagger, output, parse_top_k(top_k), console)


@app.command()
def profile(
    input_: Annotated[str, typer.Option("--input", help="Pictures: a folder, Parquet or tars.")],
    bundle: Annotated[str, typer.Option(help="A bundle's folder, or 'imagenet'.")],
    pictures: Annotated[
        int | None, typer.Option(min=1, help="Only so many of the first; without: all.")
    ] = None,
    workers: Workers = None,
    compute: ComputeName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON too.")] = False,
    quiet: Quiet = False,
) -> None:
    """Annotate into a scratch folder, and show where the time of the job went."""
    began = time.time()
    from jobs.scratch import scratch_beside
    from jobs.work import Diary

    console = Console(quiet)
    diary = Diary(began, keeps=True)
    with (
        scratch_beside(Path("annotated")) as work,
        beginning(
            input_,
            bundle,
            f"{work}/out",
            "5",
            console,
            partial(run_settings, workers),
            compute,
            pictures,
        ) as job,
    ):
        from jobs.profile import show, summary

        account = job.run(diary=diary)
    found = summary(diary, account.rows)
    show(found, console)
    if as_json:
        typer.echo(found.to_json())


@app.command()
def gallery(
    annotations: Annotated[list[str], typer.Argument(help="Outputs of 'tagloom annotate'.")],
    out: Annotated[str, typer.Option(help="The HTML file.")],
    pictures: Annotated[int, typer.Option(min=1, help="At most so many of each output.")] = 60,
    title: Annotated[str, typer.Option(help="What stands at its head.")] = "Annotated pictures",
    quiet: Quiet = False,
) -> None:
    """Show annotated pictures as one HTML page that needs no network."""
    from jobs.gallery import write_gallery
    from jobs.store import absolute

    console = Console(quiet)
    write_gallery(annotations, out, pictures, console, title)
    console.say(f"gallery: {absolute(out)}")


@app.command()
def serve(
    bundle: Annotated[str, typer.Option(help="A bundle's folder or URL, or 'imagenet'.")],
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Where to listen; beyond loopback with keys only.")] = (
        "127.0.0.1"
    ),
    key_file: Annotated[Path | None, typer.Option(help="API keys, one a line.")] = None,
    vocabulary: VocabularyFile = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as topology=split.")
    ] = None,
    proxy: Annotated[
        Literal["auto", "python", "haproxy"],
        typer.Option(help="Who listens; 'auto': HAProxy, where it can be had."),
    ] = "auto",
    quiet: Quiet = False,
) -> None:
    """Tag pictures over HTTP, with a page to try it at /, until it is stopped."""
    from engine.storage.bundles import place_of
    from jobs.bundles import open_bundle
    from serve.config import load_settings
    from serve.local import run

    console = Console(quiet)
    place = place_of(open_bundle(bundle, console))
    named = [] if vocabulary is None else [f"vocabulary={vocabulary.absolute()}"]
    settings = load_settings(place, key_file, [*named, *(set_ or ())])
    run(settings, host, port, console.say, proxy)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A folder of the demo's own.")] = Path("demo"),
    corpus: Annotated[
        str | None, typer.Option(help="Your tagged pictures; without: drawn ones.")
    ] = None,
    images: Annotated[int, typer.Option(min=20, help="How many to draw.")] = 3000,
    quiet: Quiet = False,
) -> None:
    """Run every job once: learn from a corpus, tag pictures held out, show them in a gallery."""
    from jobs.demo import run_demo

    run_demo(out, corpus, images, Console(quiet))


def main() -> None:
    """Run a command; an error that the user can mend is told without a trace, with exit code 1."""
    try:
        app()
    except TagloomError as error:
        Console().error(str(error))
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
