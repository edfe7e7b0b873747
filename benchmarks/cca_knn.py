"""CCA-KNN's scoring beside a plain NumPy double loop over queries and tags, in one run.

    python -m benchmarks.cca_knn --pictures 100000 --queries 10000 --tags 1000

The pictures are made up: they are taken of scenes, carry some of their scene's six tags, of which
some are a hundred times as frequent as others, and lie about the scene's centre. The engine's way
begins with the embeddings (1,280 wide) and ends with scores and evidence, in batches as a job's.
The loop begins with the projected queries: a product with all the pictures for each query, then
for each tag the nearest of its carriers. It is timed on some of the queries and scaled. Both have
one thread. The last line is JSON, its ratios by name.
"""

import json
import statistics
import time
from dataclasses import dataclass
from typing import Annotated

import faiss
import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from engine import schema
from engine.annotators.cca_knn import LOOKED_FOR, CcaKnn, CcaKnnRecipe
from engine.cca_space import ImageProjection, correlation_normalised
from engine.index import ArrayVectors, IndexWish, build_index
from engine.placement import Placement

DEPTH, WIDTH = 1280, 128
TAGS_A_SCENE = 6
TOP = 5


@dataclass(frozen=True)
class World:
    """Scenes, of which pictures are taken: each has a centre and `TAGS_A_SCENE` tags.

    The frequency of a tag falls as 1 / (9 + its rank); a scene lies near the mean of its tags.
    Pictures of a scene differ in `ways` directions, and a little in all.
    """

    centres_SL: NDArray[np.float32]
    tags_ST: NDArray[np.int64]
    tags: int
    ways_WL: NDArray[np.float32]
    noise: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, scenes: int, tags: int, ways: int, noise: float
    ) -> "World":
        chances_V = 1 / np.arange(10, 10 + tags)
        tags_ST = rng.choice(tags, (scenes, TAGS_A_SCENE), p=chances_V / chances_V.sum())
        places_VL = rng.standard_normal((tags, WIDTH))
        centres_SL = places_VL[tags_ST].mean(axis=1) + 0.3 * rng.standard_normal((scenes, WIDTH))
        centres_SL /= np.linalg.norm(centres_SL, axis=1, keepdims=True)
        ways_WL = np.linalg.qr(rng.standard_normal((WIDTH, ways)))[0].T
        return cls(centres_SL.astype(np.float32), tags_ST, tags, ways_WL.astype(np.float32), noise)

    def pictures(
        self, rng: np.random.Generator, count: int
    ) -> tuple[NDArray[np.float32], sparse.csr_matrix]:
        """Unit vectors around the scenes' centres; each picture has some of its scene's tags."""
        scenes_N = rng.integers(0, len(self.centres_SL), count)
        ways = len(self.ways_WL)
        noise_NL = rng.standard_normal((count, ways)) @ self.ways_WL * (self.noise / np.sqrt(ways))
        noise_NL += rng.standard_normal((count, WIDTH)) * (0.1 / np.sqrt(WIDTH))
        named_NT = rng.random((count, TAGS_A_SCENE)) < 0.7
        named_NT[~named_NT.any(axis=1), 0] = True
        rows, places = np.nonzero(named_NT)
        columns = self.tags_ST[scenes_N[rows], places]
        ones = np.ones(len(rows), np.float32)
        labels_NV = sparse.csr_matrix((ones, (rows, columns)), shape=(count, self.tags))
        labels_NV.sum_duplicates()
        labels_NV.data[:] = 1
        vectors_NL = (self.centres_SL[scenes_N] + noise_NL).astype(np.float32)
        return correlation_normalised(vectors_NL), labels_NV


