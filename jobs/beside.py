"""Lists an input in a process of its own, beside whatever else a job begins with."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from jobs.chunks import Inventory
from jobs.source import take_inventory
from jobs.store import Store


@contextmanager
def listing(source: str, store: Store, is_corpus: bool) -> Iterator[Callable[[], Inventory]]:
    """Begin `take_inventory`, and give what waits for it.

    The ids of a large input take much memory, which goes with the process. It needs no Ray, whose
    start it would else have to wait for.

    Raises:
        CorpusError: when it is waited for, as `take_inventory` does.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        inventory = pool.submit(take_inventory, source, store, is_corpus)

        def wait() -> Inventory:
            found = inventory.result()
            pool.shutdown(wait=False)
            return found

        yield wait
