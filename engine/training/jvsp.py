"""JVSP as a torch module with its losses; `engine.numerics.jvsp` is its NumPy form."""

import torch
from torch import nn

from engine.numerics.jvsp import Transfer
from engine.training.propagation import image_layer, inputs_of, lengths_of, likelihood


class Jvsp(nn.Module):
    """Joint visual-semantic propagation (Ma et al., section 2), taught with the true tags.

    START is the input V, END the output V. The picture's features C(I) are a linear map of what
    the frozen network says of it.

    Args:
        features: D, width of what is known of a picture.
        tags: V.
        width: M of image features, tag embeddings and hidden state.
        transfer: Φ of Eq. 4 and 6.
        dropout: in training, of U_ig V_t (Eq. 5) and of h_t on its way out (Eq. 9).
        alpha: weight of the diversity loss (Eq. 11).
        beta: the activations that this counts (Eq. 10).
    """

    def __init__(
        self,
        features: int,
        tags: int,
        width: int,
        transfer: Transfer,
        dropout: float,
        alpha: float,
        beta: float,
    ) -> None:
        super().__init__()
        self.transfer = transfer
        self.alpha, self.beta = alpha, beta
        self.image = image_layer(features, width)
        self.guide = nn.Embedding(tags + 1, width)
        self.refine = nn.Embedding(tags + 1, width)
        self.knowledge = nn.Linear(width, width, bias=False)
        self.visual = nn.Linear(width, width, bias=False)
        self.weigh = nn.Linear(width, width, bias=False)
        self.cell = nn.LSTMCell(2 * width, width, bias=False)
        self.out = nn.Linear(width, tags + 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        # A mask over the features of a picture (section 2.1), that lets all through at first.
        nn.init.normal_(self.guide.weight, mean=1, std=0.1)

    def lift_readers(self) -> None:
        """Make what reads Φ(x) M times as large; after a softmax, x is 1 / M on average."""
        with torch.no_grad():
            for reader in (self.visual.weight, self.cell.weight_ih):
                reader.mul_(self.image.out_features)

    def forward(self, features_BD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        """The loss [B] of each picture, Eq. 11.

        Args:
            targets_BT: int64, the tags in their order, END, then -1.
        """
        logits_BTO, activations_BTM = self.steps(features_BD, inputs_of(targets_BT, self.tags))
        diversity_B = diversity(activations_BTM, lengths_of(targets_BT), self.beta)
        return likelihood(logits_BTO, targets_BT) + self.alpha * diversity_B

    @property
    def tags(self) -> int:
        """V."""
        return self.out.out_features - 1

    def steps(
        self, features_BD: torch.Tensor, inputs_BT: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Eq. 1 to 9 for T steps: y [B, T, V + 1] and V_t [B, T, M]."""
        image_BM = self.image(features_BD)
        hidden_BM = cell_BM = guidance_BM = torch.zeros_like(image_BM)
        logits, activations = [], []
        for step in range(inputs_BT.shape[1]):
            semantic_BM = self.guide(inputs_BT[:, step])
            if step:
                semantic_BM = semantic_BM + self.knowledge(guidance_BM) / step
            visual_BM = self._transferred(image_BM * semantic_BM)
            refine_BM = self.refine(inputs_BT[:, step])
            mixed_BM = torch.tanh(refine_BM + self.dropout(self.visual(visual_BM)))
            refined_BM = self._transferred(refine_BM * self.weigh(mixed_BM))
            joined_BX = torch.cat([visual_BM, refined_BM], dim=1)
            hidden_BM, cell_BM = self.cell(joined_BX, (hidden_BM, cell_BM))
            logits_BO = self.out(self.dropout(hidden_BM) + visual_BM)
            largest_B1 = torch.softmax(logits_BO, dim=1).amax(dim=1, keepdim=True)
            guidance_BM = guidance_BM + largest_B1 * hidden_BM
            logits.append(logits_BO)
            activations.append(visual_BM)
        return torch.stack(logits, dim=1), torch.stack(activations, dim=1)

    def _transferred(self, x_BM: torch.Tensor) -> torch.Tensor:
        if self.transfer == "softmax":
            return torch.softmax(x_BM, dim=1)
        if self.transfer == "scaled-softmax":
            return torch.softmax(x_BM, dim=1) * x_BM.shape[1]
        if self.transfer == "sigmoid":
            return torch.sigmoid(x_BM)
        return torch.tanh(x_BM)


def diversity(activations_BTM: torch.Tensor, lengths_B: torch.Tensor, beta: float) -> torch.Tensor:
    """L_V [B] of Eq. 10, over the first `lengths_B` steps of each picture; 0 where there is one.

    An activation below `beta` counts as none.
    """
    high_BTM = torch.where(activations_BTM >= beta, activations_BTM, 0)
    products_BT = (high_BTM[:, :-1] * high_BTM[:, 1:]).sum(2)
    places_T = torch.arange(1, activations_BTM.shape[1], device=lengths_B.device)
    is_counted_BT = places_T[None] < lengths_B[:, None]
    total_B = (products_BT * is_counted_BT).sum(1)
    return total_B / (lengths_B - 1).clamp(min=1)
