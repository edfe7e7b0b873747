"""Algorithm 1 of Niu et al. 2017: the runs that train one part of the network after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.embed.maps import Grids, MapsBackbone, stored
from engine.group import Group
from engine.numerics.scale_fusion import visual_vectors
from engine.optimisation import Optimisation
from engine.quantity import QuantitySettings, Regressor, learn_regressor
from engine.tensors import Pixels, Tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.embed.eager import Preprocessed
    from engine.training import Batch, Checkpoints
    from engine.training.multi_scale import Classifier, MultiScale

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
        return None if self.checkpoints is None else self.checkpoints.part(name)

    def subset(self, rows_M: NDArray[np.int64]) -> "Lesson":
        ids = [self.ids[row] for row in rows_M]
        return Lesson(ids, self.labels_NV[rows_M], self.prior_V, self.group, self.checkpoints)

    def classify(
        self,
        network: "nn.Module",
        inputs: Callable[["Batch"], "torch.Tensor"],
        settings: Optimisation,
        name: str,
        rate: Callable[[str], float] = lambda _: 1.0,
    ) -> None:
        """Train by the sigmoid cross entropy over the tags, Eq. 4.

        Args:
            inputs: what the network takes of a batch, on any device.
            name: of the run.

        Raises:
            TrainingError: the loss is no number.
        """
        import torch

        from engine.training import train

        def loss(network: "nn.Module", batch: "Batch") -> "torch.Tensor":
            labels_BV = torch.from_numpy(self.labels_NV[batch.rows_B].toarray())
            logits_BV = network(inputs(batch).to(batch.device)).float()
            return torch.nn.functional.binary_cross_entropy_with_logits(
                logits_BV, labels_BV.to(batch.device), reduction="sum"
            )

        train(
            network,
            loss,
            self.ids,
            settings,
            self.group,
            rate=rate,
            checkpoints=self.part(name),
        )


def tuned_backbone(
    spec: MapsBackbone,
    pixels: Pixels,
    lesson: Lesson,
    settings: Optimisation,
    old_layers: float,
    flips: bool,
) -> "Preprocessed":
    """Stage 1: the backbone, tuned from pixels to tags under a classifier on its last scale.

    Args:
        old_layers: factor of the learning rate of the layers that were there before.
        flips: half the pictures of an epoch are mirrored.

    Raises:
        BackboneError: the weights cannot be had.
        TrainingError: the loss is no number.
    """
    import torch

    from engine.embed.staged import vectors_of
    from engine.training.multi_scale import Tuned

    network = Tuned(spec, spec.network(), lesson.prior_V)
    maps = (vectors_of(network.backbone, block) for block in blocks(pixels))
    mean_C, deviation_C = last_moments(maps, spec.grids, lesson.group)
    network.standardise(mean_C, deviation_C)
    network.freeze_unused(pixels.values_MX.shape[1])

    def inputs(batch: "Batch") -> "torch.Tensor":
        squares_BHWC = pixels.take(batch.rows_B).copy()
        if flips:
            is_flipped_B = batch.draws_B < 0.5
            squares_BHWC[is_flipped_B] = squares_BHWC[is_flipped_B, :, ::-1]
        return torch.from_numpy(squares_BHWC)

    def rate(name: str) -> float:
        return 1.0 if name.startswith("head.") else old_layers

    lesson.classify(network, inputs, settings, "stage-1", rate)
    return network.backbone
