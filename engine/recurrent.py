"""Ranked LSTM and naive RNN once they are fitted: one decoder, run in NumPy."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import log_softmax

from engine.numerics.lstm import Lstm
from engine.recipe import Annotator, Verdict
from engine.regression import Head, Tuned
from engine.sequence import Step, decode_greedily, ordered_scores

SCORED = 256
"""Pictures that are decoded at a time."""

Arrays = dict[str, NDArray[np.float32]]

_JSON, _TENSORS = "recurrent.json", "recurrent.safetensors"


class Recurrent(Annotator):
    """A recurrent network that is done with training; runs in NumPy but for a tuned backbone.

    The rank of the scores is the order in which the tags were decoded, see
    `engine.sequence.ordered_scores`.
    """

    def __init__(
        self,
        image: Head | Tuned,
        arrays: Arrays,
        steps: int,
        vocabulary_digest: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Args:
        image: to a picture's vector v [B, d].
        arrays: the rest of the network's weights, by their names in its state dict.
        steps: so many tags are decoded.
        """
        self.image = image
        self.reads = image.reads
        self.arrays = arrays
        self.lstm = Lstm.of(arrays, "lstm.")
        self.steps = steps
        self.vocabulary_digest = vocabulary_digest
        self.notes = notes

    @abstractmethod
    def _input(self, v_BD: NDArray[np.float32], tags_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        """The input [B, d] of the step after T tags."""

    def score(self, batch: pa.Table) -> Verdict:
        v_ND = self.image.predict(batch)
        tags = len(self.arrays["out.bias"])
        scores_NV = np.empty((len(v_ND), tags), dtype=np.float32)
        for start in range(0, len(v_ND), SCORED):
            rows = slice(start, start + SCORED)
            v_BD = v_ND[rows]
            decoded = decode_greedily(self.step(v_BD), len(v_BD), tags, self.steps)
            scores_NV[rows] = ordered_scores(decoded)
        return Verdict(scores_NV)

    def step(self, v_BD: NDArray[np.float32]) -> Step:
        """What gives the log-probabilities of each step in turn, for some pictures.

        They are those of Yan et al. 2016, Eq. 18, over the tags that were not taken before, as in
        `engine.training.recurrent.free_logits`; a tag that was taken has minus infinity.
        """
        hidden_BH, cell_BH = self.lstm.start(len(v_BD))

        def step(tags_BT: NDArray[np.int64]) -> NDArray[np.float32]:
            nonlocal hidden_BH, cell_BH
            read_BG = self.lstm.read(self._input(v_BD, tags_BT))
            hidden_BH, cell_BH = self.lstm.step(read_BG, hidden_BH, cell_BH)
            logits_BV = hidden_BH @ self.arrays["out.weight"].T + self.arrays["out.bias"]
            np.put_along_axis(logits_BV, tags_BT, -np.inf, axis=1)
            log_BV: NDArray[np.float32] = log_softmax(logits_BV, axis=1)
            return log_BV

        return step

    def save(self, folder: Path) -> None:
        save_file(self.arrays, folder / _TENSORS)
        content = {
            "vocabulary": self.vocabulary_digest,
            "steps": self.steps,
            "reads": self.reads,
            **self.image.save(folder),
        }
        (folder / _JSON).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def reads_of(cls, folder: Path) -> tuple[str, ...]:
        return tuple(json.loads((folder / _JSON).read_text(encoding="utf-8"))["reads"])

    @classmethod
    def load(cls, folder: Path) -> Self:
        content = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        image: Head | Tuned
        if "backbone" in content:
            image = Tuned.load(folder, content["backbone"], content["outputs"])
        else:
            image = Head.load(folder, tuple(content["levels"]))
        arrays = load_file(folder / _TENSORS)
        return cls(image, arrays, content["steps"], content["vocabulary"])
