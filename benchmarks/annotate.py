"""Our `annotate` job beside what one would use instead, and beside the limit of the machine.

    python -m benchmarks.annotate --pictures 1500 --rounds 5 --figure annotate.png

Every way runs as a process of its own on the same files, in turn, `rounds` times, with the same
backbone, weights, geometry and two cores; each way's start-up is from its process's start to its
first output, its steady rate from the first output to the last. Ours are the real commands: their
outputs are the parts, by the time each was written. `limit` is decode, resize and inference alone.
'bf16' is what the accuracy gate takes only with a lower limit than the default.

Needs the extra `bench`. Daft pins pyarrow below the version that we take, so it runs in an
environment of its own, below build/, which is made when it is not there.

clip-retrieval is not among the ways: it pins numpy below 2 and pyarrow below 16 (2.45.0), its
command line takes CLIP models by name alone, and none of CLIP's weights come with a package.

Prints Markdown; the last line is JSON, its ratios by name.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from benchmarks.events import Run, measure, read_run
from benchmarks.ways import ONE_PROCESS, PROCESSES, WAYS

DAFT = ("daft==0.7.26", "pyarrow==25.0.1", "tqdm")
OURS = {
    "ours": (),
    "ours, bf16": ("--compute", "openvino-bf16"),
    "ours, torch f32": ("--compute", "torch"),
}
DRAWN = 300


def daft_python(folder: Path) -> Path:
    """An interpreter with Daft and its pyarrow before all that this one has."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "ours.pth").write_text(next(p for p in sys.path if p.endswith("site-packages")))
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed"]
        subprocess.run([*map(str, install), *DAFT], check=True)
    return python


def run_way(way: str, folder: Path, bundle: Path, work: Path, python: Path) -> Run:
    events = work / "events"
    events.unlink(missing_ok=True)
    command = [python, "-m", "benchmarks.ways", way, folder, bundle, events]
    began = time.time()
    _run([str(word) for word in command], work)
    return read_run(events, began, 1 if way in ONE_PROCESS else PROCESSES)


def run_ours(options: Sequence[str], folder: Path, bundle: Path, work: Path) -> Run:
    out = work / f"out{time.monotonic_ns()}"
    command = [sys.executable, "-m", "jobs", "annotate", "--quiet", *options]
    command += [
        "--workers",
        str(PROCESSES),
        "--input",
        str(folder),
        "--bundle",
        str(bundle),
        "--output",
        str(out),
    ]
    began = time.time()
    _run(command, work)
    parts = [
        (part.stat().st_mtime, pq.read_metadata(part).num_rows)
        for part in out.glob("part-*.parquet")
    ]
    # One more than the workers: the part that is made while Ray starts is not theirs.
    return measure(parts, began, PROCESSES + 1)


