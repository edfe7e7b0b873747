"""Algorithm 1 of Niu et al. 2017: the runs that train one part of the network after the other."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.embed.maps import Grids, MapsBackbone, stored
from engine.group import Group
from engine.optimisation import Optimisation
from engine.quantity import QuantitySettings, Regressor, learn_regressor
from engine.tensors import Pixels, Tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.embed.eager import Preprocessed
    from engine.training import Batch, Checkpoints
    from engine.training.multi_scale import MultiScale, Tuned, WordLayers

BLOCK = 256
"""Pictures whose maps are held at a time."""

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Lesson:
    """What every run of the schedule is told.

    Attributes:
        ids: of this rank's pictures.
        labels_NV: their tags.
        prior_V: float32, log-odds of each tag over the pictures of all the ranks.
        checkpoints: each run keeps its own in a part of these.
    """

    ids: Sequence[str]
    labels_NV: sparse.csr_matrix
    prior_V: NDArray[np.float32]
    group: Group
    checkpoints: "Checkpoints | None"

    def part(self, name: str) -> "Checkpoints | None":
        """Where the run of that name keeps its checkpoints."""
        return None if self.checkpoints is None else self.checkpoints.part(name)

    def subset(self, rows_M: NDArray[np.int64]) -> "Lesson":
        """The pictures at `rows_M`."""
        ids = [self.ids[row] for row in rows_M]
        return Lesson(ids, self.labels_NV[rows_M], self.prior_V, self.group, self.checkpoints)

    def classify(
        self,
        network: "nn.Module",
        inputs: Callable[["Batch"], NDArray[np.generic]],
        settings: Optimisation,
        name: str,
        rate: Callable[[str], float] = lambda _: 1.0,
    ) -> None:
        """Train a network by the sigmoid cross entropy over the tags, Eq. 4.

        Args:
            inputs: what the network takes of a batch.
            name: of the run.

        Raises:
            TrainingError: the loss is no number.
        """
        import torch

        from engine.training import train

        def loss(network: "nn.Module", batch: "Batch") -> "torch.Tensor":
            labels_BV = torch.from_numpy(self.labels_NV[batch.rows_B].toarray())
            logits_BV = network(torch.from_numpy(inputs(batch)).to(batch.device)).float()
            return cross_entropy(logits_BV, labels_BV.to(batch.device))

        checkpoints = self.part(name)
        train(network, loss, self.ids, settings, self.group, rate=rate, checkpoints=checkpoints)


def cross_entropy(logits_BV: "torch.Tensor", labels_BV: "torch.Tensor") -> "torch.Tensor":
    """Eq. 4, summed over pictures and tags: -y·log p - (1 - y)·log(1 - p), p = sigmoid(logit)."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(logits_BV, labels_BV, reduction="sum")


def tuned_backbone(
    spec: MapsBackbone,
    pixels: Pixels,
    lesson: Lesson,
    settings: Optimisation,
    old_layers: float,
    flips: bool,
) -> "Tuned":
    """Stage 1: the backbone, tuned from pixels to tags under a classifier on its last scale.

    Args:
        old_layers: factor of the learning rate of the layers that were there before.
        flips: half the pictures of an epoch are mirrored.

    Raises:
        BackboneError: the weights cannot be had.
        TrainingError: the loss is no number.
    """
    from engine.training.multi_scale import Tuned

    network = Tuned(spec, lesson.prior_V)
    mean_C, deviation_C = moments(own_maps(network.backbone, pixels), spec.grids, lesson.group)[-1]
    network.standardise(mean_C, deviation_C)
    network.freeze_unused(pixels.values_MX.shape[1])

    def inputs(batch: "Batch") -> NDArray[np.generic]:
        squares_BHWC = pixels.take(batch.rows_B).copy()
        if flips:
            is_flipped_B = batch.draws_B < 0.5
            squares_BHWC[is_flipped_B] = squares_BHWC[is_flipped_B, :, ::-1]
        return squares_BHWC

    def rate(name: str) -> float:
        return 1.0 if name.startswith("head.") else old_layers

    lesson.classify(network, inputs, settings, "stage-1", rate)
    return network


def own_maps(network: "Preprocessed", pixels: Pixels) -> Tensors:
    """The maps that a network gives of pictures, in a file without a name."""
    from engine.embed.staged import maps_of

    width = maps_of(network, pixels.take(np.arange(0))).shape[1]
    with tempfile.TemporaryFile() as file:
        maps_NM = np.memmap(file, np.float16, "w+", shape=(len(pixels), width))
    for start in range(0, len(pixels), BLOCK):
        rows_B = np.arange(start, min(start + BLOCK, len(pixels)))
        maps_NM[rows_B] = stored(maps_of(network, pixels.take(rows_B)))
    return Tensors(maps_NM, np.arange(len(pixels)))


