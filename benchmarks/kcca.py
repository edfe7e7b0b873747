"""Kernel CCA by Nyström's approximation beside its own exact form: F1, time and memory.

    python -m benchmarks.kcca --rows 20000 --exact-rows 4000
    python -m benchmarks.kcca --features X.npy --tags X.json

Both are CCA-KNN with the χ² kernel, fitted on the same pictures and measured on the same held-out
ones (F1 of mean precision and recall of all the words, five tags a picture). They differ in
`landmarks` alone. Each fit runs in a process of its own, on one thread, and is stopped after
`--limit` seconds: at `--rows` the exact form's ratio is then a lower bound, and the two are
compared in full at `--exact-rows`, where Nyström gets its usual number of landmarks, and the same
share of the pictures as at `--rows` (a twentieth by default). Pictures are made up (features behind
a ReLU that follow their tags, which fall off as words do), or real features [N, D] with a list of
tags each, repeated with noise of a tenth where there are too few. Memory is the peak of the fit's
process less what it held before. The more causes there are behind the features, the more landmarks
it takes: with `--causes 16` a twentieth of the pictures is too few. The last line is JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.memory import peak_since, start_peak
from engine.annotators.cca_knn import CcaKnnRecipe
from engine.corpus import Corpus
from engine.fitting import TAGS_A_PICTURE, ranked_tags, score_corpus
from engine.group import Solo
from engine.numerics.metrics import word_metrics
from engine.vocab import Vocabulary

HELD_OUT = 1000
WIDTH = 256
WORDS = 120


def made_up(rows: int, causes: int) -> tuple[NDArray[np.float32], list[list[str]]]:
    """Features that are no linear function of the tags, one to a handful of which a picture has.

    As with a network's, a few causes are behind them all: words that are alike look alike.
    """
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(2, WORDS + 2)
    labels_NV = rng.random((rows, WORDS)) < 1.5 * chances / chances.sum()
    labels_NV[np.arange(rows), rng.choice(WORDS, rows, p=chances / chances.sum())] = True
    meanings_VC = rng.standard_normal((WORDS, causes))
    causes_NC = labels_NV @ meanings_VC + 0.5 * rng.standard_normal((rows, causes))
    filters_CD = rng.standard_normal((causes, WIDTH)) / np.sqrt(causes)
    seen_ND = causes_NC @ filters_CD - 0.5 + 0.1 * rng.standard_normal((rows, WIDTH))
    tags = [[f"w{word}" for word in np.flatnonzero(row)] for row in labels_NV]
    return np.maximum(seen_ND, 0).astype(np.float32), tags


def repeated(features: Path, tags: Path, rows: int) -> tuple[NDArray[np.float32], list[list[str]]]:
    """Real features, again and again with a tenth of noise until there are enough.

    The last `HELD_OUT` are real ones (at most a fifth of them), which none of the others repeats.
    """
    content = json.loads(tags.read_text(encoding="utf-8"))
    lists = content["tags"] if isinstance(content, dict) else content
    given_ND = np.load(features)
    if isinstance(content, dict) and "levels" in content:
        given_ND = given_ND[:, : content["levels"][0]]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(given_ND))
    held_out = np.resize(order[: min(HELD_OUT, len(order) // 5)], HELD_OUT)
    learned = np.resize(order[min(HELD_OUT, len(order) // 5) :], rows - HELD_OUT)
    noise = 1 + 0.1 * rng.standard_normal((rows, given_ND.shape[1]))
    noise[: len(order) - len(held_out)] = 1
    noise[-HELD_OUT:] = 1
    chosen = np.concatenate([learned, held_out])
    values_ND = (given_ND[chosen] * np.maximum(noise, 0)).astype(np.float32)
    return values_ND, [lists[row] for row in chosen]


def child(folder: Path, rows: int, landmarks: int) -> None:
    """Fit on the first `rows` pictures, score the last ones."""
    features_ND = np.load(folder / "features.npy")
    tags = json.loads((folder / "tags.json").read_text(encoding="utf-8"))
    vocabulary = Vocabulary.learn(tags)
    labels_NV = vocabulary.encode(tags)

    def part(chosen: slice) -> Corpus:
        ids = tuple(str(row) for row in range(len(tags)))[chosen]
        levels = (features_ND.shape[1],)
        return Corpus(ids, features_ND[chosen], sparse.csr_matrix(labels_NV[chosen]), levels)

    training, held_out = part(slice(rows)), part(slice(len(tags) - HELD_OUT, None))
    recipe = CcaKnnRecipe(kernel="chi2", landmarks=landmarks, tag_vectors="binary")
    print("ready", flush=True)
    held = start_peak()
    started = time.perf_counter()
    fitted = recipe.fit(training, vocabulary, Solo())
    seconds = time.perf_counter() - started
    mib = peak_since(held)
    truth_NV = held_out.labels_NV.toarray() > 0
    figures = word_metrics(ranked_tags(score_corpus(fitted, held_out), TAGS_A_PICTURE), truth_NV)
    print(json.dumps({"seconds": seconds, "mib": mib, "f1": 100 * figures.f1}))


def measured(folder: Path, rows: int, landmarks: int, limit: float) -> dict[str, float]:
    """Run a fit in a process of its own; {} if it is not done in time or memory."""
    command = [sys.executable, "-m", "benchmarks.kcca", "--child"]
    command += [str(folder), str(rows), str(landmarks)]
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            text, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            text = ""
    found: dict[str, float] = json.loads(text.splitlines()[-1]) if text else {}
    told = (
        f"F1 {found['f1']:5.1f}  {found['seconds']:8.1f} s  {found['mib']:7.0f} MiB"
        if found
        else f"not done in {limit:.0f} s"
    )
    print(f"{rows:7,} pictures, {landmarks:6,} landmarks: {told}", flush=True)
    return found


def main(
    rows: Annotated[int, typer.Option(help="Pictures to fit on.")] = 20_000,
    exact_rows: Annotated[int, typer.Option(help="Pictures that the exact form can do.")] = 4_000,
    landmarks: Annotated[int, typer.Option(help="Landmarks of Nyström's form.")] = 1_000,
    limit: Annotated[float, typer.Option(help="Seconds after which a fit is stopped.")] = 600,
    causes: Annotated[int, typer.Option(help="Behind the features of made-up pictures.")] = 8,
    features: Annotated[Path | None, typer.Option(help="Features as .npy, not negative.")] = None,
    tags: Annotated[Path | None, typer.Option(help="JSON: a list of tags a picture.")] = None,
) -> None:
    total = max(rows, exact_rows) + HELD_OUT
    ratios: dict[str, float] = {"rows": rows, "exact_rows": exact_rows, "landmarks": landmarks}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        if features is not None and tags is not None:
            values_ND, lists = repeated(features, tags, total)
        else:
            values_ND, lists = made_up(total, causes)
        np.save(folder / "features.npy", values_ND)
        (folder / "tags.json").write_text(json.dumps(lists), encoding="utf-8")
        for size in (exact_rows, rows):
            exact = measured(folder, size, size, limit)
            share = max(2, round(size * landmarks / rows))
            for count in sorted({share, min(landmarks, size)}):
                near = measured(folder, size, count, limit)
                if not near:
                    continue
                name = f"{count}_landmarks_{size}"
                if exact:
                    ratios[f"exact_over_{name}_seconds"] = round(
                        exact["seconds"] / near["seconds"], 1
                    )
                    ratios[f"exact_over_{name}_memory"] = round(exact["mib"] / near["mib"], 1)
                    ratios[f"f1_exact_less_{name}"] = round(exact["f1"] - near["f1"], 2)
                else:
                    ratios[f"exact_over_{name}_seconds_at_least"] = round(
                        limit / near["seconds"], 1
                    )
                    # The exact form holds this kernel at least.
                    kernel_mib = size * size * 8 / 2**20
                    ratios[f"exact_kernel_alone_over_{name}_memory"] = round(
                        kernel_mib / near["mib"], 1
                    )
    print(json.dumps(ratios))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        typer.run(main)