def embeddings_of(
    vectors_BL: NDArray[np.float32], weights_DL: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Embeddings whose signed roots the orthonormal weights project to these vectors."""
    rooted_BD = vectors_BL @ weights_DL.T
    return np.sign(rooted_BD) * rooted_BD**2


def double_loop(
    queries_BL: NDArray[np.float32],
    vectors_NL: NDArray[np.float32],
    carriers: list[NDArray[np.int32]],
    recipe: CcaKnnRecipe,
) -> NDArray[np.float32]:
    """Murthy et al. 2015, Eq. 5, as one would write it first."""
    votes_BV = np.zeros((len(queries_BL), len(carriers)), np.float32)
    nearest = recipe.neighbours
    for row, query in enumerate(queries_BL):
        similarities_N = vectors_NL @ query
        for tag, carried in enumerate(carriers):
            similarities = similarities_N[carried]
            if len(similarities) > nearest:
                similarities = np.partition(similarities, -nearest)[-nearest:]
            votes_BV[row, tag] = np.exp((similarities - 1) / recipe.temperature).sum()
    return votes_BV


def main(
    pictures: Annotated[int, typer.Option(help="Training pictures.")] = 100_000,
    queries: Annotated[int, typer.Option(help="Pictures to score.")] = 10_000,
    tags: Annotated[int, typer.Option(help="Tags of the vocabulary.")] = 1000,
    looped: Annotated[int, typer.Option(help="Queries that the loop is timed on.")] = 300,
    scenes: Annotated[int, typer.Option(help="Scenes that pictures are taken of.")] = 1000,
    ways: Annotated[int, typer.Option(help="Directions in which pictures of one differ.")] = 128,
    noise: Annotated[float, typer.Option(help="Its length over that of a scene's centre.")] = 0.8,
    batch: Annotated[int, typer.Option(help="Queries that are scored at a time.")] = 32,
    rounds: Annotated[int, typer.Option(help="Times that each way is measured, in turn.")] = 3,
) -> None:
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    world = World.draw(rng, scenes, tags, ways, noise)
    vectors_NL, labels_NV = world.pictures(rng, pictures)
    queries_BL, _ = world.pictures(rng, queries)
    weights_DL = np.linalg.qr(rng.standard_normal((DEPTH, WIDTH)))[0].astype(np.float32)
    recipe = CcaKnnRecipe()
    with threadpool_limits(1):
        began = time.perf_counter()
        index = build_index(
            ArrayVectors(vectors_NL), IndexWish(nearest=LOOKED_FOR * recipe.neighbours)
        )
        print(f"index built in {time.perf_counter() - began:.1f} s: {index.entry}")
        annotator = CcaKnn(
            recipe,
            Placement(ImageProjection((DEPTH,), np.zeros(DEPTH, np.float32), weights_DL)),
            index,
            labels_NV,
            tuple(str(row) for row in range(pictures)),
            "made up",
        )
        embeddings_BD = embeddings_of(queries_BL, weights_DL)
        batches = [
            pa.table({schema.EMBEDDING: schema.tensor_column(embeddings_BD[start : start + batch])})
            for start in range(0, queries, batch)
        ]
        by_tag = sparse.csc_matrix(labels_NV)
        carriers = np.split(by_tag.indices, by_tag.indptr[1:-1])
        engine_ms, loop_ms = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            scores_BV = np.concatenate([annotator.score(one).scores_BV for one in batches])
            engine_ms.append(1000 * (time.perf_counter() - began) / queries)
            began = time.perf_counter()
            loop_BV = double_loop(queries_BL[:looped], vectors_NL, carriers, recipe)
            loop_ms.append(1000 * (time.perf_counter() - began) / looped)
    given = np.argsort(-scores_BV[:looped], axis=1, kind="stable")[:, :TOP]
    expected = np.argsort(-loop_BV, axis=1, kind="stable")[:, :TOP]
    shared = np.array([len(set(a) & set(b)) for a, b in zip(given, expected, strict=True)])
    for name, values in (("engine", engine_ms), ("double loop", loop_ms)):
        print(
            f"{name:12s} median {statistics.median(values):8.3f} ms a query "
            f"({min(values):.3f} to {max(values):.3f})"
        )
    print(
        f"the loop was timed on {looped:,} of {queries:,} queries, and {queries:,} scaled from it"
    )
    ratios = {
        "engine_over_loop": round(statistics.median(loop_ms) / statistics.median(engine_ms), 1),
        "same_top5_tags": round(float(shared.mean() / TOP), 4),
        "same_top5_queries": round(float((shared == TOP).mean()), 4),
        "pictures": pictures,
        "tags": tags,
        "queries": queries,
        "index": index.kind,
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    typer.run(main)
