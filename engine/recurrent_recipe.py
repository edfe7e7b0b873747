"""Settings of the ranked LSTM and the naive RNN, and how both are learned."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from engine.corpus import Corpus
from engine.errors import ConfigError
from engine.group import Group
from engine.optimisation import Optimisation
from engine.recipe import GradientRecipe
from engine.recurrent import Arrays, Recurrent
from engine.regression import Head, Tuned
from engine.sequence import Targets, padded_targets, shortened_note
from engine.vocab import Vocabulary
from engine.whitened import Scale, Whitened

if TYPE_CHECKING:
    from torch import nn

    from engine.training import Batch, Checkpoints
    from engine.training.loop import Loss
    from engine.training.recurrent import RecurrentTagger


class RecurrentRecipe(GradientRecipe):
    """Settings of Yan et al. 2016, section 5.1; where a default is not the paper's, that is named.

    Width and decay were chosen by the ranked LSTM's NDCG on validation pictures of the drawn
    sample; the width is better for the naive RNN too.

    Attributes:
        width: d, of the image's vector (Eq. 10). The paper has 100, of one layer of a network; the
            embedding here holds eight depths.
        hidden: of the LSTM's state.
        dropout: in training, of the LSTM's inputs and of its states. The paper has 0.5.
        limit: a longer list of tags is cut, in training; and so many tags are decoded at most.
        shrinkage: of the whitening of the embedding, for 'head'.
        train: 'head' learns on the embedding of the frozen backbone; 'all' then goes on with every
            layer from the pixels, and the annotator carries a network of its own.
        optimisation: of the loop. The paper has Adam at 4e-4, halved on a plateau, no weight
            decay, and 7,500 steps.
        fine_tuning: of the second part of 'all'; its learning rate is the backbone's, the other
            layers keep that of `optimisation`.
    """

    width: PositiveInt = 300
    hidden: PositiveInt = 300
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    limit: PositiveInt = 20
    shrinkage: PositiveFloat = 1.0
    train: Literal["head", "all"] = "head"
    optimisation: Optimisation = Field(
        default=Optimisation(
            learning_rate=2e-3,
            weight_decay=0.1,
            betas=(0.8, 0.999),
            batch=16,
            epochs=20,
            schedule="cosine",
            clip=5.0,
        )
    )
    fine_tuning: Optimisation = Field(
        default=Optimisation(
            learning_rate=1e-5, weight_decay=1e-3, betas=(0.8, 0.999), batch=16, epochs=2, clip=5.0
        )
    )

    @property
    def wants_pixels(self) -> bool:
        return self.train == "all"

    @abstractmethod
    def _network(self, image: "nn.Module", prior_V: NDArray[np.float32]) -> "RecurrentTagger":
        """The network to train."""

    @abstractmethod
    def _annotator(self) -> "type[Recurrent]":
        """What the network becomes once it is trained."""

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> "Recurrent":
        """Learn from the tags in their given order.

        Raises:
            ConfigError: 'all' is asked for, and the corpus has no pixels.
            TrainingError: the loss is no number.
        """
        targets = padded_targets(corpus.tag_lists(), self.limit)
        longest = group.gather(np.array([targets.tags_NT.shape[1]]))
        carriers_V = group.sum(np.asarray(corpus.labels_NV.sum(axis=0), dtype=np.float64).ravel())
        prior_V = np.log((carriers_V + 0.5) / (carriers_V + 0.5).sum()).astype(np.float32)
        learn = self._learn_all if self.train == "all" else self._learn_head
        image, arrays = learn(corpus, targets, prior_V, group, checkpoints)
        return self._annotator()(
            image,
            arrays,
            max(int(one[0]) for one in longest),
            vocabulary.digest,
            shortened_note(self.kind, targets, self.limit, group),
        )

    def _learn_head(
        self,
        corpus: Corpus,
        targets: Targets,
        prior_V: NDArray[np.float32],
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> tuple[Head, Arrays]:
        from engine.training import train

        whitened = Whitened.learn(corpus, self.shrinkage, group)
        network, image = self._new(whitened.features_ND.shape[1], prior_V)
        # Each feature then has the variance 1, which the layer's first weights are drawn for.
        unit = np.sqrt(np.float32(whitened.features_ND.shape[1]))
        loss = _loss(lambda rows_B: whitened.features_ND[rows_B] * unit, targets)
        train(network, loss, corpus.ids, self.optimisation, group, checkpoints=checkpoints)
        weights_DE = image.weight.detach().numpy().T * unit
        return whitened.head(weights_DE, image.bias.detach().numpy()), network.arrays()

    def _learn_all(
        self,
        corpus: Corpus,
        targets: Targets,
        prior_V: NDArray[np.float32],
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> tuple[Tuned, Arrays]:
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch

        from engine.embed.tuned import new_regressor
        from engine.training import train

        pixels = corpus.pixels
        if pixels is None:
            raise ConfigError(
                f"an annotator of kind '{self.kind}' with train = 'all' learns from pixels, and "
                "this corpus holds embeddings alone; give the corpus its pixels, or set train to "
                "'head'"
            )
        scale = Scale.learn(corpus, group)
        regressor = new_regressor(pixels.backbone, self.width, scale.mean_D, scale.deviation_D)
        network, image = self._new(corpus.embeddings_ND.shape[1], prior_V)
        unit = np.sqrt(np.float32(corpus.embeddings_ND.shape[1]))
        if checkpoints is None or checkpoints.latest() is None:
            # The first part is the frozen backbone's: its embedding is there already. A run that
            # goes on from a checkpoint is past it.
            mean_D, scale_D = regressor.mean.numpy(), regressor.scale.numpy() * unit

            def features(rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
                scaled_BD: NDArray[np.float32] = (corpus.embeddings_ND[rows_B] - mean_D) * scale_D
                return scaled_BD

            train(network, _loss(features, targets), corpus.ids, self.optimisation, group)
            with torch.no_grad():
                image.weight.mul_(float(unit))
        regressor.head.load_state_dict(image.state_dict())
        network.image = regressor
        others = self.optimisation.learning_rate / self.fine_tuning.learning_rate
        train(
            network,
            _loss(pixels.take, targets),
            corpus.ids,
            self.fine_tuning,
            group,
            rate=lambda name: 1.0 if name.startswith("image.backbone.") else others,
            checkpoints=checkpoints,
        )
        return Tuned(pixels.backbone, regressor), network.arrays()

    def _new(
        self, features: int, prior_V: NDArray[np.float32]
    ) -> "tuple[RecurrentTagger, nn.Linear]":
        """A network over a linear layer on the embedding, drawn from the seed, and that layer."""
        import torch
        from torch import nn

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.optimisation.seed)
            image = nn.Linear(features, self.width)
            return self._network(image, prior_V), image


def _loss(take: "Callable[[NDArray[np.int64]], NDArray[np.generic]]", targets: Targets) -> "Loss":
    """Eq. 19 of some rows of what `take` gives."""
    import torch
    from torch import nn

    from engine.training.recurrent import sequence_loss

    tags = torch.from_numpy(targets.tags_NT)

    def loss(network: nn.Module, batch: "Batch") -> torch.Tensor:
        pictures = torch.from_numpy(np.array(take(batch.rows_B))).to(batch.device)
        tags_BT = tags[batch.rows_B].to(batch.device)
        return sequence_loss(network(pictures, tags_BT), tags_BT)

    return loss
