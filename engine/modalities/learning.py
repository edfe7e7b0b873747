"""How the networks of modalities are learned: layer by layer without tags, then with them."""

import contextlib
import copy
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import nn

from engine.group import Group
from engine.modalities.networks import Comparison, Dense, Layer, PixelTrunk, Trunk, dense_trunk
from engine.modalities.scoring import Arrays
from engine.modalities.settings import (
    EMBEDDING,
    PIXELS,
    DenseSettings,
    PixelSettings,
    TrainingSettings,
    modality_name,
)
from engine.modalities.views import CorpusViews
from engine.numerics.rbm import ConvolutionalRbm, Machine, Rbm
from engine.numerics.similarity import TEMPERATURES, Similarity
from engine.numerics.soft_labels import label_divergence
from engine.training import Batch, train
from engine.training.draws import unit_draws

if TYPE_CHECKING:
    from engine.training import Checkpoints


def new_trunks(
    views: CorpusViews, dense: DenseSettings, pixels: PixelSettings, seed: int
) -> dict[str, Trunk]:
    """A network a view with weights drawn from the seed and the view's name alone."""
    widths = {name: view.shape[-1] for name, view in views.take(np.zeros(0, np.int64)).items()}
    trunks: dict[str, Trunk] = {}
    for name in views.names:
        with _drawn(seed, name):
            # Features lie in [0, 1]; the scaled embedding does not.
            trunks[name] = (
                PixelTrunk(pixels)
                if name == PIXELS
                else dense_trunk(widths[name], name == EMBEDDING, dense)
            )
    return trunks


def pretrain(
    trunks: dict[str, Trunk],
    views: CorpusViews,
    settings: TrainingSettings,
    group: Group,
) -> None:
    """Teach the layers by CD-1, each on what those below it make of the pictures (section 3.2).

    The tags are not looked at. Views of the same depth are taught side by side; they share no
    weight, so that is the same as one by one.

    Raises:
        TrainingError: the loss is no number.
    """
    for depth in range(max(len(trunk.layers) for trunk in trunks.values())):
        chosen = {name: one for name, one in trunks.items() if depth < len(one.layers)}
        machines: dict[str, Machine] = {}
        for name, trunk in chosen.items():
            with _drawn(settings.pretraining.seed, name, depth):
                machines[name] = _layer(trunk, depth).machine(trunk.is_gaussian and depth == 0)
        taught = _Machines(chosen, machines, depth, settings.pretraining.seed)

        seen = views.only(tuple(chosen))

        def loss(network: nn.Module, batch: Batch, seen: CorpusViews = seen) -> torch.Tensor:
            inputs = [
                torch.from_numpy(one).to(batch.device) for one in seen.take(batch.rows_B).values()
            ]
            total: torch.Tensor = network(inputs, batch.draws_B, batch.epoch)
            return total

        train(taught, loss, views.corpus.ids, settings.pretraining, group)
        for name, trunk in chosen.items():
            machine = machines[name]
            assert isinstance(machine, Rbm | ConvolutionalRbm)
            _layer(trunk.cpu(), depth).take(machine)


def fine_tune(
    trunks: dict[str, Trunk],
    similarities: Sequence[Similarity],
    views: CorpusViews,
    rows_M: NDArray[np.int64],
    labels_NV: sparse.csr_matrix,
    settings: TrainingSettings,
    group: Group,
    checkpoints: "Checkpoints | None" = None,
) -> dict[str, Arrays]:
    """Learn a network a modality from these rows by Eq. 5 to 7; its weights by the modality's name.

    All begin with their view's trunk, which stays as it is. They share no weight, so together or
    one by one they end the same.

    Raises:
        TrainingError: the loss is no number.
    """
    seed = settings.optimisation.seed
    comparisons: dict[str, Comparison] = {}
    for name in views.names:
        for similarity in similarities:
            modality = modality_name(name, similarity)
            with _drawn(seed, modality):
                trunk = copy.deepcopy(trunks[name])
                comparisons[modality] = Comparison(trunk, labels_NV.shape[1], similarity)
    network = _Together(comparisons, len(similarities), seed)

    def loss(network: nn.Module, batch: Batch) -> torch.Tensor:
        chosen = rows_M[batch.rows_B]
        inputs = [torch.from_numpy(one).to(batch.device) for one in views.take(chosen).values()]
        labels_BV = torch.from_numpy(labels_NV[chosen].toarray()).to(batch.device)
        total: torch.Tensor = network(inputs, labels_BV, batch.draws_B, batch.epoch)
        return total

    ids = [views.corpus.ids[row] for row in rows_M]
    train(network, loss, ids, settings.optimisation, group, checkpoints=checkpoints)
    return {name: one.arrays() for name, one in comparisons.items()}


