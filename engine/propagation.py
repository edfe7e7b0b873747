"""What JVSP and its recurrent peers share: order of the tags, START and END, fitting, scoring."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from safetensors.numpy import load_file, save_file
from scipy.special import logit

from engine.beam import Propagation, beam_search
from engine.corpus import Corpus
from engine.group import Group
from engine.optimisation import Optimisation
from engine.recipe import Annotator, GradientRecipe, Verdict
from engine.regression import Head
from engine.sequence import NOTHING, ordered_scores, padded_targets, shortened_note
from engine.vocab import Vocabulary
from engine.whitened import Whitened

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.training import Batch, Checkpoints

Order = Literal["rare-first", "frequent-first", "given"]

DECODED = 256
"""Pictures times beams that are decoded at a time."""


class PropagationRecipe(GradientRecipe):
    """Settings of a network that is taught tags one after another, between START and END.

    Attributes:
        order: of a picture's tags, as they are taught. 'rare-first' and 'frequent-first' go by
            the pictures that carry a tag, 'given' by the corpus.
        limit: a longer list of tags is cut, in training; and so many tags are decoded at most.
        least: END is not taken before so many tags; the paper's k, where every picture is to get k
            tags (Ma et al., section 3.3). How many the network wants is told in any case.
        beam: sequences that are followed at a time, in decoding; 1: greedily.
        dropout: in training.
        shrinkage: of the whitening of the embedding, see `engine.numerics.whitening`.
        optimisation: of the loop.
    """

    order: Order = "rare-first"
    limit: PositiveInt = 20
    least: PositiveInt = 1
    beam: PositiveInt = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    shrinkage: PositiveFloat = 1.0
    optimisation: Optimisation = Optimisation()

    @model_validator(mode="after")
    def _reachable(self) -> "PropagationRecipe":
        if self.least > self.limit:
            raise ValueError(
                f"least is {self.least} and limit is {self.limit}; make limit {self.least} or more"
            )
        return self

    @abstractmethod
    def _network(self, features: int, prior_V: NDArray[np.float32]) -> "nn.Module":
        """What is trained.

        From features [B, D] and targets [B, T], and labels [B, V] where the recipe `wants_labels`,
        its forward pass gives the loss [B]. The layer `image`, and no other, sees the features.

        Args:
            features: D.
            prior_V: the log-odds of each tag.
        """

    @abstractmethod
    def _annotator(self, fitted: "Fitted") -> Annotator:
        """What it becomes."""

    def _details(self) -> dict[str, str]:
        """What the fitted network must know beside its weights."""
        return {}

    def _rate(self, name: str) -> float:
        """By the name of a parameter, the factor of its learning rate."""
        return 1.0

    @property
    def wants_labels(self) -> bool:
        """Whether the network learns from all the tags of a picture beside their sequence."""
        return False

    def resumable_fit(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        group: Group,
        checkpoints: "Checkpoints | None",
    ) -> Annotator:
        """Learn on the embedding of the frozen backbone.

        Raises:
            TrainingError: the loss is no number.
        """
        # Here, not above: torch takes seconds that a fitted annotator need not pay.
        import torch

        from engine.training import train
        from engine.training.propagation import arrays_of

        carriers_V = group.sum(np.asarray(corpus.labels_NV.sum(axis=0), dtype=np.float64).ravel())
        lists = corpus.tag_lists()
        tags = padded_targets(ordered_lists(lists, carriers_V, self.order), self.limit)
        targets_NT = torch.from_numpy(with_end(tags.tags_NT, lists, len(vocabulary)))
        lengths_N = (targets_NT != NOTHING).sum(1).numpy()
        whitened = Whitened.learn(corpus, self.shrinkage, group)
        features_ND = torch.from_numpy(whitened.features_ND)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.optimisation.seed)
            network = self._network(features_ND.shape[1], log_odds(carriers_V, corpus, group))

        def loss(network: "nn.Module", batch: "Batch") -> "torch.Tensor":
            rows_B = torch.from_numpy(batch.rows_B)
            # No longer than the batch needs: a tag and END at least, also of no picture.
            steps = max(2, int(lengths_N[batch.rows_B].max(initial=0)))
            given = [features_ND[rows_B], targets_NT[rows_B, :steps]]
            if self.wants_labels:
                given.append(torch.from_numpy(corpus.labels_NV[batch.rows_B].toarray()))
            losses_B: torch.Tensor = network(*(one.to(batch.device) for one in given))
            return losses_B.sum()

        train(
            network,
            loss,
            corpus.ids,
            self.optimisation,
            group,
            rate=self._rate,
            checkpoints=checkpoints,
        )
        weights = arrays_of(network)
        head = whitened.head(weights.pop("image.weight").T, weights.pop("image.bias"))
        decoding = Decoding(len(vocabulary), self.limit, self.least, self.beam)
        notes = shortened_note(self.kind, tags, self.limit, group)
        return self._annotator(
            Fitted(head, weights, decoding, self._details(), vocabulary.digest, notes)
        )


@dataclass(frozen=True)
class Decoding:
    """How tags are decoded: see `engine.beam.beam_search`."""

    tags: int
    limit: int
    least: int
    beam: int


@dataclass(frozen=True)
class Fitted:
    """What training leaves.

    Attributes:
        head: the layer that looks at the embedding.
        weights: all the others, by their names in the network's state dict.
        details: what else there is to know of the network.
    """

    head: Head
    weights: dict[str, NDArray[np.float32]]
    decoding: Decoding
    details: Mapping[str, str]
    vocabulary_digest: str
    notes: tuple[str, ...] = ()


class PropagationAnnotator(Annotator):
    """Tags in the order in which a network says them, and how many it says.

    Float32 throughout: in batches of other sizes a log-probability differs in its last digits, and
    two tags that are as likely but for these may change places.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        self.network = self._network_of(fitted)
        self.vocabulary_digest = fitted.vocabulary_digest
        self.notes = fitted.notes

    @classmethod
    @abstractmethod
    def _network_of(cls, fitted: Fitted) -> Propagation:
        """The network in NumPy."""

    def score(self, batch: pa.Table) -> Verdict:
        """The score is `engine.sequence.ordered_scores`."""
        image_BX = self.fitted.head.predict(batch)
        decoding = self.fitted.decoding
        scores_BV = np.empty((len(image_BX), decoding.tags), dtype=np.float32)
        quantity_B = np.empty(len(image_BX), dtype=np.float32)
        size = max(1, DECODED // decoding.beam)
        for start in range(0, len(image_BX), size):
            rows = slice(start, start + size)
            decoded, quantity_B[rows] = beam_search(
                self.network, image_BX[rows], **asdict(decoding)
            )
            scores_BV[rows] = ordered_scores(decoded)
        return Verdict(scores_BV, quantity_B=quantity_B)

    def save(self, folder: Path) -> None:
        fitted = self.fitted
        save_file(fitted.weights, folder / "network.safetensors")
        content = {
            "vocabulary": fitted.vocabulary_digest,
            "decoding": asdict(fitted.decoding),
            "details": dict(fitted.details),
            **fitted.head.save(folder),
        }
        (folder / "network.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        content = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        fitted = Fitted(
            Head.load(folder, tuple(content["levels"])),
            load_file(folder / "network.safetensors"),
            Decoding(**content["decoding"]),
            content["details"],
            content["vocabulary"],
        )
        return cls(fitted)


def log_odds(carriers_V: NDArray[np.float64], corpus: Corpus, group: Group) -> NDArray[np.float32]:
    """Of each tag, float32 [V], over the pictures of all the ranks; half a picture is added."""
    pictures = float(group.sum(np.array([float(len(corpus))]))[0])
    odds_V: NDArray[np.float32] = logit((carriers_V + 0.5) / (pictures + 1)).astype(np.float32)
    return odds_V


def ordered_lists(
    lists: Sequence[NDArray[np.int64]], carriers_V: NDArray[np.float64], order: Order
) -> list[NDArray[np.int64]]:
    """Each picture's tags in the order they are taught; of equally frequent ones as they were.

    Args:
        lists: in their given order.
        carriers_V: how many pictures carry each tag.
    """
    if order == "given":
        return list(lists)
    sign = 1 if order == "rare-first" else -1
    return [one[np.argsort(sign * carriers_V[one], kind="stable")] for one in lists]


def with_end(
    tags_NT: NDArray[np.int64], lists: Sequence[NDArray[np.int64]], tags: int
) -> NDArray[np.int64]:
    """int64 [N, T + 1]: END, which is V, behind each list, unless the list was cut before its end.

    Args:
        tags_NT: as `engine.sequence.padded_targets` gives them.
        lists: whole.
        tags: V.
    """
    nothing_N1 = np.full((len(tags_NT), 1), NOTHING, dtype=np.int64)
    targets_NT = np.concatenate([tags_NT, nothing_N1], axis=1)
    whole_N = np.array([len(one) for one in lists], dtype=np.int64)
    rows_M = np.flatnonzero((tags_NT != NOTHING).sum(axis=1) == whole_N)
    targets_NT[rows_M, whole_N[rows_M]] = tags
    return targets_NT
