"""A fit that falls into parts which know nothing of each other, so that a cluster may share it."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from engine.corpus import Corpus
from engine.group import Group
from engine.recipe import Annotator
from engine.vocab import Vocabulary

P = TypeVar("P")


@runtime_checkable
class Divisible(Protocol[P]):
    """A recipe whose fit is `join` of what `fit_part` gives of all the parts, in their order.

    Together or one by one the parts come out the same, but for rounding.
    """

    @property
    def kind(self) -> str: ...

    def parts(self) -> tuple[str, ...]:
        """Their names."""
        ...

    def fit_part(self, names: Sequence[str], corpus: Corpus, group: Group) -> P:
        """Learn some of the parts; what comes back is sent between processes."""
        ...

    def join(
        self, parts: Sequence[P], corpus: Corpus, vocabulary: Vocabulary, group: Group
    ) -> Annotator:
        """The annotator of all the parts."""
        ...