def moments(
    maps: Tensors, grids: Grids, group: Group
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Mean and standard deviation [C] of each channel by scale, over all the ranks' pictures.

    A channel that is the same everywhere is given a small deviation of its scale.
    """
    sums = [(np.zeros(channels), np.zeros(channels)) for channels in grids.channels]
    for block_BM in blocks(maps):
        for (sum_C, square_C), map_BSSC in zip(sums, grids.split(block_BM), strict=True):
            sum_C += map_BSSC.sum((0, 1, 2), dtype=np.float64)
            square_C += np.square(map_BSSC, dtype=np.float64).sum((0, 1, 2))
    pictures = float(group.sum(np.array([float(len(maps))]))[0])
    found = []
    for (sum_C, square_C), side in zip(sums, grids.sides, strict=True):
        mean_C = group.sum(sum_C) / (pictures * side**2)
        variance_C = group.sum(square_C) / (pictures * side**2) - mean_C**2
        deviation_C = np.sqrt(np.maximum(variance_C, 0))
        least = max(1e-2 * float(deviation_C.mean()), 1e-6)
        found.append((mean_C, np.maximum(deviation_C, least)))
    return found


def blocks(maps: Tensors) -> Iterator[NDArray[np.float32]]:
    """The maps float32 [B, M] block by block."""
    for start in range(0, len(maps), BLOCK):
        rows_B = np.arange(start, min(start + BLOCK, len(maps)))
        yield maps.take(rows_B).astype(np.float32, copy=False)


def visual_part(
    maps: Tensors,
    grids: Grids,
    lesson: Lesson,
    settings: Optimisation,
    is_fused: bool,
    tuned: "Tuned | None",
) -> "MultiScale":
    """Stages 1 and 2: from maps that stay as they are to the visual vector.

    Stage 1 is the classifier on the last scale alone, unless it was learned as the backbone was
    tuned. Stage 2 begins with it, and learns the fusion below it.

    Args:
        maps: of this rank's pictures.
        is_fused: False: stage 1 is all.
        tuned: what stage 1 left where the backbone was tuned.
    """
    import torch

    from engine.training.multi_scale import MultiScale

    scales = moments(maps, grids, lesson.group)

    def inputs(batch: "Batch") -> NDArray[np.generic]:
        return maps.take(batch.rows_B).astype(np.float32)

    first = MultiScale(grids, scales, False, lesson.prior_V, lesson.group)
    if tuned is None:
        lesson.classify(first, inputs, settings, "stage-1")
    else:
        tuned.hand_over(first)
    if not is_fused:
        return first
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = MultiScale(grids, scales, True, lesson.prior_V, lesson.group)
    network.head.load_state_dict(first.head.state_dict())
    lesson.classify(network, inputs, settings, "stage-2")
    return network


def textual_part(
    words_NW: sparse.csr_matrix, lesson: Lesson, settings: Optimisation, hidden: int, width: int
) -> "WordLayers":
    """Stage 3: from noisy tags to the textual vector.

    Args:
        words_NW: the bags of this rank's pictures that have one.
        hidden: units of the first layer.
        width: units of the second.
    """
    import torch

    from engine.training.multi_scale import WordLayers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = WordLayers(words_NW.shape[1], hidden, width, lesson.prior_V)

    def inputs(batch: "Batch") -> NDArray[np.generic]:
        bags_BW: NDArray[np.float32] = words_NW[batch.rows_B].toarray()
        return bags_BW

    lesson.classify(network, inputs, settings, "stage-3")
    return network


@dataclass(frozen=True)
class Branch:
    """What is said of a picture from its vectors: which tags, and how many.

    Attributes:
        weights_DV, bias_V: of the classifier.
        regressor: None: how many is not said.
    """

    weights_DV: NDArray[np.float32]
    bias_V: NDArray[np.float32]
    regressor: Regressor | None

    def arrays(self, name: str) -> Arrays:
        """What `from_arrays` takes."""
        found = {"weight": self.weights_DV, "bias": self.bias_V}
        if self.regressor is not None:
            found |= {f"quantity/{key}": one for key, one in self.regressor.arrays().items()}
        return {f"{name}/{key}": one for key, one in found.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, name: str) -> "Branch":
        """Put together what `arrays` took apart."""
        start = f"{name}/quantity/"
        regressor = {key[len(start) :]: one for key, one in arrays.items() if key.startswith(start)}
        return cls(
            arrays[f"{name}/weight"],
            arrays[f"{name}/bias"],
            Regressor.from_arrays(regressor) if regressor else None,
        )


def branch(
    vectors_ND: NDArray[np.float32],
    lesson: Lesson,
    settings: Optimisation,
    quantity: QuantitySettings | None,
    name: str,
) -> Branch:
    """Stage 4: classifier and regressor on vectors that stay as they are, apart from each other.

    Args:
        vectors_ND: of this rank's pictures.
        quantity: of the regressor, Eq. 5; None: without.
    """
    from engine.training.multi_scale import Classifier

    network = Classifier(vectors_ND.shape[1], lesson.prior_V)
    lesson.classify(
        network, lambda batch: vectors_ND[batch.rows_B], settings, f"stage-4-{name}-tags"
    )
    regressor = None
    if quantity is not None:
        counts_N = np.diff(lesson.labels_NV.indptr)
        checkpoints = lesson.part(f"stage-4-{name}-quantity")
        regressor = learn_regressor(
            vectors_ND, counts_N, lesson.ids, quantity, lesson.group, checkpoints
        )
    weights_DV = network.weight.detach().numpy()
    return Branch(weights_DV, network.bias.detach().numpy(), regressor)
