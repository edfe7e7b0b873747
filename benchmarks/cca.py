"""CCA from streaming moments beside scikit-learn and cca_zoo: time, correlations, memory.

    python -m benchmarks.cca --zoo-python PATH_TO_A_PYTHON_THAT_HAS_CCA_ZOO

Every way runs in a process of its own, on one thread, on the same made-up views (blocks of float32
drawn with a seed; some hundred shared causes of falling strength), and is stopped after `--limit`
seconds. Ours always finds all the directions. Of scikit-learn only some are asked for, since it
finds one after the other: `--components` of CCA, which whitens the whole views anew for each, and
ten times as many of PLSCanonical. Its ratios are lower bounds. Time is of the
fit alone, the views being there: ours gets them block by block, the others whole, in float64.
Ratios are theirs over ours at the same size. PLSCanonical maximises a covariance, so that its
correlations are others; cca_zoo and SciPy's eigenproblem find all the directions. Memory is the
peak of the whole process less what it held before the views came. The last line is JSON.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Protocol

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.memory import peak_since, start_peak

BLOCK = 4096
CAUSES = 100
OTHERS = ("scipy", "sklearn-cca", "sklearn-pls", "zoo-cca", "zoo-mcca")

Whole = NDArray[np.float64]
Find = Callable[[Whole, Whole], list[float]]
Fit = Callable[[Whole, Whole], Find]
Outcome = dict[str, object]


class Projects(Protocol):
    """A fitted model of scikit-learn's or cca_zoo's."""

    def transform(self, *views: object) -> Sequence[Whole]: ...


def blocks(rows: int, d: int, e: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Paired views in blocks, the same ones for the same sizes; never held as a whole."""
    fixed = np.random.default_rng(0)
    causes = min(CAUSES, e)
    strengths = (2 * 0.95 ** np.arange(causes)).astype(np.float32)
    mix_x = fixed.standard_normal((causes, d), dtype=np.float32) * strengths[:, None]
    mix_y = fixed.standard_normal((causes, e), dtype=np.float32) * strengths[:, None]
    for number, start in enumerate(range(0, rows, BLOCK)):
        rng = np.random.default_rng([1, number])
        size = min(BLOCK, rows - start)
        shared = rng.standard_normal((size, causes), dtype=np.float32)
        x_BD = shared @ mix_x + 3 * rng.standard_normal((size, d), dtype=np.float32) + 1
        y_BE = shared @ mix_y + 3 * rng.standard_normal((size, e), dtype=np.float32) - 1
        yield x_BD, y_BE


def whole(rows: int, d: int, e: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x_ND, y_NE = np.empty((rows, d)), np.empty((rows, e))
    for number, (x_BD, y_BE) in enumerate(blocks(rows, d, e)):
        part = slice(number * BLOCK, number * BLOCK + len(x_BD))
        x_ND[part], y_NE[part] = x_BD, y_BE
    return x_ND, y_NE


def correlations(u_NL: NDArray[np.float64], v_NL: NDArray[np.float64]) -> list[float]:
    pairs = zip(u_NL.T, v_NL.T, strict=True)
    return [float(np.corrcoef(u, v)[0, 1]) for u, v in pairs]


def run_ours(rows: int, d: int, e: int, components: int) -> Outcome:
    from engine.numerics.cca import solve_cca
    from engine.numerics.moments import stream_moments

    drawing = 0.0

    def timed() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        nonlocal drawing
        views = blocks(rows, d, e)
        while True:
            started = time.perf_counter()
            block = next(views, None)
            drawing += time.perf_counter() - started
            if block is None:
                return
            yield block

    ready()
    held = start_peak()
    started = time.perf_counter()
    cca = solve_cca(stream_moments(timed()), 0.0)
    seconds = time.perf_counter() - started - drawing
    return {"seconds": seconds, "found": cca.correlations_L.tolist(), "mib": peak_since(held)}


def run_other(way: str, rows: int, d: int, e: int, components: int) -> Outcome:
    makers = {
        "sklearn-cca": sklearn_cca,
        "sklearn-pls": sklearn_pls,
        "zoo-cca": zoo_cca,
        "zoo-mcca": zoo_mcca,
        "scipy": scipy_eigenproblem,
    }
    fit = makers[way](components, e)
    held = start_peak()
    x_ND, y_NE = whole(rows, d, e)
    ready()
    started = time.perf_counter()
    find = fit(x_ND, y_NE)
    seconds = time.perf_counter() - started
    mib = peak_since(held)
    return {"seconds": seconds, "found": find(x_ND, y_NE), "mib": mib}


def sklearn_cca(components: int, e: int) -> Fit:
    from sklearn.cross_decomposition import CCA

    # Its own tolerance stops some 1e-6 short of the correlations.
    model = CCA(n_components=components, scale=False, max_iter=5000, tol=1e-9)
    return lambda x, y: _projected(model.fit(x, y))


def sklearn_pls(components: int, e: int) -> Fit:
    from sklearn.cross_decomposition import PLSCanonical

    model = PLSCanonical(n_components=10 * components, scale=False)
    return lambda x, y: _projected(model.fit(x, y))


def _projected(model: Projects) -> Find:
    return lambda x, y: correlations(*model.transform(x, y))


def zoo_cca(components: int, e: int) -> Fit:
    from cca_zoo.linear import CCA

    model = CCA(n_components=e)
    return lambda x, y: _projected_list(model.fit([x, y]))


def zoo_mcca(components: int, e: int) -> Fit:
    from cca_zoo.linear import MCCA

    model = MCCA(n_components=e)
    return lambda x, y: _projected_list(model.fit([x, y]))


def _projected_list(model: Projects) -> Find:
    return lambda x, y: correlations(*model.transform([x, y]))


def scipy_eigenproblem(components: int, e: int) -> Fit:
    """Eq. 2 of Murthy et al. 2015 as it stands, from np.cov."""
    from scipy import linalg

    def fit(x_ND: Whole, y_NE: Whole) -> Find:
        d = x_ND.shape[1]
        covariance = np.cov(x_ND.T, y_NE.T)
        xx, yy, xy = covariance[:d, :d], covariance[d:, d:], covariance[:d, d:]
        squares = linalg.eigh(xy @ linalg.solve(yy, xy.T, assume_a="pos"), xx, eigvals_only=True)
        found = np.sqrt(np.maximum(squares[::-1][:e], 0)).tolist()
        return lambda x, y: found

    return fit


def ready() -> None:
    """Tell the parent that the views are there and the clock runs."""
    print("ready", flush=True)


def child(way: str, rows: int, d: int, e: int, components: int, memory_gib: float) -> None:
    limit = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        run = run_ours if way == "ours" else partial(run_other, way)
        print(json.dumps(run(rows, d, e, components)))
    except MemoryError:
        print(json.dumps({"failed": f"more than {memory_gib:g} GiB"}))


def measured(
    way: str, sizes: Sequence[int], components: int, python: str, limit: float, memory_gib: float
) -> Outcome:
    """Run a way in a process of its own; the limit counts from when its views are there."""
    numbers = [str(number) for number in (*sizes, components)]
    command = [python, "-m", "benchmarks.cca", "--child", way, *numbers, str(memory_gib)]
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            process.kill()
            return {"failed": "it could not be run"}
        try:
            text, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"failed": f"not done in {limit:.0f} s", "at_least": limit}
    if process.returncode:
        return {"failed": f"exit code {process.returncode}"}
    outcome: Outcome = json.loads(text.splitlines()[-1])
    return outcome


