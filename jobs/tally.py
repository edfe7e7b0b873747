"""What is done of a job: its parts, their rows, and how many of these failed."""

from collections import Counter
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from engine.cut import TopK
from jobs.sink import Receipt, finished_parts
from jobs.store import Store


class Account(BaseModel):
    """The job's manifest: rows in = tagged + failed, and how many failed by code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    tagged: int
    failed: int
    errors: dict[str, int]
    ignored_files: int
    parts: int
    bundle_id: str
    input: str
    top_k: TopK
    seconds: float
    pictures_per_second: float


@dataclass
class Tally:
    """Parts that are in the store, and their sums.

    Attributes:
        digests: by chunk, what the part was made from; '' of one that this run made.
    """

    digests: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Rows that have an error."""
        return self.errors.total()

    def add(self, receipt: Receipt) -> None:
        """Count one part more."""
        self.digests[receipt.chunk] = receipt.digest
        self.rows += receipt.rows
        self.errors.update(receipt.errors)


def finished(store: Store) -> Tally:
    """What an earlier run of the job did."""
    store.sweep()
    tally = Tally()
    for receipt in finished_parts(store):
        tally.add(receipt)
    return tally
