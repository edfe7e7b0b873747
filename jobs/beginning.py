"""Begins an annotate job beside Ray's start, with the imports that take a second or two as well."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.console import Console

if TYPE_CHECKING:
    from jobs.annotate import Prepared
    from jobs.runner import RunSettings


def beginning(
    source: str,
    bundle: str,
    output: str,
    top_k: str,
    console: Console,
    settings: "Callable[[], RunSettings]",
    compute: str | None = None,
    pictures: int | None = None,
    rules: Path | None = None,
    cpus: int | None = None,
) -> "AbstractContextManager[Prepared]":
    """See `jobs.annotate.preparing`; what that imports is imported within.

    Args:
        settings: makes them, for that imports Ray Data.
        cpus: that Ray is told of if it is started here; None: those that there are.
    """
    from jobs.session import running

    @contextmanager
    def preparing() -> "Iterator[Prepared]":
        from engine.cut import parse_top_k
        from jobs.annotate import preparing

        asked = (source, bundle, output, parse_top_k(top_k), console, settings())
        with preparing(*asked, compute, pictures, rules) as job:
            yield job

    return running(preparing(), cpus)
