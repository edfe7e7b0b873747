"""Methods that transfer tags from neighbours beside a plain double loop: ms a picture, in one run.

    python -m benchmarks.neighbours --pictures 4000 --tags 260 --rounds 3

Every method is fitted on the same made-up pictures, of the widths of EfficientNet-Lite2's levels,
and scores batches of 32 in one thread. The loop goes over queries and tags as 2PKNN is written
down, and is asked for fewer queries; its five best tags are compared with the method's. The last
line is JSON, its ratios by name.
"""

import json
import statistics
import time
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from engine import schema
from engine.annotators import REGISTRY
from engine.annotators.two_pass_knn import TwoPassKnn
from engine.corpus import Corpus
from engine.embed import backbone
from engine.fitting import ranked_tags
from engine.group import Solo
from engine.numerics.levels import normalised_levels
from engine.recipe import Annotator
from engine.vocab import Vocabulary

BATCH = 32
LOOPED = 8
"""Queries that the plain loop is asked for in a round."""

WAYS: dict[str, tuple[str, dict[str, object]]] = {
    "2pknn": ("2pknn", {"distance": "cosine", "levels": "all"}),
    "2pknn l1": ("2pknn", {"distance": "l1", "levels": "all"}),
    "2pknn chi2": ("2pknn", {"distance": "chi2", "levels": "all"}),
    "jec": ("jec", {}),
    "tagprop": ("tagprop", {}),
    "ml-knn": ("ml-knn", {}),
    "kcca-2pknn": ("kcca-2pknn", {"tag_vectors": "binary"}),
}


def made_up(pictures: int, tags: int) -> tuple[Corpus, Vocabulary, NDArray[np.float32]]:
    """Pictures whose features follow from their tags in part, and as many queries as a batch."""
    rng = np.random.default_rng(0)
    levels = backbone("efficientnet-lite2").levels
    places = np.minimum(tags * rng.random((pictures + BATCH, 4)) ** 3, tags - 1).astype(np.int64)
    places[:tags, 0] = np.arange(tags)
    labels = np.zeros((pictures + BATCH, tags), dtype=np.float32)
    np.put_along_axis(labels, places, 1.0, axis=1)
    causes = rng.standard_normal((tags, sum(levels)), dtype=np.float32)
    noise = rng.standard_normal((pictures + BATCH, sum(levels)), dtype=np.float32)
    x_ND = np.maximum(labels @ causes + noise, 0)
    corpus = Corpus(
        tuple(str(row) for row in range(pictures)),
        x_ND[:pictures],
        sparse.csr_matrix(labels[:pictures]),
        levels,
    )
    counts = tuple(int(count) for count in labels[:pictures].sum(axis=0))
    return corpus, Vocabulary(tuple(str(tag) for tag in range(tags)), counts), x_ND[pictures:]


class PlainLoop:
    """2PKNN with the cosine distance as it is written down, a query and a tag at a time."""

    def __init__(self, corpus: Corpus, scales_M: NDArray[np.float64]) -> None:
        self.levels = corpus.levels
        self.parts = self.split(corpus.embeddings_ND)
        self.scales_M = scales_M
        self.carries = corpus.labels_NV.toarray() > 0

    def split(self, x_ND: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return np.split(normalised_levels(x_ND, self.levels), np.cumsum(self.levels)[:-1], axis=1)

    def __call__(
        self, queries: NDArray[np.float32], neighbours: int, temperature: float
    ) -> NDArray[np.float64]:
        scores = np.zeros((len(queries), self.carries.shape[1]))
        parts = self.split(queries)
        for number in range(len(queries)):
            far_N = np.zeros(len(self.carries))
            for part, stored, scale in zip(parts, self.parts, self.scales_M, strict=True):
                far_N += (1 - stored @ part[number]) / scale / len(self.levels)
            union: set[int] = set()
            for tag in range(scores.shape[1]):
                carriers = np.flatnonzero(self.carries[:, tag])
                nearest = carriers[np.argsort(far_N[carriers], kind="stable")[:neighbours]]
                union.update(nearest.tolist())
            for row in union:
                vote = np.exp(-far_N[row] / temperature)
                for carried in np.flatnonzero(self.carries[row]):
                    scores[number, carried] += vote
        return scores


def main(
    pictures: Annotated[int, typer.Option(help="Training pictures.")] = 4000,
    tags: Annotated[int, typer.Option(help="Tags of the vocabulary.")] = 260,
    rounds: Annotated[int, typer.Option(help="Times that each way is measured, in turn.")] = 3,
) -> None:
    corpus, vocabulary, queries = made_up(pictures, tags)
    batch = pa.table({schema.EMBEDDING: schema.tensor_column(queries)})
    fitted: dict[str, Annotator] = {}
    with threadpool_limits(1):
        for name, (kind, settings) in WAYS.items():
            started = time.perf_counter()
            recipe = REGISTRY[kind].recipe.model_validate(settings)
            fitted[name] = recipe.fit(corpus, vocabulary, Solo())
            fitted[name].score(batch)
            print(f"{name:12s} fitted in {time.perf_counter() - started:6.1f} s")
        two_pass = fitted["2pknn"]
        assert isinstance(two_pass, TwoPassKnn)
        loop = PlainLoop(corpus, two_pass.learned.exemplars.scales_M)
        found: dict[str, list[float]] = {name: [] for name in [*fitted, "plain loop"]}
        for _ in range(rounds):
            for name, annotator in fitted.items():
                started = time.perf_counter()
                annotator.score(batch)
                found[name].append(1000 * (time.perf_counter() - started) / BATCH)
            started = time.perf_counter()
            wanted = loop(queries[:LOOPED], two_pass.recipe.neighbours, two_pass.recipe.temperature)
            found["plain loop"].append(1000 * (time.perf_counter() - started) / LOOPED)
    for name, values in found.items():
        print(
            f"{name:12s} median {statistics.median(values):7.2f} ms a picture "
            f"({min(values):.2f} to {max(values):.2f})"
        )
    given = ranked_tags(two_pass.score(batch).scores_BV[:LOOPED], 5)
    same = (given & ranked_tags(wanted.astype(np.float32), 5)).sum() / (5 * LOOPED)
    middle = {name: statistics.median(values) for name, values in found.items()}
    ratios: dict[str, object] = {
        "loop_over_2pknn": round(middle["plain loop"] / middle["2pknn"], 2),
        "same_five_tags": round(float(same), 4),
        "pictures": pictures,
        "tags": tags,
    }
    print(json.dumps(ratios | {f"ms/{name}": round(ms, 2) for name, ms in middle.items()}))


if __name__ == "__main__":
    typer.run(main)