def main(
    small: Annotated[int, typer.Option(help="Rows at which all ways are tried.")] = 20_000,
    large: Annotated[int, typer.Option(help="Rows at which they are tried again.")] = 200_000,
    d: Annotated[int, typer.Option(help="Features of the first view.")] = 1280,
    e: Annotated[int, typer.Option(help="Features of the second view.")] = 300,
    components: Annotated[int, typer.Option(help="Directions asked of scikit-learn.")] = 2,
    limit: Annotated[float, typer.Option(help="Seconds after which a fit is stopped.")] = 300,
    memory_gib: Annotated[float, typer.Option(help="Address space of a process.")] = 16,
    rounds: Annotated[int, typer.Option(help="Times that ours is measured.")] = 3,
    zoo_python: Annotated[str, typer.Option(help="A Python that has cca_zoo 4.")] = "",
    ways: Annotated[str, typer.Option(help="Which others, separated by commas.")] = ",".join(
        OTHERS
    ),
) -> None:
    ratios: dict[str, object] = {"d": d, "e": e, "components_of_sklearn": components}
    peaks = {}
    for rows in (small, large):
        runs = [
            measured("ours", (rows, d, e), components, sys.executable, limit, memory_gib)
            for _ in range(rounds)
        ]
        seconds = statistics.median(float(str(run["seconds"])) for run in runs)
        spread = [float(str(run["seconds"])) for run in runs]
        peaks[rows] = max(float(str(run["mib"])) for run in runs)
        ours = np.array(runs[0]["found"])
        print(
            f"{rows:8,} rows  ours         {seconds:8.2f} s ({min(spread):.2f} to "
            f"{max(spread):.2f})  {peaks[rows]:7.0f} MiB  {len(ours)} directions"
        )
        for way in filter(None, ways.split(",")):
            python = zoo_python if way.startswith("zoo") else sys.executable
            if not python:
                continue
            run = measured(way, (rows, d, e), components, python, limit, memory_gib)
            name = f"{way.replace('-', '_')}_over_ours_{rows}"
            if "failed" in run:
                print(f"{'':15}{way:12} {run['failed']}")
                if "at_least" in run:
                    ratios[f"{name}_at_least"] = round(limit / seconds, 1)
                continue
            found = np.array(run["found"])
            ratios[name] = round(float(str(run["seconds"])) / seconds, 1)
            ratios[f"memory_{name}"] = round(float(str(run["mib"])) / peaks[rows], 1)
            told = ""
            if way != "sklearn-pls":
                apart = float(np.abs(found - ours[: len(found)]).max())
                ratios[f"correlations_apart_{way.replace('-', '_')}_{rows}"] = float(f"{apart:.1e}")
                told = f"  correlations within {apart:.1e}"
            print(
                f"{'':15}{way:12} {run['seconds']:8.2f} s  {run['mib']:7.0f} MiB  "
                f"{len(found)} directions, {ratios[name]} times ours{told}"
            )
    ratios[f"memory_{large}_over_{small}"] = round(peaks[large] / peaks[small], 3)
    print(json.dumps(ratios))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        way, *numbers, memory = sys.argv[2:]
        child(way, *map(int, numbers), memory_gib=float(memory))
    else:
        typer.run(main)