def _run(command: Sequence[str], work: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    log = work / "log"
    with log.open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")


def make_bundle(work: Path, backbone: str) -> Path:
    """Fitted on drawn pictures: what it has learned does not matter here."""
    corpus, bundle = work / "corpus", work / "bundle"
    tagloom = [sys.executable, "-m", "jobs"]
    _run([*tagloom, "corpus", "sample", "--out", str(corpus), "--images", str(DRAWN)], work)
    fit = ["fit", "--corpus", str(corpus), "--out", str(bundle)]
    _run([*tagloom, *fit, "--set", f"embed.backbone={backbone}"], work)
    return bundle


def draw(work: Path, pictures: int) -> Path:
    """Pictures as files; drawn, so that anyone can have the same."""
    command = ["corpus", "sample", "--out", str(work / "pictures"), "--seed", "2"]
    _run([sys.executable, "-m", "jobs", *command, "--images", str(pictures)], work)
    return work / "pictures" / "images"


def ratios(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """The ratios that are asked for, of medians over the rounds."""
    rate = {way: statistics.median(run.steady for run in of) for way, of in runs.items()}
    ours, ours_torch = rate["ours"], rate["ours, torch f32"]
    loop = max(rate["loop, 1 thread"], rate["loop, 2 threads"])
    found = {
        "over_limit": ours / rate["limit"],
        "over_torch_loop": ours / loop,
        "bf16_over_torch_loop": rate["ours, bf16"] / loop,
        "over_dataloader": ours / rate["DataLoader"],
        "over_daft_torch": ours_torch / rate["Daft"],
        "over_daft_default": ours / rate["Daft"],
        "bf16_over_daft": rate["ours, bf16"] / rate["Daft"],
        "over_datasets": ours / rate["datasets.map"],
        "first_row_seconds": statistics.median(run.first for run in runs["ours"]),
    }
    return {name: round(value, 3) for name, value in found.items()}


def markdown(runs: Mapping[str, Sequence[Run]]) -> str:
    """A table of medians and ranges."""
    lines = ["| way | pictures/s, steady | seconds to the first output |", "|---|---|---|"]
    for way, of in runs.items():
        steady, first = (
            f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
            for values in ([run.steady for run in of], [run.first for run in of])
        )
        lines.append(f"| {way} | {steady} | {first} |")
    return "\n".join(lines)


def draw_figure(runs: Mapping[str, Sequence[Run]], file: Path) -> None:
    """Bars of the steady rates with their ranges, and of the seconds to the first output."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 0.45 * len(runs) + 1.2), sharey=True)
    titles = ("pictures a second, steady", "seconds to the first output")
    for panel, title, field in zip(panels, titles, ("steady", "first"), strict=True):
        for place, (way, of) in enumerate(runs.items()):
            values = sorted(getattr(run, field) for run in of)
            middle = statistics.median(values)
            spread = [[middle - values[0]], [values[-1] - middle]]
            colour = "tab:blue" if way.startswith("ours") else "tab:grey"
            panel.barh(place, middle, xerr=spread, color=colour, capsize=3)
        panel.set_title(title, fontsize=10)
        panel.set_yticks(range(len(runs)), list(runs))
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main(
    pictures: Annotated[int, typer.Option(min=200, help="Pictures to annotate.")] = 1500,
    rounds: Annotated[int, typer.Option(min=1, help="Times each way runs, in turn.")] = 5,
    backbone: Annotated[str, typer.Option(help="Of the bundle that is fitted.")] = (
        "efficientnet-lite0"
    ),
    folder: Annotated[Path | None, typer.Option(help="Picture files; without: drawn.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A fitted one; without: one is.")] = None,
    figure: Annotated[Path | None, typer.Option(help="A PNG of the table.")] = None,
    ways: Annotated[
        str, typer.Option(help="Only these, with semicolons between; no ratios then.")
    ] = "",
) -> None:
    chosen = [way.strip() for way in ways.split(";")] if ways else [*OURS, *WAYS]
    runs: dict[str, list[Run]] = {way: [] for way in chosen}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        images = draw(work, pictures) if folder is None else folder.absolute()
        fitted = make_bundle(work, backbone) if bundle is None else bundle.absolute()
        daft = daft_python(Path("build/daft").absolute()) if "Daft" in chosen else Path()
        for number in range(rounds):
            for way in chosen:
                if way in OURS:
                    run = run_ours(OURS[way], images, fitted, work)
                else:
                    python = daft if way == "Daft" else Path(sys.executable)
                    run = run_way(way, images, fitted, work, python)
                runs[way].append(run)
                print(
                    f"round {number + 1}, {way}: {run.steady:.1f}/s after {run.first:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
        count = len(list(images.iterdir()))
    print(markdown(runs))
    if figure is not None:
        draw_figure(runs, figure)
    account: dict[str, object] = dict(ratios(runs)) if not ways else {}
    print(json.dumps(account | {"pictures": count, "rounds": rounds, "backbone": backbone}))


if __name__ == "__main__":
    typer.run(main)
