"""Recurrent networks over lists of tags as torch modules, and the loss that both learn by."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.sequence import NOTHING


class RecurrentTagger(nn.Module):
    """What the two have in common: the image's vector, an LSTM and a layer over the tags.

    Args:
        image: from what a picture is given as to its vector [B, d] (Yan et al. 2016, Eq. 10).
        width: d.
        hidden: of the LSTM.
        prior_V: float32 [V], the log-probabilities of the tags that the last layer begins with.
        dropout: in training, of the LSTM's inputs and of its hidden states.
    """

    def __init__(
        self,
        image: nn.Module,
        width: int,
        hidden: int,
        prior_V: NDArray[np.float32],
        dropout: float,
    ) -> None:
        super().__init__()
        self.image = image
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.out = nn.Linear(hidden, len(prior_V))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.out.bias.copy_(torch.from_numpy(prior_V))

    def unrolled(self, inputs_BTD: torch.Tensor) -> torch.Tensor:
        """Logits [B, T, V] of T inputs (Eq. 11 to 17)."""
        hidden_BTH, _ = self.lstm(self.dropout(inputs_BTD))
        logits_BTV: torch.Tensor = self.out(self.dropout(hidden_BTH))
        return logits_BTV

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights but for those of `image`, by their names in the state dict."""
        return {
            name: one.detach().cpu().numpy()
            for name, one in self.state_dict().items()
            if not name.startswith("image.")
        }


class RankedLstmNetwork(RecurrentTagger):
    """Every step sees the image, and none sees the tag before it (Yan et al. 2016, section 4)."""

    def forward(self, pictures: torch.Tensor, tags_BT: torch.Tensor) -> torch.Tensor:
        """Logits [B, T, V]; of the tags only their number is looked at."""
        v_BD = self.image(pictures)
        return self.unrolled(v_BD[:, None].expand(-1, tags_BT.shape[1], -1))


class NaiveRnnNetwork(RecurrentTagger):
    """The image at the first step only, then the tag before (section 5.1, and Fig. 2, bottom)."""

    def __init__(
        self,
        image: nn.Module,
        width: int,
        hidden: int,
        prior_V: NDArray[np.float32],
        dropout: float,
    ) -> None:
        super().__init__(image, width, hidden, prior_V, dropout)
        self.start = nn.Parameter(torch.zeros(width))
        self.words = nn.Embedding(len(prior_V), width)

    def forward(self, pictures: torch.Tensor, tags_BT: torch.Tensor) -> torch.Tensor:
        """Logits [B, T, V] where the true tags were the ones before."""
        first_BD = self.image(pictures) + self.start
        # What comes after a list's end does not matter: the loss leaves it out.
        before_BT = tags_BT[:, :-1].clamp(min=0)
        return self.unrolled(torch.cat([first_BD[:, None], self.words(before_BT)], dim=1))


def free_logits(logits_BTV: torch.Tensor, tags_BT: torch.Tensor) -> torch.Tensor:
    """The logits [B, T, V] with minus infinity for the tags of the steps before.

    A softmax of them is Eq. 18 over the tags that are free, as it is in decoding. Were those that
    are taken counted as well, a tag would have to become unlikely at every step at which it may
    have come before, and decoding, which knows what it took, would find it too late: where the
    order is in doubt a tag that is surely there is nowhere the likeliest.

    Args:
        tags_BT: int64, none twice in a row but for `NOTHING`.
    """
    steps, tags = logits_BTV.shape[1:]
    is_before_TT = torch.ones(steps, steps, dtype=torch.bool, device=tags_BT.device).tril(-1)
    is_taken_BTT = is_before_TT & (tags_BT != NOTHING)[:, None]
    # What is not taken points to a column of its own, which is cut off again.
    taken_BTT = torch.where(is_taken_BTT, tags_BT[:, None], tags)
    shape = (*logits_BTV.shape[:2], tags + 1)
    is_taken_BTV = torch.zeros(shape, dtype=torch.bool, device=logits_BTV.device)
    is_taken_BTV.scatter_(2, taken_BTT, value=True)
    return logits_BTV.masked_fill(is_taken_BTV[..., :tags], -torch.inf)


def sequence_loss(logits_BTV: torch.Tensor, tags_BT: torch.Tensor) -> torch.Tensor:
    """Eq. 19: minus the log-probabilities of the true tags, summed over steps and pictures.

    Each step's softmax is over the tags that are free, see `free_logits`.
    """
    free_BTV = free_logits(logits_BTV.float(), tags_BT)
    return nn.functional.cross_entropy(
        free_BTV.flatten(0, 1), tags_BT.flatten(), ignore_index=NOTHING, reduction="sum"
    )
