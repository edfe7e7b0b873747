"""`tagloom submit`: the command line of a job, checked here and sent to a Ray cluster."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from typer.core import TyperCommand, TyperGroup

from engine.errors import ConfigError
from jobs.console import Console
from jobs.pins import installed, pinned, requirement_lines, variables
from jobs.submit import ADDRESS, Entrypoint, run

SETTINGS = {"ignore_unknown_options": True}
"""Of the command: what it does not know belongs to the job."""

_PATHS = {"input_", "output", "corpus", "test", "out", "annotations"}
_NAMES_OR_PATHS = {"bundle", "config"}
_WRITTEN = {"--output", "--out"}


def submit(
    context: typer.Context,
    job: Annotated[
        list[str], typer.Argument(help="A job of this program, with all of its own options.")
    ],
    address: Annotated[
        str | None,
        typer.Option(envvar=[ADDRESS, "RAY_ADDRESS"], help="The cluster, as http://HEAD:8265."),
    ] = None,
    working_dir: Annotated[
        str | None,
        typer.Option(help="A folder to upload, in which the job runs, or the URL of a .zip."),
    ] = None,
    pip: Annotated[
        list[str] | None,
        typer.Option(help="A package to install for the job, as NAME==VERSION; repeatable."),
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(help="A file of such packages, one a line.")
    ] = None,
    install: Annotated[
        bool,
        typer.Option("--install", help="Install what this program needs, in the versions here."),
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE for the job's environment, or NAME as it is here."),
    ] = None,
    entrypoint_num_cpus: Annotated[
        float | None, typer.Option(min=0, help="CPUs for the command, beside its workers.")
    ] = None,
    entrypoint_num_gpus: Annotated[
        float | None, typer.Option(min=0, help="GPUs for the command, beside its workers.")
    ] = None,
    entrypoint_memory: Annotated[
        int | None, typer.Option(min=0, help="Bytes of memory for the command.")
    ] = None,
    submission_id: Annotated[
        str | None, typer.Option(help="The job's name; without: Ray makes one up.")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Send it, print its name, and follow it no further.")
    ] = False,
) -> None:
    """Run a job on a Ray cluster: submit annotate --input ... --address http://HEAD:8265.

    Its log goes to stderr, its result to stdout, and its exit code is this command's.
    """
    console = Console()
    places = check_job(context.find_root().command, job)
    if address is None:
        raise ConfigError("name the cluster by --address http://HEAD:8265, or by RAY_ADDRESS")
    for note in check_places(places, address, working_dir):
        console.say(f"note: {note}")
    listed = [] if requirements is None else requirement_lines(requirements)
    packages = pinned([*(pip or ()), *listed, *(installed() if install else ())])
    environment: dict[str, object] = {}
    if working_dir is not None:
        environment["working_dir"] = _folder(working_dir)
    if packages:
        environment["pip"] = packages
    if env:
        environment["env_vars"] = variables(env)
    entrypoint = Entrypoint(
        shlex.join(["python", "-m", "jobs", *job]),
        environment,
        entrypoint_num_cpus,
        entrypoint_num_gpus,
        entrypoint_memory,
        submission_id,
    )
    raise typer.Exit(run(entrypoint, address, console, follow=not no_wait))


def check_job(program: object, words: Sequence[str]) -> list[tuple[str, str]]:
    """Parse a job's command line as the program itself does; give the paths that are in it.

    Args:
        program: the program's own parser.
        words: a job's name, or that of a group and a job, and its options.

    Returns:
        Options and the paths that are given to them, such as `--input` and `/data/pictures`.

    Raises:
        ConfigError: the program would not run it.
    """
    parent = None
    name = "tagloom"
    path = [name]
    try:
        while isinstance(program, TyperGroup):
            if not words:
                raise ConfigError(f"'{' '.join(path)}' is several jobs; name one of them")
            parent = program.make_context(name, list(words), parent=parent)
            found, program, words = program.resolve_command(
                parent, [*parent._protected_args, *parent.args]
            )
            name = str(found)
            path.append(name)
        assert isinstance(program, TyperCommand)
        if program.callback is not None and program.name == submit.__name__:
            raise ConfigError("'submit' cannot be submitted; name a job")
        values = program.make_context(name, list(words), parent=parent).params
    except typer.TyperException as error:
        raise ConfigError(
            f"the job would not run: {error.format_message()} (see '{' '.join(path)} --help')"
        ) from error
    places = []
    for parameter in program.params:
        value = values.get(parameter.name or "")
        for one in value if isinstance(value, list | tuple) else [value]:
            text = _place(parameter.name or "", one)
            if text is not None:
                places.append((parameter.opts[0], text))
    return places


def _place(name: str, value: object) -> str | None:
    """The path or URL that an option's value is, if it is one."""
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        return None
    if name in _PATHS:
        # 'tagloom table' takes NAME=PATH.
        before, equals, after = value.partition("=")
        return after if equals and "/" not in before else value
    if name in _NAMES_OR_PATHS and ("/" in value or Path(value).exists()):
        return value
    return None


def check_places(
    places: Iterable[tuple[str, str]], address: str, working_dir: str | None
) -> Iterator[str]:
    """Yield what has to be said of the paths in a job's command line.

    Raises:
        ConfigError: one means another place on the cluster than here.
    """
    local = [(option, text) for option, text in places if "://" not in text]
    for option, text in local:
        if Path(text).is_absolute() or text.startswith("~"):
            continue
        told = f"{option} {text}: on the cluster the job runs in a folder of its own"
        if option in _WRITTEN:
            raise ConfigError(
                f"{told}, which is removed later; give a whole path or a URL that all nodes see"
            )
        if working_dir is None:
            raise ConfigError(
                f"{told}; give a whole path or a URL that all nodes see, or a folder that holds "
                "it as --working-dir"
            )
        if "://" not in working_dir and not (Path(working_dir) / text).exists():
            raise ConfigError(
                f"{told}, and there is no such file in --working-dir {working_dir}; give a whole "
                "path or a URL that all nodes see"
            )
    whole = [f"{option} {text}" for option, text in local if Path(text).is_absolute()]
    if whole and not _is_loopback(address):
        yield f"all nodes of the cluster must see {', '.join(whole)} under the same path"


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _folder(working_dir: str) -> str:
    if "://" not in working_dir and not Path(working_dir).is_dir():
        raise ConfigError(f"--working-dir {working_dir}: is no folder; name one to upload")
    return working_dir