class _Machines(nn.Module):
    """The machines of one depth, each above the layers of its trunk that are taught already."""

    def __init__(
        self, trunks: dict[str, Trunk], machines: dict[str, Machine], depth: int, seed: int
    ) -> None:
        super().__init__()
        self.machines = nn.ModuleList(machines.values())
        # Not a module of this one: its weights are not to be trained here.
        self.trunks = list(trunks.values())
        self.keys = [(seed, _number(name), depth) for name in trunks]
        self.depth = depth

    def forward(
        self, inputs: list[torch.Tensor], draws_B: NDArray[np.float64], epoch: int
    ) -> torch.Tensor:
        """The sum of the machines' losses over the pictures."""
        losses = []
        for machine, trunk, key, x in zip(
            self.machines, self.trunks, self.keys, inputs, strict=True
        ):
            layer = _layer(trunk, self.depth)
            with torch.no_grad():
                trunk.to(x.device)
                seen = trunk.prepare(x)
                for below in list(trunk.layers)[: self.depth]:
                    assert isinstance(below, Layer)
                    seen = below.probabilities(seen)
                if isinstance(layer, Dense):
                    seen = seen.flatten(1)
            shape = layer.units(seen.shape[-1])
            draws = unit_draws(draws_B, int(np.prod(shape)), (*key, epoch)).reshape(-1, *shape)
            losses.append(machine(seen, torch.from_numpy(draws).to(x.device)).sum())
        return torch.stack(losses).sum()


class _Together(nn.Module):
    """Modalities side by side, the similarities of one view after another."""

    def __init__(self, comparisons: dict[str, Comparison], a_view: int, seed: int) -> None:
        super().__init__()
        self.comparisons = nn.ModuleList(comparisons.values())
        self.keys = [(seed, _number(name)) for name in comparisons]
        self.a_view = a_view

    def forward(
        self,
        inputs: list[torch.Tensor],
        labels_BV: torch.Tensor,
        draws_B: NDArray[np.float64],
        epoch: int,
    ) -> torch.Tensor:
        """The sum of the modalities' losses over the pictures."""
        logits = []
        for place, comparison in enumerate(self.comparisons):
            assert isinstance(comparison, Comparison)
            x, draws_BU = inputs[place // self.a_view], None
            if self.training and comparison.trunk.dropout > 0:
                key = (*self.keys[place], epoch)
                draws = unit_draws(draws_B, comparison.trunk.dropped(), key)
                draws_BU = torch.from_numpy(draws).to(x.device)
            found_BV = comparison(x, draws_BU)
            logits.append(found_BV.float() / TEMPERATURES[comparison.similarity])
        # All in one, for each call costs more than what it computes.
        losses = label_divergence(torch.cat(logits), labels_BV.repeat(len(logits), 1), 1.0)
        return losses.sum()


def _layer(trunk: Trunk, place: int) -> Layer:
    layer = trunk.layers[place]
    assert isinstance(layer, Layer)
    return layer


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


@contextlib.contextmanager
def _drawn(seed: int, name: str, depth: int = 0) -> Iterator[None]:
    """Within it torch draws what these say alone; outside nothing changes."""
    state = np.random.SeedSequence((seed, _number(name), depth)).generate_state(1, np.uint64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(state[0]))
        yield
