"""What each switch is worth on a tagged corpus: F1 and N+ of single annotators, on several splits.

    python -m benchmarks.quality --corpus corel5k --words corel5k/words_260.txt --seeds 0,6,7,8,9

Every embedding is computed once; then each row is fitted on the training part of each split and
gives five tags to the rest, by the protocol of Murthy et al. 2015 (averages over the words). The
splits are those of `tagloom corpus split`. Choose on some seeds, report on others. The last line is
JSON: medians by row, and their differences from the first row.
"""

import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from engine.annotators.cca_knn import CcaKnnRecipe
from engine.annotators.linear import LinearRecipe
from engine.annotators.stacked import StackedRecipe
from engine.config import load_config
from engine.corpus import Corpus, split_rows
from engine.fitting import Material, ranked_tags, score_corpus
from engine.group import Solo
from engine.numerics.metrics import WordMetrics, word_metrics
from engine.recipe import Recipe
from jobs.console import Console
from jobs.evaluate import read_words
from jobs.fit import embed_corpus, gather_material
from jobs.runner import RunSettings
from jobs.session import ray_session
from jobs.store import Store

ONE = "efficientnet-lite2"
THREE = "efficientnet-lite2+efficientnet-lite1+efficientnet-lite0"


@dataclass(frozen=True)
class Row:
    """One line of the table: what differs from the line it is compared with, and on what."""

    name: str
    recipe: Recipe
    backbone: str = ONE
    flip: bool = False


ROWS = (
    Row("cca-knn", CcaKnnRecipe()),
    Row("cca-knn, image and text side (match = both)", CcaKnnRecipe(match="both")),
    Row("cca-knn, fitted temperature", CcaKnnRecipe(temperature="fitted")),
    Row("cca-knn, flips", CcaKnnRecipe(), flip=True),
    Row("cca-knn, three backbones", CcaKnnRecipe(), THREE),
    Row("linear", LinearRecipe()),
    Row("stacked", StackedRecipe()),
    Row("stacked, words balanced", StackedRecipe(balance=300)),
    Row("stacked, words balanced, flips", StackedRecipe(balance=300), flip=True),
    Row("stacked, three backbones", StackedRecipe(), THREE),
    Row("stacked, words balanced, three backbones", StackedRecipe(balance=300), THREE),
    Row("stacked, words balanced, three backbones, flips", StackedRecipe(balance=300), THREE, True),
)


def embedded(corpus: str, row: Row) -> Material:
    """The corpus with the embedding that a row wants."""
    overrides = [f"embed.backbone={row.backbone}", f"embed.flip={str(row.flip).lower()}"]
    config = load_config(None, overrides)
    quiet = Console(quiet=True)
    with tempfile.TemporaryDirectory() as work:
        found = embed_corpus(corpus, Store(work), config, quiet, RunSettings())
        material = gather_material(corpus, found, config)
        # In memory and without its parts, for the folder in which these lie is gone afterwards.
        whole = np.array(material.corpus.embeddings_ND)
        kept = replace(material.corpus, embeddings_ND=whole, spread=None)
        return replace(material, corpus=kept, thumbnails={})


def measured(
    row: Row, material: Material, columns_W: NDArray[np.int64], words: int, share: float, seed: int
) -> WordMetrics:
    """Fit on a split's training part, give the rest five of the words each."""
    corpus: Corpus = material.corpus
    training_rows, test_rows = split_rows(corpus.ids, share, seed)
    test = corpus.subset(test_rows)
    annotator = row.recipe.fit(corpus.subset(training_rows), material.vocabulary, Solo())
    given_NW = ranked_tags(score_corpus(annotator, test)[:, columns_W], 5)
    truth_NW = test.labels_NV.toarray()[:, columns_W] > 0
    # Words that no picture of the corpus carries count as missed.
    missing = ((0, 0), (0, words - len(columns_W)))
    return word_metrics(np.pad(given_NW, missing), np.pad(truth_NW, missing))


def main(
    corpus: Annotated[str, typer.Option(help="A tagged corpus.")],
    words: Annotated[str | None, typer.Option(help="Words that count; default: all.")] = None,
    seeds: Annotated[str, typer.Option(help="Of the splits, separated by commas.")] = "0,6,7,8,9",
    test: Annotated[float, typer.Option(help="Share of the pictures held out.")] = 0.1111,
    rows: Annotated[str, typer.Option(help="Only rows whose name contains this.")] = "",
) -> None:
    chosen = [row for row in ROWS if rows in row.name]
    numbers = [int(seed) for seed in seeds.split(",")]
    found: dict[str, list[WordMetrics]] = {row.name: [] for row in chosen}
    with ray_session():
        for backbone, flip in dict.fromkeys((row.backbone, row.flip) for row in chosen):
            alike = [row for row in chosen if (row.backbone, row.flip) == (backbone, flip)]
            material = embedded(corpus, alike[0])
            index = material.vocabulary.index
            counted = tuple(material.vocabulary.tags if words is None else read_words(words))
            columns_W = np.array([index[word] for word in counted if word in index])
            for row in alike:
                for seed in numbers:
                    started = time.perf_counter()
                    one = measured(row, material, columns_W, len(counted), test, seed)
                    found[row.name].append(one)
                    print(
                        f"{row.name}, seed {seed}: F1 {100 * one.f1:.1f}, N+ {one.n_plus} "
                        f"({time.perf_counter() - started:.0f} s)",
                        flush=True,
                    )
    print(
        f"\n| over {len(numbers)} splits: median (range) | P | R | F1 | N+ |\n|---|---|---|---|---|"
    )
    medians = {}
    for name, figures in found.items():
        columns = [
            [100 * one.precision for one in figures],
            [100 * one.recall for one in figures],
            [100 * one.f1 for one in figures],
        ]
        plus = [one.n_plus for one in figures]
        cells = [f"{statistics.median(c):.1f} ({min(c):.1f} to {max(c):.1f})" for c in columns]
        cells.append(f"{statistics.median(plus):.0f} ({min(plus)} to {max(plus)})")
        print(f"| {name} | {' | '.join(cells)} |")
        medians[name] = {
            "f1": round(statistics.median(columns[2]), 2),
            "n_plus": statistics.median(plus),
        }
    first = medians[chosen[0].name]
    result = {
        "medians": medians,
        "gains": {
            name: {key: round(one[key] - first[key], 2) for key in first}
            for name, one in medians.items()
        },
        "seeds": numbers,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
