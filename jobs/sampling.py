"""Some pictures from all over a corpus, read before the rest of it."""

from collections.abc import Iterator

from engine import schema
from jobs.chunks import Inventory
from jobs.reading import read_chunk

SAMPLED_CHUNKS = 20
SAMPLED_BYTES = 256 * 1024**2
"""At most this much of a corpus is read for a sample."""


def sample_pictures(inventory: Inventory, wanted: int, max_bytes: int) -> Iterator[bytes]:
    """Yield encoded pictures from all over the corpus, at most `wanted` of them.

    Args:
        max_bytes: of a picture; a larger one is passed over.
    """
    chunks = inventory.chunks[:: max(1, len(inventory.chunks) // SAMPLED_CHUNKS)]
    each = -(-wanted // len(chunks))
    room = SAMPLED_BYTES
    found = 0
    for chunk in chunks:
        taken = 0
        for batch in read_chunk(chunk, each, max_bytes):
            for data in batch.column(schema.BYTES).to_pylist():
                if data and taken < each and found < wanted and len(data) <= room:
                    yield data
                    room -= len(data)
                    taken += 1
                    found += 1
            if taken == each:
                break
