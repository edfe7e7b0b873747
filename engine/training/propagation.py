"""The recurrent peers of JVSP as torch modules, and the inputs and the loss of all four.

Each is taught with the true tags: `forward` gives the loss [B] of each picture. START is the input
V, END the output V. `engine.numerics.propagation` has their NumPy form.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from engine.sequence import NOTHING


def inputs_of(targets_BT: torch.Tensor, tags: int) -> torch.Tensor:
    """The tag before each target, int64 [B, T]: START, which is `tags`, before the first.

    Behind END the inputs say nothing; any tag stands there.
    """
    start_B1 = torch.full_like(targets_BT[:, :1], tags)
    return torch.cat([start_B1, targets_BT[:, :-1].clamp(min=0)], dim=1)


def lengths_of(targets_BT: torch.Tensor) -> torch.Tensor:
    """How many targets a picture has, int64 [B]."""
    return (targets_BT != NOTHING).sum(1)


def likelihood(logits_BTO: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Mean negative log-probability [B] of a picture's targets: Ma et al., Eq. 11, first part."""
    losses_BT = functional.cross_entropy(
        logits_BTO.float().transpose(1, 2), targets_BT, ignore_index=NOTHING, reduction="none"
    )
    return losses_BT.sum(1) / lengths_of(targets_BT).clamp(min=1)


def image_layer(features: int, width: int) -> nn.Linear:
    """The layer that looks at a picture, whose features have the squared length 1 on average.

    What it gives has variance 1 at first, where torch's own would have next to none.
    """
    layer = nn.Linear(features, width)
    nn.init.normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def arrays_of(network: nn.Module) -> dict[str, NDArray[np.float32]]:
    """A network's weights by their names in the state dict."""
    state = {name: one.detach().cpu().numpy() for name, one in network.state_dict().items()}
    return {name: np.ascontiguousarray(one) for name, one in state.items()}


class CnnRnn(nn.Module):
    """Wang et al. 2016: the LSTM sees tags alone, and image and LSTM meet in a projected space.

    The tag's embedding there is the same matrix that embeds the tag before (their s = U_lᵀ x);
    its row V is START where it is read and END where it is scored.

    Args:
        features: D, width of what is known of a picture.
        tags: V.
        embedding: width of the tags' embeddings and of the projected space.
        hidden: of the LSTM.
        dropout: in training, of the LSTM's states.
    """

    def __init__(
        self, features: int, tags: int, embedding: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.image = image_layer(features, embedding)
        self.words = nn.Embedding(tags + 1, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.project = nn.Linear(hidden, embedding, bias=False)
        # Scores are products of two embeddings: of variance 1, not of as many as these are wide.
        nn.init.normal_(self.words.weight, std=embedding**-0.5)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features_BD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        """The loss [B]."""
        inputs_BT = inputs_of(targets_BT, self.words.num_embeddings - 1)
        return likelihood(self.logits(features_BD, inputs_BT), targets_BT)

    def logits(self, features_BD: torch.Tensor, inputs_BT: torch.Tensor) -> torch.Tensor:
        """Scores [B, T, V + 1]."""
        hidden_BTH, _ = self.lstm(self.words(inputs_BT))
        image_B1E = self.image(features_BD)[:, None]
        joined_BTE = torch.relu(self.project(self.dropout(hidden_BTH)) + image_B1E)
        return joined_BTE @ self.words.weight.T


class Ria(nn.Module):
    """Jin and Nakayama 2016: the image sets the LSTM's hidden state, then tag follows tag.

    The arguments are those of `CnnRnn`.
    """

    def __init__(
        self, features: int, tags: int, embedding: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.image = image_layer(features, hidden)
        self.words = nn.Embedding(tags + 1, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.out = nn.Linear(hidden, tags + 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features_BD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        """The loss [B]."""
        inputs_BT = inputs_of(targets_BT, self.words.num_embeddings - 1)
        return likelihood(self.logits(self.image(features_BD), inputs_BT), targets_BT)

    def logits(self, start_BH: torch.Tensor, inputs_BT: torch.Tensor) -> torch.Tensor:
        """Scores [B, T, V + 1] of an LSTM whose first hidden state is `start_BH`."""
        hidden_1BH = start_BH[None].contiguous()
        hidden_BTH, _ = self.lstm(self.words(inputs_BT), (hidden_1BH, torch.zeros_like(hidden_1BH)))
        logits_BTO: torch.Tensor = self.out(self.dropout(hidden_BTH))
        return logits_BTO


class SrCnnRnn(nn.Module):
    """Liu et al. 2017: between CNN and LSTM lies the probability of each tag, itself supervised.

    Args:
        prior_V: float32 [V], the log-odds that the layer between begins with.
        semantic: weight of the cross entropy of the tag probabilities, summed over the tags.
        (the others): those of `CnnRnn`.
    """

    def __init__(
        self,
        features: int,
        prior_V: NDArray[np.float32],
        embedding: int,
        hidden: int,
        dropout: float,
        semantic: float,
    ) -> None:
        super().__init__()
        self.semantic = semantic
        tags = len(prior_V)
        self.image = nn.Linear(features, tags)
        nn.init.zeros_(self.image.weight)
        self.state = nn.Linear(tags, hidden)
        with torch.no_grad():
            self.image.bias.copy_(torch.from_numpy(prior_V))
            # What sets a picture apart from the mean is to be as large as what `Ria` begins with.
            self.state.weight.normal_(std=2)
            self.state.bias.copy_(-self.state(torch.sigmoid(self.image.bias)) + self.state.bias)
        self.words = nn.Embedding(tags + 1, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.out = nn.Linear(hidden, tags + 1)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, features_BD: torch.Tensor, targets_BT: torch.Tensor, labels_BV: torch.Tensor
    ) -> torch.Tensor:
        """The loss [B]: that of the sequence, and that of the layer between."""
        logits_BV = self.image(features_BD)
        inputs_BT = inputs_of(targets_BT, self.words.num_embeddings - 1)
        sequence_B = likelihood(self.logits(torch.sigmoid(logits_BV), inputs_BT), targets_BT)
        layer_BV = functional.binary_cross_entropy_with_logits(
            logits_BV.float(), labels_BV, reduction="none"
        )
        return sequence_B + self.semantic * layer_BV.sum(1)

    def logits(self, tags_BV: torch.Tensor, inputs_BT: torch.Tensor) -> torch.Tensor:
        """Scores [B, T, V + 1] from the probabilities of the tags."""
        hidden_1BH = self.state(tags_BV)[None].contiguous()
        hidden_BTH, _ = self.lstm(self.words(inputs_BT), (hidden_1BH, torch.zeros_like(hidden_1BH)))
        logits_BTO: torch.Tensor = self.out(self.dropout(hidden_BTH))
        return logits_BTO
