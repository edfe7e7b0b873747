"""Training pictures a second: the project's loop beside a plain PyTorch loop of the same model.

    python benchmarks/train.py --pictures 4000 --rounds 3

Both train a ranked LSTM on the same features, a batch at a time, with AdamW on the same threads;
the plain loop does no more than it must: no checks, no seeds of its own a step, no clipping. With
`--backbone` both train that network from pixels as well. The last line is JSON, its ratios by name.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from engine.embed import backbone
from engine.embed.tuned import new_regressor
from engine.group import Solo
from engine.optimisation import Optimisation
from engine.training import Batch, train
from engine.training.recurrent import RankedLstmNetwork, sequence_loss

WIDTH, HIDDEN, TAGS, STEPS, FEATURES = 100, 300, 260, 5, 2136
PRIOR_V = np.zeros(TAGS, dtype=np.float32)


def drawn_tags(pictures: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.array([rng.permutation(TAGS)[:STEPS] for _ in range(pictures)]))


def our_rate(
    network: nn.Module, inputs: torch.Tensor, tags: torch.Tensor, settings: Optimisation
) -> float:
    """Pictures a second of `engine.training.train`."""

    def loss(network: nn.Module, batch: Batch) -> torch.Tensor:
        tags_BT = tags[batch.rows_B]
        return sequence_loss(network(inputs[batch.rows_B], tags_BT), tags_BT)

    ids = [f"picture-{row}" for row in range(len(inputs))]
    started = time.perf_counter()
    train(network, loss, ids, settings, Solo())
    return settings.epochs * len(inputs) / (time.perf_counter() - started)


def plain_rate(
    network: nn.Module, inputs: torch.Tensor, tags: torch.Tensor, settings: Optimisation
) -> float:
    """Pictures a second of the loop that one would write first."""
    network.train()
    learning = [one for one in network.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=settings.learning_rate, weight_decay=0)
    started = time.perf_counter()
    for _ in range(settings.epochs):
        order = torch.randperm(len(inputs))
        for start in range(0, len(inputs), settings.batch):
            rows = order[start : start + settings.batch]
            optimiser.zero_grad()
            loss = sequence_loss(network(inputs[rows], tags[rows]), tags[rows]) / len(rows)
            loss.backward()
            optimiser.step()
    return settings.epochs * len(inputs) / (time.perf_counter() - started)


def ratio(
    name: str,
    build: Callable[[], nn.Module],
    inputs: torch.Tensor,
    settings: Optimisation,
    rounds: int,
) -> float:
    """Of the medians; the two take turns, each on a network of its own."""
    tags = drawn_tags(len(inputs))
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(rounds + 1):
        found["ours"].append(our_rate(build(), inputs, tags, settings))
        found["plain"].append(plain_rate(build(), inputs, tags, settings))
    for way, rates in found.items():
        # The first round warms up.
        kept = rates[1:]
        print(
            f"{name}, {way:5s} median {statistics.median(kept):9.1f} "
            f"({min(kept):.1f} to {max(kept):.1f}) pictures/s"
        )
    return statistics.median(found["ours"][1:]) / statistics.median(found["plain"][1:])


def main(
    pictures: Annotated[int, typer.Option(help="Pictures an epoch.")] = 4000,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    rounds: Annotated[int, typer.Option(help="Times that each loop is measured, in turn.")] = 3,
    threads: Annotated[int, typer.Option(help="Of torch, in both.")] = 1,
    name: Annotated[
        str | None, typer.Option("--backbone", help="Train this network from pixels, too.")
    ] = None,
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    features = torch.randn(pictures, FEATURES)
    settings = Optimisation(learning_rate=1e-3, epochs=1, batch=batch, schedule="constant")

    def on_features() -> nn.Module:
        return RankedLstmNetwork(nn.Linear(FEATURES, WIDTH), WIDTH, HIDDEN, PRIOR_V, 0.5)

    ratios: dict[str, float | int | str] = {
        "ours_over_plain": round(ratio("features", on_features, features, settings, rounds), 3)
    }
    if name is not None:
        spec = backbone(name)
        size = spec.geometry.size
        pixels = torch.randint(0, 255, (4 * batch, size, size, 3), dtype=torch.uint8)

        def on_pixels() -> nn.Module:
            scale = np.ones(spec.width)
            image = new_regressor(spec.name, WIDTH, np.zeros(spec.width), scale)
            return RankedLstmNetwork(image, WIDTH, HIDDEN, PRIOR_V, 0.5)

        found = ratio("pixels", on_pixels, pixels, settings, rounds)
        ratios["ours_over_plain_from_pixels"] = round(found, 3)
        ratios["backbone"] = name
    print(json.dumps({**ratios, "pictures": pictures, "batch": batch, "threads": threads}))


if __name__ == "__main__":
    typer.run(main)
