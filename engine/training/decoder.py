"""ML-Decoder's attention head as a torch module; `engine.numerics.decoder` is its NumPy form."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class Decoder(nn.Module):
    """Group queries attend to a picture's tokens; each query speaks for some tags.

    Ridnik et al. 2021, ML-Decoder: Scalable and Versatile Classification Head, section 3: the
    queries are drawn and stay as they are, there is no self-attention among them, and the last
    layer gives each of them `ceil(V / groups)` tags of its own (group decoding). The tokens are the
    levels of the embedding, projected to one width, where the paper has places of the picture.
    What attention says is added to what a plain linear layer says of the whole embedding: tokens
    that are means over the picture leave attention less to choose from than the paper's.

    Args:
        levels: widths of the levels.
        tags: V.
        groups: K queries.
        width: d of tokens and queries, a multiple of `heads`.
        heads: of the attention.
        hidden: of the feed-forward layer.
        dropout: in training, of the features, of what the queries become and of the hidden layer.
        prior_V: float32 [V], the log-odds of each tag that the head begins with.
    """

    def __init__(
        self,
        levels: tuple[int, ...],
        tags: int,
        groups: int,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        prior_V: NDArray[np.float32],
    ) -> None:
        super().__init__()
        self.levels = levels
        self.tags = tags
        self.tokens = nn.ModuleList([nn.Linear(level, width) for level in levels])
        self.query = nn.Buffer(torch.randn(groups, width))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        each = -(-tags // groups)
        self.out = nn.Parameter(torch.randn(groups, width, each) * 0.1 / width**0.5)
        self.bias = nn.Parameter(torch.from_numpy(prior_V.copy()))
        self.direct = nn.Parameter(torch.zeros(sum(levels), tags))

    def forward(self, features_BD: torch.Tensor) -> torch.Tensor:
        """Log-odds [B, V] of features whose levels lie side by side."""
        parts = torch.split(features_BD, list(self.levels), dim=1)
        tokens_BTW = torch.stack(
            [torch.relu(layer(part)) for layer, part in zip(self.tokens, parts, strict=True)], dim=1
        )
        query_KW = self.norm1(self.query)
        query_BKW = query_KW.expand(len(features_BD), -1, -1)
        found_BKW, _ = self.attention(query_BKW, tokens_BTW, tokens_BTW, need_weights=False)
        hidden_BKW = self.norm2(query_BKW + self.dropout(found_BKW))
        wide_BKH = self.dropout(torch.relu(self.wide(hidden_BKW)))
        hidden_BKW = self.dropout(self.norm3(hidden_BKW + self.narrow(wide_BKH)))
        # A product a group, for all the pictures at once.
        logits_KBE = torch.bmm(hidden_BKW.transpose(0, 1), self.out)
        logits_BV = logits_KBE.transpose(0, 1).flatten(1)[:, : self.tags]
        direct_BV: torch.Tensor = self.dropout(features_BD) @ self.direct
        return logits_BV + direct_BV + self.bias

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights as `engine.numerics.decoder.decode` takes them."""
        state = {name: one.detach().cpu().numpy() for name, one in self.state_dict().items()}
        width = self.query.shape[1]
        arrays = {
            f"token{level}": np.ascontiguousarray(state[f"tokens.{level}.weight"].T)
            for level in range(len(self.levels))
        }
        for level in range(len(self.levels)):
            arrays[f"token{level}_bias"] = state[f"tokens.{level}.bias"]
        for place, name in enumerate(("query", "key", "value")):
            rows = slice(place * width, (place + 1) * width)
            arrays[f"{name}_weight"] = state["attention.in_proj_weight"][rows].T
            arrays[f"{name}_bias"] = state["attention.in_proj_bias"][rows]
        arrays["mix_weight"] = state["attention.out_proj.weight"].T
        arrays["mix_bias"] = state["attention.out_proj.bias"]
        for name in ("wide", "narrow"):
            arrays[f"{name}_weight"] = state[f"{name}.weight"].T
            arrays[f"{name}_bias"] = state[f"{name}.bias"]
        for name in ("norm1", "norm2", "norm3"):
            arrays[f"{name}_scale"] = state[f"{name}.weight"]
            arrays[f"{name}_shift"] = state[f"{name}.bias"]
        arrays |= {"queries": state["query"], "out": state["out"], "bias": state["bias"]}
        arrays["direct"] = state["direct"]
        return {name: np.ascontiguousarray(one) for name, one in arrays.items()}
