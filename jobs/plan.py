"""`tagloom plan`: measures a sample, and says what a large job will take, cost and wait for."""

import json
import math
import os
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import ConfigError
from jobs.console import Console
from jobs.options import Quiet

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from jobs.forecast import Cluster, Forecast, Plan, Prices
    from jobs.measured import Measured

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "": 1}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def _above_zero(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value} is not a number above 0")
    return value


def _not_negative(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"{value} is not a number of 0 or above")
    return value


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise typer.BadParameter(f"'{text}' is not a time; write 90s, 45m, 24h or 2d")
    return float(found[1]) * _UNITS[found[2]]


def plan(
    nodes: Annotated[int, typer.Option(min=1, max=100_000, help="Machines of the cluster.")],
    input_: Annotated[
        str | None, typer.Option("--input", help="Pictures like those of the job.")
    ] = None,
    bundle: Annotated[str | None, typer.Option(help="A bundle's folder, or 'imagenet'.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="In place of both: what an earlier plan printed, to use again."),
    ] = None,
    pictures: Annotated[
        float, typer.Option(callback=_above_zero, help="Of the job, such as 1e9.")
    ] = 1e9,
    sample: Annotated[int, typer.Option(min=200, help="Pictures to measure on.")] = 1000,
    deadline: Annotated[
        float | None,
        typer.Option(parser=_duration, metavar="TIME", help="Such as 24h: how many nodes?"),
    ] = None,
    cpus_per_node: Annotated[int, typer.Option(min=1, help="CPUs that Ray is told of.")] = 4,
    cores_per_node: Annotated[
        int | None, typer.Option(min=1, help="Processors there are; default: as many.")
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(min=0, help="Each embeds for one worker.")] = 0,
    gpu_speedup: Annotated[
        float | None,
        typer.Option(callback=_above_zero, help="A GPU's embedding over one CPU worker's."),
    ] = None,
    object_store_gb: Annotated[
        float, typer.Option(callback=_above_zero, help="Ray's object store, a node.")
    ] = 8.0,
    network_gbit: Annotated[
        float, typer.Option(callback=_above_zero, help="Network of a node, Gbit/s.")
    ] = 10.0,
    storage_mb_per_s: Annotated[
        float | None, typer.Option(callback=_above_zero, help="The storage; default: no limit.")
    ] = None,
    requests_per_s: Annotated[
        float | None, typer.Option(callback=_above_zero, help="To it; default: no limit.")
    ] = None,
    listed_per_s: Annotated[
        float | None,
        typer.Option(callback=_above_zero, help="Pictures listed; default: as measured."),
    ] = None,
    failure_rate: Annotated[
        float, typer.Option(callback=_not_negative, help="Failures of a node, an hour.")
    ] = 0.0,
    replacement_s: Annotated[
        float, typer.Option(callback=_not_negative, help="Until a lost node is there again.")
    ] = 120.0,
    stragglers: Annotated[
        float | None,
        typer.Option(
            callback=_not_negative,
            help="Sigma of the lognormal factor on a chunk's time; default: as measured.",
        ),
    ] = None,
    price_per_node_hour: Annotated[float, typer.Option(callback=_not_negative)] = 0.0,
    price_per_gb: Annotated[
        float, typer.Option(callback=_not_negative, help="Read from and written to storage.")
    ] = 0.0,
    price_per_million_requests: Annotated[float, typer.Option(callback=_not_negative)] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json/--no-json", help="Print everything as one line of JSON.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Say what a job will take and cost, before it is run: measured on a sample, then simulated."""
    began = time.time()
    if (profile is None) == (input_ is None or bundle is None):
        raise typer.BadParameter("give --input and --bundle, or --profile in place of both")
    cluster, prices = _conditions(
        {
            "cpus": cpus_per_node,
            "cores": cores_per_node,
            "gpus": gpus_per_node,
            "gpu_speedup": gpu_speedup,
            "network": network_gbit * 1e9 / 8,
            "storage": storage_mb_per_s and storage_mb_per_s * 1e6,
            "requests": requests_per_s,
            "listing": listed_per_s,
            "object_store": object_store_gb * 1e9,
            "failures": failure_rate,
            "back": replacement_s,
            "spread": stragglers,
        },
        {
            "node_hour": price_per_node_hour,
            "gigabyte": price_per_gb,
            "million_requests": price_per_million_requests,
        },
    )
    console = Console(quiet)
    if profile is not None:
        measured = read_measured(profile)
    else:
        assert input_ is not None
        assert bundle is not None
        from jobs.measuring import measure

        workers = min(cpus_per_node, os.cpu_count() or 1)
        measured = measure(input_, bundle, sample, workers, console, began)
    from jobs.forecast import SIZES, Plan

    asked = Plan(measured, cluster, prices)
    with console.waiting("simulating"):
        forecast = asked.forecast(max(1, round(pictures)), nodes)
        sizes = [asked.forecast(size, nodes) for size in SIZES]
    show(asked, forecast, sizes, console)
    found: dict[str, object] = {
        "forecast": asdict(forecast),
        "sizes": [asdict(one) for one in sizes],
    }
    if deadline is not None:
        with console.waiting("looking for the number of nodes"):
            found["deadline"] = _meet(asked, forecast.pictures, deadline, console)
    found["cluster"] = cluster.model_dump()
    found["prices"] = prices.model_dump()
    found["measured"] = measured.model_dump()
    if as_json:
        typer.echo(json.dumps(found))


def _conditions(
    cluster: dict[str, float | None], prices: dict[str, float]
) -> "tuple[Cluster, Prices]":
    from pydantic import ValidationError

    from jobs.forecast import Cluster, Prices

    try:
        return Cluster.model_validate(cluster), Prices.model_validate(prices)
    except ValidationError as error:
        raise ConfigError(_told(error.errors())) from error


def _told(errors: "list[ErrorDetails]") -> str:
    return "; ".join(
        ": ".join((*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")))
        for one in errors
    )


def read_measured(file: Path) -> "Measured":
    """What an earlier plan printed, or the part of it that was measured.

    Raises:
        ConfigError: the file is neither.
    """
    from pydantic import ValidationError

    from jobs.measured import Measured

    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            content = content.get("measured", content)
        return Measured.model_validate(content)
    except ValidationError as error:
        told = _told(error.errors())
    except (OSError, ValueError) as error:
        told = str(error)
    raise ConfigError(
        f"{file}: not what 'tagloom plan' printed ({told}); give a file with its line of JSON, or "
        "--input and --bundle to measure anew"
    )


def _meet(asked: "Plan", pictures: int, deadline: float, console: Console) -> dict[str, object]:
    nodes = asked.nodes_for(pictures, deadline)
    if nodes is None:
        most = asked.forecast(pictures, 100_000)
        console.say(
            f"{pictures:,} pictures in {_time(deadline)}: no number of nodes is enough; with ever "
            f"more of them it is {_time(most.seconds)}, and waits for: {most.bottleneck}"
        )
        return {"seconds": deadline, "nodes": None}
    forecast = asked.forecast(pictures, nodes)
    console.say(
        f"{pictures:,} pictures in {_time(deadline)}: {nodes:,} nodes, which take "
        f"{_time(forecast.seconds)} and cost {forecast.cost:,.2f}"
    )
    return {"seconds": deadline, "nodes": nodes, "forecast": asdict(forecast)}


def show(asked: "Plan", forecast: "Forecast", sizes: "list[Forecast]", console: Console) -> None:
    """Print what was measured, and what comes of it."""
    one = asked.measured
    rows = [
        (
            part.removeprefix("score/"),
            f"{1000 * seconds:.3f}",
            f"{100 * seconds / one.seconds:.0f}%",
        )
        for part, seconds in sorted(one.parts.items(), key=lambda item: -item[1])
    ]
    rows.append(("all", f"{1000 * one.seconds:.3f}", "100%"))
    console.table("one worker alone", ("", "ms a picture", "share"), rows)
    console.say(
        f"each further busy worker on a node adds {100 * one.contention:.0f}% to that, measured "
        f"with up to {one.workers} workers and held beyond; a worker starts in "
        f"{one.waiting + one.start:.1f} s, and a picture is {one.read / 1000:,.0f} kB to read and "
        f"{one.written / 1000:,.2f} kB to write"
    )
    lines = [
        (
            f"{job.pictures:,}",
            _time(job.seconds),
            f"{job.low / job.seconds - 1:+.1%} to {job.high / job.seconds - 1:+.1%}",
            f"{job.pictures_per_second:,.0f}",
            f"{job.bottleneck} ({100 * job.used[job.bottleneck]:.0f}%)",
            f"{job.cost:,.2f}",
        )
        for job in (forecast, *(job for job in sizes if job.pictures != forecast.pictures))
    ]
    headings = ("pictures", "time", "5 to 95%", "pictures/s", "waits for", "cost")
    console.table(f"on {forecast.nodes:,} nodes", headings, lines)
    used = ", ".join(
        f"{name} {100 * share:.1f}%"
        for name, share in sorted(forecast.used.items(), key=lambda item: -item[1])
    )
    console.say(f"in use over the {forecast.pictures:,} pictures: {used}")
    if forecast.lost:
        console.say(f"nodes lost on the way: {forecast.lost:,.1f}")


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:,.1f} days"
